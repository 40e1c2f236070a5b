"""The row on memory: it sees a budget that is kept, and one that is not."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import numpy as np
import pytest

from benchmark.errors import EnvironmentProblem
from benchmark.training.determinism import prepare_process
from tests.perf import memory


@pytest.fixture(autouse=True)
def one_thread():
    prepare_process(1)


def test_a_kept_budget_is_measured_and_one_that_the_process_outgrows_is_no_measurement(tmp_path: Path, monkeypatch):
    kept = memory.row(True, tmp_path, 1)
    assert kept.equal
    assert kept.details["kept on disk, MB"] > kept.details["kept in memory, MB"]
    grown = count(0, 100 * 2**20)
    monkeypatch.setattr(memory, "own_bytes", lambda: next(grown))
    outgrown = memory.row(True, tmp_path, 1)
    assert (outgrown.difference, outgrown.reached) == (None, False)
    monkeypatch.setattr(memory, "own_bytes", lambda: 0)
    unseen = memory.row(True, tmp_path, 1)
    assert (unseen.difference, unseen.reached) == (None, False)


def test_memory_that_a_process_takes_is_seen_though_its_allocator_kept_as_much():
    kept = [np.ones(2**14, np.uint8) for _ in range(2**13)]  # too small for pages of their own: freed, they stay with the process
    del kept
    before = memory.own_bytes()
    taken = np.ones(64 * 2**20, np.uint8)
    assert memory.own_bytes() - before == pytest.approx(taken.nbytes, rel=0.1)


def test_a_system_that_does_not_tell_stops_with_the_reason(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    with pytest.raises(EnvironmentProblem, match="needs Linux"):
        memory.own_bytes()
