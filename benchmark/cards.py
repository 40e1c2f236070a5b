"""The vocabulary of the project: every card, job and record as a frozen model.

Here live names and shapes of data, nothing that computes or reads files. Cards are written by people (YAML), jobs by `plan`, records by
`training`. The split of a `Job` into `Experiment` and `Labels` is the contract behind resume: the key is the hash of the experiment alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_serializer

SCHEMA_VERSION = 1

DISCLAIMER = (
    "Research comparison of representations. Not a medical device, not validated for diagnosis; "
    "scores do not predict clinical performance or safety."
)


Target = Literal["masks", "boxes", "labels", "reports", "phrases"]

T = TypeVar("T")
_LATER = object()
Later = Annotated[T, _LATER]
"""Type of a field that came later: written only where it differs from its default, so that the keys of earlier jobs stay."""


class Card(BaseModel):
    """Frozen, and strict about names: a misspelt key is an error, never ignored. Fields that came later are `Later`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    _later: ClassVar[dict[str, Any]] = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        cls._later = {name: field.default for name, field in cls.model_fields.items() if _LATER in field.metadata}

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, serialise: Any) -> dict[str, Any]:
        content = serialise(self)
        for name, default in self._later.items():
            if getattr(self, name) == default:
                content.pop(name, None)
        return content

    @cached_property
    def canonical(self) -> str:
        """`canonical_json` of the card, kept: a frozen card never changes, and thousands of jobs share a dataset and a recipe."""
        return canonical_json(self.model_dump(mode="json"))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As in pydantic, but what was computed of the original stays with it."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(copied).model_fields.keys():
            del copied.__dict__[name]
        return copied


# ---------------------------------------------------------------------------------------------------------------- backbones


class EncoderMode(StrEnum):
    FROZEN = "frozen"
    FINETUNE = "finetune"


