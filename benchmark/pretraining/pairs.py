"""Images with their reports, as pretraining takes them: frames decoded once, sentences split once, official test images refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmark import registry
from benchmark.cards.pretraining import PairsCard
from benchmark.errors import DataError
from benchmark.pretraining import frames, reading, sources
from benchmark.pretraining.frames import Frames
from benchmark.readers.base import Reader, open_reader

VALIDATION_SHARE = 0.05  # of the patients, where a release has no validation images of its own
HASHED = 512  # frames between two reads for the digest
SHARED = "images of patients who are held out"
Show = Callable[[int, int], None]


@dataclass(frozen=True)
class Pairs:
    """N pairs of M images; M is N unless a pair is a study.

    Attributes:
        ids: of the images, of a study its first; never shown.
        frames: (M, S, S) uint8.
        reports: the sentences of each.
        patients: (N,) int64, equal for images of one patient; an image is a patient where none is known.
        dropped: why pairs were left out -> how many; of patients who are held out, images.
        digest: SHA-256 over ids, frames and sentences.
        rows: of each pair's frames; None where each has one, in order.
        is_drawn: whether a visit shows one of a pair's frames by its key, or the first each time.
    """

    ids: tuple[str, ...]
    frames: Frames
    reports: tuple[tuple[str, ...], ...]
    patients: np.ndarray
    dropped: dict[str, int]
    digest: str
    rows: tuple[tuple[int, ...], ...] | None = None
    is_drawn: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def ids_digest(self) -> str:
        """SHA-256 over the ids in order: equal for pairs that can be compared one by one, whatever is read and shown of them."""
        return hashlib.sha256("\0".join(self.ids).encode()).hexdigest()

    def shown(self, index: Sequence[int] | np.ndarray, keys: Sequence[int] | np.ndarray) -> np.ndarray:
        """(b, S, S) uint8 frames of pairs, each visited with its key."""
        if self.rows is None:
            return self.frames[np.asarray(index)]
        each = [self.rows[i] for i in index]
        draws = [0] * len(each)
        if self.is_drawn:
            draws = [int(np.random.default_rng([int(key), 5]).integers(len(rows))) for rows, key in zip(each, keys, strict=True)]
        return self.frames[np.array([rows[draw] for rows, draw in zip(each, draws, strict=True)])]


@dataclass
class _Told:
    """Pairs whose images are not decoded yet: ids of each pair's images, and what else `Pairs` has."""

    images: list[tuple[str, ...]] = field(default_factory=list)
    reports: list[tuple[str, ...]] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)


def load(
    card: PairsCard, root: Path, size: int, seed: int, show: Show = lambda done, of: None, cache: Path | None = None
) -> tuple[Pairs, Pairs]:
    """Pairs to train on, and pairs to validate on, of whole patients where patients are known.

    Args:
        root: the dataset's folder.
        size: side of a frame in pixels.
        seed: of the draw of patients and of the control's order.
        show: called with images decoded and to decode.
        cache: folder of all caches, from which frames are mapped; None holds them in memory. The pairs are the same.

    Raises:
        DataError: the release names no image to pretrain on, or too few have a report.
    """
    dataset = registry.dataset(card.dataset)
    sources.rule_of(dataset)  # before a folder is looked at that can give no pair
    reader = open_reader(dataset, root)
    train, validation = sources.images_of(reader)
    if not validation:
        train, validation = _held_out(reader, train, seed)
    others = _of_others(reader, train, validation)
    n_shared, train = len(train) - len(others), others
    if card.share < 1:
        train = _drawn(reader, train, card.share, seed) if card.share_of == "patients" else _first(reader, train, card)
    told = [_told(reader, name, ids, card) for name, ids in (("training", train), ("validation", validation))]
    if n_shared:
        told[0].dropped[SHARED] = n_shared
    n_images, done = sum(len(images) for one in told for images in one.images), 0
    pairs = []
    for one, is_drawn in zip(told, (True, card.held_out_view == "drawn"), strict=True):
        pairs.append(replace(_decoded(reader, one, card, size, partial(_shown, show, done, n_images), cache), is_drawn=is_drawn))
        done += sum(map(len, one.images))
    return (_exchanged(pairs[0], seed) if card.is_shuffled else pairs[0]), pairs[1]


