"""Draws of labels: an order of a list of images, of which every share is a head, so that the draw of 1 % lies inside that of 10 %.

Images of one patient come together where patients are known, and every head holds the kinds of finding in about the list's proportions. An
order follows from ids, kinds, patients and a seed, and from nothing a backbone has. LoVT's own shares are heads of its list as released.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from benchmark.cards import DatasetCard
from benchmark.readers.base import Sample

NEGATIVE, POSITIVE, UNSAID = "negative", "positive", "unsaid"


def drawn(samples: Sequence[Sample], card: DatasetCard, seed: int) -> list[Sample]:
    """The samples in the order in which a draw takes them.

    Patients (or single images, where the patient is unknown) are drawn by the rarest kind of finding among their images: systematic
    sampling, with a start of its own for every kind. Any head holds of each kind its share of the patients, give or take one.

    Args:
        samples: of one split, in its order.
        card: whose classes are kinds, where the samples say which one an image shows without opening it.
        seed: of the draw.
    """
    random = np.random.RandomState(seed)  # its stream is frozen
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        alone = sample.patient_id is None
        groups.setdefault(f"image {sample.id}" if alone else f"patient {sample.patient_id}", []).append(sample)
    kinds = rarest_kinds([_kinds_of(sample, card) for sample in samples])
    kind_of = dict(zip((sample.id for sample in samples), kinds, strict=True))
    rank = {kind: place for place, (kind, _) in enumerate(sorted(Counter(kinds).items(), key=lambda pair: (pair[1], pair[0])))}
    strata: dict[int, list[str]] = {}
    for name, members in groups.items():
        strata.setdefault(min(rank[kind_of[sample.id]] for sample in members), []).append(name)
    placed: list[tuple[float, int, str]] = []
    for stratum, names in sorted(strata.items()):
        start, order = random.random_sample(), random.permutation(len(names))
        placed += [((k + start) / len(names), stratum, names[place]) for k, place in enumerate(order)]
    return [sample for _, _, name in sorted(placed) for sample in groups[name]]


def rarest_kinds(kinds_of_images: Sequence[Iterable[str]]) -> list[str]:
    """One kind for each image: of those it shows, the one that the fewest images show; of equally rare ones the first by name."""
    counted = Counter(kind for kinds in kinds_of_images for kind in set(kinds))
    return [min(kinds, key=lambda kind: (counted[kind], kind)) for kinds in kinds_of_images]


def _kinds_of(sample: Sample, card: DatasetCard) -> tuple[str, ...]:
    """What an image shows, as far as label files tell: classes of its boxes or labels, else whether it shows anything."""
    if len(sample.box_labels):
        return tuple({card.classes[label] for label in sample.box_labels})
    if sample.labels is not None and (shown := np.flatnonzero(sample.labels == 1)).size:
        return tuple(card.classes[label] for label in shown)
    if sample.positive is None:
        return (UNSAID,)
    return (POSITIVE if sample.positive else NEGATIVE,)
