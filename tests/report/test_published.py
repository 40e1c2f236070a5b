"""Published numbers: complete, checked on loading, and consistent with the runs their authors released."""

from __future__ import annotations

import math
import statistics

import pandas as pd
import pytest

from benchmark import registry
from benchmark.errors import CardError, UnknownName
from benchmark.report import published

LOVT_18 = [
    "rsna-yolov3-finetune-1",
    "rsna-yolov3-finetune-10",
    "rsna-yolov3-finetune-100",
    "rsna-yolov3-frozen-1",
    "rsna-yolov3-frozen-10",
    "rsna-yolov3-frozen-100",
    "rsna-linear-frozen-1",
    "rsna-linear-frozen-10",
    "rsna-linear-frozen-100",
    "covid-rural-unet-finetune-100",
    "covid-rural-unet-frozen-100",
    "covid-rural-linear-frozen-100",
    "siim-unet-finetune-100",
    "siim-unet-frozen-100",
    "object-cxr-yolov3-finetune-100",
    "object-cxr-yolov3-frozen-100",
    "object-cxr-linear-frozen-100",
    "nih-cxr-linear-frozen-100",
]


MAIN_TABLES = ("Main results, tasks 1-9", "Main results, tasks 10-18")


def _main() -> pd.DataFrame:
    frame = published.load("lovt")
    return frame[frame["table"].isin(MAIN_TABLES)]


def test_lovts_two_tables_are_those_its_card_compares():
    assert tuple(table.title for table in registry.paper("lovt").tables if table.compared) == MAIN_TABLES


def test_lovts_two_tables_hold_16_methods_on_18_tasks_in_the_papers_order():
    main = _main()
    assert list(dict.fromkeys(main[main["method"] == "Random"]["task_id"])) == LOVT_18
    assert main.groupby(["method", "pretraining"]).size().tolist() == [18] * 16
    assert not main.duplicated(["task_id", "method", "pretraining"]).any()


# Cells of LoVT's two tables, one or two per table and method family.
@pytest.mark.parametrize(
    ("task", "method", "share", "value", "half_width"),
    [
        ("rsna-yolov3-finetune-1", "Random", None, 2.4, 0.5),
        ("rsna-yolov3-finetune-100", "CheXpert", "100", 22.2, 0.4),
        ("rsna-linear-frozen-10", "Random", None, 5.3, 0.0),
        ("rsna-yolov3-frozen-10", "LoVT", "100", 16.4, 1.3),
        ("covid-rural-linear-frozen-100", "PixelPro", "100", 18.9, 6.4),
        ("siim-unet-frozen-100", "CLIP*", "100", 45.0, 0.5),
        ("object-cxr-yolov3-frozen-100", "LoVT", "30", 55.8, 1.1),
        ("nih-cxr-linear-frozen-100", "ConVIRT", "100", 18.6, 0.1),
    ],
)
def test_cells_are_those_of_the_paper(task, method, share, value, half_width):
    pretraining = f"{share}% of frontal MIMIC-CXR" if share else "none"
    main = _main()
    cell = main[(main["task_id"] == task) & (main["method"] == method) & (main["pretraining"] == pretraining)]
    assert (cell["value"].item(), cell["half_width_95"].item()) == (value, half_width)


# Of the 16 lines of LoVT's two tables, task by task: every printed value and every printed half width counts.
COLUMN_SUMS = [
    (110.2, 14.3),
    (188.3, 15.5),
    (301.6, 15.4),
    (112.2, 12.8),
    (197.4, 12.3),
    (276.6, 9.9),
    (617.5, 3.1),
    (680.0, 1.0),
    (721.3, 0.5),
    (742.2, 38.3),
    (693.2, 43.5),
    (560.8, 18.0),
    (639.1, 12.6),
    (638.6, 9.3),
    (974.9, 12.5),
    (803.6, 18.5),
    (487.1, 8.7),
    (144.1, 7.2),
]


@pytest.mark.parametrize(("task", "sums"), list(zip(LOVT_18, COLUMN_SUMS, strict=True)))
def test_every_column_adds_up_to_the_papers(task, sums):
    column = _main()[_main()["task_id"] == task]
    assert (round(column["value"].sum(), 1), round(column["half_width_95"].sum(), 1)) == sums


