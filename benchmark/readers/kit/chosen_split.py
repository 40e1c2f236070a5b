"""Which split a job uses: one of the dataset card's by its name, or the user's own lists."""

from __future__ import annotations

import contextlib
from pathlib import Path

from benchmark.cards import DatasetCard, SplitRule
from benchmark.errors import SplitError
from benchmark.readers.base import Reader
from benchmark.readers.kit.lists import NAME as LISTS
from benchmark.readers.kit.lists import lists_rule, read_lists

PATIENT_SPLITS = ("patient-disjoint", "size-matched")  # docs/reading-the-leaderboard.md


def rule_of_card(card: DatasetCard, split: str) -> SplitRule:
    """The card's split of that name.

    Raises:
        SplitError: the card has none, with the reason where patients are the reason.
    """
    if split in card.splits:
        return card.splits[split]
    offered = ", ".join(card.splits)
    if not card.patients_known and split in PATIENT_SPLITS:
        raise SplitError(
            f"{card.name}: no split {split!r}: the release does not say which images belong to one patient. It offers: {offered}."
        )
    raise SplitError(f"{card.name}: there is no split {split!r}. It offers: {offered}.")


def chosen_split(reader: Reader, split: str, lists: Path | None) -> tuple[str, SplitRule, Path | None]:
    """Name and rule of the split that a job uses, and the folder of the user's own lists, if it uses those.

    Lists that hold the ids of one of the card's splits are that split, so that they give the same jobs.

    Args:
        split: name of a split of the card; ignored where there are lists.
        lists: folder of the user's own lists of ids.

    Raises:
        SplitError: the card has no such split, or as `read_lists`.
        DataError: as `read_lists`.
    """
    if lists is not None:
        splits = read_lists(reader, lists)
        for name, rule in reader.card.splits.items():
            with contextlib.suppress(SplitError):
                if reader.split(rule) == splits:
                    return name, rule, None
        return LISTS, lists_rule(splits), lists
    return split, rule_of_card(reader.card, split), None
