"""What a kind of task owes: what it loads, trains against, predicts, stores, scores, scores again and draws.

Callers hold a `Part` or a card and ask its kind; none of them compares a target. Plans ask kinds too and load no framework for it, so
torch, pyarrow and the libraries that draw are imported inside the functions that need them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np

from benchmark.cards import DatasetCard, Experiment, Job, PromptCard, TaskCard, Words
from benchmark.errors import UsageError
from benchmark.metrics import spec
from benchmark.metrics.boxes import Boxes
from benchmark.metrics.scores import Scores
from benchmark.metrics.statistics import Statistics
from benchmark.readers.base import Sample, ids_digest

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from benchmark.heads.base import Head, Targets
    from benchmark.imaging.augment import Augmentation
    from benchmark.imaging.cache import ImageCache
    from benchmark.imaging.originals import Originals

NEGATIVE_LOSS = "negative_loss"  # what papers that stop by validation loss select: the highest is the best, as everywhere


@dataclass(frozen=True)
class Part:
    """One split as a job uses it.

    Attributes:
        rows: (n,) int64, row of each image in the cache.
        boxes: per image (k, 4) float32 xywh in frame pixels.
        labels: per image (k,) int64.
        patients: patient id per image, None where unknown.
        facts: "view", "sex", "age_decade" -> a text per image, None where unknown; without those that are known of no image.
        annotations: what the kind reads of the samples beside boxes and masks (`Kind.annotations`).
        augmentation: draws of one epoch, for training images that are augmented; they change what `images` and `targets` give.
        epoch: in which the part is seen, for what else is drawn (`Targets.draws`).
        originals: the ground truth in original pixels, of a part that is scored there (`Switches.scored_in`); else None.
        own_metrics: the user's own families of metrics that its job computes.
    """

    name: str
    ids: tuple[str, ...]
    rows: np.ndarray
    boxes: tuple[np.ndarray, ...]
    labels: tuple[np.ndarray, ...]
    patients: tuple[str | None, ...]
    cache: ImageCache
    kind: Kind
    frame_name: str
    annotations: Any = None
    augmentation: Augmentation | None = None
    epoch: int = 0
    originals: Originals | None = None
    facts: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    own_metrics: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def trained_kind(self) -> TrainedKind:
        """The kind of a part that a head learns from, or is tested on."""
        if not isinstance(self.kind, TrainedKind):
            raise TypeError(f"{self.kind.name} trains nothing: its parts have no targets.")
        return self.kind

    def images(self, index: np.ndarray) -> torch.Tensor:
        """(b, S, S) uint8."""
        import torch

        frames = self.cache.images(self.rows[index])
        return torch.from_numpy(frames if self.augmentation is None else self.augmentation.images(frames, index.tolist()))

    def masks(self, index: np.ndarray) -> np.ndarray:
        """(b, C, S, S) bool, as stored: never augmented."""
        return self.cache.masks(self.rows[index])

    def in_epoch(self, epoch: int) -> Part:
        """The part as it is seen in an epoch: itself, unless its images are augmented or a head may draw among its ground truth."""
        if self.kind.draws_by_epoch:
            return replace(self, epoch=epoch)
        return self if self.augmentation is None else replace(self, augmentation=replace(self.augmentation, epoch=epoch))

    @property
    def true_masks(self) -> PartMasks:
        """All masks of the part, for what reads them a few images at a time."""
        return PartMasks(self)

    def targets(self, index: np.ndarray, device: torch.device) -> Targets:
        """What the head is trained against, for the given images."""
        return self.trained_kind.targets(self, index, device)

    def truth(self) -> Boxes:
        """Ground-truth boxes of the part in the frame."""
        counts = [len(b) for b in self.boxes]
        return Boxes(
            image=np.repeat(np.arange(len(self)), counts).astype(np.int64),
            xywh=np.concatenate([*self.boxes, np.zeros((0, 4), np.float32)]).astype(np.float64),
            label=np.concatenate([*self.labels, np.zeros(0, np.int64)]).astype(np.int64),
            n_images=len(self),
            frame=self.frame_name,
        )

    def n_positive(self) -> int:
        """Images with a finding, as the kind counts them."""
        return self._n_positive

    def digest(self) -> str:
        return ids_digest(self.ids, ordered=True)

    def files_digest(self) -> str:
        """SHA-256 over the bytes of the part's source files, as they were when decoded: names and sizes may stay when pixels change."""
        return ids_digest(self.cache.source_digests(self.rows), ordered=True)

    @cached_property
    def prepared(self) -> Any:
        """What the kind computes once for all batches (`TrainedKind.prepare`)."""
        return self.trained_kind.prepare(self)

    @cached_property
    def _n_positive(self) -> int:
        return self.trained_kind.n_positive(self)


