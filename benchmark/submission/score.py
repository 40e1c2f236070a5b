"""Re-scoring of saved predictions: anyone who holds the data can check a number without the backbone.

Predictions say in which frame they were measured; without that they are refused: the same boxes in another frame give another number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmark import kinds, registry, resolve
from benchmark.cards import BackboneRef, Job, Protocol, TaskCard
from benchmark.errors import LobeError, StoreError, UsageError
from benchmark.integrity import PREDICTIONS, file_of
from benchmark.kinds.base import Kind, Part
from benchmark.kinds.kit import columnar, heading
from benchmark.kinds.kit.stored import ByImage
from benchmark.plan import NamedBackbone, Settings, plan
from benchmark.readers.kit.lists import NAME as LISTS
from benchmark.readers.kit.withheld import withholding
from benchmark.shelf import read_record
from benchmark.training.data import load_part
from benchmark.training.inputs import Inputs

MOST_NATIVE = 2048  # pixels a side of a frame that a file may ask for


@dataclass(frozen=True)
class Rescored:
    """What a predictions file scores; metrics are fractions in [0, 1].

    Attributes:
        digest: of the dataset that it was scored on.
        undefined: metrics that have no value on this split, with the reason.
        images: the statistics behind the metrics, and whose images they are of.
    """

    task: str
    protocol: str
    split: str
    report: str
    n_images: int
    metrics: dict[str, float]
    undefined: dict[str, str]
    digest: str
    images: ByImage


def scorer(
    task: str,
    data: Sequence[str],
    cache: Path | None,
    protocol: str,
    limit: int | None = None,
    split: str | None = None,
    splits: Path | None = None,
) -> Scorer:
    """Opens the test split of a task once, for any number of predictions files: `scorer(…).score(file)`.

    Args:
        limit: the limit of the run the predictions come from.
        split: a split of the dataset card; None takes the task card's.
        splits: folder with one sub-folder of split lists per dataset, instead of a rule.

    Raises:
        UsageError: a split and lists, or no folder of data.
        DataError: the data is not there, or not what its card says.
    """
    if split is not None and splits is not None:
        raise UsageError("--split names a rule and --splits gives lists instead of one: use either.")
    (card,) = resolve.tasks([task], None)
    dataset_card, rules = registry.dataset(card.dataset), registry.protocol(protocol)
    with withholding(dataset_card):
        folder = resolve.cache_folder(cache)
        root = resolve.dataset_root(dataset_card, resolve.data_roots(data))
        lists = None if splits is None else splits / card.dataset
        trains = card.words is None
        dataset = resolve.dataset(dataset_card, root, rules, split or card.split, lists, trains=trains, limit=limit, cache=folder)
    return Scorer(card, rules, dataset, limit, folder, is_split_given=split is not None or splits is not None)


@dataclass
class Scorer:
    """A task's test images, ready to score files of predictions.

    Attributes:
        cache: folder of all caches.
        is_split_given: the user named the split, so that a file need not.
    """

    task: TaskCard
    protocol: Protocol
    dataset: resolve.ResolvedDataset
    limit: int | None
    cache: Path
    is_split_given: bool
    _parts: dict[int | None, tuple[Job, Part]] = field(default_factory=dict)

    def score(self, file: Path) -> Rescored:
        """Metrics of a predictions file.

        Args:
            file: as a job of the task's kind writes it (docs/results-format.md); of boxes and masks COCO-style JSON as well.

        Raises:
            FrameMismatch: no frame, or another than the task's.
            DamagedResult: the file lies beside its record and is not what was stored with it.
            UsageError: images missing, repeated or not of the test split, other classes, a row that makes no sense, or a file that names
                another split: two splits may share their test images and differ in what was trained on.
        """
        _require_as_recorded(file)
        card, ref = self.dataset.card, self.dataset.ref
        with withholding(card, words=lambda: _names_in(self.task, file)):
            kind = kinds.of_task(self.task)
            _require_same_split(file, self.dataset, kind.stored_as.made_for(file), given=self.is_split_given)
            job, part = self._in_frame(side_of_file(file, kind) if self.protocol.geometry == "native" else None)
            result = kind.rescore(file, job, part, card)
        names = (self.task.id, self.protocol.name, ref.split, self.task.report)
        images = ByImage(part.ids, part.patients, result.statistics)
        return Rescored(*names, len(part), result.metrics, result.undefined, ref.digest, images)

    def _in_frame(self, side: int | None) -> tuple[Job, Part]:
        """The test images in a frame of so many pixels, or in the task's own; decoded once."""
        if side not in self._parts:
            nobody = NamedBackbone("predictions", BackboneRef(family="none", model="none", digest="none"), input_size=side)
            settings = Settings(runs=1, limit=self.limit)
            job = plan([self.task], [nobody], {self.task.dataset: self.dataset.ref}, self.protocol, settings, registry.prompts())[-1]
            self._parts[side] = (job, _test_part(job, self.dataset, self.cache))
        return self._parts[side]


