"""What an interval covers, in words: the sources of chance behind it, level by level."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.statistics.levels import CHECKPOINTS, PATIENTS, RUNS, Level


def covered(levels: Sequence[Level], n_clusters: int | None, by_patient: bool, runs: str = "runs") -> list[str]:
    """A text for each level, in their order; none without an interval.

    Args:
        n_clusters: test patients, or images; None where nothing was resampled.
        by_patient: patients are known; False where images were resampled.
        runs: how the level of runs is called.
    """
    said = {
        RUNS: runs,
        CHECKPOINTS: f"{1 + sum(level.freedom for level in levels if level.name == CHECKPOINTS):.0f} pretraining seeds",
        PATIENTS: f"{n_clusters} test {'patients' if by_patient else 'images'}",
    }
    return [said.get(level.name, level.name) for level in levels]
