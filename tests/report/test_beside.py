"""All metrics of a row under their own names: complete rows only, few boxes said, box masks called so."""

from __future__ import annotations

import csv
import io

import pytest

from benchmark.cards import Words
from benchmark.report import beside, gallery
from benchmark.report.rows import rows_of
from benchmark.report.site import write_site

MASKS = "covid-rural-unet-frozen-100"


def _metrics(value: float, **more: float) -> dict[str, float]:
    return {"opacity_dice": value, "negatives_empty": 0.25, "pixel_ap": value / 2, **more}


def _values(records) -> dict[str, beside.Value]:
    return {value.metric: value for value in beside.values_of(rows_of(records), records)}


def test_every_metric_of_the_records_has_a_mean_over_runs_and_only_one_is_the_reported(make):
    records = [make.record(v, task=MASKS, run=i, metrics=_metrics(v)) for i, v in enumerate((0.2, 0.4))]
    found = _values(records)
    assert {name: value.mean for name, value in found.items()} == pytest.approx(
        {"opacity_dice": 0.3, "negatives_empty": 0.25, "pixel_ap": 0.15}
    )
    assert [name for name, value in found.items() if value.reported] == ["opacity_dice"]
    assert found["pixel_ap"].half_width == pytest.approx(12.706 * 0.1 / 2, rel=1e-3)


def test_a_metric_that_a_run_lacks_and_a_row_with_a_gap_have_no_mean(make):
    records = [make.record(0.2, task=MASKS, metrics=_metrics(0.2, nsd=0.5)), make.record(0.4, task=MASKS, run=1, metrics=_metrics(0.4))]
    assert "nsd" not in _values(records)
    assert _values([records[0], make.record(failure="NaN.", task=MASKS, run=1)]) == {}


def test_sheets_leave_out_what_the_leaderboard_shows_and_mark_boards_apart(make):
    records = [make.record(0.2, task=MASKS, metrics=_metrics(0.2), phantom=phantom) for phantom in (False, True)]
    first, second = beside.sheets(beside.values_of(rows_of(records), records))
    assert [line[0] for line in first.lines] == ["negatives left empty", "pixel AP"]
    assert first.lines[0][2] == ("25.0",)
    assert "phantom" not in first.title
    assert second.title.endswith("published · phantom")


def test_a_class_of_few_test_boxes_only_describes(make):
    counts = {"test": {"images": 196, "positives": 176, "boxes of Mass": 11, "boxes of Cardiomegaly": 42}}
    records = [
        make.record(
            0.2, task="rsna-linear-frozen-10", counts=counts, metrics={"opacity_dice": 0.2, "Mass_dice": 0.1, "Cardiomegaly_dice": 0.4}
        )
    ]
    found = _values(records)
    assert (found["Mass_dice"].note, found["Cardiomegaly_dice"].note) == ("11 test boxes: descriptive", "")
    assert found["Mass_dice"].title == "Mass box-mask Dice"


def test_dice_of_true_masks_is_plain_dice(make):
    found = _values([make.record(0.2, task=MASKS, metrics=_metrics(0.2, image_dice_positives=0.3))])
    assert found["image_dice_positives"].title == "Dice per positive image"


def _scored_against(make, target: str, report: str, metrics: dict[str, float], words: Words | None = None):
    job = make.job(task=MASKS)
    dataset = job.experiment.dataset.model_copy(update={"target": target})
    job = job.model_copy(update={"experiment": job.experiment.model_copy(update={"dataset": dataset, "report": report, "words": words})})
    return make.record(job=job, metrics=metrics)


def test_whole_image_metrics_stand_on_a_sheet_and_those_of_single_classes_only_in_the_file(make):
    measured = {"auroc": 0.8, "calibration_error": 0.1, "Edema_auroc": 0.9, "of_another_version": 0.5}
    record = _scored_against(make, "labels", "auroc", measured)
    (sheet,) = beside.sheets(beside.values_of(rows_of([record]), [record]))
    assert sheet.lines == (("calibration error (mean over classes)", "", ("10.0",)),)
    assert set(_values([record])) == set(measured)


def test_counts_are_no_per_cent(make):
    record = _scored_against(make, "phrases", "cnr", {"cnr": 0.2, "n_phrases": 1153.0, "miou": 0.25}, Words())
    (sheet,) = beside.sheets(beside.values_of(rows_of([record]), [record]))
    assert {title: texts for title, _, texts in sheet.lines} == {"phrases": ("1153.0",), "mIoU": ("25.0",)}


def test_a_record_of_a_kind_that_is_not_here_is_shown_and_does_not_stop_the_page(make, tmp_path):
    strange = _scored_against(make, "gaze", "agreement", {"agreement": 0.5})
    known = make.record(0.3, task=MASKS, run=1, metrics=_metrics(0.3))
    (row,) = rows_of([strange])
    assert (row.target, row.mean, row.shows_classes, row.n_with_finding) == ("gaze", 0.5, False, None)
    assert gallery.draw([strange, known], tmp_path / "out", tmp_path / "pictures") == {}
    text = write_site([strange, known], tmp_path, title="T").read_text(encoding="utf-8")
    assert "agreement" in text


def test_page_and_file_hold_them(make, tmp_path, monkeypatch):
    records = [make.record(v, task=MASKS, run=i, metrics=_metrics(v)) for i, v in enumerate((0.2, 0.4))]
    page = write_site(records, tmp_path, title="T")
    lines = list(csv.DictReader(io.StringIO((page.parent / "metrics.csv").read_text(encoding="utf-8"))))
    assert {line["metric"]: line["reported"] for line in lines} == {
        "opacity_dice": "True",
        "negatives_empty": "False",
        "pixel_ap": "False",
    }
    assert "15 ± 64" not in page.read_text(encoding="utf-8")
    text = (page.parent / "tasks" / f"{MASKS}.html").read_text(encoding="utf-8")
    before, _, after = text.partition("<h3>All metrics</h3>")
    assert "negatives left empty" in after
    assert "15 ± 64" in after
    assert "15 ± 64" not in before
