"""Headlines against a panel, their intervals and differences: known values, and every rule that keeps a row from having one."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

from benchmark.cards import Contamination
from benchmark.errors import UsageError
from benchmark.statistics.bands import rank_bands, tied_for_best
from benchmark.statistics.families import holm_all_pairs
from benchmark.statistics.headline import Headline, Measured, Pairs, all_pairs, headline, uneven, why_no_headline
from benchmark.statistics.levels import PATIENTS, RUNS
from benchmark.statistics.panel import Panel, PanelScale, panel_scale
from benchmark.statistics.two_part import two_part_half_width
from tests.statistics.vectors import DATASET_OF_TASK, N_ROWS, PATIENTS_OF_DATASET, board

# Rows 0 to 5.
VALUES = [1.789118, 0.450778, -1.734941, -0.798194, -0.540438, 2.049089]
HALF_WIDTHS = [0.548754, 0.587818, 0.577458, 0.638443, 0.604969, 0.527295]
BANDS = ["1-2", "3", "6", "4-5", "4-5", "1-2"]
# Pair; p, and Holm's over all 15.
P_VALUES = {
    (0, 5): (0.244525, 0.489049),
    (3, 4): (0.319029, 0.489049),
    (1, 3): (4.796340e-05, 2.398170e-04),
    (1, 4): (4.438216e-04, 0.001775),
}

UNIT = PanelScale(0.0, 1.0)


@pytest.fixture(scope="module")
def rows() -> tuple[Panel, list[dict[str, Measured]]]:
    runs, resampled = board()
    n_tasks = len(DATASET_OF_TASK)
    panel = panel_of({f"t{t}": panel_scale(runs[N_ROWS:, :, t].mean(axis=1)) for t in range(n_tasks)})

    def measured(row: int, t: int) -> Measured:
        dataset = int(DATASET_OF_TASK[t])
        return Measured(f"d{dataset}", runs[row, :, t], resampled[:, row, t], int(PATIENTS_OF_DATASET[dataset]))

    return panel, [{f"t{t}": measured(row, t) for t in range(n_tasks)} for row in range(N_ROWS)]


def panel_of(scales: dict[str, PanelScale]) -> Panel:
    return Panel(MappingProxyType(scales), tuple(f"b{i}" for i in range(8)))


def at(score: float, dataset: str, n_runs: int = 3, seed: int = 0, noise: float = 0.0, patients: str = "") -> Measured:
    rng = np.random.default_rng(seed)
    runs, drawn = rng.normal(size=n_runs), rng.normal(size=50)
    return Measured(dataset, score + noise * (runs - runs.mean()), score + noise * drawn, 50, patients)


def test_known_headlines_and_their_intervals(rows) -> None:
    panel, measured = rows
    found = [headline(row, panel) for row in measured]
    assert [one.value for one in found] == pytest.approx(VALUES, abs=1e-6)
    assert [one.half_width for one in found] == pytest.approx(HALF_WIDTHS, abs=1e-6)
    assert sum(one.n_clipped for one in found) == 1
    assert not any(one.off_scale for one in found)
    assert found[0].value == pytest.approx(np.mean(list(found[0].by_dataset.values())))
    assert [level.name for level in found[0].levels] == [RUNS, PATIENTS]


def test_known_differences_bands_and_the_tied_for_best(rows) -> None:
    panel, measured = rows
    headlines = [headline(row, panel) for row in measured]
    found = all_pairs(headlines)
    adjusted = holm_all_pairs(found.p_values)
    for pair, (p, after_holm) in P_VALUES.items():
        assert found.p_values[pair] == pytest.approx(p, rel=1e-5)
        assert adjusted[pair] == pytest.approx(after_holm, rel=5e-4)
    np.testing.assert_array_equal(found.p_values, found.p_values.T)
    np.testing.assert_allclose(found.values, np.subtract.outer(VALUES, VALUES), atol=2e-6)
    bands = rank_bands([one.value for one in headlines], found.p_values)
    assert [str(band) for band in bands] == BANDS
    assert tied_for_best([str(row) for row in range(N_ROWS)], bands) == ["0", "5"]


def test_a_difference_is_that_of_a_row_of_differences(rows) -> None:
    """Two rows without a clipped task: variances of run-by-run and resample-by-resample differences, dataset by dataset."""
    panel, measured = rows
    found = all_pairs([headline(measured[row], panel) for row in (1, 4)])
    runs, resampled = board()
    median, iqr = (np.array([getattr(panel.by_task[f"t{t}"], name) for t in range(5)]) for name in ("median", "iqr"))
    z_runs, z_drawn = (runs - median) / iqr, np.clip((resampled - median) / iqr, -3, 3)
    of_runs, of_patients = z_runs[1] - z_runs[4], z_drawn[:, 1] - z_drawn[:, 4]
    seed, patient = ([np.var(each[:, d == DATASET_OF_TASK].mean(axis=1), ddof=1) / 9 for d in range(3)] for each in (of_runs, of_patients))
    v_seed, f_seed = np.sum(seed) / 5, np.sum(seed) ** 2 / np.sum(np.square(seed) / 4)
    v_patient, f_patient = np.sum(patient), np.sum(patient) ** 2 / np.sum(np.square(patient) / (PATIENTS_OF_DATASET - 1))
    assert found.half_widths[0, 1] == pytest.approx(float(two_part_half_width((v_seed, f_seed), (v_patient, f_patient))), rel=1e-6)


def test_independent_seeds_add_what_both_rows_draw(rows) -> None:
    panel, measured = rows
    pair = [headline(measured[row], panel) for row in (0, 1)]
    shared, independent = all_pairs(pair), all_pairs(pair, "independent")
    v_runs = [one.levels[0] for one in pair]
    patient = sum(np.var(pair[0].resampled[name] - pair[1].resampled[name], ddof=1) for name in pair[0].resampled)
    assert shared.half_widths[0, 1] != independent.half_widths[0, 1]
    narrow = 1.96 * np.sqrt(v_runs[0].variance + v_runs[1].variance + patient)
    assert narrow < independent.half_widths[0, 1] < 1.4 * narrow


def test_a_task_beyond_the_scale_is_clipped_and_moves_with_nothing() -> None:
    panel = panel_of({f"t{i}": PanelScale(4.0, 3.0) for i in range(4)})
    found = headline({"t0": at(7, "a", noise=0.1), "t1": at(4, "a"), "t2": at(100, "b", noise=0.1), "t3": at(4, "b")}, panel)
    assert found.by_task == pytest.approx({"t0": 1.0, "t1": 0.0, "t2": 3.0, "t3": 0.0})
    assert (found.by_dataset, found.value) == (pytest.approx({"a": 0.5, "b": 1.5}), pytest.approx(1.0))
    assert (found.n_clipped, found.off_scale) == (1, False)
    assert not found.runs["b"].any()
    assert np.ptp(found.resampled["b"]) == 0
    assert found.half_width > 0


def test_a_row_of_which_more_than_a_quarter_is_clipped_has_no_interval() -> None:
    panel = panel_of({f"t{i}": UNIT for i in range(8)})
    cells = {f"t{i}": at(9.0 if i < 2 else 0.5, f"d{i}", noise=0.1, seed=i) for i in range(8)}
    quarter = headline(cells, panel)
    assert (quarter.n_clipped, quarter.off_scale, quarter.half_width is None) == (2, False, False)
    more = headline(cells | {"t2": at(-9.0, "d2")}, panel)
    assert (more.n_clipped, more.off_scale, more.half_width) == (3, True, None)


def test_two_rows_off_scale_on_one_side_are_not_told_apart() -> None:
    panel = panel_of({f"t{i}": UNIT for i in range(3)})

    def row(score: float, last: float, seed: int):
        cells = [at(score, "d0"), at(score, "d1"), at(last, "d2", noise=0.01, seed=seed)]
        return headline({f"t{i}": cell for i, cell in enumerate(cells)}, panel)

    found = all_pairs([row(9, 2.9, 1), row(9, -1, 2), row(-9, 0, 3), row(0.5, 0, 4)])
    assert found.p_values[0, 1] == 1
    assert np.isnan(found.half_widths[0, 1])
    assert (found.p_values[[0, 1, 0, 2], [2, 2, 3, 3]] < 1e-5).all()


def test_sources_weigh_alike_at_any_number_of_datasets_drawn_from_them() -> None:
    panel = panel_of(dict.fromkeys(("rsna1", "rsna2", "siim", "nih", "object"), UNIT))
    scores = {"rsna1": 0.0, "rsna2": 2.0, "siim": 2.0, "nih": 0.0, "object": 2.0}
    dataset = {"rsna1": "rsna", "rsna2": "rsna"}
    cells = {task: at(score, dataset.get(task, task), noise=0.3, seed=i) for i, (task, score) in enumerate(scores.items())}
    alone, grouped = (headline(cells, panel, sources=sources) for sources in (None, dict.fromkeys(["rsna", "siim", "nih"], "chestx-ray14")))
    assert alone.value == pytest.approx((1 + 2 + 0 + 2) / 4)
    assert grouped.value == pytest.approx(((1 + 2 + 0) / 3 + 2) / 2)
    of_object, before = (one.runs["object"].var(ddof=1) for one in (grouped, alone))
    assert of_object == pytest.approx(before * (1 / 2) ** 2 / (1 / 4) ** 2)
    assert grouped.runs["siim"].var(ddof=1) == pytest.approx(alone.runs["siim"].var(ddof=1) * (1 / 6) ** 2 / (1 / 4) ** 2)


def test_datasets_that_share_patients_are_one_list_of_them() -> None:
    """The same draws make two datasets' errors go together: their shares are added before the variance is taken."""
    panel = panel_of({"t0": UNIT, "t1": UNIT})
    apart = headline({"t0": at(0.5, "rsna", noise=0.1), "t1": at(0.5, "nih", noise=0.1)}, panel)
    shared = headline({f"t{i}": at(0.5, name, noise=0.1, patients="nih patients") for i, name in enumerate(("rsna", "nih"))}, panel)
    assert apart.value == shared.value
    assert (list(apart.resampled), list(shared.resampled)) == (["rsna", "nih"], ["nih patients"])
    assert shared.levels[1].variance == pytest.approx(2 * apart.levels[1].variance)
    assert (shared.levels[1].freedom, apart.levels[1].freedom) == (pytest.approx(49), pytest.approx(98))


