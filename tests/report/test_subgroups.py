"""Scores on parts of the test images, from stored statistics alone; small groups of people are suppressed."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from benchmark.kinds.kit.stored import STATISTICS_FILE, ByImage, write_statistics
from benchmark.metrics.dice import DiceCounts, micro_dice
from benchmark.metrics.lesions import Lesions
from benchmark.metrics.mask_statistics import SegmentationStatistics
from benchmark.metrics.statistics import pooled_metric
from benchmark.report import addresses, resampling, stored, subgroups
from benchmark.report.rows import rows_of
from benchmark.report.site import write_site
from benchmark.report.subgroups import SIZES, SUPPRESSED, thirds_by_size
from benchmark.statistics.bootstrap import resamples
from benchmark.statistics.two_part import two_part_half_width

TASK, METRIC = "rsna-linear-frozen-10", "opacity_dice"
N_IMAGES = 120  # every fourth without a finding


def statistics(run: int) -> SegmentationStatistics:
    """Findings of 4 to 480 pixels, of which larger ones are found better; runs differ."""
    size = np.where(np.arange(N_IMAGES) % 4 == 0, 0, 4 * (1 + np.arange(N_IMAGES)))[:, None]
    found = (size * np.linspace(0.2, 0.8, N_IMAGES)[:, None] * (1 + 0.01 * run)).astype(np.int64)
    none = np.zeros(0, np.int64)
    return SegmentationStatistics(
        ("opacity",), DiceCounts(found, np.full_like(found, 3), size - found), Lesions(none, none, none, none), None
    )


@pytest.fixture
def stored_runs(make, tmp_path: Path):
    def made(n_patients: int = N_IMAGES, **facts):
        records = []
        for run in range(3):
            record = make.record(pooled_metric(statistics(run), METRIC)(None), task=TASK, run=run)
            folder = tmp_path / "predictions" / record.key
            folder.mkdir(parents=True, exist_ok=True)
            patients = tuple(f"P{i % n_patients}" for i in range(N_IMAGES))
            ids = tuple(f"i{i}" for i in range(N_IMAGES))
            write_statistics(folder / STATISTICS_FILE, ByImage(ids, patients, statistics(run), facts), {})
            records.append(record)
        return records

    return made


@pytest.fixture
def row(stored_runs, tmp_path: Path):
    def made(*given, **facts):
        (one,) = rows_of(stored_runs(*given, **facts), resampled=lambda record: resampling.of_record(record, tmp_path))
        return one

    return made


def test_thirds_hold_equally_many_findings_and_equal_sizes_stay_together() -> None:
    sizes = np.array([0, 5, 1, 9, 3, 0, 7, 2])
    assert thirds_by_size(sizes).tolist() == [-1, 1, 0, 2, 1, -1, 2, 0]
    assert thirds_by_size(np.array([4, 4, 4, 0])).tolist() == [0, 0, 0, -1]
    assert thirds_by_size(np.zeros(3)).tolist() == [-1, -1, -1]


def test_a_group_has_the_metric_of_its_images_alone(row, tmp_path: Path) -> None:
    one = row()
    found = subgroups.subgroups([one], tmp_path)
    assert [(group.by, group.name, group.n_images, group.n_patients) for group in found] == [
        ("size of the finding", s, 30, 30) for s in SIZES
    ]
    counts = [statistics(run).counts for run in range(3)]
    third = thirds_by_size((counts[0].tp + counts[0].fn)[:, 0])
    clusters = tuple(f"patient P{i}" for i in range(N_IMAGES))
    for place, group in enumerate(found):
        inside = third == place
        runs = [float(micro_dice(each, inside.astype(int))[0]) for each in counts]
        assert group.cell.value == pytest.approx(np.mean(runs))
        drawn = np.mean([micro_dice(each, resamples(clusters) * inside)[:, 0] for each in counts], axis=0)
        expected = two_part_half_width((np.var(runs, ddof=1) / 3, 2), (np.var(drawn, ddof=1), 29))
        assert group.cell.half_width == pytest.approx(float(expected), rel=1e-4)
    assert found[0].cell.value < found[1].cell.value < found[2].cell.value


def test_a_group_is_held_against_all_images_run_by_run_and_resample_by_resample(row, tmp_path: Path) -> None:
    one = row()
    counts = [statistics(run).counts for run in range(3)]
    drawn = resamples(tuple(f"patient P{i}" for i in range(N_IMAGES)))
    third = thirds_by_size((counts[0].tp + counts[0].fn)[:, 0])
    for place, group in enumerate(subgroups.subgroups([one], tmp_path)):
        inside = (third == place).astype(int)
        runs = [float(micro_dice(each, inside)[0] - micro_dice(each)[0]) for each in counts]
        apart = np.mean([(micro_dice(each, drawn * inside) - micro_dice(each, drawn))[:, 0] for each in counts], axis=0)
        assert group.minus_all.value == pytest.approx(np.mean(runs))
        expected = two_part_half_width((np.var(runs, ddof=1) / 3, 2), (np.var(apart, ddof=1), 29))
        assert group.minus_all.half_width == pytest.approx(float(expected), rel=1e-4)
    first, *_ = csv.DictReader(io.StringIO(subgroups.to_csv(subgroups.subgroups([one], tmp_path))))
    assert float(first["minus_all_points"]) < 0 < float(first["minus_all_half_width_95_points"])


def test_views_sexes_and_ages_are_groups_where_the_release_says_them(row, tmp_path: Path) -> None:
    facts = {
        "view": tuple("PA" if i % 2 else "AP" for i in range(N_IMAGES)),
        "sex": tuple("F" if i < 5 else None for i in range(N_IMAGES)),
        "age_decade": tuple("60" if i < 60 else "90" for i in range(N_IMAGES)),
    }
    found = [group for group in subgroups.subgroups([row(**facts)], tmp_path) if group.by != "size of the finding"]
    assert [(group.by, group.name, group.n_images) for group in found] == [
        ("view", "AP", 60),
        ("view", "PA", 60),
        ("sex", "F", None),  # five people
        ("age", "60 to 69", 60),
        ("age", "90 and above", 60),
    ]
    assert [group.note for group in found] == ["", "", SUPPRESSED, "", ""]
    odd = np.arange(N_IMAGES) % 2 == 1
    expected = np.mean([micro_dice(statistics(run).counts, odd.astype(int))[0] for run in range(3)])
    assert found[1].cell.value == pytest.approx(expected)


def test_groups_of_few_patients_are_suppressed_with_their_counts(row, tmp_path: Path) -> None:
    found = subgroups.subgroups([row(9)], tmp_path)
    assert [(group.n_images, group.n_patients, group.cell, group.note) for group in found] == [(None, None, None, SUPPRESSED)] * 3
    kept = "".join(path.read_text() for path in (tmp_path / stored.FOLDER).iterdir())
    assert '"value": null' in kept
    lines = list(csv.DictReader(io.StringIO(subgroups.to_csv(found))))
    assert {(line["images"], line["patients"], line["mean_percent"], line["note"]) for line in lines} == {("", "", "", SUPPRESSED)}


def test_a_page_of_a_task_shows_them_where_they_are_asked_for(stored_runs, tmp_path: Path) -> None:
    records = stored_runs(sex=tuple("F" if i < 5 else "M" for i in range(N_IMAGES)))

    def page(**how) -> str:
        site = write_site(records, tmp_path / "site", title="t", resampled=lambda record: resampling.of_record(record, tmp_path), **how)
        return (site.parent / addresses.task_page(TASK)).read_text(encoding="utf-8")

    assert "Parts of the test images" not in page()
    given = page(groups_of=lambda rows: subgroups.subgroups(rows, tmp_path))
    table = given[given.index("Parts of the test images") :]
    table = table[table.index("<tbody>") : table.index("</tbody>")]
    lines = [re.sub(r"(<[^>]*>|\s)+", " ", line).strip() for line in table.split("</tr>")[:-1]]
    assert len(lines) == len(SIZES) + 2
    first = subgroups.subgroups(rows_of(records, resampled=lambda record: resampling.of_record(record, tmp_path)), tmp_path)[0]
    assert lines[0].endswith(f"size of the finding {SIZES[0]} 30 30 {first.text} {first.minus_all_text}")
    assert next(line for line in lines if " sex F " in line).endswith(f"sex F – – – {SUPPRESSED} –")


def test_groups_are_computed_once(row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = row()
    first = subgroups.subgroups([one], tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(stored, "read", None)
        again = subgroups.subgroups([one], tmp_path)
    assert [group.cell for group in again] == [group.cell for group in first]
    damaged, other, *_ = sorted((tmp_path / stored.FOLDER).glob("*-groups.json"))
    damaged.write_text("{")
    given = json.loads(other.read_text())["given"]
    stored.keep(other.stem, given, {"groups": [{"by": "size of the finding"}]}, tmp_path)
    assert [group.cell for group in subgroups.subgroups([one], tmp_path)] == [group.cell for group in first]


def test_a_row_without_statistics_has_no_groups(make, tmp_path: Path) -> None:
    assert subgroups.subgroups(rows_of(make.runs([0.1, 0.2, 0.3])), tmp_path) == []


def test_a_metric_that_the_statistics_do_not_have_has_no_groups(row, tmp_path: Path) -> None:
    row()
    key = next((tmp_path / "predictions").iterdir()).name
    assert subgroups._computed(stored.read(key, METRIC, tmp_path), METRIC) != []
    assert subgroups._computed(stored.read(key, METRIC, tmp_path), "froc") == []
