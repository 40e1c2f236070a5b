"""What rows say of themselves is gathered: the worst for each task, what was cut short, and each warning with its rows."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from benchmark.cards import Contamination
from benchmark.report.row_warnings import LIMITED, PHANTOM
from benchmark.study.caveats import caveats_of, notices


@dataclass(frozen=True)
class Said:
    """What of a row is asked here."""

    task: str
    contamination: str = "none"
    scale: str = "full"
    warnings: tuple[str, ...] = ()


ROWS = [
    Said("clean", warnings=(PHANTOM,)),
    Said("seen", "images", warnings=("one run: no interval",)),
    Said("seen", warnings=("one run: no interval", PHANTOM)),
    Said("short", "source", "limited", (LIMITED,)),
]


def test_the_worst_of_a_tasks_rows_stands_for_it():
    found = caveats_of(ROWS)
    assert found.seen == {"seen": Contamination.IMAGES, "short": Contamination.SOURCE}
    assert caveats_of([*ROWS, Said("seen", "labels")]).seen["seen"] is Contamination.LABELS
    assert caveats_of([*ROWS, Said("clean", "unknown")]).seen["clean"] is Contamination.UNKNOWN


def test_warnings_are_counted_and_what_is_said_of_phantoms_is_said_once():
    assert caveats_of(ROWS).warnings == {("seen", "one run: no interval"): 2, ("short", LIMITED): 1}


@pytest.mark.parametrize("said", ["Two: pretraining saw images of this dataset.", "or a partial release: Three. Never ranked"])
def test_a_notice_for_each_task_that_was_seen_and_one_for_what_was_limited(said):
    found = notices(caveats_of(ROWS), {"clean": "One", "seen": "Two", "short": "Three"})
    assert len(found) == 3
    assert any(said in one for one in found)
    assert not any("One" in one for one in found)
