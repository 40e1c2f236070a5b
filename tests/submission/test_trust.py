"""Levels of trust: what is made of several has the lowest that somebody sent in."""

from __future__ import annotations

import pytest

from benchmark.submission.trust import Trust, lowest

LOCAL, REPORTED, RECOMPUTED, RESCORED, RERUN = Trust


@pytest.mark.parametrize(
    ("levels", "found"),
    [
        ([RERUN, RECOMPUTED, RESCORED], RECOMPUTED),
        ([LOCAL, RECOMPUTED], RECOMPUTED),
        ([REPORTED, LOCAL, RERUN], REPORTED),
        ([LOCAL, RESCORED, LOCAL], RESCORED),
        ([LOCAL, LOCAL], LOCAL),
        ([], LOCAL),
    ],
)
def test_ones_own_beside_what_was_sent_in_raises_no_level(levels: list[Trust], found: Trust) -> None:
    assert lowest(levels) is found