class Normalisation(Card):
    """Mean and standard deviation on the [0, 1] scale, one value per channel or one for all."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class Contamination(StrEnum):
    NONE = "none"
    SOURCE = "source"
    IMAGES = "images"
    LABELS = "labels"
    UNKNOWN = "unknown"


class BackboneSpec(Card):
    """What a backbone says of itself.

    Attributes:
        input_size: side of the square input it is made for, in pixels, which it must take; localized suites impose their own frame.
        in_channels: channels its first layer takes; adaptation from three equal channels happens inside the encoder.
        strides: feature level by stride, with its channels, for example {4: 64, 8: 128, 16: 256, 32: 512}.
        embed_dim: width of the pooled embedding.
        normalisation: the backbone's own statistics; None means the author gave none, and the row is not ranked.
        pretraining: names of pretraining sets; None means unknown, which counts as contaminated, and () that it saw no image at all.
        contamination: dataset -> what pretraining saw of it, as on a card; a dataset left out counts as seen unless `pretraining` is ().
        taps: equal groups of channels in the map of a plain transformer, each from another block, shallow first; 1 for all others.
    """

    name: str
    input_size: int = 224
    in_channels: int = 3
    strides: dict[int, int]
    embed_dim: int
    normalisation: Normalisation | None = None
    pretraining: tuple[str, ...] | None = None
    contamination: dict[str, Contamination] = {}
    taps: int = 1


class BackboneCard(Card):
    """A named backbone: how to build it, which file holds its weights, and what is known of them.

    Attributes:
        family: module in `benchmark/encoders` that builds it.
        model: architecture name inside the family.
        weights: None for random initialisation, a library's weight name, or the documented file name to be given as CARD@FILE.
        container: key of the set of weights that is meant, in a file that holds several, such as raw and averaged ones.
        minimum_loaded: least share (0..1) of encoder tensors that must come from the file.
        pretraining: pretraining sets with their splits, those inherited through initialisation included; None = unknown.
        intensity: the method's own rule from stored grey values to the network's input, in words.
        origin: where the weights are published, at which revision.
        digest: of the published file, `md5:HEX` or `sha256:HEX`, where one is documented.
        status: verified = the published file was loaded here; reconstructed = built without one; unverified = layout from documents alone.
    """

    name: str
    title: str = ""
    family: str
    model: str
    weights: str | None = None
    layout: str = "torchvision"
    container: Later[str | None] = None
    minimum_loaded: float = 1.0
    normalisation: Normalisation | None = None
    pretraining: tuple[str, ...] | None = None
    contamination: dict[str, Contamination] = {}
    intensity: str = ""
    paper: str = ""
    origin: str = ""
    digest: str = ""
    licence: str = ""
    status: Literal["verified", "reconstructed", "unverified"] = "unverified"
    notes: str = ""


# ----------------------------------------------------------------------------------------------------------------- datasets


class SplitCounts(Card):
    """Expected size of one split and its digests, where known.

    Attributes:
        sha256_sorted: SHA-256 of the distinct ids, sorted, joined by a newline (reference: datasets, "Digest definition").
        sha256_ordered: the same in file order, for splits whose order matters.
    """

    n_images: int
    n_positive: int | None = None
    n_boxes: int | None = None
    n_patients: int | None = None
    sha256_sorted: str | None = None
    sha256_ordered: str | None = None


class SplitRule(Card):
    """How a split list follows from the public release: a rule's name with its numbers, or explicit patient lists.

    Lists of images given as files are the rule `lists DIGEST`; the files travel beside the job (`benchmark.readers.lists`).
    """

    rule: str
    seed: int | None = None
    validation_share: float | None = None
    test_share: float | None = None
    patients: dict[str, tuple[str, ...]] | None = None
    expected: dict[str, SplitCounts] = {}


class Deviation(Card):
    """A known blemish of a release that is tolerated up to a count."""

    what: str
    at_most: int
    why: str


class DatasetCard(Card):
    """A public release: where it comes from, what is in it, and how it is split.

    Attributes:
        reader: module in `benchmark/readers`.
        redistribution: what may leave the output folder (`science` section 11).
        classes: mask and box classes, in channel order.
        targets: kinds of ground truth the reader gives.
        mask_source: "boxes" when masks are filled boxes, and their score is box-mask Dice; "none" for cards of whole-image labels.
        uncertain: for label files that say "uncertain": what such a label of a class counts as; unlisted classes leave the image out.
        intensity: pixel rule of LoVT's released conversion for this dataset.
        statistics: LoVT's training-split statistics, applied to every backbone in `published` and `corrected`.
        expected: counts of the public release by name ("images", "label_rows", "boxes", ...).
        patients_known: False when the release carries no usable patient id; resampling is then by image.
        parts: for transfer: the dataset that is trained and validated on, and the one that is tested on; empty for every release.
        merged: for transfer: class -> names that it has in either part, beside its own.
    """

    name: str
    title: str
    reader: str
    source: str
    licence: str
    redistribution: Literal["open", "ids", "none"]
    folder: str
    classes: tuple[str, ...]
    targets: tuple[Literal["masks", "boxes", "labels", "reports", "phrases"], ...]
    mask_source: Literal["masks", "boxes", "none"]
    uncertain: dict[str, Literal["positive", "negative"]] = {}
    intensity: Literal["as-stored", "equalised"]
    statistics: Normalisation
    patients_known: bool
    files: dict[str, str] = {}
    expected: dict[str, int] = {}
    splits: dict[str, SplitRule]
    deviations: tuple[Deviation, ...] = ()
    parts: dict[Literal["train", "test"], str] = {}
    merged: dict[str, tuple[str, ...]] = {}
    notes: str = ""


# -------------------------------------------------------------------------------------------------------- tasks, protocols


class Switches(Card):
    """Each documented difference between what a paper's code did and what it meant, one named switch each.

    The first five stand in every job. Switches that came later stand only in jobs whose head reads them (`plan.LATER_SWITCHES`); elsewhere
    they keep their default, so that no other job's key changes. A later default is what all earlier jobs did, whatever their protocol.

    Source: `docs/protocols/lovt.md`; numbers in brackets are its quirks.
    """

    data_order: Literal["one-seed", "per-run"] = "one-seed"  # [2] Lightning re-seeds at every fit
    plateau_after_warmup: Literal["undone", "kept"] = "undone"  # [1] learning rate rewritten before every batch
    batchnorm_at_unfreezing: Literal["next-epoch", "train"] = "next-epoch"  # [15] nobody calls train() in between
    background_at_positives: Literal["kept", "cleared"] = "kept"  # [5] noobj not cleared at the positive anchor
    object_cxr_shapes: Literal["released", "true"] = "released"  # [3] swapped width and height, box ellipses, swapped polygons
    loss_at_extremes: Later[Literal["from-logits", "from-probabilities"]] = "from-logits"  # [24] released: probabilities that round to 1


class Protocol(Card):
    """A set of rules under which rows may be compared.

    Attributes:
        statistics: whose mean and deviation normalise the images: the dataset card's for every backbone, or each backbone's own.
        equalise: whether datasets whose released conversion equalises histograms are equalised.
    """

    name: str
    title: str
    switches: Switches
    statistics: Literal["dataset", "backbone"]
    equalise: Literal["as-released", "never"]


class Recipe(Card):
    """How one head is trained. Values of LoVT's table 1.1 and 1.2 unless a card says otherwise.

    Attributes:
        learning_rate: used as is when `grid` is empty; otherwise the value in the released config, kept for the record.
        grid: learning rates in the order tried; the first entry wins ties.
        max_steps: optimiser steps after which training ends, whatever the epoch; None leaves it to epochs and patience.
        warmup_steps: training batches with a frozen encoder at `warmup_learning_rate` (fine-tuning only).
        validation_subset: share of the validation list, taken from its head.
        optimiser, betas: Adam as LoVT uses it unless a card says otherwise; not part of older jobs' keys.
        augmentation: of training images and their masks (`benchmark.imaging.augment`); None as LoVT, and not part of older jobs' keys.
    """

    batch_size: int
    learning_rate: float
    grid: tuple[float, ...] = ()
    max_epochs: int
    max_steps: int | None = None
    patience: int
    min_delta: float = 1e-5
    warmup_steps: int = 0
    warmup_learning_rate: float = 1e-3
    plateau_factor: float = 0.5
    plateau_patience: int = 3
    weight_decay: float = 1e-6
    drop_last: bool = True
    validation_subset: float = 1.0
    optimiser: Later[Literal["adam", "adamw"]] = "adam"
    betas: Later[tuple[float, float]] = (0.9, 0.999)
    augmentation: Later[Literal["scale-rotate"] | None] = None


class Words(Card):
    """What a task that trains nothing asks of images and texts. Prompts are named on a card and resolved in a job.

    Attributes:
        prompts: name of a prompt set; None for tasks that read reports or phrases.
        similarity: of image and text: the backbone's own, the cosine of the global embeddings, GLoRIA's best word, or the mean of both.
        decision: each finding on its own, or the class with the highest score.
        across_images: "standardised" takes each class relative to the other images of the split, as GLoRIA released it.
        matches: what retrieval counts as found: a report of the same words, or one of the same class.
        own_report: whether an image's own report stays among the candidates; only where classes match.
        rerank: so many candidates of the global order are put in order again by `similarity`; None ranks all of them by it.
        prompts_read: "as-released" reads prompts as the backbone's own released zero-shot code does (`embed_prompts`): GLoRIA counts a
            prompt's characters where it means words, PRIOR averages [SEP] too. Backbones without such code read them as any text.
    """

    prompts: str | None = None
    similarity: Literal["own", "global", "local", "combined"] = "own"
    decision: Literal["each", "highest"] = "each"
    across_images: Literal["alone", "standardised"] = "alone"
    matches: Literal["text", "class"] = "text"
    own_report: Literal["kept", "removed"] = "kept"
    rerank: int | None = None
    prompts_read: Later[Literal["as-texts", "as-released"]] = "as-texts"


class TaskCard(Card):
    """One task: data, head, encoder mode, recipe, and which number is reported.

    Attributes:
        version: goes up whenever a change alters results.
        select: validation metric for early stopping, checkpoint and learning rate; the highest value is the best.
        report: test metric in tables; the highest value is the best.
        published: (table, column) of the paper's number in `results/published`.
        words: what is asked, for tasks that train nothing; they have no recipe to speak of, and no selection.
        words_as_released: what the protocol `published` asks instead, where the released procedure differs.
        parent: the task whose recipe this one takes, for cells of a grid.
        frame_size: side of the square padded frame in pixels; a multiple of 32.
    """

    id: str
    version: int
    title: str
    dataset: str
    split: str = "lovt"
    head: str
    encoder: EncoderMode
    fraction: float
    target: Target
    frame_size: int = Field(default=224, gt=0, multiple_of=32)
    recipe: Recipe
    select: str
    report: str
    runs: int = 5
    protocols: tuple[str, ...]
    published: tuple[str, str] | None = None
    words: Words | None = None
    words_as_released: Words | None = None
    parent: str | None = None


class SuiteCard(Card):
    """A named list of tasks.

    Attributes:
        suites: other suites whose tasks come after its own, each task once.
    """

    name: str
    title: str
    description: str
    tasks: tuple[str, ...] = ()
    suites: tuple[str, ...] = ()
    default_protocol: str = "published"


class GridCard(Card):
    """A suite given by its axes instead of its tasks.

    Attributes:
        parents: suites whose tasks lend recipe and metric.
        heads: dataset -> heads it has annotations for.
        fractions: shares of the training list.
        shares: dataset -> its own shares, where its card does not count the training list.
    """

    name: str
    title: str
    description: str
    parents: tuple[str, ...]
    default_protocol: str
    fractions: tuple[float, ...]
    heads: dict[str, tuple[str, ...]]
    shares: dict[str, tuple[float, ...]] = {}


class PromptTemplate(Card):
    """Wording around a class's own words, which stand for `{}`. With a negative the class is asked for as a pair."""

    positive: str = "{}"
    negative: str | None = None


