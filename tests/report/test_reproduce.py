"""Published beside measured: the right numbers, fair differences, and plain words where nothing is known."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
import subprocess

import numpy as np
import pytest
from scipy import stats

from benchmark import registry
from benchmark.cards import Role
from benchmark.errors import UsageError
from benchmark.report import numbers, published, reproduce_pages
from benchmark.report.paper_latex import to_latex
from benchmark.report.paper_sheets import ORIGINS, difference_text, published_text, sheets
from benchmark.report.paper_text import to_text
from benchmark.report.reproduce import how_to_read, method_of, published_spread, reproduce
from benchmark.report.reproduce_pages import table_csv
from benchmark.report.resampling import Resampled
from benchmark.report.rows import rows_of
from benchmark.statistics.two_part import two_part_half_width

TASK = "rsna-yolov3-frozen-10"
LOVT_100 = ("LoVT", "100% of frontal MIMIC-CXR")
LOVT_30 = ("LoVT", "30% of frontal MIMIC-CXR")
BYOL_30 = ("BYOL", "30% of frontal MIMIC-CXR")
DIGEST = {"digest": "a" * 64}
CARD = {"backbone": "lovt-100", **DIGEST}
LOVT_NAMES = (("YOLOv3 Finetune", "mAP"), ("YOLOv3 Frozen", "mAP"), ("Lin. Seg.", "Dice"))


def _drawn(around: float, deviation: float):
    """Resamples of 90 patients with a standard deviation, alike for every run."""
    values = np.array([[around + deviation * (-1) ** i] for i in range(200)], np.float32)
    return lambda record: Resampled(values, "test", 90, True)


def _cell(reproduction, method=LOVT_100, task=TASK):
    every = (cell for table in reproduction.tables for cell in table.cells)
    return next(cell for cell in every if cell.compared and (cell.method, cell.task) == (method, task))


def test_without_records_the_two_published_tables_stand_alone():
    reproduction = reproduce("lovt")
    compared = [table for table in reproduction.tables if table.is_compared]
    assert [(table.printed.grid.n_columns, len(table.printed.grid.rows)) for table in compared] == [(9, 16), (9, 16)]
    assert sum(len(table.cells) for table in compared) == 288
    text = reproduce_pages.to_markdown(reproduction)
    assert "| LoVT | 100% of frontal MIMIC-CXR | 8.5 ± 0.8 | 13.2 ± 0.6 |" in text
    assert text.count("Nothing measured for this table yet.") == 2


def test_difference_interval_and_verdict_of_a_measured_cell(make):
    values = [0.160, 0.162, 0.166, 0.164, 0.168]
    cell = _cell(reproduce("lovt", make.runs(values, **CARD)))
    distinct = sorted({100 * v for v in _released(TASK, "100")})
    assert len(distinct) == 4
    v_ours, v_theirs = numbers.standard_deviation([100 * v for v in values]) ** 2 / 5, numbers.standard_deviation(distinct) ** 2 / 4
    freedom = (v_ours + v_theirs) ** 2 / (v_ours**2 / 4 + v_theirs**2 / 3)
    assert cell.difference.value == pytest.approx(0.0, abs=1e-9)
    assert cell.difference.half_width == pytest.approx(stats.t.ppf(0.975, freedom) * math.sqrt(v_ours + v_theirs))
    assert not cell.lower_bound
    assert cell.verdict == "undecided"  # half width about 2.5 points, wider than the margin of 2


def test_the_interval_covers_test_patients_where_statistics_are_stored(make):
    values = [0.160, 0.162, 0.166, 0.164, 0.168]
    wide = _cell(reproduce("lovt", make.runs(values, **CARD), resampled=_drawn(0.164, 0.02)))
    v_ours, v_theirs = (
        numbers.standard_deviation([100 * v for v in values]) ** 2 / 5,
        numbers.standard_deviation(sorted({100 * v for v in _released(TASK, "100")})) ** 2 / 4,
    )
    freedom = (v_ours + v_theirs) ** 2 / (v_ours**2 / 4 + v_theirs**2 / 3)
    expected = two_part_half_width((v_ours + v_theirs, freedom), (200 / 199 * 2.0**2, 89))
    assert wide.difference.half_width == pytest.approx(float(expected), rel=1e-5)
    assert wide.measured.covers == "runs and 90 test patients"
    narrow = _cell(reproduce("lovt", make.runs(values, **CARD)))
    assert wide.difference.half_width > narrow.difference.half_width


def test_patients_can_turn_a_verdict_undecided(make):
    runs = make.runs([0.300, 0.301, 0.302, 0.303, 0.304], **CARD)
    found = [_cell(reproduce("lovt", runs, resampled=r)).verdict for r in (None, _drawn(0.302, 0.08))]
    assert found == ["different", "undecided"]


def test_only_an_interval_that_covers_patients_can_call_a_cell_reproduced(make):
    runs = make.runs([np.mean(_released(TASK, "100")) + 1e-4 * i for i in range(5)], task=TASK, **CARD)
    # The published runs alone spread too far: the margin is made wider than their interval.
    card = registry.paper("lovt")
    metrics = {name: metric.model_copy(update={"margin": 5.0}) for name, metric in card.metrics.items()}
    wide = card.model_copy(update={"metrics": metrics})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "paper", lambda name: wide)
        found = [_cell(reproduce("lovt", runs, resampled=r)).verdict for r in (None, _drawn(0.13, 0.001))]
    assert found == ["undecided", "equivalent"]


def _released(task, share):
    runs = published.load_runs("lovt")
    mine = (
        (runs["task_id"] == task)
        & (runs["method"] == "LoVT")
        & (runs["pretraining"].str.startswith(f"{share}%"))
        & (runs["metric"] == "mAP")
    )
    return list(runs[mine]["value"])


def test_a_clear_difference_is_called_different(make):
    cell = _cell(reproduce("lovt", make.runs([0.30, 0.31, 0.32], **CARD)))
    assert cell.verdict == "different"
    assert cell.difference.low > registry.paper("lovt").metrics["mAP"].margin


def test_margins_are_those_fixed_beforehand():
    margins = {name: metric.margin for name, metric in registry.paper("lovt").metrics.items()}
    assert margins == {"mAP": 2.0, "fROC": 2.0, "Dice": 1.5, "Avg Dice": 1.5}
    assert "(2 points mAP or fROC, 1.5 points Dice or Avg Dice, fixed beforehand)" in how_to_read(reproduce("lovt"))[1]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"phantom": True}, "phantom"),
        ({"limit": 16}, "limited"),
        ({"protocol": "corrected", "order_seed": 7}, "corrected"),
        ({"sample_digests": {}}, "published lists"),
        ({"split": "patient-disjoint"}, "published lists"),
        ({"split": "size-matched"}, "published lists"),
    ],
)
def test_records_that_must_not_stand_beside_published_numbers_are_refused_with_a_reason(make, options, reason):
    reproduction = reproduce("lovt", make.runs([0.1, 0.2], **CARD, **options))
    assert _cell(reproduction).measured is None
    (refused,) = reproduction.refused
    assert refused.n_records == 2
    assert reason in refused.reason


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_images_of_every_split_must_be_the_published_ones(make, split):
    digests = make.digests(make.job()) | {f"{split} sorted": "0" * 64}
    reproduction = reproduce("lovt", make.runs([0.1, 0.2], **CARD, sample_digests=digests))
    assert (_cell(reproduction).measured, [one.n_records for one in reproduction.refused]) == (None, [2])


def test_lists_that_are_the_published_ones_may_be_compared(make):
    found = _cell(reproduce("lovt", make.runs([0.1, 0.2], **CARD, split="lists"))).difference
    assert found.value == pytest.approx(15 - 16.4)  # as the paper prints it


def test_an_incomplete_row_has_no_difference(make):
    cell = _cell(reproduce("lovt", [make.record(0.1, **CARD), make.record(failure="NaN.", run=1, **CARD)]))
    assert cell.difference is None
    assert "1 failed" in cell.why_not


def test_an_evaluation_that_was_stopped_has_no_difference_and_says_what_is_missing(make):
    begun, planned = make.runs([0.30, 0.31], **CARD), [make.job(run=run, **CARD) for run in range(5)]
    cell = _cell(reproduce("lovt", begun, planned=planned))
    assert (cell.difference, cell.verdict, cell.why_not) == (None, None, "2 of 5 runs, 3 missing: not run yet")
    cell = _cell(reproduce("lovt", begun, planned=planned[:3], not_believed=[planned[2].key]))
    assert cell.why_not == f"2 of 3 runs, 1 missing: the stored record {planned[2].key} is refused"
    assert _cell(reproduce("lovt", begun, planned=planned[:2])).difference is not None


def test_a_plan_of_another_evaluation_changes_nothing(make):
    begun = make.runs([0.30, 0.31, 0.32], **CARD)
    generated = make.job(run=3, **CARD)
    dataset = generated.experiment.dataset.model_copy(update={"digest": "f" * 64})
    elsewhere = [generated.model_copy(update={"experiment": generated.experiment.model_copy(update={"dataset": dataset})})]
    others = ({"limit": 8}, {"protocol": "corrected", "order_seed": 7}, {"split": "patient-disjoint"}, {"task": "rsna-yolov3-frozen-100"})
    elsewhere += [make.job(run=3, **CARD | options) for options in (*others, {"backbone": "lovt-30"})]
    alone, beside = reproduce("lovt", begun), reproduce("lovt", begun, planned=elsewhere)
    assert _cell(beside).difference == _cell(alone).difference
    assert [len(table.measured_cells()) for table in beside.tables] == [len(table.measured_cells()) for table in alone.tables]
    assert (beside.others, beside.refused) == ((), ())


def test_a_search_alone_stands_on_its_line_with_the_reason(make):
    search = make.job(role=Role.SELECTION, learning_rate=0.01, **CARD)
    planned = [search, make.job(grid=(0.01, 0.1), learning_rate=None, depends_on=(search.key,), **CARD)]
    found = reproduce("lovt", [make.record(0.3, job=search)], planned=planned)
    assert _cell(found).why_not == "0 of 1 runs, 1 missing: so far only the learning-rate search is on record"
    assert found.others == ()


def test_spread_comes_from_distinct_runs_where_they_are_known():
    # Task 5, LoVT 30 %: 18.72 once and 17.75 four times. Task 16 reports FROC, not its mAP; task 17 prints its mean over one class as Dice.
    repeated = _spread(TASK, LOVT_30)
    assert repeated.n == 2
    assert repeated.deviation == pytest.approx((18.72 - 17.75) / math.sqrt(2), abs=0.01)
    assert _spread("object-cxr-yolov3-frozen-100", LOVT_100).n == 3
    assert _spread("object-cxr-linear-frozen-100", LOVT_100).n == 5
    known = _spread("rsna-linear-frozen-10", BYOL_30)
    assert known.lower_bound
    assert known.deviation == pytest.approx(0.2 * math.sqrt(5) / 1.96)


def _spread(task, method):
    card = registry.paper("lovt")
    for table in published.tables(card)[:2]:
        for line in table.lines:
            if (line["task_id"], line["method"], line["pretraining"]) == (task, *method):
                return published_spread("lovt", table.card_of(line), card.metrics[line["metric"]], line)
    raise AssertionError(task)


def test_one_measured_run_leaves_the_verdict_undecided(make):
    cell = _cell(reproduce("lovt", [make.record(0.49, **CARD)]))
    assert (cell.verdict, cell.difference.half_width) == ("undecided", None)
    assert "no interval" in cell.why_not


@pytest.mark.parametrize(
    ("label", "digest", "model", "method"),
    [
        ("resnet50 (random)", None, "resnet50", ("Random", "none")),
        ("resnet18 (random)", None, "resnet18", None),
        ("resnet50 (IMAGENET1K_V1)", "a", "resnet50", ("ImageNet", "none")),
        ("resnet50 (IMAGENET1K_V2)", "a", "resnet50", None),
        ("torchvision:resnet50@IMAGENET1K_V1", "a", "resnet50", ("ImageNet", "none")),
        ("torchvision:resnet50@IMAGENET1K_V2", "a", "resnet50", None),
        ("lovt-100", "a", "resnet50", LOVT_100),
        ("lovt-30@/some/file.ckpt", "a", "resnet50", LOVT_30),
        ("lovt-clip-100", "a", "resnet50", ("CLIP*", "100% of frontal MIMIC-CXR")),
        ("LOVT_SimCLR_30", "a", "resnet50", ("SimCLR", "30% of frontal MIMIC-CXR")),
        ("byol-30", "a", "resnet50", BYOL_30),
        ("lovt-100", "a", "resnet18", None),
        ("lovt-50", "a", "resnet50", None),
        ("mine.py:build", "a", "resnet50", None),
    ],
)
def test_backbones_find_their_line_in_the_papers_table(make, label, digest, model, method):
    (row,) = rows_of([make.record(0.1, backbone=label, digest=digest, model=model)])
    assert method_of(row, registry.paper("lovt").methods) == method


def test_a_backbone_the_paper_does_not_list_stands_apart(make):
    reproduction = reproduce("lovt", make.runs([0.1, 0.2], backbone="mine", digest="a" * 64))
    assert [row.backbone for row in reproduction.others] == ["mine"]
    assert not any(table.measured_cells() for table in reproduction.tables)


@pytest.mark.parametrize(
    ("paper", "words"), [("prior", "None of the paper's own tables could be read"), ("lrclr", "only name and abstract are known")]
)
def test_what_is_not_known_of_a_paper_is_said(paper, words):
    reproduction = reproduce(paper)
    for text in (reproduce_pages.to_markdown(reproduction), reproduce_pages.to_html(reproduction)):
        assert words.replace("'", "&#39;") in text or words in text
    assert not reproduction.compares


@pytest.mark.parametrize("paper", registry.papers())
def test_every_number_of_a_paper_stands_once_and_one_of_another_origin_is_marked(paper):
    frame, reproduction = published.load(paper), reproduce(paper)
    cells = [cell for table in reproduction.tables for cell in table.cells]
    assert sorted(str(cell.published) for cell in cells) == sorted(map(str, frame["value"]))
    for table in reproduction.tables:
        assert len(set(table.printed.grid.at)) == len(table.cells)  # no place holds two
        assert len({(cell.line["table"], cell.line["source"]) for cell in table.cells}) == 1 or table.printed.cards
        origins = table.printed.origins
        for cell in table.cells:
            is_marked = any(mark in published_text(cell, origins) for mark in ORIGINS)
            assert is_marked == (cell.line["origin_protocol"] != origins[0])
    assert (reproduction.others, reproduction.refused, reproduction.custom) == ((), (), False)
    assert registry.paper(paper).suite is None or reproduction.card.unknown or reproduction.compares


# Rows and columns as the papers print them, with a line of each.
@pytest.mark.parametrize(
    ("paper", "title", "row_heads", "levels", "line"),
    [
        (
            "lovt",
            "Main results, tasks 1-9",
            ("Method", "Pre-training"),
            [[f"RSNA {name} {share}% ({metric})" for name, metric in LOVT_NAMES for share in (1, 10, 100)]],
            ("LoVT", "100% of frontal MIMIC-CXR", "8.5 ± 0.8", "13.2 ± 0.6", "18.1 ± 3.2", "9.6 ± 1.2", "16.4 ± 1.3", "20.5 ± 1.0"),
        ),
        (
            "g2d",
            "Table 1",
            ("Method",),
            [
                ["semantic segmentation (U-Net; decoder trained, Dice)"] * 6
                + ["object detection (YOLOv3; 224x224, mAP@[.40:.05:.75])"] * 6,
                ["SIIM"] * 3 + ["RSNA"] * 6 + ["Object-CXR"] * 3,
                ["1%", "10%", "100%"] * 4,
            ],
            ("ConVIRT", "25.0", "43.2", "59.9", "55.0", "67.4", "67.5", "8.2‡", "15.6‡", "17.9‡", "–", "8.6", "15.9"),
        ),
        (
            "g2d",
            "Table 3",
            ("Labels", "Method"),
            [["Mean (macro)", "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax"]],
            ("10%", "KAD*", "80.7", "77.6", "88.9", "83.3", "71.8", "78.3", "71.9", "73.7", "87.2"),
        ),
        (
            "g2d",
            "Table 6",
            ("Task", "Dataset"),
            [["train", "valid", "test"]],
            ("data split: detection", "Object-CXR", "6400", "1600", "1000"),
        ),
        ("benchx", "Table 5", ("Method",), [["Hit@1", "Hit@5", "Hit@10", "P@1", "P@5", "P@10"]], ("GLoRIA",)),
        (
            "prior",
            "MedCTA preprint text (re-evaluation), Table 2",
            ("Method",),
            [["text-to-image"] * 4 + ["image-to-text"] * 4, ["P@1", "P@2", "P@5", "P@10"] * 2],
            ("PRIOR", "47.13", "48.11", "47.53", "47.24", "49.50", "52.55", "51.95", "36.55"),
        ),
        (
            "gloria",
            "GLoRIA (Huang et al., ICCV 2021), read through a re-report, Table 4",
            ("Method",),
            [["1%", "10%", "100%"]],
            ("GLoRIA",),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_table_has_the_papers_rows_and_columns(paper, title, row_heads, levels, line):
    (table,) = [table for table in reproduce(paper).tables if table.title.endswith(title)]
    (sheet,) = [sheet for sheet in sheets(reproduce(paper)) if sheet.heading == table.title]
    grid = table.printed.grid
    assert grid.row_heads == sheet.row_heads == row_heads
    assert [list(level)[: len(expected)] for level, expected in zip(grid.levels, levels, strict=True)] == levels
    texts = [(*each.heads, *each.texts) for each in sheet.lines]
    assert line in [text[: len(line)] for text in texts]


def test_tables_stand_in_the_papers_order():
    titles = [table.title.rpartition(", ")[2] for table in reproduce("g2d").tables]
    assert titles == [f"Table {n}" for n in ("1", "2a", "2b", "3", "4", "5a", "5b", "5c", "5d", "5e", "5f", "8", "6", "7")]
    methods = [row[0] for row in reproduce("lovt").tables[0].printed.grid.rows]
    lines = ["CheXpert", "BYOL", "SimCLR", "PixelPro", "ConVIRT", "CLIP*", "LoVT"]
    assert methods == ["Random", "ImageNet", *lines, *lines]


def test_a_table_and_a_method_can_be_chosen(make):
    found = reproduce("g2d", make.runs([0.3, 0.31], backbone="resnet50 (random)"), table="table 2*a", method="G2D")
    assert [table.title.rpartition(", ")[2] for table in found.tables] == ["Table 2a"]
    assert [row for table in found.tables for row in table.printed.grid.rows] == [("G2D",)]
    chosen = reproduce("lovt", make.runs([0.3, 0.31], **CARD), method="lovt")
    assert _cell(chosen).difference == _cell(reproduce("lovt", make.runs([0.3, 0.31], **CARD))).difference
    elsewhere = reproduce("lovt", make.runs([0.3, 0.31], **CARD), table="tasks 10-18")
    assert (elsewhere.refused, elsewhere.others) == ((), ())  # what belongs to another table is not spoken of
    for wrong, said in (({"table": "Table 99"}, "Table 2a"), ({"method": "nobody"}, "KAD*")):
        with pytest.raises(UsageError) as caught:
            reproduce("g2d", **wrong)
        assert said in str(caught.value)


def test_refused_records_are_counted_by_reason_and_not_listed(make):
    many = [r for task in make.tasks for i in range(40) for r in make.runs([0.1, 0.2], task=task, phantom=True, backbone=f"b{i}", **DIGEST)]
    reproduction = reproduce("lovt", [*many, make.record(0.1, limit=16, **CARD)])
    assert [(one.n_records, one.reason) for one in reproduction.refused] == [
        (560, "phantom data never stands beside published numbers"),
        (1, "limited runs never stand beside published numbers"),
    ]
    (sheet,) = [sheet for sheet in sheets(reproduction) if sheet.heading == "Records not compared"]
    assert sheet.sentences[0].startswith("560 records: phantom data never stands beside published numbers (the first: rsna-")
    assert len(sheet.sentences) == 2


LOVT_IN = {"g2d": ("Random Init", "ImageNet Init", "ConVIRT"), "mgca": ("Random-init", "ImageNet-init", "ConVIRT")}


@pytest.mark.parametrize("paper", LOVT_IN)
def test_numbers_that_a_paper_took_from_lovt_are_compared_on_its_page_too(make, paper):
    names = ("resnet50 (random)", None), ("resnet50 (IMAGENET1K_V1)", "a" * 64), ("lovt-convirt-100", "b" * 64)
    records = [r for name, digest in names for r in make.runs([0.30, 0.31, 0.32], backbone=name, digest=digest)]
    (table,) = [table for table in reproduce(paper, records).tables if table.is_compared]
    tasks = dict.fromkeys(cell.task for cell in table.cells if cell.compared)
    assert list(tasks) == [f"rsna-yolov3-frozen-{share}" for share in (1, 10, 100)]
    own = reproduce("lovt", records)
    for line, method in zip(LOVT_IN[paper], (("Random", "none"), ("ImageNet", "none"), ("ConVIRT", LOVT_100[1])), strict=True):
        cell, there = (_cell(r, m) for r, m in ((reproduce(paper, records), (line, "")), (own, method)))
        assert (cell.published, cell.measured) == (there.published, there.measured)
        assert cell.difference.value == pytest.approx(there.difference.value)
        # Reprinted without its interval: the difference has none, and nothing can be decided.
        assert (cell.difference.half_width, cell.verdict, cell.why_not) == (
            None,
            "undecided",
            "no interval: the published spread is not known",
        )


@pytest.mark.parametrize(
    ("paper", "task", "options", "reason"),
    [
        ("gloria", "chexpert-5x200-zero-shot-gloria", {}, "no published cell has this task's images and protocol"),
        ("mgca", "rsna-labels-linear-frozen-1-mgca", {"protocol": "corrected"}, "only 'published' repeats"),
        ("g2d", "nih-labels-linear-finetune-1-g2d", {"phantom": True}, "phantom data"),
        ("prior", "chexpert-5x200-zero-shot-prior", {"limit": 16}, "limited runs"),
    ],
)
def test_what_was_measured_of_a_papers_suite_stands_apart_with_the_reason(make, paper, task, options, reason):
    elsewhere = make.record(0.1, task="siim-unet-frozen-100", **CARD, **options)
    labels = elsewhere.job.labels.model_copy(update={"task": task})
    record = elsewhere.model_copy(update={"job": elsewhere.job.model_copy(update={"labels": labels})})
    reproduction = reproduce(paper, [record, elsewhere])
    (refused,) = reproduction.refused
    assert refused.first.startswith(task)
    assert reason in refused.reason
    assert refused.reason in reproduce_pages.to_markdown(reproduction)


def test_numbers_of_two_origins_stand_in_the_papers_one_table_each_told_apart():
    (table,) = [table for table in reproduce("g2d").tables if table.is_compared]
    assert (len(table.cells), sum(cell.compared for cell in table.cells)) == (114, 9)
    assert {cell.why_not for cell in table.cells if not cell.compared} == {"no task of LOBE"}
    (sheet,) = [sheet for sheet in sheets(reproduce("g2d")) if sheet.heading == "Table 1"]
    assert "‡ 9 numbers follow another protocol than the rest: LoVT tasks 4-6" in " ".join(sheet.sentences)


@pytest.mark.parametrize("paper", ["lovt", "prior", "lrclr", "mgca"])
def test_a_paper_of_every_kind_can_be_written_in_every_format(paper, tmp_path):
    reproduction = reproduce(paper)
    page = reproduce_pages.write(reproduction, tmp_path)
    assert page.name.endswith(".html")
    assert {path.suffix for path in page.parent.glob("reproduce-*") if path.is_file()} == {".html", ".md", ".csv", ".tex"}
    assert len(list((page.parent / page.stem).glob("*.csv"))) == len(reproduction.tables)
    json.dumps(reproduce_pages.to_dict(reproduction), allow_nan=False)


def test_measured_numbers_reach_every_format(make, tmp_path):
    reproduction = reproduce("lovt", make.runs([0.30, 0.31, 0.32], **CARD))
    (line,) = [li for li in csv.DictReader(io.StringIO(reproduce_pages.to_csv(reproduction))) if li["measured"]]
    assert float(line["measured"]) == pytest.approx(31.0)
    assert float(line["difference"]) == pytest.approx(14.6)
    assert line["verdict"] == "different"
    assert float(line["margin"]) == 2
    for text in (reproduce_pages.to_markdown(reproduction), reproduce_pages.to_html(reproduction), to_latex(reproduction)):
        assert "(different)" in text
    wide = {row["kind"]: row for row in csv.DictReader(io.StringIO(table_csv(reproduction.tables[0]))) if row["Method"] == "LoVT"}
    column = "RSNA YOLOv3 Frozen 10% (mAP)"
    assert [wide[kind][column] for kind in ("published", "published ±", "margin", "verdict")] == ["16.4", "1.3", "2.0", "different"]
    assert float(wide["measured"][column]) == pytest.approx(31.0)
    assert float(wide["difference"][column]) == pytest.approx(14.6)


def test_what_was_measured_stands_below_the_line_it_measures_and_margins_below_all(make):
    sheet = next(iter(sheets(reproduce("lovt", make.runs([0.30, 0.31, 0.32], **CARD)))))
    kinds = [line.kind for line in sheet.lines]
    assert kinds == ["published"] * 16 + ["measured", "difference", "margin"]
    below = {line.kind: line.texts[4] for line in sheet.lines[15:]}
    assert below["published"] == "16.4 ± 1.3"
    assert below["measured"].startswith("31.0 ± ")
    assert below["difference"].endswith("(different)")
    assert below["margin"] == "± 2"
    assert [line.texts[5] for line in sheet.lines[16:]] == ["–", "–", "–"]


def test_the_terminal_is_spared_long_words_and_long_tables():
    reproduction = reproduce("lovt")
    terminal, page = to_text(reproduction, 200).plain, reproduce_pages.to_markdown(reproduction)
    assert ("100% MIMIC " in terminal, "of frontal" in terminal) == (True, False)
    assert ("100% MIMIC " in page, "of frontal" in page) == (False, True)
    assert ("Released run results" in terminal, "8.4527" in terminal, "8.4527" in page) == (True, False, True)


def test_heads_of_several_columns_stand_in_the_middle_of_them_at_the_terminal():
    lines = to_text(reproduce("g2d", table="Table 2a"), 80).plain.splitlines()
    (first,) = [i for i, line in enumerate(lines) if line.split() == ["SIIM", "RSNA"]]
    below = lines[first + 1]
    starts = [match.start() for match in re.finditer("Recall", below)]
    ends = [match.end() for match in re.finditer("Dice", below)]
    for name, start, end in zip(("SIIM", "RSNA"), starts, ends, strict=True):
        place = lines[first].index(name)
        assert abs((place - start) - (end - place - len(name))) <= 1


# ------------------------------------------------------------------------------------------------------------------ LaTeX


@pytest.mark.parametrize("paper", registry.papers())
def test_every_table_is_whole_latex(make, paper):
    """Environments close in order, braces are balanced, every line has a cell per column, and every letter is one that LaTeX knows."""
    text = to_latex(reproduce(paper, make.runs([0.30, 0.31, 0.32], **CARD)))
    opened: list[str] = []
    for word, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if word == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []
    plain = re.sub(r"\\[{}%&$#_\\]", "", text)
    assert plain.count("{") == plain.count("}")
    assert all(ord(letter) < 0x250 for letter in text), {letter for letter in text if ord(letter) >= 0x250}
    for columns, body in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", text, flags=re.S):
        lines = [line for line in re.split(r"\\\\\n", body) if "&" in line]
        assert lines
        for line in lines:
            spans = [int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
            assert len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans) == len(columns)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here: the test above checks the structure")
def test_the_latex_compiles(make, tmp_path):
    (tmp_path / "paper.tex").write_text(to_latex(reproduce("g2d", make.runs([0.30, 0.31, 0.32]))), encoding="utf-8")
    made = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (made.returncode, "Overfull" in made.stdout) == (0, False), made.stdout[-2000:]


def test_lower_bounds_are_marked(make):
    records = make.runs([0.050, 0.052, 0.055], task="rsna-yolov3-frozen-10")
    cell = _cell(reproduce("lovt", records), ("Random", "none"))
    assert cell.lower_bound
    assert "± ≥" in difference_text(cell)
