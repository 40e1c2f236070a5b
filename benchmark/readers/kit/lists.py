"""Split lists given as files instead of a rule, in LoVT's CSV format, checked against the release they claim to split.

The lists lie in a folder; what enters a job's key is their digest, inside the rule's name. How a CSV is parsed: `splits`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from benchmark.cards import DatasetCard, SplitRule, digest_of
from benchmark.errors import DataError, SplitChanged, SplitError
from benchmark.readers.base import SPLITS, Reader, ids_digest, open_reader
from benchmark.readers.kit.splits import LovtLists, Splits, check_disjoint, lovt_csv
from benchmark.readers.kit.withheld import is_withheld, withholding

NAME = "lists"
BOX_TOLERANCE = 1e-3  # pixels; LoVT wrote some boxes with twelve decimals


def is_lists(rule: SplitRule) -> bool:
    """True for a rule made by `lists_rule`."""
    return rule.rule.partition(" ")[0] == NAME


def lists_rule(splits: Mapping[str, Sequence[str]]) -> SplitRule:
    """The rule that stands for explicit lists: its name and a digest of the ids of each split in their order."""
    return _rule({split: ids_digest(splits[split], ordered=True) for split in SPLITS})


def published_rule(card: DatasetCard) -> SplitRule | None:
    """The rule that LoVT's own lists get; None where the card lacks the digest of a list in its order."""
    expected = card.splits["lovt"].expected if "lovt" in card.splits else {}
    ordered = {split: expected[split].sha256_ordered for split in SPLITS if split in expected}
    known = {split: digest for split, digest in ordered.items() if digest is not None}
    return _rule(known) if len(known) == len(SPLITS) else None


def splits_of(reader: Reader, rule: SplitRule, folder: Path | None) -> Splits:
    """Ids of train, validation and test by a rule of the card, or by the lists in `folder` for a rule of `lists_rule`.

    Raises:
        SplitError: lists without a folder.
        SplitChanged: other lists than the rule's, or none that can be read.
    """
    if not is_lists(rule):
        return reader.split(rule)
    if folder is None:
        raise SplitError(f"{reader.card.name}: the split is given by lists, and no folder of lists was given. Add --splits DIR.")
    try:
        splits = read_lists(reader, folder)
    except DataError as error:  # they were read when the job was planned
        raise SplitChanged(str(error)) from error
    if lists_rule(splits) != rule:
        raise SplitChanged(f"{reader.card.name}: the lists in {folder} are not those the job was planned with. Run the same command again.")
    return splits


def read_lists(reader: Reader, folder: Path) -> Splits:
    """The lists of one dataset, in file order.

    Args:
        folder: with train.csv, validation.csv and test.csv: ids, or ids with boxes and classes as LoVT wrote them.

    Raises:
        DataError: a file is missing or does not parse, or a box is not the release's; the id is named.
        SplitError: an id in two lists, an empty list, or ids the release does not have.
    """
    lists = parse(reader, folder)
    with withholding(reader.card, words=lambda: chain(*lists.splits.values())):
        check_disjoint(lists.splits)
    require_known(reader, lists, folder)
    require_same_boxes(reader, lists, folder)
    return lists.splits


def parse(reader: Reader, folder: Path) -> LovtLists:
    """What the lists say, without regard to the release. Raises DataError: a file is missing or does not parse."""
    if not folder.is_dir():
        raise DataError(
            f"{reader.card.name}: no folder of split lists {folder}. Expected one sub-folder per dataset, with train.csv and so on."
        )
    return lovt_csv(folder)


def require_known(reader: Reader, lists: LovtLists, folder: Path) -> None:
    """Raises SplitError: an empty list, or ids the release does not have."""
    known = set(reader.ids)
    for split in SPLITS:
        if not lists.splits[split]:
            raise SplitError(f"{reader.card.name}: {folder / f'{split}.csv'} lists no image.")
        foreign = [i for i in lists.splits[split] if i not in known]
        if foreign:
            some = "" if is_withheld(reader.card) else f", for example {', '.join(foreign[:3])}"
            raise SplitError(
                f"{reader.card.name}: {len(foreign):,} of {len(lists.splits[split]):,} ids of {folder / f'{split}.csv'} are not in the "
                f"release{some}. Are these the lists of this dataset?"
            )


def require_same_boxes(reader: Reader, lists: LovtLists, folder: Path) -> None:
    """Raises DataError: a box of an image of the release is not the release's."""
    if not lists.boxes_xywh:
        return
    # LoVT wrote its lists from its own conversion, so they hold what that conversion made of the shapes, under every protocol.
    released = reader if reader.shapes == "released" else open_reader(reader.card, reader.root)
    several = len(reader.card.classes) > 1  # with one class LoVT counts from 1, with several from 0
    known = set(reader.ids)
    for sample_id, boxes in lists.boxes_xywh.items():
        if sample_id not in known:
            continue
        sample = released.sample(sample_id)
        if not len(boxes) and not len(sample.boxes_xywh):
            continue
        listed = _sorted(boxes, lists.labels[sample_id] if several else np.zeros(len(boxes)))
        found = _sorted(sample.boxes_xywh, sample.box_labels if several else np.zeros(len(sample.boxes_xywh)))
        if listed.shape != found.shape or np.abs(listed - found).max() > BOX_TOLERANCE:
            which = "an image" if is_withheld(reader.card) else sample_id
            raise DataError(
                f"{reader.card.name}: the boxes of {which} in {folder} are not the release's: "
                f"listed {_shown(boxes)}, release {_shown(sample.boxes_xywh)}. Were lists and release made from the same version?"
            )


def _rule(digests: Mapping[str, str]) -> SplitRule:
    return SplitRule(rule=f"{NAME} {digest_of(dict(digests))}")


def _sorted(boxes_xywh: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n, 5) rows of label, x, y, w, h in a fixed order: lists and release may order the boxes of an image differently."""
    rows = np.column_stack([labels, np.round(boxes_xywh, 4)])
    return rows[np.lexsort(rows.T[::-1])]


def _shown(boxes_xywh: np.ndarray) -> str:
    return " | ".join(", ".join(f"{v:g}" for v in box) for box in boxes_xywh) or "none"