@pytest.mark.parametrize(
    ("given", "seen", "told"),
    [
        (("t0", "t1"), {}, ""),
        (("t0", "t1"), {"t0": Contamination.SOURCE, "t1": Contamination.NONE}, ""),
        (("t0",), {}, "no headline; not measured: t1"),
        ((), {}, "not measured: t0, t1"),
        (("t0", "t1"), {"t1": Contamination.IMAGES}, "no headline; pretraining has or may have seen the data of: t1 (images)"),
        (("t0", "t1"), {"t0": Contamination.LABELS, "t1": Contamination.UNKNOWN}, "of: t0 (labels), t1 (unknown)"),
        (("t0",), {"t0": Contamination.IMAGES}, "not measured: t1; pretraining has or may have seen the data of: t0 (images)"),
    ],
)
def test_a_row_with_a_gap_or_a_leak_has_no_headline_and_says_why(given, seen, told) -> None:
    panel = panel_of({"t0": UNIT, "t1": UNIT})
    measured = {task: at(0.5, task) for task in given}
    found = why_no_headline(measured, panel, seen)
    assert told in found
    assert bool(found) == bool(told)
    if told:
        with pytest.raises(UsageError, match=found.replace("(", "\\(").replace(")", "\\)")):
            headline(measured, panel, seen=seen)
    else:
        assert headline(measured, panel, seen=seen).value == pytest.approx(0.5)