class PromptCard(Card):
    """A set of prompts for zero-shot classification: data, frozen before any test split is opened.

    Attributes:
        classes: class -> lists of parts; its prompts are all combinations, one part of each list, joined by blanks, the first list slowest.
        templates: each is one paraphrase set of its own.
        draw: so many prompts of each class, drawn without replacement by Python's generator seeded with `seed`; None takes all.
        combine: how the prompts of a class become one score.
    """

    name: str
    title: str
    source: str
    classes: dict[str, tuple[tuple[str, ...], ...]]
    templates: tuple[PromptTemplate, ...] = (PromptTemplate(),)
    draw: int | None = None
    seed: int | None = None
    combine: Literal["max", "mean"] = "mean"


# -------------------------------------------------------------------------------------------------------------------- jobs


class BackboneRef(Card):
    """A backbone with everything that decides its weights.

    Attributes:
        model: architecture, or a Python factory's function and the SHA-256 of the files it runs and reads.
        digest: SHA-256 of the weights file, of the factory's state dict, or of the library's weights; None = random.
        init_seed: seed of random initialisation, the run's seed; None for fixed weights.
        normalisation: of a card: takes the place of the backbone's own, which are used when the protocol asks for them.
        container: key of the set of weights in a file that holds several; not part of other jobs' keys.
    """

    family: str
    model: str
    layout: str = "torchvision"
    digest: str | None
    init_seed: int | None = None
    minimum_loaded: float = 1.0
    normalisation: Normalisation | None = None
    container: Later[str | None] = None