@dataclass(frozen=True)
class PartMasks:
    """(N, C, S, S) bool masks of a part as stored, unpacked where they are read: those of a whole split would fill memory."""

    part: Part

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """N, C, S, S."""
        recipe = self.part.cache.recipe
        return len(self.part), recipe.n_classes, recipe.size, recipe.size

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, images: slice) -> np.ndarray:
        """(n, C, S, S) bool of consecutive images."""
        return self.part.masks(np.arange(len(self.part))[images])


@dataclass(frozen=True)
class ScoredSplit:
    """Everything the test split gave.

    Attributes:
        statistics: what the metrics follow from, image by image.
        predictions: of the kind's own form, for its `store` and `examples`.
        warnings: metrics that are undefined on this split, with the reason.
    """

    metrics: dict[str, float]
    statistics: Statistics
    predictions: Any
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Names:
    """Metrics of a kind of task by name: what an epoch can be chosen by, and what its test gives."""

    select: frozenset[str]
    report: frozenset[str]


@dataclass(frozen=True)
class Example:
    """One image for the eye, with its truth in frame pixels.

    Attributes:
        index: position in the test split and in the predictions file.
        image: (S, S) uint8.
        boxes_xywh: (n, 4) float32, or None for masks.
        masks: (C, S, S) bool, or None for boxes.
        similarity: (h, w) float32 over the whole frame, how near each place is to what was asked for; None where nothing was asked.
        box_labels: (n,) int64 class of each box, an index into the card's classes; None for masks, phrases, and in older files.
    """

    index: int
    image: np.ndarray
    boxes_xywh: np.ndarray | None
    masks: np.ndarray | None
    similarity: np.ndarray | None = None
    box_labels: np.ndarray | None = None

    @property
    def true_masks(self) -> np.ndarray:
        """`masks`. Raises UsageError where the stored file has none."""
        return _of_example(self.masks, self.index, "masks")

    @property
    def true_boxes_xywh(self) -> np.ndarray:
        """`boxes_xywh`. Raises UsageError where the stored file has none."""
        return _of_example(self.boxes_xywh, self.index, "boxes")

    @property
    def asked_similarity(self) -> np.ndarray:
        """`similarity`. Raises UsageError where the stored file has none."""
        return _of_example(self.similarity, self.index, "similarity")


Frames = Literal["task", "original"]

# Indices into a part, and what the head predicts for these images: consecutive batches that cover the part.
Predicted = Iterable[tuple[np.ndarray, Any]]


class StoredForm(Protocol):
    """What a file of predictions says of itself; a module of `kit` each."""

    def made_for(self, path: Path, /) -> tuple[str, str] | None:
        """Name and rule of the split that the predictions were made for; None where the file does not say."""

    def names_in(self, path: Path, /) -> set[str]:
        """Texts in a file that may name images."""


