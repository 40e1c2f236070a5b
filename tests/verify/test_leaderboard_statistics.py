"""Do the leaderboard's p-values, intervals and rank bands keep their promises, when runs and patients are both drawn anew?

A part of the simulation is a long check, all of it a study, which writes docs/leaderboard-study.md. A share counted in N experiments may
miss its promise by two Monte-Carlo errors, on the bad side; under 200 patients results are shown and nothing is promised.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from benchmark.statistics.two_part import LEVEL
from tests.statistics.simulated_boards import SPREAD, SeenBands, family_errors, simulate_bands
from tests.statistics.simulation import METRICS, Seen, Setting, monte_carlo_error, simulate, true_score

PAGE = Path(__file__).resolve().parents[2] / "docs" / "leaderboard-study.md"
PROMISED_FROM = 200  # patients
N_EXPERIMENTS, N_FAMILIES = 2000, 4000

ALL = [Setting(*each) for each in product(METRICS, (50, 200, 1000, 4000), (0, 1, 3), (3, 5))]
PART = [
    Setting("Dice", 200, 0, 5),
    Setting("Dice", 200, 3, 3),
    Setting("Dice", 1000, 1, 5),
    Setting("Dice", 4000, 1, 5),
    Setting("mAP", 200, 1, 5),
    Setting("mAP", 200, 3, 3),
    Setting("mAP", 1000, 3, 5),
    Setting("mAP", 4000, 0, 5),
]

# Standard deviation of runs over that of patients, and runs.
FAMILIES = list(product((0.25, 1, 4), (3, 5)))
# Rows, spread of their true headlines; tables.
BANDS = {(10, SPREAD): 300, (10, 0.0): 300, (60, SPREAD): 100, (60, 0.0): 100, (200, SPREAD): 20, (200, 0.0): 20}
BANDS_PART = {(10, SPREAD): 300, (10, 0.0): 300, (60, SPREAD): 20}


@dataclass(frozen=True)
class Results:
    """What has been computed; a page shows a dash for the rest."""

    seen: Mapping[Setting, Seen]
    families: Mapping[tuple[float, int], np.ndarray]
    bands: Mapping[tuple[int, float], SeenBands]


def compute(settings: list[Setting], families: list[tuple[float, int]], bands: Mapping[tuple[int, float], int]) -> Results:
    return Results(
        {setting: simulate(setting, N_EXPERIMENTS) for setting in settings},
        {family: family_errors(*family, N_FAMILIES) for family in families},
        {board: simulate_bands(board[0], n_tables, board[1]) for board, n_tables in bands.items()},
    )


def broken_promises(results: Results) -> list[str]:
    """A sentence for each share that misses its promise by more than two Monte-Carlo errors."""
    found = []
    for setting, seen in results.seen.items():
        if setting.n_patients < PROMISED_FROM:
            continue
        allowed = LEVEL + 2 * monte_carlo_error(len(seen.p_values))
        if seen.rejected() > allowed:
            found.append(f"{setting}: {seen.rejected():.2%} false positives, at most {allowed:.2%} may be")
        if 1 - seen.coverage > allowed:
            found.append(f"{setting}: {seen.coverage:.2%} of intervals hold the truth, at least {1 - allowed:.2%} should")
    for family, errors in results.families.items():
        allowed = LEVEL + 2 * monte_carlo_error(len(errors))
        if errors.mean() > allowed:
            found.append(f"Holm, runs over patients and runs {family}: {errors.mean():.2%} of families err, at most {allowed:.2%} may")
    for board, seen in results.bands.items():
        # Rows of a table share its errors: the table is what is drawn.
        required = 1 - LEVEL - 2 * seen.covered.std(ddof=1) / np.sqrt(len(seen.covered))
        if seen.covered.mean() < required:
            found.append(f"bands of rows and spread {board}: {seen.covered.mean():.2%} hold the true rank, at least {required:.2%} should")
    return found


@pytest.mark.slow
def test_a_part_of_the_simulation_keeps_the_promises(record_property: Callable[[str, object], None]) -> None:
    results = compute(PART, [(1, 5), (4, 3)], BANDS_PART)
    record_property("most false positives", f"{max(seen.rejected() for seen in results.seen.values()):.1%}")
    record_property("least coverage", f"{min(seen.coverage for seen in results.seen.values()):.1%}")
    record_property("most errors of Holm", f"{max(errors.mean() for errors in results.families.values()):.1%}")
    record_property("least coverage of bands", f"{min(seen.covered.mean() for seen in results.bands.values()):.1%}")
    assert broken_promises(results) == []


@pytest.mark.slow
@pytest.mark.study
def test_all_of_the_simulation_keeps_the_promises() -> None:
    results = compute(ALL, FAMILIES, BANDS)
    PAGE.write_text(page(results), encoding="utf-8")
    assert broken_promises(results) == []


def page(results: Results) -> str:
    """docs/leaderboard-study.md."""
    n_known = sum(setting in results.seen for setting in ALL)
    state = "All of it was computed." if n_known == len(ALL) else f"{n_known} of {len(ALL)} settings were computed; a dash is what was not."
    errors = [_percent(monte_carlo_error(N_EXPERIMENTS, share)) for share in (LEVEL, 0.005)]
    truth = " and ".join(f"{100 * true_score(metric, 0.01):.0f} % {metric}" for metric in METRICS)
    ratios = dict.fromkeys(ratio for ratio, _ in FAMILIES)
    lines = [
        "# What the leaderboard's statistics hold",
        "",
        *_wrapped(
            f"""Written by `tests/verify/test_leaderboard_statistics.py`, part of `make studies`; do not edit. Simulated
            experiments, in which runs and test patients are both drawn anew: nothing here is about a real backbone. {state}"""
        ),
        "",
        "## Differences and cells",
        "",
        *_wrapped(
            f"""{N_EXPERIMENTS:,} experiments a line, 1,000 resamples of the patients in each. Two methods of equal worth, at
            {truth}: how often the two-part p calls them different at 5 %, and at 0.5 %, where Holm's correction reads it.
            One of them: how often its interval holds the true score, that of endless patients, so that the bias of a small
            test set counts as an error. Per cent; Monte-Carlo errors {errors[0]} at 5 % and {errors[1]} at 0.5 %. From
            {PROMISED_FROM} patients on, false positives stay at 5 % and coverage at 95 %, give or take two such errors on
            the bad side; fewer are shown and nothing is promised. AP errs on the wide side: runs err on patients of their
            own, and that variance is counted with the runs and with the patients. What is drawn:
            `tests/statistics/simulation.py`."""
        ),
        "",
        "| metric | patients | SD of a run (points) | runs | false positives at 5 % | at 0.5 % | coverage | bias (points) |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|",
        *(_line_of(setting, results.seen.get(setting)) for setting in ALL),
        "",
        "## Many tests",
        "",
        *_wrapped(
            f"""Fifteen tasks in five datasets whose tasks share patients, all differences nothing, {N_FAMILIES:,} experiments:
            how often Holm's correction of the two-part p finds at least one, in per cent. Monte-Carlo error
            {_percent(monte_carlo_error(N_FAMILIES))}."""
        ),
        "",
        "| SD of runs / of patients | 3 runs | 5 runs |",
        "|--:|--:|--:|",
        *(f"| {ratio:g} | {' | '.join(_share(results.families.get((ratio, n))) for n in (3, 5))} |" for ratio in ratios),
        "",
        "## Rank bands",
        "",
        *_wrapped(
            f"""Rows over five datasets, five runs; the difference of two headlines has a standard error of 0.12, nine tenths of
            its variance from runs. True headlines have a standard deviation of {SPREAD}, or are all equal. A band holds the
            true rank of its own row with 95 %; where rows are equal it must hold all their ranks."""
        ),
        "",
        "| rows | true headlines | tables | rows covered (%) | tables all covered (%) | ranks in a band | tied for best | best is (%) |",
        "|--:|:--|--:|--:|--:|--:|--:|--:|",
        *(_line_of_bands(*board, results.bands.get(board)) for board in BANDS),
    ]
    return "\n".join(lines) + "\n"


def _wrapped(paragraph: str) -> list[str]:
    return textwrap.wrap(" ".join(paragraph.split()), 140, break_long_words=False, break_on_hyphens=False)


def _line_of(setting: Setting, seen: Seen | None) -> str:
    told = f"| {setting.metric} | {setting.n_patients:,} | {setting.run_points:g} | {setting.n_runs} |"
    if seen is None:
        return f"{told} – | – | – | – |"
    shares = (seen.rejected(), seen.rejected(0.005), seen.coverage)
    return f"{told} {' | '.join(map(_percent, shares))} | {seen.values.mean() - seen.truth:+.2f} |"


def _line_of_bands(n_rows: int, spread: float, seen: SeenBands | None) -> str:
    told = f"| {n_rows} | {'all equal' if spread == 0 else f'SD {spread:g}'} |"
    if seen is None:
        return f"{told} – | – | – | – | – | – |"
    shares = [f"{100 * share:.0f}" for share in (seen.covered.mean(), np.mean(seen.covered == 1))]
    best = "–" if spread == 0 else f"{100 * seen.best_is_tied.mean():.0f}"
    return f"{told} {len(seen.covered)} | {' | '.join(shares)} | {seen.width.mean():.1f} | {seen.n_tied.mean():.1f} | {best} |"


def _share(errors: np.ndarray | None) -> str:
    return "–" if errors is None else _percent(errors.mean())


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