def test_a_leaked_row_has_the_headline_of_its_other_tasks() -> None:
    panel = panel_of({"t0": UNIT, "t1": UNIT})
    seen = {"t1": Contamination.IMAGES}
    assert headline({"t0": at(0.5, "a")}, panel.only(["t0"]), seen=seen).value == pytest.approx(0.5)


def test_a_task_that_the_panel_does_not_know_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown: t1"):
        headline({"t0": at(0, "a"), "t1": at(0, "a")}, panel_of({"t0": UNIT}))


def test_the_tasks_of_a_dataset_have_its_runs_and_patients() -> None:
    panel = panel_of({"t0": UNIT, "t1": UNIT})
    with pytest.raises(UsageError, match="t0, t1 of a differ"):
        headline({"t0": at(0, "a"), "t1": at(0, "a", n_runs=5)}, panel)
    with pytest.raises(UsageError, match="t0, t1 of a differ"):
        headline({"t0": at(0, "a"), "t1": at(0, "a", patients="p")}, panel)
    assert uneven({"t0": at(0, "a"), "t1": at(0, "a", n_runs=5), "t2": at(0, "b"), "t3": at(0, "b")}) == {"a": ["t0", "t1"]}


def test_a_list_of_patients_counts_as_the_smallest_dataset_that_it_serves() -> None:
    panel = panel_of({"t0": UNIT, "t1": UNIT})
    other = at(0, "b", noise=0.1)
    found = headline({"t0": at(0, "a", noise=0.1, patients="p"), "t1": Measured("b", other.runs, other.resampled, 35, "p")}, panel)
    assert found.n_patients == {"p": 35}
    assert found.levels[1].freedom == pytest.approx(34)


