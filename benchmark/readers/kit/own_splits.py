"""How one's own images are split: by what the folder says of each, and by a draw for splits that nothing says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmark.cards import DatasetCard
from benchmark.cards.own_data import OwnSplit, SplitName
from benchmark.errors import SplitError
from benchmark.readers.base import SPLITS, Sample
from benchmark.readers.kit.draws import drawn
from benchmark.readers.kit.splits import Splits, check_disjoint


def own_splits(samples: Sequence[Sample], given: Mapping[str, SplitName], split: OwnSplit, card: DatasetCard) -> Splits:
    """Train, validation and test. A split without an image is drawn from the training images: whole patients, stratified by finding.

    A share is of the images that are split. The draw takes the head of `draws.drawn`, whose order every split that is no list keeps.

    Args:
        samples: in any order.
        given: id -> split; images without one are in none.

    Raises:
        SplitError: too few images or patients for three splits.
    """
    if split.by == "lists":
        listed = {sample.id: sample for sample in samples}
        ordered = [listed[sample_id] for sample_id in given]
    else:
        ordered = drawn(sorted(samples, key=lambda sample: sample.id), card, split.seed)
    splits: dict[str, list[Sample]] = {name: [s for s in ordered if given.get(s.id) == name] for name in SPLITS}
    n_images = sum(map(len, splits.values()))
    if not splits["train"]:
        raise SplitError(f"{card.name}: no image is in the training split. What says so is `split` of the card.")
    for name, share in (("test", split.test_share), ("validation", split.validation_share)):
        if not splits[name]:
            pool = drawn(splits["train"], card, split.seed)
            splits[name], splits["train"] = _head(pool, share * n_images)
            if not splits[name] or not splits["train"]:
                raise SplitError(
                    f"{card.name}: {len(pool):,} images of {_n_groups(pool):,} patients or single images are too few to draw a {name} "
                    f"split of {share:.0%} from. Give more images, or say the splits in the card."
                )
    made = {name: tuple(sample.id for sample in splits[name]) for name in SPLITS}
    check_disjoint(made)
    return made


def _head(pool: Sequence[Sample], n_images: float) -> tuple[list[Sample], list[Sample]]:
    """The first patients with about so many images, at least one, and the rest. Images of a patient stand together in a draw."""
    at = 0
    while at < len(pool) and (at == 0 or at + 0.5 < n_images or _same_patient(pool[at - 1], pool[at])):
        at += 1
    return list(pool[:at]), list(pool[at:])


def _same_patient(one: Sample, other: Sample) -> bool:
    return one.patient_id is not None and one.patient_id == other.patient_id


def _n_groups(pool: Sequence[Sample]) -> int:
    return len({("image", s.id) if s.patient_id is None else ("patient", s.patient_id) for s in pool})


def by_folder(place: str, split: OwnSplit) -> SplitName | None:
    """The split that the outermost folder of an image's path that names one means."""
    return next((found for part in place.split("/")[:-1] if (found := split.split_of(part)) is not None), None)
