"""Standings, pairs, gains and leaks lie in the site as files, with the numbers of its tables."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmark.report.site import write_site
from tests.report.panel_suite import PhantomPanel, records_of, resampled
from tests.report.test_site import data_of


def lines_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(encoding="utf-8", newline="")))


def test_every_row_pair_and_gain_has_a_line(tmp_path: Path):
    folder = write_site(records_of(), tmp_path, title="T", resampled=resampled, panels=[PhantomPanel()]).parent
    standings = lines_of(folder / "standings.csv")
    linear = [line for line in standings if line["track"] == "linear-frozen"]
    assert [line["backbone"] for line in linear] == ["BioViL-T", "MGCA", "resnet50 (IMAGENET1K_V2)", "resnet50 (random)"]
    assert [line["best_rank"] for line in linear] == ["1", "1", "3", ""]
    assert linear[3]["why_none"].startswith("an anchor")
    pairs = [line for line in lines_of(folder / "pairs.csv") if line["track"] == "linear-frozen"]
    assert len(pairs) == 3
    difference = float(linear[0]["headline"]) - float(linear[1]["headline"])
    assert float(pairs[0]["difference"]) == pytest.approx(difference, rel=1e-6)
    assert float(pairs[0]["p_holm_all_pairs"]) == pytest.approx(data_of(folder)["compare/0/pairs"]["p"][0][1], rel=1e-4)
    gains = lines_of(folder / "gains.csv")
    assert {line["minus"] for line in gains} == {"resnet50 (random)"}
    assert all(float(line["difference_points"]) > 5 and float(line["p_holm"]) < 0.05 for line in gains)
    assert (folder / "leaks.csv").read_text() == ""


def test_a_leak_has_a_line_without_a_panel(make, tmp_path: Path):
    records = make.runs([0.30, 0.32], split="size-matched") + make.runs([0.20, 0.22], split="patient-disjoint")
    folder = write_site(records, tmp_path, title="T").parent
    (leak,) = lines_of(folder / "leaks.csv")
    assert float(leak["difference_points"]) == pytest.approx(10)
    assert leak["minus"] == "split patient-disjoint"
    assert (folder / "pairs.csv").read_text() == ""
