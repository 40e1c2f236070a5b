"""The images and labels of one job: split, fraction, limit, then rows of the decode-once cache.

Which ids a job sees is decided here and nowhere else. Pixels come from the cache as uint8; boxes are moved to the frame once.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmark import kinds
from benchmark.cards import Experiment
from benchmark.contents import Contents, Memory, drained
from benchmark.errors import CardError, DataChanged, DataError, SplitError, TooFewImages
from benchmark.events import Steps
from benchmark.imaging.augment import Augmentation
from benchmark.imaging.cache import ImageCache
from benchmark.imaging.geometry import Frame
from benchmark.imaging.originals import Originals
from benchmark.imaging.rows import error_of
from benchmark.kinds.base import Part
from benchmark.readers.base import SPLITS, Reader, Sample, open_reader
from benchmark.readers.kit.cached import cache_recipe
from benchmark.readers.kit.draws import drawn
from benchmark.readers.kit.identity import MINIMUM_POSITIVES, UNTRAINED, Identity, identify, reached, used
from benchmark.readers.kit.lists import splits_of
from benchmark.readers.kit.splits import check_disjoint, require_share
from benchmark.training import sizes
from benchmark.training.inputs import Inputs

FILL_CHUNK = 32  # images decoded between two signs of life


@dataclass(frozen=True)
class JobData:
    """
    Attributes:
        test: None for a search, which leaves it closed (`Experiment.opens_test`).
    """

    train: Part
    validation: Part
    test: Part | None
    batch_size: int
    warmup_steps: int
    warnings: tuple[str, ...]

    @property
    def parts(self) -> tuple[Part, ...]:
        """The splits that the job sees."""
        return (self.train, self.validation) if self.test is None else (self.train, self.validation, self.test)


def load(experiment: Experiment, inputs: Inputs) -> Generator[tuple[int, int], None, JobData]:
    """Opens the dataset, decides the ids of each split, and fills the cache with exactly these images, yielding (done, total).

    Raises:
        DataError: the folder is not what the card says, or an image needed here cannot be read (all such ids are named).
        TooFewImages: an unlimited job has fewer training images than one batch.
    """
    reader, contents = yield from open_known(experiment, inputs)
    chosen = choose(experiment, reader, inputs.lists, splits_seen(experiment))
    cache = _cache(experiment, inputs, reader)
    yield from fill(cache, [s for samples in chosen.values() for s in samples], inputs, contents)
    parts = {name: _part(name, samples, cache, experiment) for name, samples in chosen.items()}
    used_sizes = sizes.SplitSizes(**{name: len(parts.get(name, ())) for name in SPLITS})
    if (why := sizes.too_few(experiment, used_sizes)) is not None:
        raise TooFewImages(why)
    asked = (experiment.recipe, experiment.limit, used_sizes.train)
    warnings = (*reader.warnings, *cache.mended())
    return JobData(
        parts["train"],
        parts["validation"],
        parts.get("test"),
        batch_size=sizes.batch_size(*asked),
        warmup_steps=sizes.warmup_steps(*asked),
        warnings=warnings,
    )


def load_untrained(
    experiment: Experiment, inputs: Inputs
) -> Generator[tuple[int, int], None, tuple[Reader, dict[str, list[Sample]], dict[str, Part]]]:
    """What a task that trains nothing needs: the test split, and the validation split where the rule has one; yields as `load` does."""
    reader, contents = yield from open_known(experiment, inputs)
    chosen = choose(experiment, reader, inputs.lists, UNTRAINED)
    cache = _cache(experiment, inputs, reader)
    yield from fill(cache, [s for samples in chosen.values() for s in samples], inputs, contents)
    reader.warnings += cache.mended()
    return reader, chosen, {name: _part(name, samples, cache, experiment) for name, samples in chosen.items()}


def load_part(experiment: Experiment, inputs: Inputs, name: str) -> Part:
    """One split alone, as `load` gives it."""
    reader, contents = drained(open_known(experiment, inputs))
    samples = choose(experiment, reader, inputs.lists, SPLITS if experiment.words is None else UNTRAINED)[name]
    cache = _cache(experiment, inputs, reader)
    for _ in fill(cache, samples, inputs, contents):
        pass
    return _part(name, samples, cache, experiment)


def open_known(experiment: Experiment, inputs: Inputs) -> Generator[tuple[int, int], None, tuple[Reader, Contents]]:
    """The dataset's reader, and what its files hold; an unlimited job needs a release whose counts and digests are known.

    Yields per cents where this node has to read the files first.

    Raises:
        DataError: the folder is an unknown or edited copy.
        DataChanged: it changed since planning.
    """
    if not inputs.known_release and experiment.limit is None:
        raise DataError(sizes.unknown_release(inputs.card.name, inputs.dataset_root, inputs.release))
    with _as_planned():
        reader = open_reader(inputs.card, inputs.dataset_root, shapes=experiment.switches.object_cxr_shapes)
        splits = used(splits_of(reader, experiment.dataset.split_rule, inputs.lists), trains=experiment.words is None)
        identity = yield from _in_per_cent(identify(reader, splits, experiment.limit, Memory(inputs.cache.parent)))
    if identity.digest != experiment.dataset.digest:
        raise DataChanged(
            f"{inputs.card.name}: label or image files in {inputs.dataset_root} are not those the job was planned with. "
            "Run the same command again to plan with the files as they are now."
        )
    return reader, identity.contents


@contextmanager
def _as_planned() -> Iterator[None]:
    """Planning read the same files: what cannot be read of them now has changed, or is not on this machine."""
    try:
        yield
    except DataError as error:
        raise DataChanged(str(error)) from error


def _in_per_cent(steps: Generator[tuple[int, int], None, Identity]) -> Generator[tuple[int, int], None, Identity]:
    kept = Steps(steps)
    for done, total in kept:
        yield 100 * done // max(total, 1), 100
    return kept.result


def fill(cache: ImageCache, samples: Sequence[Sample], inputs: Inputs, contents: Contents | None = None) -> Iterator[tuple[int, int]]:
    """Decodes what the cache lacks of `samples`, yielding (done, total).

    Args:
        contents: what the files hold as planned.

    Raises:
        ImageError: some cannot be read, or hold something else; the first three are named, all others are cached.
    """
    bad, memory = [], Memory(inputs.cache.parent)
    for start in range(0, len(samples), FILL_CHUNK):
        bad += cache.fill(samples[start : start + FILL_CHUNK], contents=contents, memory=memory)
        yield min(start + FILL_CHUNK, len(samples)), len(samples)
    if bad:
        raise error_of(bad, inputs.card.name)


def _cache(experiment: Experiment, inputs: Inputs, reader: Reader) -> ImageCache:
    recipe = cache_recipe(reader, experiment.dataset.intensity, experiment.dataset.frame_size)
    return ImageCache.open(inputs.cache, recipe, reader.ids)


def choose(experiment: Experiment, reader: Reader, lists: Path | None = None, wanted: Sequence[str] = SPLITS) -> dict[str, list[Sample]]:
    """The samples of each split after fraction, validation subset and limit, in the split's order.

    Args:
        lists: folder of split lists, for a split given by lists.
        wanted: splits to choose from; a job that trains nothing may go without validation images.

    Raises:
        SplitError: the splits share ids, or one is empty.
    """
    for share in (experiment.fraction, experiment.recipe.validation_subset) if experiment.words is None else ():
        require_share(share)
    splits = splits_of(reader, experiment.dataset.split_rule, lists)
    check_disjoint(splits)
    counted = sizes.SplitSizes(**{name: len(splits.get(name, ())) for name in SPLITS})
    n_used = asdict(sizes.chosen(experiment, counted))
    chosen = {}
    for name in wanted:
        everything = tuple(splits[name])
        if not everything and name == "validation" and wanted == UNTRAINED:
            continue
        samples = _taken(experiment, reader, everything, n_used[name])
        if not samples:
            raise SplitError(f"{reader.card.name}: the {name} split of rule {experiment.dataset.split!r} has no image in {reader.root}.")
        chosen[name] = samples
    return chosen


def splits_seen(experiment: Experiment) -> tuple[str, ...]:
    """The splits that a job that trains sees."""
    return SPLITS if experiment.opens_test else tuple(name for name in SPLITS if name != "test")


def draw_seed(experiment: Experiment) -> int | None:
    """Seed of the job's draw of labels: its run's, and one for all runs with all labels; None where a share is the head of the list."""
    if experiment.switches.label_draw != "nested" or experiment.words is not None:
        return None
    return experiment.order_seed if experiment.fraction < 1 else 0


def _taken(experiment: Experiment, reader: Reader, everything: Sequence[str], n: int) -> list[Sample]:
    """The first `n` images of a split in the order that the protocol takes them; in a limited run with some positives."""
    seed, limit = draw_seed(experiment), experiment.limit
    if seed is None or n >= sizes.n_chosen(len(everything), 1.0, limit):
        if limit is None:
            return [reader.sample(i) for i in everything[:n]]
        return limit_samples([reader.sample(i) for i in everything[:n]], [reader.sample(i) for i in everything], limit)
    # A limited job was planned with the images that its limit can reach, and draws among those.
    reachable = everything if limit is None else reached(reader, everything, limit)
    listed = drawn([reader.sample(i) for i in reachable], reader.card, seed)
    return listed[:n] if limit is None else limit_samples(listed[:n], listed, limit)


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
    kind = kinds.of_experiment(experiment)
    augmented = experiment.recipe.augmentation if name == "train" else None
    if augmented is not None and not kind.moves_with_images:
        raise CardError(
            f"Augmentation {augmented!r} moves images and masks, and this task has {kind.target}, which would stay where they were."
        )
    return Part(
        name=name,
        ids=tuple(s.id for s in samples),
        rows=rows,
        boxes=tuple(f.to_frame(s.boxes_xywh).astype(np.float32).reshape(-1, 4) for f, s in zip(frames, samples, strict=True)),
        labels=tuple(np.asarray(s.box_labels, np.int64) for s in samples),
        patients=tuple(s.patient_id for s in samples),
        cache=cache,
        kind=kind,
        frame_name=frames[0].name,
        annotations=kind.annotations(samples, experiment),
        augmentation=None if augmented is None else Augmentation(augmented, experiment.order_seed),
        originals=_originals(samples, frames) if name == "test" and experiment.switches.scored_in == "original" else None,
        facts=_facts(samples),
        own_metrics=experiment.own_metrics,
    )


def _originals(samples: Sequence[Sample], frames: Sequence[Frame]) -> Originals:
    return Originals(frames, [np.asarray(s.boxes_xywh, np.float64).reshape(-1, 4) for s in samples], [s.masks for s in samples])


def _facts(samples: Sequence[Sample]) -> dict[str, tuple[str | None, ...]]:
    """What is known of the images beside findings, as `Part.facts`."""
    found: dict[str, list[str | None]] = {
        "view": [s.view for s in samples],
        "sex": [s.sex for s in samples],
        "age_decade": [None if s.age_decade is None else str(s.age_decade) for s in samples],
    }
    return {name: tuple(values) for name, values in found.items() if any(value is not None for value in values)}