class DatasetRef(Card):
    """A dataset with everything that decides which pixels and labels a job sees.

    Attributes:
        digest: SHA-256 over the label files and the content of the images that the split can use (`readers.identity`).
        frame_size: side of the square padded frame in pixels.
        partial: what of the release is there, where it is a known partial release: such jobs are limited; not part of other jobs' keys.
        parts: names of the datasets trained and tested on, where they are two; not part of other jobs' keys.
        normalised_by: whose statistics normalise the images: these, or the backbone's own; not part of other jobs' keys.
    """

    name: str
    digest: str
    split: str
    split_rule: SplitRule
    classes: tuple[str, ...]
    target: Target
    intensity: Literal["as-stored", "equalised"]
    statistics: Normalisation
    frame_size: int = 224
    parts: Later[tuple[str, ...]] = ()
    normalised_by: Later[Literal["dataset", "backbone"]] = "dataset"
    partial: Later[str] = ""


class PromptTexts(Card):
    """Prompts of one paraphrase set, drawn and filled in: class -> texts. `negatives` is empty unless a class is asked for as a pair."""

    positives: dict[str, tuple[str, ...]]
    negatives: dict[str, tuple[str, ...]] = {}


class Asked(Card):
    """Every prompt of a job, one entry per paraphrase set, and how those of a class become one score."""

    sets: tuple[PromptTexts, ...]
    combine: Literal["max", "mean"] = "mean"


