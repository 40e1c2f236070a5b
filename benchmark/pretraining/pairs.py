"""Images with their reports, as pretraining takes them: frames decoded once, sentences split once, official test images refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmark import registry
from benchmark.cards.pretraining import PairsCard
from benchmark.encoders.text import sentences
from benchmark.errors import DataError
from benchmark.imaging.prepare import prepare_image
from benchmark.readers.base import Reader, open_reader

SPLIT = "pretraining"
VALIDATION_SHARE = 0.05  # of the patients, where a release has no validation images of its own
Show = Callable[[int, int], None]


@dataclass(frozen=True)
class Pairs:
    """
    Attributes:
        ids: of the images; never shown.
        frames: (N, S, S) uint8.
        reports: the sentences of each.
        patients: (N,) int64, equal for images of one patient; an image is a patient where none is known.
        dropped: why images were left out -> how many.
        digest: SHA-256 over ids, frames and sentences.
    """

    ids: tuple[str, ...]
    frames: np.ndarray
    reports: tuple[tuple[str, ...], ...]
    patients: np.ndarray
    dropped: dict[str, int]
    digest: str

    def __len__(self) -> int:
        return len(self.ids)


def load(card: PairsCard, root: Path, size: int, seed: int, show: Show = lambda done, of: None) -> tuple[Pairs, Pairs]:
    """Pairs to train on, and pairs to validate on, of whole patients where patients are known.

    Args:
        root: the dataset's folder.
        size: side of a frame in pixels.
        seed: of the draw of patients and of the control's order.
        show: called with images decoded and to decode.

    Raises:
        DataError: the release names no image to pretrain on, or too few have a report.
    """
    dataset = registry.dataset(card.dataset)
    rule = dataset.splits.get(SPLIT)
    if rule is None:
        raise DataError(f"{card.dataset}: its card has no split `{SPLIT}`, which names the images that backbones may be pretrained on.")
    reader = open_reader(dataset, root)
    parts = reader.split(rule)
    train, validation = parts["train"], parts["validation"]
    if not validation:
        train, validation = _held_out(reader, train, seed)
    if card.share < 1:
        train = _drawn(reader, train, card.share, seed)
    n_images, done = len(train) + len(validation), 0
    pairs = []
    for name, ids in (("training", train), ("validation", validation)):
        pairs.append(_decoded(reader, name, ids, card, size, partial(_shown, show, done, n_images)))
        done += len(ids)
    return (_exchanged(pairs[0], seed) if card.is_shuffled else pairs[0]), pairs[1]


def _decoded(reader: Reader, name: str, ids: Sequence[str], card: PairsCard, size: int, show: Callable[[int], None]) -> Pairs:
    kept, frames, reports, patients, silent, short = [], [], [], [], 0, 0
    for k, sample_id in enumerate(ids):
        show(k)
        sample = reader.sample(sample_id)
        said = tuple(sentences(sample.report or ""))
        if not said:
            silent += 1
        elif sum(len(one.split()) for one in said) < card.fewest_words:
            short += 1
        else:
            kept.append(sample_id)
            reports.append(said)
            patients.append(sample.patient_id or sample_id)
            frames.append(prepare_image(replace(sample, masks=None), reader.card.intensity, size)[0])
    if len(kept) < 2:
        raise DataError(
            f"{card.dataset}: {len(kept)} of {len(ids):,} images for {name} have a report of {card.fewest_words} words or more; "
            "pretraining contrasts pairs and needs more. Are the reports there?"
        )
    stacked = np.stack(frames)
    digest = hashlib.sha256("\0".join(kept).encode())
    digest.update(stacked.tobytes())
    digest.update("\0".join("\n".join(one) for one in reports).encode())
    dropped = {"without a report": silent, f"of fewer than {card.fewest_words} words": short}
    numbered = np.unique(patients, return_inverse=True)[1].astype(np.int64)
    return Pairs(tuple(kept), stacked, tuple(reports), numbered, dropped, digest.hexdigest())


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
    held = set(_drawn(reader, ids, VALIDATION_SHARE, seed + 1))
    return tuple(i for i in ids if i not in held), tuple(i for i in ids if i in held)


def _drawn(reader: Reader, ids: Sequence[str], share: float, seed: int) -> tuple[str, ...]:
    """Images of a share of the patients, at least one; an image is a patient where none is known."""
    of = [reader.sample(i).patient_id or i for i in ids]
    patients = np.array(sorted(set(of)))
    chosen = set(np.random.default_rng(seed).permutation(patients)[: max(1, round(share * len(patients)))].tolist())
    return tuple(i for i, patient in zip(ids, of, strict=True) if patient in chosen)
