"""The images and labels of one job: split, fraction, limit, then rows of the decode-once cache.

Which ids a job sees is decided here and nowhere else. Pixels come from the cache as uint8; boxes are moved to the frame once.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from benchmark.cards import Experiment
from benchmark.contents import Contents, Memory, drained
from benchmark.errors import CardError, DataError, ImageError, SplitError, TooFewImages
from benchmark.events import Steps
from benchmark.heads.base import Targets
from benchmark.imaging.augment import Augmentation
from benchmark.imaging.cache import CacheRecipe, ImageCache
from benchmark.imaging.dicom import decoder_versions
from benchmark.imaging.geometry import Frame
from benchmark.metrics.boxes import Boxes
from benchmark.readers.base import SPLITS, Reader, Sample, ids_digest, open_reader
from benchmark.readers.identity import MINIMUM_POSITIVES, UNTRAINED, Identity, identify, used
from benchmark.readers.lists import splits_of
from benchmark.readers.splits import check_disjoint, prefix
from benchmark.training import sizes
from benchmark.training.inputs import Inputs

FILL_CHUNK = 32  # images decoded between two signs of life


@dataclass(frozen=True)
class Part:
    """One split as a job uses it.

    Attributes:
        rows: (n,) int64, row of each image in the cache.
        boxes: per image (k, 4) float32 xywh in frame pixels.
        labels: per image (k,) int64.
        patients: patient id per image, None where unknown.
        class_labels: (n, C) int8 of 1, 0 and -1 (unknown), for tasks of whole-image labels.
        augmentation: draws of one epoch, for training images that are augmented; they change what `images` and `targets` give.
        epoch: in which the part is seen, for what else is drawn (`Targets.draws`).
    """

    name: str
    ids: tuple[str, ...]
    rows: np.ndarray
    boxes: tuple[np.ndarray, ...]
    labels: tuple[np.ndarray, ...]
    patients: tuple[str | None, ...]
    cache: ImageCache
    target: str
    frame_name: str
    class_labels: np.ndarray | None = None
    augmentation: Augmentation | None = None
    epoch: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def images(self, index: np.ndarray) -> torch.Tensor:
        """(b, S, S) uint8."""
        frames = self.cache.images(self.rows[index])
        return torch.from_numpy(frames if self.augmentation is None else self.augmentation.images(frames, index))

    def masks(self, index: np.ndarray) -> np.ndarray:
        """(b, C, S, S) bool, as stored: never augmented."""
        return self.cache.masks(self.rows[index])

    def in_epoch(self, epoch: int) -> Part:
        """The part as it is seen in an epoch: itself, unless its images are augmented or have boxes, among which a head may draw."""
        if self.target == "boxes":
            return replace(self, epoch=epoch)
        return self if self.augmentation is None else replace(self, augmentation=replace(self.augmentation, epoch=epoch))

    def targets(self, index: np.ndarray, device: torch.device) -> Targets:
        if self.target == "masks":
            masks = self.masks(index)
            masks = masks if self.augmentation is None else self.augmentation.masks(masks, index)
            return Targets(masks=torch.from_numpy(masks).to(device, dtype=torch.float32))
        if self.target == "labels":
            return Targets(labels=torch.from_numpy(self.class_labels[index]).to(device, dtype=torch.float32))
        padded, labels, valid = self._padded
        most = max(int(valid[index].sum(axis=1).max(initial=0)), 1)
        return Targets(
            boxes_xywh=torch.from_numpy(padded[index, :most]).to(device),
            box_labels=torch.from_numpy(labels[index, :most]).to(device),
            box_valid=torch.from_numpy(valid[index, :most]).to(device),
            draws=tuple((self.epoch, int(i)) for i in index),
        )

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
        return self._n_positive

    def digest(self) -> str:
        return ids_digest(self.ids, ordered=True)

    def files_digest(self) -> str:
        """SHA-256 over the bytes of the part's source files, as they were when decoded: names and sizes may stay when pixels change."""
        return ids_digest(self.cache.source_digests(self.rows), ordered=True)

    @cached_property
    def _n_positive(self) -> int:
        if self.target == "boxes":
            return sum(len(b) > 0 for b in self.boxes)
        if self.target == "labels":
            return int((self.class_labels == 1).any(axis=1).sum())
        return sum(int(self.masks(np.array([i])).any()) for i in range(len(self)))

    @cached_property
    def _padded(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        most = max([len(b) for b in self.boxes] + [1])
        boxes = np.zeros((len(self), most, 4), np.float32)
        labels = np.zeros((len(self), most), np.int64)
        valid = np.zeros((len(self), most), bool)
        for i, (b, k) in enumerate(zip(self.boxes, self.labels, strict=True)):
            boxes[i, : len(b)], labels[i, : len(b)], valid[i, : len(b)] = b, k, True
        return boxes, labels, valid


@dataclass(frozen=True)
class JobData:
    train: Part
    validation: Part
    test: Part
    batch_size: int
    warmup_steps: int
    warnings: tuple[str, ...]


def load(experiment: Experiment, place: Inputs) -> Generator[tuple[int, int], None, JobData]:
    """Opens the dataset, decides the ids of each split, and fills the cache with exactly these images, yielding (done, total).

    Raises:
        DataError: the folder is not what the card says, or an image needed here cannot be read (all such ids are named).
        TooFewImages: an unlimited job has fewer training images than one batch.
    """
    reader, contents = yield from open_known(experiment, place)
    chosen = choose(experiment, reader, place.lists)
    cache = ImageCache.open(place.cache, cache_recipe(experiment, place, reader), reader.ids)
    yield from fill(cache, [s for samples in chosen.values() for s in samples], place, contents)
    parts = {name: _part(name, samples, cache, experiment) for name, samples in chosen.items()}
    used_sizes = sizes.SplitSizes(**{name: len(part) for name, part in parts.items()})
    if (why := sizes.too_few(experiment, used_sizes)) is not None:
        raise TooFewImages(why)
    asked = (experiment.recipe, experiment.limit, used_sizes.train)
    warnings = (*reader.warnings, *cache.mended())
    return JobData(**parts, batch_size=sizes.batch_size(*asked), warmup_steps=sizes.warmup_steps(*asked), warnings=warnings)


def load_untrained(
    experiment: Experiment, place: Inputs
) -> Generator[tuple[int, int], None, tuple[Reader, dict[str, list[Sample]], dict[str, Part]]]:
    """What a task that trains nothing needs: the test split, and the validation split where the rule has one; yields as `load` does."""
    reader, contents = yield from open_known(experiment, place)
    chosen = choose(experiment, reader, place.lists, UNTRAINED)
    cache = ImageCache.open(place.cache, cache_recipe(experiment, place, reader), reader.ids)
    yield from fill(cache, [s for samples in chosen.values() for s in samples], place, contents)
    reader.warnings += cache.mended()
    return reader, chosen, {name: _part(name, samples, cache, experiment) for name, samples in chosen.items()}


def load_part(experiment: Experiment, place: Inputs, name: str) -> Part:
    """One split alone, as `load` gives it."""
    reader, contents = drained(open_known(experiment, place))
    samples = choose(experiment, reader, place.lists, SPLITS if experiment.words is None else UNTRAINED)[name]
    cache = ImageCache.open(place.cache, cache_recipe(experiment, place, reader), reader.ids)
    for _ in fill(cache, samples, place, contents):
        pass
    return _part(name, samples, cache, experiment)


def open_known(experiment: Experiment, place: Inputs) -> Generator[tuple[int, int], None, tuple[Reader, Contents]]:
    """The dataset's reader, and what its files hold; an unlimited job needs a release whose counts and digests are known.

    Yields per cents where this node has to read the files first.

    Raises:
        DataError: the folder is an unknown or edited copy, or changed since planning.
    """
    if not place.known_release and experiment.limit is None:
        raise DataError(sizes.unknown_release(place.card.name, place.dataset_root, place.release))
    reader = open_reader(place.card, place.dataset_root, shapes=experiment.switches.object_cxr_shapes)
    splits = used(splits_of(reader, experiment.dataset.split_rule, place.lists), trains=experiment.words is None)
    identity = yield from _in_per_cent(identify(reader, splits, experiment.limit, Memory(place.cache.parent)))
    if identity.digest != experiment.dataset.digest:
        raise DataError(
            f"{place.card.name}: label or image files in {place.dataset_root} are not those the job was planned with. "
            "Run the same command again to plan with the files as they are now."
        )
    return reader, identity.contents


def _in_per_cent(steps: Generator[tuple[int, int], None, Identity]) -> Generator[tuple[int, int], None, Identity]:
    kept = Steps(steps)
    for done, total in kept:
        yield 100 * done // max(total, 1), 100
    return kept.result


def fill(cache: ImageCache, samples: Sequence[Sample], place: Inputs, contents: Contents | None = None) -> Iterator[tuple[int, int]]:
    """Decodes what the cache lacks of `samples`, yielding (done, total).

    Args:
        contents: what the files hold as planned.

    Raises:
        ImageError: some cannot be read, or hold something else; the first three are named, all others are cached.
    """
    bad, memory = [], Memory(place.cache.parent)
    for start in range(0, len(samples), FILL_CHUNK):
        bad += cache.fill(samples[start : start + FILL_CHUNK], contents=contents, memory=memory)
        yield min(start + FILL_CHUNK, len(samples)), len(samples)
    if bad:
        listed = " ".join(sentence for _, sentence in bad[:3])
        rest = f" And {len(bad) - 3:,} more: {len(bad):,} unreadable images of {place.card.name} in all." if len(bad) > 3 else ""
        raise ImageError(f"{listed}{rest}")


def cache_recipe(experiment: Experiment, place: Inputs, reader: Reader) -> CacheRecipe:
    """What decides the bytes of the cache."""
    data = experiment.dataset
    return CacheRecipe(
        dataset=data.name,
        dataset_digest=f"{reader.outline_digest()}:{reader.shapes}",
        intensity=data.intensity,
        size=data.frame_size,
        n_classes=len(data.classes),
        with_masks="masks" in place.card.targets,
        decoders=decoder_versions(),
    )


def choose(experiment: Experiment, reader: Reader, lists: Path | None = None, wanted: Sequence[str] = SPLITS) -> dict[str, list[Sample]]:
    """The samples of each split after fraction, validation subset and limit, in the split's order.

    Args:
        lists: folder of split lists, for a split given by lists.
        wanted: splits to choose from; a job that trains nothing may go without validation images.

    Raises:
        SplitError: the splits share ids, or one is empty.
    """
    splits = splits_of(reader, experiment.dataset.split_rule, lists)
    check_disjoint(splits)
    shares = {"train": experiment.fraction, "validation": experiment.recipe.validation_subset, "test": 1.0}
    chosen = {}
    for name in wanted:
        everything = tuple(splits[name])
        if not everything and name == "validation" and wanted == UNTRAINED:
            continue
        kept = tuple(prefix(everything, shares[name]))
        if experiment.limit is None:
            samples = [reader.sample(i) for i in kept]
        else:
            if len(kept) < min(experiment.limit, sizes.MINIMUM_LIMITED):
                kept = everything[: min(experiment.limit, sizes.MINIMUM_LIMITED)]
            samples = limit_samples([reader.sample(i) for i in kept], [reader.sample(i) for i in everything], experiment.limit)
        if not samples:
            raise SplitError(f"{reader.card.name}: the {name} split of rule {experiment.dataset.split!r} has no image in {reader.root}.")
        chosen[name] = samples
    return chosen


def limit_samples(kept: Sequence[Sample], everything: Sequence[Sample], limit: int) -> list[Sample]:
    """The first `limit` samples, with at least four positives: late negatives give way to the next positives of the list."""
    first = list(kept[:limit])
    if any(s.positive is None for s in first):
        return first
    missing = min(MINIMUM_POSITIVES, limit) - sum(bool(s.positive) for s in first)
    held = {s.id for s in first}
    spare = [s for s in everything if s.positive and s.id not in held]
    for extra in spare[: max(missing, 0)]:
        negatives = [i for i, s in enumerate(first) if not s.positive]
        if len(first) < limit or not negatives:
            first.append(extra)
        else:
            first[negatives[-1]] = extra
    return first


def _part(name: str, samples: Sequence[Sample], cache: ImageCache, experiment: Experiment) -> Part:
    rows = np.array([cache.row_of(s.id) for s in samples], np.int64)
    frames: list[Frame] = cache.frames(rows)
    augmented = experiment.recipe.augmentation if name == "train" else None
    if augmented is not None and experiment.dataset.target == "boxes":
        raise CardError(f"Augmentation {augmented!r} moves images and masks, and this task has boxes, which would stay where they were.")
    return Part(
        name=name,
        ids=tuple(s.id for s in samples),
        rows=rows,
        boxes=tuple(f.to_frame(s.boxes_xywh).astype(np.float32).reshape(-1, 4) for f, s in zip(frames, samples, strict=True)),
        labels=tuple(np.asarray(s.box_labels, np.int64) for s in samples),
        patients=tuple(s.patient_id for s in samples),
        cache=cache,
        target=experiment.dataset.target,
        frame_name=frames[0].name,
        class_labels=np.stack([s.labels for s in samples]) if experiment.dataset.target == "labels" else None,
        augmentation=None if augmented is None else Augmentation(augmented, experiment.order_seed),
    )
