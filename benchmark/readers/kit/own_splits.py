"""How one's own images are split: by what the folder says of each, and by a draw for splits that nothing says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmark.cards import DatasetCard
from benchmark.cards.own_split import OwnSplit, SplitName
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
    missing = [name for name in ("test", "validation") if not splits[name]]
    for place, name in enumerate(missing):
        share = split.test_share if name == "test" else split.validation_share
        pool = _patients(drawn(splits["train"], card, split.seed))
        n_left = len(missing) - place  # splits that are still to come, training among them
        if len(pool) <= n_left:
            raise SplitError(
                f"{card.name}: {len(splits['train']):,} images of {len(pool):,} patients or single images are too few to draw a {name} "
                f"split of {share:.0%} from. Give more images, or say the splits in the card."
            )
        taken = _taken(pool, share * n_images, n_left)
        splits[name] = [sample for k in taken for sample in pool[k]]
        splits["train"] = [sample for k, group in enumerate(pool) if k not in taken for sample in group]
    made = {name: tuple(sample.id for sample in splits[name]) for name in SPLITS}
    check_disjoint(made)
    return made


def _patients(listed: Sequence[Sample]) -> list[list[Sample]]:
    """Images by patient, in the order of a draw, where those of a patient stand together."""
    groups: list[list[Sample]] = []
    for sample in listed:
        if groups and sample.patient_id is not None and groups[-1][0].patient_id == sample.patient_id:
            groups[-1].append(sample)
        else:
            groups.append([sample])
    return groups


def _taken(pool: Sequence[Sequence[Sample]], n_images: float, n_left: int) -> dict[int, None]:
    """Places of the first patients that bring a split nearer to its size, at least one, with `n_left` patients or more left over."""
    taken: dict[int, None] = {}
    n_taken = 0
    for place, group in enumerate(pool):
        if len(pool) - len(taken) > n_left and abs(n_taken + len(group) - n_images) <= abs(n_taken - n_images):
            taken[place] = None
            n_taken += len(group)
    return taken or {min(range(len(pool)), key=lambda place: len(pool[place])): None}


def by_folder(place: str, split: OwnSplit) -> SplitName | None:
    """The split that the outermost folder of an image's path that names one means."""
    return next((found for part in place.split("/")[:-1] if (found := split.split_of(part)) is not None), None)
