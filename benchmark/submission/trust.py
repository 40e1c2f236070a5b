"""How far a number may be trusted: by who looked at it, and at what.

A level says what somebody else than its author did again. No level says that a backbone saw none of the test images: that is its
contamination, a mark of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Trust(StrEnum):
    """Levels of trust, rising."""

    LOCAL = "local"
    REPORTED = "reported"
    RECOMPUTED = "recomputed"
    RESCORED = "re-scored"
    RERUN = "re-run"

    def at_least(self, level: Trust) -> bool:
        return _RISING.index(self) >= _RISING.index(level)


_RISING = tuple(Trust)

PUBLIC = Trust.RECOMPUTED  # what a submission needs to stand on a page, unless its reader says otherwise

MEANINGS = {
    Trust.LOCAL: "computed here: a result of one's own output folder, recomputed from its statistics",
    Trust.REPORTED: "as its author says: nothing was stored from which it could be computed again",
    Trust.RECOMPUTED: "computed again from the statistics of each image that its author sent",
    Trust.RESCORED: "its predictions were scored again by somebody who holds the images",
    Trust.RERUN: "the same jobs were trained again by somebody else, with the same numbers",
}


def lowest(levels: Iterable[Trust]) -> Trust:
    """The level of what is made of several: the lowest that somebody sent in. One's own beside it raises nothing; `local` is what is all
    one's own, and nothing."""
    return min((level for level in levels if level is not Trust.LOCAL), key=_RISING.index, default=Trust.LOCAL)
