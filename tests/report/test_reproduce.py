"""Published beside measured: the right numbers, fair differences, and plain words where nothing is known."""

from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from benchmark import registry
from benchmark.cards import Words
from benchmark.report import numbers, published, reproduce_pages
from benchmark.report.reproduce import how_to_read, method_of, on_published_images, published_spread, reproduce
from benchmark.report.resampling import Resampled
from benchmark.statistics.two_part import two_part_half_width

TASK = "rsna-yolov3-frozen-10"
LOVT_100 = ("LoVT", "100% of frontal MIMIC-CXR")
LOVT_30 = ("LoVT", "30% of frontal MIMIC-CXR")
BYOL_30 = ("BYOL", "30% of frontal MIMIC-CXR")
CARD = {"backbone": "lovt-100", "digest": "a" * 64}


def _drawn(around: float, deviation: float):
    """Resamples of 90 patients with a standard deviation, alike for every run."""
    values = np.array([[around + deviation * (-1) ** i] for i in range(200)], np.float32)
    return lambda record: Resampled(values, "test", 90, True)


def _cell(reproduction, method=LOVT_100, task=TASK):
    return next(cell for table in reproduction.tables for (m, column), cell in table.cells.items() if (m, column.task) == (method, task))


def test_without_records_the_two_published_tables_stand_alone():
    reproduction = reproduce("lovt")
    assert [len(table.columns) for table in reproduction.tables] == [9, 9]
    assert [len(table.methods) for table in reproduction.tables] == [16, 16]
    assert sum(len(table.cells) for table in reproduction.tables) == 288
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
    assert len(reproduction.refused) == 2
    assert reason in reproduction.refused[0][1]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_images_of_every_split_must_be_the_published_ones(make, split):
    digests = make.digests(make.job()) | {f"{split} sorted": "0" * 64}
    reproduction = reproduce("lovt", make.runs([0.1, 0.2], **CARD, sample_digests=digests))
    assert (_cell(reproduction).measured, len(reproduction.refused)) == (None, 2)


def test_lists_that_are_the_published_ones_may_be_compared(make):
    found = _cell(reproduce("lovt", make.runs([0.1, 0.2], **CARD, split="lists"))).difference
    assert found.value == pytest.approx(15 - 16.4)  # as the paper prints it


def test_a_task_that_trains_nothing_needs_the_published_test_images_alone(make):
    record = make.record(0.1, **CARD)
    experiment = record.job.experiment.model_copy(update={"words": Words()})
    asked = record.model_copy(update={"job": record.job.model_copy(update={"experiment": experiment})})
    of_test = {"test sorted": record.sample_digests["test sorted"]}
    assert on_published_images(asked.model_copy(update={"sample_digests": of_test}))
    assert not on_published_images(asked.model_copy(update={"sample_digests": {"test sorted": "0" * 64}}))
    assert not on_published_images(record.model_copy(update={"sample_digests": of_test}))


def test_an_incomplete_row_has_no_difference(make):
    cell = _cell(reproduce("lovt", [make.record(0.1, **CARD), make.record(failure="NaN.", run=1, **CARD)]))
    assert cell.difference is None
    assert "1 failed" in cell.why_not


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
                return published_spread("lovt", table.card, card.metrics[line["metric"]], line)
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
    record = make.record(0.1, backbone=label, digest=digest, model=model)
    assert method_of(record, registry.paper("lovt").methods) == method


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
    assert reproduction.tables == ()