class Role(StrEnum):
    SELECTION = "selection"
    FINAL = "final"


class Experiment(Card):
    """Every value that can change a digit, and nothing else. Its canonical JSON is hashed to the job's key.

    Attributes:
        recipe: as in the card; a final job with a grid hashes grid and selection rule, not the chosen value.
        learning_rate: the single value of a selection job, or of a job without grid; None = the winner of the grid.
        head_seed: seed of the head's initialisation.
        order_seed: seed of the training order.
        threads: CPU threads; part of the result's identity because sums depend on it.
        limit: at most so many images per split; None = all.
        profile: "full" or the named step budget.
        words, asked: of tasks that train nothing; not part of other jobs' keys.
    """

    task_version: int
    backbone: BackboneRef
    dataset: DatasetRef
    head: str
    encoder: EncoderMode
    fraction: float
    recipe: Recipe
    select: str
    report: str
    switches: Switches
    role: Role
    learning_rate: float | None
    head_seed: int
    order_seed: int
    precision: Literal["float32", "float16", "bfloat16"] = "float32"
    device_type: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1
    limit: int | None = None
    profile: Literal["full", "smoke"] = "full"
    words: Later[Words | None] = None
    asked: Later[Asked | None] = None

    @property
    def canonical(self) -> str:  # type: ignore[override]  # not kept: only its digest is, and jobs are many
        """As of any card, put together from the texts of the parts that other jobs share."""
        texts = {name: getattr(self, name).canonical for name in SHARED_PARTS}
        texts |= {name: canonical_json(value) for name, value in self.model_dump(mode="json", exclude=set(SHARED_PARTS)).items()}
        return "{" + ",".join(f'"{name}":{texts[name]}' for name in sorted(texts)) + "}"


SHARED_PARTS = ("backbone", "dataset", "recipe", "switches")  # of an experiment: cards of their own, the same object in many jobs


class Labels(Card):
    """Names people see. Never hashed: renaming a task or a backbone recomputes nothing.

    Attributes:
        contamination: what the card that the weights came from says of their pretraining and this dataset; None in older records.
        custom: what of the job came from a user's own cards: "task", "dataset", "backbone", "protocol", "prompts".
        mask_source: of the dataset's card when the job was planned, so that no later card renames its metric; None in older records.
    """

    task: str
    task_title: str
    suite: str | None
    protocol: str
    backbone: str
    run: int
    fraction_text: str
    encoder_text: str
    metric_title: str
    contamination: Contamination | None = None
    custom: Later[tuple[str, ...]] = ()
    mask_source: Later[Literal["masks", "boxes", "none"] | None] = None

    @property
    def run_number(self) -> int:
        """As people count: 1 is the first, on the terminal, on every page and in MLflow."""
        return self.run + 1