def side_of_file(file: Path, kind: Kind) -> int | None:
    """Pixels of the frame that predictions were made in, where the protocol leaves it to the backbone; None of class scores.

    Raises:
        FrameMismatch: the file names no square frame.
        UsageError: one that is larger than any backbone's: images would be decoded in it.
    """
    if kind.stored_as is not columnar:
        return None
    side = heading.side_of(file, columnar.heading_of(file).frame)
    if side > MOST_NATIVE:
        raise UsageError(f"{file} was measured in a frame of {side:,} pixels; a backbone's own is taken up to {MOST_NATIVE:,}.")
    return side


def _names_in(task: TaskCard, file: Path) -> set[str]:
    """Texts that may name images, also of a predictions file with faults; none where it cannot be read."""
    try:
        return kinds.of_task(task).stored_as.names_in(file)
    except (LobeError, OSError, ValueError, KeyError):
        return set()


def _test_part(job: Job, dataset: resolve.ResolvedDataset, cache: Path) -> Part:
    inputs = Inputs(
        card=dataset.card,
        dataset_root=dataset.root,
        cache=cache / "images",
        backbone_model="none",
        weights=None,
        release=dataset.release,
        phantom=dataset.phantom,
        known_release=dataset.known_release,
        lists=dataset.lists,
    )
    return load_part(job.experiment, inputs, "test")


def _require_as_recorded(file: Path) -> None:
    """A file in an output folder is held to its record's digest; a record that may not be believed itself cannot vouch for it."""
    key, folder, out = (parent := file.absolute().parent).name, parent.parent.name, parent.parent.parent
    record = out / "records" / f"{key}.json"
    if folder == PREDICTIONS and record.is_file():
        try:
            believed = read_record(record)
        except StoreError:
            return
        file_of(believed, file.name, out)


def _require_same_split(file: Path, resolved: resolve.ResolvedDataset, made_for: tuple[str, str] | None, *, given: bool) -> None:
    """A file that does not name its split is taken at the user's word; its images cannot tell splits apart that share their test images."""
    dataset = resolved.ref
    tested = [name for name, rule in resolved.card.splits.items() if rule.tests]
    if made_for is None and not given and len(tested) > 1:
        offered = ", ".join(tested)
        raise UsageError(f"{file} does not say for which split of {dataset.name} it was made. Name it with --split; there are: {offered}.")
    if made_for is None or made_for == (dataset.split, dataset.split_rule.rule):
        return
    name, rule = made_for
    if name == dataset.split and name != LISTS:
        raise UsageError(
            f"{file} was made for another dataset, or by a card of another version: its split {name} follows the rule {rule}, "
            f"that of {dataset.name} follows {dataset.split_rule.rule}. Score it on the task it was made for."
        )
    cure = "the same lists with --splits" if name == LISTS else f"--split {name}"
    raise UsageError(
        f"{file} was made for the split {name} ({rule}), not for {dataset.split} ({dataset.split_rule.rule}). Score it with {cure}."
    )
