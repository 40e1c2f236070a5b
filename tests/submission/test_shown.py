"""Levels of what was sent in, as a report reads them beside one's own results."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from benchmark.cards import Record, Role
from benchmark.report.rows import rows_of
from benchmark.stored_results import beside
from benchmark.submission.history import entry
from benchmark.submission.shown import Submission
from benchmark.submission.trust import Trust
from tests.submission.test_completeness import GRID, TASK, rising, searched

SHELF = SimpleNamespace(out="theirs")


@pytest.fixture
def records() -> list[Record]:
    """A whole search, which left the test split closed and stored no file, and its runs with their statistics."""
    made = searched(rising(GRID[2]), GRID[2])
    return [
        record.model_copy(update={"predictions": (f"predictions/{record.key}/statistics.parquet",), "timings_s": {"training": 1.0}})
        if record.job.experiment.role is Role.FINAL
        else record.model_copy(update={"timings_s": {"training": 10.0}})
        for record in made
    ]


def sent(records: list[Record], level: Trust) -> SimpleNamespace:
    """A submission that stands at a level, without its archive."""
    accepted = entry("accepted", "1" * 64, "sent in", trust=level, levels={TASK.id: level})
    return SimpleNamespace(believable=lambda check: (records, []), trust_of=Submission(accepted, SHELF).trust_of, shelf=SHELF)


@pytest.mark.parametrize("least", [Trust.REPORTED, Trust.RECOMPUTED, Trust.RESCORED])
def test_searches_stand_at_the_level_of_their_task_and_are_shown_with_its_runs(records: list[Record], least: Trust) -> None:
    shown: list[Record] = []
    trust, below = beside(shown, [], {}, [sent(records, Trust.RESCORED)], least)
    assert (below, len(shown), set(trust.values())) == (0, len(records), {Trust.RESCORED})
    (row,) = rows_of(shown, trust=trust)
    assert (row.trust, row.cost.seconds) == (Trust.RESCORED, sum(record.timings_s["training"] for record in records))


def test_searches_below_the_level_that_is_asked_for_are_left_out_with_their_runs(records: list[Record]) -> None:
    shown: list[Record] = []
    assert beside(shown, [], {}, [sent(records, Trust.RECOMPUTED)], Trust.RESCORED) == ({}, len(records))
    assert shown == []


def test_a_run_of_ones_own_lifts_no_row_that_was_sent_in(records: list[Record]) -> None:
    """As where somebody trained one of the jobs again: it has the key of the one that was sent in."""
    level = Trust.RESCORED
    own = next(record for record in records if record.job.experiment.role is Role.FINAL)
    shown = [own]
    trust, _ = beside(shown, [], {own.key: SHELF}, [sent(records, level)], Trust.RECOMPUTED)
    (row,) = rows_of(shown, trust=trust)
    assert (own.key in trust, len(row.runs), row.trust) == (False, 5, level)
    (row,) = rows_of(shown, trust=dict.fromkeys(trust, Trust.RECOMPUTED))
    assert row.trust is Trust.RECOMPUTED
