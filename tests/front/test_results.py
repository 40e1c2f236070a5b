"""Tables hold the report's own numbers, line by line, and say what is missing."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.cards import Role
from benchmark.front import tables
from benchmark.report.against import against
from tests.front.conftest import LINEAR, NEIGHBOURS

pytestmark = pytest.mark.long(10)


@pytest.fixture
def results(front):
    return front[0].results()


def test_cells_are_the_rows_of_the_report(results):
    cells = results.cells()
    assert [(row.task, row.mean) for row in results.rows] == [(c.task, c.mean_percent / 100) for c in cells.itertuples()]
    assert set(results.cells("neighbour")["task"]) == {NEIGHBOURS}
    assert list(cells.query(f"task == '{NEIGHBOURS}'")["runs_expected"]) == [1, 1]
    assert results._repr_html_().count("<tr") == len(cells) + 1


def test_a_run_is_a_line_and_its_value_that_of_its_record(results):
    runs = results.runs().set_index("key")
    finals = [record for record in results.records if record.job.experiment.role is Role.FINAL]
    assert len(runs) == len(finals) == 8
    for record in finals:
        assert runs.loc[record.key, "value_percent"] == 100 * record.metrics[record.job.experiment.report]
        assert runs.loc[record.key, "backbone"] in results.backbones


def test_metrics_and_curves_hold_what_records_hold(results):
    metrics, curves = results.metrics(), results.curves()
    (one,) = [record for record in results.records if record.job.labels.task == LINEAR][:1]
    mine = metrics[metrics["key"] == one.key]
    for part, stored in (("test", one.metrics), ("validation", one.validation)):
        assert dict(zip(mine[mine["split_part"] == part]["metric"], mine[mine["split_part"] == part]["value"], strict=True)) == stored
    assert set(curves["task"]) == {LINEAR}  # neighbours have no epochs
    assert "validation_opacity_dice" in curves


def test_an_images_value_is_the_metric_with_it_alone(results):
    images = results.per_image(LINEAR, run=1)
    assert len(images) == 2 * 12
    dice = 2 * images["tp"] / (2 * images["tp"] + images["fp"] + images["fn"])
    np.testing.assert_allclose(images["value"], dice.where(2 * images["tp"] + images["fp"] + images["fn"] > 0), atol=1e-9)
    labels = results.per_image(NEIGHBOURS)
    assert labels["value"].isna().all()  # an AUROC of one image is none
    assert labels["score"].between(0, 1).all()
    assert set(labels["truth"]) <= {0, 1}


def test_a_comparison_is_the_reports(results):
    first, second = results.backbones
    table = results.compare(first, second)
    by_report = against([row for row in results.rows if row.label in (first, second)], second)
    assert len(table) == len(by_report) == 2
    for line, one in zip(table.itertuples(), by_report, strict=True):
        assert line.effect_points == 100 * one.difference.value
        assert line.reading == one.reading
        assert np.isnan(line.p) == (one.difference.p_value is None)
    assert results.compare(second, first)["effect_points"].sum() == pytest.approx(-table["effect_points"].sum())


def test_figures_are_the_reports_with_a_mark_for_each_cell(results):
    scores = results.figure()
    assert sum(len(trace.x) for trace in scores.data if trace.error_x.array is not None) == len(results.rows)
    differences = results.figure("differences", against=results.backbones[1])
    assert sum(len(trace.x) for trace in differences.data if trace.name == "pre-trained") == 2


def test_tables_without_a_line_have_their_columns(results):
    for table in (
        tables.runs([], {}),
        tables.metrics([], {}),
        tables.curves([], {}),
        tables.failures([], {}),
        tables.compared([], "a", "b"),
    ):
        assert table.empty
        assert "task" in table.columns
