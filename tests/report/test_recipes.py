"""A recipe that was pretrained three times: its interval covers the pretraining seed, and one checkpoint speaks for itself."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from benchmark.errors import UsageError
from benchmark.report.differences import compare
from benchmark.report.recipes import RECIPE, recipe_rows
from benchmark.report.resampling import Resampled
from benchmark.report.rows import rows_of
from benchmark.report.site import write_site
from benchmark.statistics.two_part import two_part_half_width
from benchmark.submission.trust import Trust

NAMES = ("first", "second", "third")
MEANS = (0.20, 0.26, 0.23)


def drawn(record):
    rng = np.random.default_rng(record.job.labels.run)
    return Resampled((record.metrics["mAP"] + 0.01 * rng.standard_normal((500, 1))).astype(np.float32), "test", 80, True)


@pytest.fixture
def rows(make):
    records = make.runs([0.10, 0.11, 0.12])
    for i, (name, mean) in enumerate(zip(NAMES, MEANS, strict=True)):
        records += make.runs([mean - 0.01, mean, mean + 0.01], backbone=name, digest=f"{i:064d}")
    return rows_of(records, resampled=drawn)


def test_a_recipes_units_are_its_checkpoints_and_their_runs_are_part_of_them(rows) -> None:
    (row,) = recipe_rows(rows, {"mine": NAMES})
    assert (row.label, row.mean, row.values) == ("mine", pytest.approx(np.mean(MEANS)), pytest.approx(list(MEANS)))
    assert [(level.name, level.freedom) for level in row.cell.levels] == [("pretraining", 2), ("patients", 79)]
    patients = np.var(np.mean([one.resampled.mean for one in rows if one.label in NAMES], axis=0), ddof=1)
    expected = two_part_half_width((np.var(MEANS, ddof=1) / 3, 2), (patients, 79))
    assert row.half_width == pytest.approx(float(expected), rel=1e-4)
    assert row.covers == "3 pretraining seeds and 80 test patients"
    assert RECIPE.format(3) in row.warnings


def test_a_recipe_is_as_clean_and_as_trusted_as_its_worst_checkpoint(rows) -> None:
    told = {
        "first": {"contamination": "none", "trust": Trust.LOCAL, "n_with_finding": 22},
        "second": {"contamination": "images", "trust": Trust.RECOMPUTED, "n_with_finding": 12},
        "third": {"contamination": "source", "trust": Trust.RESCORED, "n_with_finding": None},
    }
    (row,) = recipe_rows([replace(one, **told.get(one.label, {})) for one in rows], {"mine": NAMES})
    assert (row.contamination, row.trust, row.n_with_finding) == ("images", Trust.RECOMPUTED, 12)
    other = [replace(one, task_version=2) if one.label == "third" else one for one in rows]
    assert recipe_rows(other, {"mine": NAMES}) == []


def test_a_recipe_is_compared_as_independent_of_what_it_stands_beside(rows) -> None:
    (row,) = recipe_rows(rows, {"mine": NAMES})
    random = next(one for one in rows if one.random)
    found = compare(row, random)
    assert found.covers == "3 pretraining seeds, independent runs, 80 test patients"
    assert found.difference.value == pytest.approx(np.mean(MEANS) - 0.11)
    assert compare(row, row).difference.seeds == "independent"


def test_without_resamples_of_every_checkpoint_a_recipe_covers_no_patients(rows) -> None:
    blind = [replace(row, resampled=None) if row.label == "second" else row for row in rows]
    (row,) = recipe_rows(blind, {"mine": NAMES})
    assert (row.covers, row.resampled) == ("3 pretraining seeds", None)


def test_a_report_that_is_asked_for_a_recipe_has_it_in_a_file(make, tmp_path) -> None:
    records = [r for i, name in enumerate(NAMES) for r in make.runs([0.1 + i / 10, 0.2], backbone=name, digest=f"{i:064d}")]
    report = write_site(records, tmp_path, title="T", resampled=drawn, recipes={"mine": NAMES}).parent
    (line,) = csv.DictReader(io.StringIO((report / "recipes.csv").read_text(encoding="utf-8")))
    assert (line["backbone"], line["interval_covers"]) == ("mine", "3 pretraining seeds and 80 test patients")
    assert line["interval_levels"] == '["pretraining", "patients"]'
    write_site(records, tmp_path, title="T", resampled=drawn)
    assert not (report / "recipes.csv").exists()


def test_a_checkpoint_with_a_gap_leaves_no_row_and_too_few_are_no_recipe(make, rows) -> None:
    gap = [row for row in rows if row.label != "third"] + rows_of([make.record(failure="The loss became NaN.", backbone="third")])
    assert recipe_rows(gap, {"mine": NAMES}) == []
    with pytest.raises(UsageError, match="has 2 checkpoints; a recipe is judged by at least 3"):
        recipe_rows(rows, {"mine": NAMES[:2]})
    with pytest.raises(UsageError, match="names fourth"):
        recipe_rows(rows, {"mine": (*NAMES, "fourth")})