class Job(Card):
    """One training run. `depends_on` holds the keys of the selection jobs whose winner this job trains with."""

    experiment: Experiment
    labels: Labels
    depends_on: tuple[str, ...] = ()

    @property
    def limited(self) -> bool:
        """True for --limit and --profile runs, and on a partial release: never ranked, never beside published numbers."""
        experiment = self.experiment
        return experiment.limit is not None or experiment.profile != "full" or bool(experiment.dataset.partial)

    @cached_property
    def key(self) -> str:
        """First 32 hex digits of the SHA-256 of the experiment's canonical JSON."""
        return hashlib.sha256(self.experiment.canonical.encode()).hexdigest()[:32]


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and shortest round-trip floats: equal values give equal text."""
    return _canonical.encode(value)


def digest_of(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


# ----------------------------------------------------------------------------------------------------------------- records


class Epoch(Card):
    """One line of a training curve. `learning_rate` is the rate of the epoch's last batch."""

    epoch: int
    step: int
    train_loss: float
    validation_loss: float
    learning_rate: float
    metrics: dict[str, float]


class Failure(Card):
    """Why a job has no result.

    Attributes:
        environment: the fault of a disk, a device, memory or a node: says nothing of the job, and is never stored (`benchmark.faults`).
    """

    kind: str
    sentence: str
    traceback: str
    environment: Later[bool] = False


class Record(Card):
    """The result of one job, complete enough to re-score, resample and audit without recomputing it.

    Attributes:
        scale: "limited" for --limit or --profile runs and on a partial release: never ranked, never beside published numbers.
        phantom: True when the data was generated.
        path: which loop took the steps: "fused" is the one that trains linear heads side by side, equal to the plain one within 1e-5.
        micro_batches: pieces in which each batch passed for want of memory; equal to 1 up to rounding.
        metrics: test metrics by name; detection and Dice values are fractions in [0, 1].
        validation: metrics of the selected epoch on the validation split.
        counts: images and positives per split as used.
        sample_digests: SHA-256 of the ordered ids per split; under `<split> sorted` of the sorted ids, as papers' lists are compared;
            under `<split> files` of the bytes of their image files.
        predictions: files with predictions and per-image sufficient statistics, relative to the output folder, all in `predictions/<key>/`.
        file_digests: SHA-256 of each file of `predictions`; empty before a record is stored, and in older records.
        leakage: images and patients shared between the splits as used (`benchmark.readers.audit`); aggregates only.
        anchors: anchor -> metric -> test score that needs no model (`benchmark.metrics.anchors`); empty for detection and in older records.
        account: of encoder tensors: loaded, missing, unexpected, ignored, wrong shape.
        checksum: SHA-256 of the canonical JSON of all other fields, as stored (`benchmark.integrity`); likewise empty.
        adopted_from: key under which an earlier release stored this result, where it was taken over (`benchmark.adopt`).
    """

    schema_version: int = SCHEMA_VERSION
    key: str
    job: Job
    status: Literal["ok", "failed"]
    scale: Literal["full", "limited"]
    phantom: bool
    redistribution: Literal["open", "ids", "none"]
    path: Literal["plain", "fused"] = "plain"
    micro_batches: int = 1
    metrics: dict[str, float] = {}
    validation: dict[str, float] = {}
    counts: dict[str, dict[str, int]] = {}
    sample_digests: dict[str, str] = {}
    leakage: dict[str, int] = {}
    anchors: dict[str, dict[str, float]] = {}
    learning_rate: float | None = None
    selected_epoch: int | None = None
    steps: int = 0
    curve: tuple[Epoch, ...] = ()
    parameters: dict[str, int] = {}
    account: dict[str, int] = {}
    predictions: tuple[str, ...] = ()
    file_digests: Later[dict[str, str]] = {}
    timings_s: dict[str, float] = {}
    peak_memory_bytes: int | None = None
    environment: dict[str, str] = {}
    warnings: tuple[str, ...] = ()
    failure: Failure | None = None
    finished_at: str = ""
    adopted_from: Later[str | None] = None
    checksum: Later[str] = ""


# Values that differ between two runs of one job without the result differing: left out of every comparison of records. (The checksum
# covers the others of them.)
VOLATILE_FIELDS = frozenset({"timings_s", "peak_memory_bytes", "environment", "finished_at", "checksum"})
