"""What a page compares two backbones by adds up to the difference that the statistics give."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from benchmark.report import compare_page
from benchmark.report.differences import compare
from benchmark.report.resampling import Resampled
from benchmark.report.rows import rows_of
from benchmark.statistics.two_part import two_part_half_width

N_PATIENTS = 60


@pytest.fixture
def rows(make):
    rng = np.random.default_rng(5)
    common = rng.normal(0, 0.02, 1000)

    def resampled(record) -> Resampled:
        own = np.random.default_rng(int(record.key[:8], 16)).normal(0, 0.01, 1000)
        return Resampled((0.3 + common + own).astype(np.float32)[:, None], "same", N_PATIENTS, True)

    records = [r for name in ("a", "b", "c") for r in make.runs(list(rng.normal(0.3, 0.02, 5)), backbone=name, digest=name * 64)]
    return rows_of(records, resampled=resampled)


def half_width(table: dict[str, list[float]], first: dict, second: dict, i: int, j: int) -> float:
    """As assets/compare.js does it; that the script does so, tests/verify/test_site.py sees in a browser."""
    runs = np.var(np.subtract(first["runs"], second["runs"]), ddof=1) / len(first["runs"])
    patients = first["with"][i] + second["with"][j] - 2 * first["with"][j]
    nodes = table[f"{len(first['runs']) - 1},{first['clusters'] - 1}"]
    at = math.asin(math.sqrt(runs / (runs + patients))) / (math.pi / 2) * (len(nodes) - 1)
    return math.sqrt(runs + patients) * float(np.interp(at, range(len(nodes)), nodes))


def test_two_rows_have_the_half_width_of_their_difference(rows):
    labels = [row.label for row in rows]
    cells = compare_page._cells(dict(zip(labels, rows, strict=True)), labels)
    table = compare_page.half_widths(rows)
    for i, j in combinations(range(3), 2):
        expected = compare(rows[i], rows[j]).difference
        found = half_width(table, cells[labels[i]], cells[labels[j]], i, j)
        assert found == pytest.approx(100 * expected.half_width, rel=2e-3)
        assert cells[labels[i]]["mean"] - cells[labels[j]]["mean"] == pytest.approx(100 * expected.value, abs=1e-3)


def test_the_ends_of_the_table_are_one_part_alone(rows):
    table = compare_page.half_widths(rows)
    assert set(table) == {f"{f},{N_PATIENTS - 1}" for f in range(1, 9)}
    for f in range(1, 9):
        nodes = table[f"{f},{N_PATIENTS - 1}"]
        assert nodes[0] == pytest.approx(2.00100, rel=1e-4)  # Student's t, 59 degrees of freedom
        assert nodes[-1] == pytest.approx(float(two_part_half_width((1.0, f), (0.0, 1.0))), rel=1e-4)


def test_rows_over_other_patients_share_no_covariance(rows):
    import dataclasses

    other = dataclasses.replace(rows[1], resampled=Resampled(rows[1].resampled.values, "other", N_PATIENTS, True))
    cells = compare_page._cells({"a": rows[0], "b": other}, ["a", "b"])
    assert cells["a"]["with"][1] is None
    assert cells["a"]["with"][0] == pytest.approx(1e4 * np.var(rows[0].resampled.mean, ddof=1), rel=1e-3)


def test_rows_of_one_split_with_labels_of_another_release_share_no_covariance(rows):
    import dataclasses

    other = dataclasses.replace(rows[1], dataset_digest="f" * 64)
    cells = compare_page._cells({"a": rows[0], "b": other}, ["a", "b"])
    assert [cells["a"]["with"][1], cells["b"]["with"][0]] == [None, None]
    assert compare(rows[0], other).difference.n_clusters is None


def test_every_pair_can_be_chosen_and_a_gap_is_no_cell(make, tmp_path: Path):
    from benchmark.report.site import write_site
    from tests.report.test_site import data_of

    records = make.runs([0.1, 0.2]) + make.runs([0.3, 0.4], backbone="mine", digest="a" * 64)
    records += make.runs([0.5, 0.6], task="siim-unet-frozen-100")
    data = data_of(write_site(records, tmp_path, title="T").parent, "compare/")
    (table,) = data["compare/index"]["tables"]
    assert [label for label, _, _ in table["backbones"]] == ["resnet50 (random)", "mine"]
    assert [column["metric"] for column in table["columns"]] == ["mAP (LoVT)", "pneumothorax Dice"]
    mine = data["compare/0/mine"]
    assert mine[1] is None
    assert mine[0]["runs"] == [30.0, 40.0]
    assert mine[0]["with"] is None