def test_every_cell_has_source_flag_and_origin():
    frame = published.load("lovt")
    for name in ("source", "verified", "origin_protocol", "unit"):
        assert (frame[name] != "").all(), name
    assert frame["half_width_95"].notna().all()


def test_lovts_36_cells_and_intervals_recompute_from_its_released_runs():
    runs, main = published.load_runs("lovt"), _main()
    checked = 0
    for line in main[main["method"] == "LoVT"].to_dict("records"):
        mine = runs[(runs["task_id"] == line["task_id"]) & (runs["method"] == "LoVT") & (runs["pretraining"] == line["pretraining"])]
        reported = registry.paper("lovt").metrics[line["metric"]].reported
        values = [100 * v for v in mine[mine["metric"].isin(reported)]["value"]]
        assert len(values) == 5, line["task_id"]
        assert round(statistics.fmean(values), 1) == line["value"], line["task_id"]
        assert round(1.96 * statistics.stdev(values) / math.sqrt(5), 1) == line["half_width_95"], line["task_id"]
        checked += 1
    assert checked == 36


def test_every_released_metric_recomputes_from_its_runs_to_four_decimals():
    runs, frame = published.load_runs("lovt"), published.load("lovt")
    rest = frame[~frame["table"].isin(MAIN_TABLES)]
    for line in rest.to_dict("records"):
        same = (
            runs[["task_id", "method", "pretraining", "metric"]] == [line[c] for c in ("task_id", "method", "pretraining", "metric")]
        ).all(axis=1)
        values = [100 * v for v in runs[same]["value"]]
        assert statistics.fmean(values) == pytest.approx(line["value"], abs=5.1e-5)
        assert 1.96 * statistics.stdev(values) / math.sqrt(5) == pytest.approx(line["half_width_95"], abs=5.1e-5)
    assert len(rest) == 114


def test_every_file_loads_and_every_value_without_number_says_why():
    assert set(registry.papers()) == {"lovt", "gloria", "prior", "g2d", "lrclr", "mgca", "benchx", "cxr_other"}
    files = {path.stem for path in (registry.content("results") / "published").glob("*.csv") if not path.stem.endswith("_runs")}
    assert set(registry.papers()) == files
    for paper in registry.papers():
        frame = published.load(paper)
        assert (frame["paper"] == paper).all()
        assert (frame["source"] != "").all()
        assert (frame[frame["value"].isna()]["note"] != "").all()


def test_values_that_others_reprint_from_lovt_carry_their_origin():
    for paper in ("g2d", "mgca"):
        frame = published.load(paper)
        from_lovt = frame[frame["task_id"] != ""]
        assert len(from_lovt) == 9
        assert from_lovt["origin_protocol"].str.startswith("LoVT").all()


def test_unknown_paper_names_the_nearest():
    with pytest.raises(UnknownName, match="gloria"):
        published.load("glorai")


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda text: text.replace("verified,", "checked,", 1), "columns differ"),
        (lambda text: text.replace(",2.4,", ",2;4,", 1), "line 2: value is '2;4'"),
        (lambda text: text.replace(",yes,", ",probably,"), "verified is 'probably'"),
    ],
)
def test_damaged_table_is_refused_with_file_and_place(tmp_path, monkeypatch, edit, complaint):
    original = published.file_of(registry.paper("lovt")).read_text(encoding="utf-8")
    (tmp_path / "damaged.csv").write_text(edit(original), encoding="utf-8")
    monkeypatch.setattr(published, "file_of", lambda card: tmp_path / "damaged.csv")
    with pytest.raises(CardError, match=complaint) as error:
        published.load("lovt")
    assert "damaged.csv" in str(error.value)


def test_numbers_stand_as_they_are_printed():
    first = published.tables(registry.paper("lovt"))[0].lines[0]
    assert published.printed(first) == "2.4 ± 0.5"
    benchx = [line for table in published.tables(registry.paper("benchx")) for line in table.lines]
    assert published.printed(benchx[1]) == "81.5 ± 0.01"
    assert published.printed(published.tables(registry.paper("lrclr"))[0].lines[0]) == "–"
