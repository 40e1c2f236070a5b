"""What a process has freed goes back to the system where it is much, and stays where it is little."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmark.training import free_memory

STATUS = Path("/proc/self/status")
PIECE, N_PIECES, N_BETWEEN = 2**14, 2**12, 2**6  # 64 MiB, too small each for pages of its own


def resident_bytes() -> int:
    return next(int(line.split()[1]) * 1024 for line in STATUS.read_text().splitlines() if line.startswith("RssAnon:"))


def freed_with_gaps() -> list[np.ndarray]:
    """Frees most of many pieces; those that are left hold the heap as it is."""
    pieces = [np.ones(PIECE, np.uint8) for _ in range(N_PIECES)]
    left = pieces[::N_BETWEEN]
    del pieces
    gc.collect()
    return left


@pytest.mark.skipif(free_memory._glibc() is None or not STATUS.exists(), reason="needs glibc on Linux")
def test_much_free_memory_goes_back_and_little_stays(monkeypatch: pytest.MonkeyPatch):
    left = freed_with_gaps()
    full = resident_bytes()
    monkeypatch.setattr(free_memory, "MOST_KEPT_BYTES", 2**50)
    free_memory.give_back()
    assert resident_bytes() > full - PIECE * N_PIECES / 4
    monkeypatch.setattr(free_memory, "MOST_KEPT_BYTES", 2**24)
    free_memory.give_back()
    assert resident_bytes() < full - PIECE * N_PIECES / 2
    assert all(piece.all() for piece in left)


@pytest.mark.skipif(free_memory._glibc() is None or not STATUS.exists(), reason="needs glibc on Linux")
def test_gaps_of_steps_go_back_once_they_have_grown(monkeypatch: pytest.MonkeyPatch):
    assert free_memory._held_bytes() == pytest.approx(resident_bytes(), rel=0.05)
    held = [2**30]
    monkeypatch.setattr(free_memory, "_held_bytes", lambda: held[0])
    monkeypatch.setattr(free_memory, "LOOKS_EVERY_S", 0)
    between = free_memory.BetweenSteps()
    left = freed_with_gaps()
    full = resident_bytes()

    def looks(grown: int) -> int:
        """What is held of the gaps, of 64 MiB, when a step has grown by so much."""
        held[0] += grown
        between()
        return resident_bytes() - full + PIECE * N_PIECES

    assert looks(2**40) > 0.75 * PIECE * N_PIECES  # seen for the first time: it may be what each step takes again
    assert looks(free_memory.MOST_GROWN_BYTES) > 0.75 * PIECE * N_PIECES
    monkeypatch.setattr(free_memory, "LOOKS_EVERY_S", 3600)
    assert looks(1) > 0.75 * PIECE * N_PIECES  # it has just looked
    monkeypatch.setattr(free_memory, "LOOKS_EVERY_S", 0)
    monkeypatch.setattr(free_memory, "MOST_KEPT_BYTES", 2**24)
    assert looks(0) < 0.5 * PIECE * N_PIECES
    assert between._held is None  # what is held then is what the next look finds
    assert all(piece.all() for piece in left)


def test_training_looks_for_gaps_after_each_step(small, tiny, monkeypatch: pytest.MonkeyPatch):
    looked: list[int] = []

    class Counting:
        def __call__(self) -> None:
            looked.append(1)

    monkeypatch.setattr("benchmark.training.loop.BetweenSteps", Counting)
    job, inputs = small.one("covid-rural-linear-frozen-100", tiny())
    steps = small.fit(job, inputs).steps
    assert len(looked) == steps > 0


HELD = """
import sys
import numpy as np
from benchmark.training import free_memory

def resident_bytes():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("RssAnon:"))

if sys.argv[1] == "apart":
    free_memory.keep_large_apart()
first = np.ones(30 * 2**20, np.uint8)
del first  # from here on, glibc keeps what is no larger
pieces = [np.ones(n * 2**20, np.uint8) for n in (25, 2)]
full = resident_bytes()
pieces.pop(0)
print(full - resident_bytes())
"""


@pytest.mark.skipif(free_memory._glibc() is None or not STATUS.exists(), reason="needs glibc on Linux")
def test_a_large_piece_goes_back_when_it_is_freed_and_would_stay_otherwise():
    freed = [int(subprocess.run([sys.executable, "-c", HELD, how], capture_output=True, check=True).stdout) for how in ("apart", "kept")]
    assert freed[0] > 23 * 2**20
    assert freed[1] < 2**20


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(free_memory, "_glibc", lambda: None)
    monkeypatch.setattr(free_memory, "MOST_KEPT_BYTES", 0)
    left = freed_with_gaps()
    full = resident_bytes()
    free_memory.give_back()
    assert resident_bytes() > full - PIECE * N_PIECES / 4
    assert left
