"""Jobs: every value that can change a digit, and the names that people see.

The split of a `Job` into `Experiment` and `Labels` is the contract behind resume: the key is the hash of the experiment alone.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from functools import cached_property
from typing import Literal

from benchmark.cards.backbones import Contamination, EncoderMode, Normalisation
from benchmark.cards.base import Card, Later, Target, canonical_json, canonical_object
from benchmark.cards.datasets import SplitRule
from benchmark.cards.prompts import AskedPrompts
from benchmark.cards.protocols import Switches
from benchmark.cards.tasks import Recipe, Words


class BackboneRef(Card):
    """A backbone with everything that decides its weights.

    Attributes:
        model: architecture, or a Python factory's function and the SHA-256 of the files it runs and reads; of a family of a user's own the
            architecture and the SHA-256 of its code.
        digest: SHA-256 of the weights file, of the factory's state dict, or of the library's weights; None = random.
        init_seed: seed of random initialisation, the run's seed; None for fixed weights.
        normalisation: takes the place of what the model is built with, where the protocol asks for a backbone's own. Of a card; in jobs of
            such a protocol also of a folder, or of a library's weights that are not the model's usual ones.
        container: key of the set of weights in a file that holds several; not part of other jobs' keys.
        tokenizer: SHA-256 of the files of the tokenizer that a card names, in jobs that read words; not part of other jobs' keys.
        text_code: version of how its family makes vectors of texts, where a later one gives others; as `tokenizer`.
    """

    family: str
    model: str
    layout: str = "torchvision"
    digest: str | None
    init_seed: int | None = None
    minimum_loaded: float = 1.0
    normalisation: Normalisation | None = None
    container: Later[str | None] = None
    tokenizer: Later[str | None] = None
    text_code: Later[int | None] = None

    @property
    def is_untrained(self) -> bool:
        """LOBE itself draws its weights, so it saw no image. An author's code may draw one tensor and load all others."""
        return self.digest is None and self.family != "python_file"


class DatasetRef(Card):
    """A dataset with everything that decides which pixels and labels a job sees.

    Attributes:
        digest: SHA-256 over the label files and the content of the images that the split can use (`readers.kit.identity`).
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
    intensity: Literal["as-stored", "equalised", "stretched"]
    statistics: Normalisation
    frame_size: int = 224
    parts: Later[tuple[str, ...]] = ()
    normalised_by: Later[Literal["dataset", "backbone"]] = "dataset"
    partial: Later[str] = ""


class Role(StrEnum):
    SELECTION = "selection"
    FINAL = "final"


class Experiment(Card):
    """Every value that can change a digit, and nothing else. Its canonical JSON is hashed to the job's key.

    Attributes:
        recipe: as in the card; a final job with a grid hashes grid and selection rule, not the chosen value.
        learning_rate: the single value of a selection job, or of a job without grid. None = the winner of the grid; for a selection job
            the rate beyond the edge that won, if an edge won.
        head_seed: seed of the head's initialisation.
        order_seed: seed of the training order.
        threads: CPU threads; part of the result's identity because sums depend on it.
        limit: at most so many images per split; None = all.
        profile: "full" or the named step budget.
        words, asked: of tasks that train nothing; not part of other jobs' keys.
        own_code: room and name of each reader, head and family of metrics of a user's own, such as `heads/mine`, with the SHA-256 of its
            code; not part of other jobs' keys.
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
    asked: Later[AskedPrompts | None] = None
    own_code: Later[dict[str, str]] = {}

    @property
    def own_metrics(self) -> tuple[str, ...]:
        """The user's own families of metrics that the job computes."""
        return tuple(name.removeprefix("metrics/") for name in self.own_code if name.startswith("metrics/"))

    @property
    def opens_test(self) -> bool:
        """False for a search that must not see the test split."""
        return not (self.role is Role.SELECTION and self.switches.selection == "two-seeds")

    @property
    def extends_grid(self) -> bool:
        """True for a selection job that trains only where the grid's winner lies on its edge, one step beyond."""
        return self.role is Role.SELECTION and self.learning_rate is None and self.words is None

    @property
    def canonical(self) -> str:  # not kept: only its digest is, and jobs are many
        """As of any card, put together from the texts of the cards that other jobs share."""
        texts = {name: getattr(self, name).canonical for name in SHARED_CARDS}
        texts |= {name: canonical_json(value) for name, value in self.model_dump(mode="json", exclude=set(SHARED_CARDS)).items()}
        return canonical_object(texts)


SHARED_CARDS = ("backbone", "dataset", "recipe", "switches")  # of an experiment: cards of their own, the same object in many jobs


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
    """One training run. `depends_on` holds the keys of the selection jobs whose winner this job trains with, or goes beyond."""

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