@pytest.mark.parametrize("paper", registry.papers())
def test_every_number_of_a_paper_stands_once_and_never_beside_one_of_another_origin(paper):
    frame, reproduction = published.load(paper), reproduce(paper)
    lines = [line for listing in reproduction.listings for line in listing.lines]
    texts = [line["value"] for line in lines] + [cell.published for table in reproduction.tables for cell in table.cells.values()]
    assert len(texts) == len(frame)
    assert sorted(map(str, texts)) == sorted(map(str, frame["value"]))
    for listing in reproduction.listings:
        assert {line["origin_protocol"] for line in listing.lines} == {listing.origin_protocol}
        assert len({(line["source"], line["table"]) for line in listing.lines}) == 1 or listing.card is not None
    assert (reproduction.others, reproduction.refused, reproduction.custom) == ((), (), False)
    assert registry.paper(paper).suite is None or reproduction.card.unknown or reproduction.tables


LOVT_IN = {"g2d": ("Random Init", "ImageNet Init", "ConVIRT"), "mgca": ("Random-init", "ImageNet-init", "ConVIRT")}


@pytest.mark.parametrize("paper", LOVT_IN)
def test_numbers_that_a_paper_took_from_lovt_are_compared_on_its_page_too(make, paper):
    names = ("resnet50 (random)", None), ("resnet50 (IMAGENET1K_V1)", "a" * 64), ("lovt-convirt-100", "b" * 64)
    records = [r for name, digest in names for r in make.runs([0.30, 0.31, 0.32], backbone=name, digest=digest)]
    (table,) = reproduce(paper, records).tables
    assert [column.task for column in table.columns] == [f"rsna-yolov3-frozen-{share}" for share in (1, 10, 100)]
    assert len({column.title for column in table.columns}) == 3
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
    ((name, why),) = reproduction.refused
    assert name.startswith(task)
    assert reason in why
    assert why in reproduce_pages.to_markdown(reproduction)


def test_other_papers_are_listed_by_table_and_origin():
    found = reproduce("g2d")
    assert sum(len(listing.lines) for listing in found.listings) == 749
    (table_1,) = [listing for listing in found.listings if listing.title.endswith("Table 1")]
    assert table_1.origin_protocol == ""
    assert [len(table.cells) for table in found.tables] == [9]


@pytest.mark.parametrize("paper", ["lovt", "prior", "lrclr", "mgca"])
def test_a_paper_of_every_kind_can_be_written_in_every_format(paper, tmp_path):
    reproduction = reproduce(paper)
    page = reproduce_pages.write(reproduction, tmp_path)
    assert page.name.endswith(".html")
    assert len(list(page.parent.glob("reproduce-*"))) == 4
    json.dumps(reproduce_pages.to_dict(reproduction), allow_nan=False)


def test_measured_numbers_reach_every_format(make, tmp_path):
    reproduction = reproduce("lovt", make.runs([0.30, 0.31, 0.32], **CARD))
    (line,) = [li for li in csv.DictReader(io.StringIO(reproduce_pages.to_csv(reproduction))) if li["measured"]]
    assert float(line["measured"]) == pytest.approx(31.0)
    assert float(line["difference"]) == pytest.approx(14.6)
    assert line["verdict"] == "different"
    for text in (reproduce_pages.to_markdown(reproduction), reproduce_pages.to_html(reproduction), reproduce_pages.to_latex(reproduction)):
        assert "(different)" in text


def test_the_terminal_is_spared_long_words_and_long_tables():
    reproduction, buffer = reproduce("lovt"), io.StringIO()
    Console(file=buffer, width=200).print(reproduce_pages.to_rich(reproduction))
    terminal, page = buffer.getvalue(), reproduce_pages.to_markdown(reproduction)
    assert ("100% MIMIC " in terminal, "of frontal" in terminal) == (True, False)
    assert ("100% MIMIC " in page, "of frontal" in page) == (False, True)
    assert ("Released run results" in terminal, "8.4527" in terminal, "8.4527" in page) == (True, False, True)


def test_lower_bounds_are_marked(make):
    records = make.runs([0.050, 0.052, 0.055], task="rsna-yolov3-frozen-10")
    cell = _cell(reproduce("lovt", records), ("Random", "none"))
    assert cell.lower_bound
    assert "± ≥" in reproduce_pages.difference_text(cell)