def test_fixed_weights_have_headlines_and_bands_over_patients_alone() -> None:
    panel = panel_of({"t0": UNIT, "t1": UNIT})

    def row(score: float, seed: int) -> Headline:
        cells = [at(score, name, n_runs=1, seed=seed + i, noise=0.1) for i, name in enumerate("ab")]
        return headline({f"t{i}": replace(one, drawn=False) for i, one in enumerate(cells)}, panel)

    rows = [row(score, seed) for score, seed in ((0.5, 0), (1.5, 10), (0.51, 20))]
    assert [level.name for level in rows[0].levels] == [PATIENTS]
    expected = sum(np.var(each, ddof=1) for each in rows[0].resampled.values())
    assert rows[0].levels[0].variance == pytest.approx(expected)
    assert rows[0].half_width == pytest.approx(float(two_part_half_width((0, 1), rows[0].levels[0].component)))
    found = all_pairs(rows, "independent")
    assert found.untested == ""
    assert [str(band) for band in rank_bands([one.value for one in rows], found.p_values)] == ["2-3", "1", "2-3"]


def test_few_runs_leave_values_and_nothing_tested() -> None:
    panel = panel_of({"t0": UNIT})
    for n_runs in (1, 2):
        rows = [headline({"t0": at(score, "a", n_runs=n_runs, noise=0.1)}, panel) for score in (0.5, 1.5)]
        assert (rows[0].half_width is None) == (n_runs == 1)
        found = all_pairs(rows)
        assert found.values[1, 0] == pytest.approx(1.0)
        assert np.isnan(found.p_values).all()
        assert f"{n_runs} run" in found.untested
    with pytest.raises(UsageError, match="at least two runs"):
        assert headline({"t0": at(0.5, "a", n_runs=1)}, panel).levels


def test_a_task_of_few_images_with_the_finding_leaves_nothing_tested() -> None:
    panel = panel_of({"t0": UNIT, "t1": UNIT})

    def rows(n_with_finding: int | None) -> list[Headline]:
        return [
            headline({"t0": at(s, "a", noise=0.1), "t1": replace(at(s, "b", noise=0.1), n_with_finding=n_with_finding)}, panel)
            for s in (0.5, 1.5)
        ]

    assert all_pairs(rows(14)).untested == "not tested: 14 test patients with the finding, a test needs 15"
    assert all_pairs(rows(15)).untested == all_pairs(rows(None)).untested == ""


def test_rows_of_other_datasets_or_draws_are_not_compared() -> None:
    panel = panel_of({"t0": UNIT})
    with pytest.raises(UsageError, match="compared over the same datasets"):
        all_pairs([headline({"t0": at(0, name)}, panel) for name in ("a", "b")])
    with pytest.raises(UsageError, match="compared over the same datasets"):
        all_pairs([headline({"t0": at(0, "a", n_runs=n)}, panel) for n in (3, 5)])


def test_no_row_and_one_row_are_tables_too() -> None:
    assert all_pairs([]).values.shape == (0, 0)
    found = all_pairs([headline({"t0": at(0.5, "a", noise=0.1)}, panel_of({"t0": UNIT}))])
    assert isinstance(found, Pairs)
    assert (found.p_values.tolist(), found.half_widths.tolist(), found.untested) == ([[1.0]], [[0.0]], "")


def test_a_strong_entrant_changes_nobody_elses_headline(rows) -> None:
    panel, measured = rows
    before = all_pairs([headline(row, panel) for row in measured])
    better = {task: Measured(one.dataset, one.runs + 10, one.resampled + 10, one.n_patients) for task, one in measured[0].items()}
    after = all_pairs([headline(row, panel) for row in (*measured, better)])
    np.testing.assert_array_equal(after.values[:N_ROWS, :N_ROWS], before.values)
    np.testing.assert_allclose(after.p_values[:N_ROWS, :N_ROWS], before.p_values, rtol=1e-9)
    assert (after.values[N_ROWS, :N_ROWS] > 0).all()


def test_where_nothing_is_tested_no_interval_is_known():
    unknown = Pairs(np.zeros((2, 2)), np.full((2, 2), np.nan), "too few datasets")
    assert np.isnan(unknown.half_widths).all()