class Kind(ABC):
    """Base of all kinds; a module offers one as `KIND`. Derive from `TrainedKind` or `kit.untrained.UntrainedKind`.

    Attributes:
        name: in sentences.
        target: of its task cards: the ground truth that is learned from, or scored against.
        trains: False for tasks with `words`: one pass, no recipe, no selection. No two kinds agree in target and this.
        stored_as: module that reads what a file of its predictions says of itself.
        drawn_from: names of the stored file that pictures need beside the examples, today's form before earlier ones.
        earlier_forms: stored files of earlier releases that have another form today -> the name of that (`convert`).
        draws_by_epoch: a head may draw among the ground truth, anew in each epoch (`Targets.draws`).
        asks_every_image: the same question is asked of every image, so that none counts as positive.
        shows_classes: metrics of single classes stand on a row's sheet; a list of whole-image labels is too long for one.
        moves_with_images: the ground truth is moved with augmented images; others would stay where they were.
        later_switches: those of `Switches.came_later` that it reads, whatever the head.
    """

    name: ClassVar[str]
    target: ClassVar[str]
    trains: ClassVar[bool]
    stored_as: ClassVar[StoredForm]
    drawn_from: ClassVar[tuple[str, ...]] = ()
    earlier_forms: ClassVar[Mapping[str, str]] = {}
    draws_by_epoch: ClassVar[bool] = False
    asks_every_image: ClassVar[bool] = False
    shows_classes: ClassVar[bool] = False
    moves_with_images: ClassVar[bool] = False
    later_switches: ClassVar[frozenset[str]] = frozenset()

    def needed(self, words: Words | None) -> str:
        """What a dataset must have (`targets` of its card)."""
        return self.target

    def measured(self, task: TaskCard, dataset: DatasetCard, prompts: Mapping[str, PromptCard], exclusive: bool) -> frozenset[str]:
        """Fields of the statistics of a task on this dataset; they decide which metrics it has (`metrics.spec`).

        Args:
            exclusive: of the head: each image has exactly one class.
        """
        return frozenset()

    def metric_names(self, task: TaskCard, dataset: DatasetCard, prompts: Mapping[str, PromptCard], exclusive: bool) -> Names:
        """Every metric that a task on this dataset computes; arguments as of `measured`."""
        fields = self.measured(task, dataset, prompts, exclusive)
        chosen = spec.names_with(self.target, dataset.classes, fields, selects=True) if self.trains else frozenset[str]()
        return Names(chosen, spec.names_with(self.target, dataset.classes, fields))

    # -- load

    def annotations(self, samples: Sequence[Sample], experiment: Experiment) -> Any:
        """What a part keeps of its samples beside boxes and masks; None = nothing.

        Raises:
            DataError: they are not what the experiment's head or words ask of each image.
        """
        return None

    # -- store

    @abstractmethod
    def store(self, folder: Path, job: Job, part: Part, predictions: Any) -> None:
        """Writes the predictions of a tested part into `folder`, with what is needed to map them back."""

    def examples(self, part: Part, predictions: Any) -> dict[str, np.ndarray] | None:
        """A few images with their truth, for the eye, as arrays that `stored.read_examples` knows; None = the kind has no pictures."""
        return None

    # -- score again

    def rescore(self, file: Path, job: Job, part: Part, card: DatasetCard) -> Scores:
        """Scores a file of predictions of the test part; the file holds nothing but what `store` writes.

        Raises:
            FrameMismatch: no frame, or another than the task's.
            UsageError: other images or classes, a row that makes no sense, or a kind whose files are not scored again.
        """
        raise UsageError(f"{job.labels.task} stores nothing that can be scored again ({self.name}); its metrics stand in the record.")

    # -- give away

    def convert(self, file: Path, into: Path) -> None:
        """Writes a stored file of `earlier_forms` in today's form, and reads it back.

        Raises:
            UsageError: today's form would lose something of it, or the file is damaged.
        """
        raise UsageError(f"{file} has no other form.")

    def export(self, file: Path, frame: Frames) -> tuple[str, bytes] | None:
        """A stored file of predictions as people's programs read it: name and content; None for a file that has no such form.

        Args:
            frame: "task" for the task's frame, "original" for pixels of the original images.

        Raises:
            UsageError: the file is damaged, or does not say how its images lie in the frame.
        """
        return None

    # -- draw

    def draw(self, examples: Sequence[Example], files: Mapping[str, Path], class_names: Sequence[str], note: str) -> Iterator[Image]:
        """One picture per example.

        Args:
            files: the first of `drawn_from` that is stored, by its name.
            class_names: of several classes; empty for one, which needs no name on every outline.
            note: a few words for the legend.
        """
        return iter(())


class TrainedKind(Kind):
    """A kind whose heads learn."""

    trains = True

    @abstractmethod
    def n_positive(self, part: Part) -> int:
        """Images with a finding."""

    def prepare(self, part: Part) -> Any:
        """What `targets` reads of a part, computed once (`Part.prepared`)."""
        return None

    @abstractmethod
    def targets(self, part: Part, index: np.ndarray, device: torch.device) -> Targets:
        """Ground truth of a batch, on the device."""

    @abstractmethod
    def validate(self, predicted: Predicted, part: Part, class_names: tuple[str, ...], head: Head) -> dict[str, float]:
        """The metrics that selection needs, without those of the loss."""

    def of_loss(self, loss: float) -> dict[str, float]:
        """What an epoch can be chosen by, of its mean loss."""
        return {NEGATIVE_LOSS: -loss}

    @abstractmethod
    def test(self, predicted: Predicted, part: Part, card: DatasetCard, head: Head, batch_size: int) -> ScoredSplit:
        """All metrics of a test part."""

    def anchors(self, part: Part, class_names: tuple[str, ...], head: Head) -> dict[str, dict[str, float]]:
        """Scores on the part that need no model, by name; empty where an empty prediction scores 0."""
        return {}


def _of_example(values: np.ndarray | None, index: int, what: str) -> np.ndarray:
    if values is None:
        raise UsageError(f"The stored example of image {index} holds no {what}: it is not a file of this task. Run the job again.")
    return values


def warnings_of(found: Scores) -> tuple[str, ...]:
    """Sentences on the metrics that have no value."""
    return tuple(f"{name} is undefined: {why}" for name, why in found.undefined.items())