def _told(reader: Reader, name: str, ids: Sequence[str], card: PairsCard) -> _Told:
    silent, short, few = "without a report", f"of fewer than {card.fewest_words} words", f"of fewer than {card.fewest_sentences} sentences"
    found = _Told(dropped={silent: 0, short: 0} | ({few: 0} if card.fewest_sentences > 1 else {}))
    units = _units(reader, ids, card)
    for images in units:
        said = reading.said(sources.sections_of(reader, images[0]), card)
        if not said:
            found.dropped[silent] += 1
        elif sum(len(one.split()) for one in said) < card.fewest_words:
            found.dropped[short] += 1
        elif len(said) < card.fewest_sentences:
            found.dropped[few] += 1
        else:
            found.images.append(images)
            found.reports.append(said)
            found.patients.append(sources.patient_of(reader, images[0]))
    if len(found.images) < 2:
        of = f"{len(units):,} {'images' if card.unit == 'image' else 'studies'}"
        raise DataError(
            f"{card.dataset}: {len(found.images)} of {of} for {name} have a report of {card.fewest_words} words or more; "
            "pretraining contrasts pairs and needs more. Are the reports there?"
        )
    return found


def _units(reader: Reader, ids: Sequence[str], card: PairsCard) -> list[tuple[str, ...]]:
    """Images of each pair, in the order of the first."""
    if card.unit == "image":
        return [(i,) for i in ids]
    found: dict[str, list[str]] = {}
    for i in ids:
        found.setdefault(sources.study_of(reader, i), []).append(i)
    return [tuple(images) for images in found.values()]


def _decoded(reader: Reader, told: _Told, card: PairsCard, size: int, show: Callable[[int], None], cache: Path | None) -> Pairs:
    ids = [i for images in told.images for i in images]
    if cache is None:
        stacked: Frames = frames.in_memory(reader, ids, card.frame, size, show)
    else:
        stacked = frames.mapped(reader, ids, card.frame, size, cache, show)
    digest = hashlib.sha256("\0".join(ids).encode())
    for start in range(0, len(ids), HASHED):
        digest.update(stacked[start : start + HASHED].tobytes())
    digest.update("\0".join("\n".join(one) for one in told.reports).encode())
    rows = None
    if card.unit == "study":
        ends = np.cumsum([len(images) for images in told.images]).tolist()
        rows = tuple(tuple(range(end - len(images), end)) for images, end in zip(told.images, ends, strict=True))
        digest.update(f"studies that end at {ends}, seen {card.held_out_view}".encode())
    numbered = np.unique(told.patients, return_inverse=True)[1].astype(np.int64)
    first = tuple(images[0] for images in told.images)
    return Pairs(first, stacked, tuple(told.reports), numbered, told.dropped, digest.hexdigest(), rows)


def _shown(show: Show, before: int, n_images: int, done: int) -> None:
    show(before + done, n_images)


def _exchanged(pairs: Pairs, seed: int) -> Pairs:
    """Each report with another image than its own: one cycle through a random order."""
    order = np.random.default_rng(seed).permutation(len(pairs))
    reports = list(pairs.reports)
    for image, giver in zip(order, np.roll(order, 1), strict=True):
        reports[image] = pairs.reports[giver]
    return replace(pairs, reports=tuple(reports), digest=hashlib.sha256(f"{pairs.digest} exchanged {seed}".encode()).hexdigest())


def _held_out(reader: Reader, ids: Sequence[str], seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    held = set(_drawn(reader, ids, VALIDATION_SHARE, seed + 1, fewest=2))  # a pair is told from another
    return tuple(i for i in ids if i not in held), tuple(i for i in ids if i in held)


def _of_others(reader: Reader, ids: Sequence[str], held_out: Sequence[str]) -> tuple[str, ...]:
    """Images of patients of whom none is held out: a column or list of one's own may put a patient's images on both sides."""
    patients = {sources.patient_of(reader, i) for i in held_out}
    return tuple(i for i in ids if sources.patient_of(reader, i) not in patients)


def _first(reader: Reader, ids: Sequence[str], card: PairsCard) -> tuple[str, ...]:
    """Images of the first pairs in the order of the release, a share of all: LoVT's subset, which is no draw."""
    units = _units(reader, ids, card)
    return tuple(i for images in units[: max(1, round(card.share * len(units)))] for i in images)


def _drawn(reader: Reader, ids: Sequence[str], share: float, seed: int, fewest: int = 1) -> tuple[str, ...]:
    """Images of a share of the patients, at least `fewest`; an image is a patient where none is known."""
    of = [sources.patient_of(reader, i) for i in ids]
    patients = np.array(sorted(set(of)))
    chosen = set(np.random.default_rng(seed).permutation(patients)[: max(fewest, round(share * len(patients)))].tolist())
    return tuple(i for i, patient in zip(ids, of, strict=True) if patient in chosen)
