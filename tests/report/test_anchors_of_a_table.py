"""Every table has its anchors: measured where somebody measured them, missing with a reason where nobody did."""

from __future__ import annotations

import csv
import io
import re

import pytest

from benchmark import registry
from benchmark.cards import LineupCard
from benchmark.report import addresses
from benchmark.report.anchor_rows import ORACLE, ORDER, ROLES, TRIVIAL, anchor_rows, to_csv
from benchmark.report.rows import rows_of
from benchmark.report.site import write_site

LINEAR, BOXES = "rsna-linear-frozen-10", "rsna-yolov3-frozen-10"
GIVEN = {"all positive": {"opacity_dice": 0.05}, "grid oracle 7 x 7": {"opacity_dice": 0.87}}
RANDOM, IMAGENET, DINOV2 = ROLES.values()


@pytest.fixture
def records(make):
    records = make.runs([0.20, 0.22, 0.21], task=LINEAR, anchors=GIVEN) + make.runs([0.01, 0.02, 0.03], task=BOXES)
    for label in ("ResNet-50 ImageNet", "mine"):
        records += make.runs([0.40, 0.43, 0.42], task=LINEAR, anchors=GIVEN, backbone=label, digest=label.encode().hex())
    return records


@pytest.fixture
def rows(records):
    return rows_of(records)


def test_there_is_a_row_for_every_role_and_its_numbers_are_those_of_the_records(rows):
    found = {one.role: one for one in anchor_rows(rows)}
    assert tuple(found) == ORDER
    assert (found[TRIVIAL].name, found[TRIVIAL].scores[LINEAR].value) == ("all positive", 0.05)
    assert (found[ORACLE].name, found[ORACLE].scores[LINEAR].value) == ("grid oracle 7 x 7", 0.87)
    assert (found[RANDOM].name, found[RANDOM].scores[LINEAR].value) == ("resnet50 (random)", pytest.approx(0.21))
    assert found[RANDOM].scores[LINEAR].half_width > 0
    assert found[IMAGENET].scores[LINEAR].value == pytest.approx(0.4166667)
    assert found[IMAGENET].name == "ResNet-50 ImageNet"


def test_what_nobody_measured_says_why(rows):
    found = {one.role: one for one in anchor_rows(rows)}
    assert found[DINOV2].scores == {}
    assert found[DINOV2].missing == dict.fromkeys((LINEAR, BOXES), "not measured; lobe run --backbone dinov2-small")
    assert found[IMAGENET].missing == {BOXES: "not measured; lobe run --backbone imagenet-resnet50"}
    assert "predicts nothing" in found[TRIVIAL].missing[BOXES]
    for one in found.values():
        assert set(one.scores) | set(one.missing) == {LINEAR, BOXES}
        assert not set(one.scores) & set(one.missing)


def test_rows_on_other_test_images_have_no_one_score(make):
    other = {"all positive": {"opacity_dice": 0.07}}
    rows = rows_of([make.record(0.2, task=LINEAR, anchors=GIVEN), make.record(0.3, task=LINEAR, anchors=other, threads=2)])
    trivial = anchor_rows(rows)[0]
    assert (trivial.scores, trivial.missing) == ({}, {LINEAR: "rows were tested on different images"})


def test_an_untrained_network_is_taken_for_no_pretrained_one_and_other_weights_for_no_anchor(make):
    records = make.runs([0.2, 0.3], task=LINEAR) + make.runs([0.2, 0.3], task=LINEAR, backbone="resnet50 (IMAGENET1K_V2)", digest="b" * 64)
    found = {one.role: one for one in anchor_rows(rows_of(records))}
    assert (found[IMAGENET].name, found[RANDOM].name) == ("", "resnet50 (random)")
    known = make.runs([0.2, 0.3], task=LINEAR, backbone="resnet50 (IMAGENET1K_V1)", digest="c" * 64)
    assert anchor_rows(rows_of(known))[2].name == "resnet50 (IMAGENET1K_V1)"


def test_a_line_up_of_ones_own_names_the_networks(rows):
    names = tuple(registry.backbones())[:8]
    own = LineupCard(name="own", title="Own", suite="lovt-18", backbones=names, anchors={"imagenet": "imagenet-resnet18"})
    found = {one.role: one for one in anchor_rows(rows, own)}
    assert found[IMAGENET].missing[LINEAR] == "not measured; lobe run --backbone imagenet-resnet18"
    assert found[DINOV2].missing[LINEAR] == "no line-up names one"


def test_they_are_a_file_of_their_own(rows):
    lines = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert {(line["role"], line["task"]) for line in lines} == {(role, task) for role in ORDER for task in (LINEAR, BOXES)}
    (oracle,) = [line for line in lines if (line["role"], line["task"]) == (ORACLE, LINEAR)]
    assert (float(oracle["percent"]), oracle["half_width_percent"], oracle["missing"]) == (87.0, "", "")


def test_the_front_page_marks_them_and_a_page_of_a_task_shows_all_of_them_below_its_scores(records, tmp_path):
    site = write_site(records, tmp_path, title="T")
    front = re.sub(r"(<[^>]*>|\s)+", " ", site.read_text(encoding="utf-8"))
    assert f"ResNet-50 ImageNet anchor: {IMAGENET} " in front
    assert "mine anchor" not in front
    foot = {}
    for task in (LINEAR, BOXES):
        page = (site.parent / addresses.task_page(task)).read_text(encoding="utf-8")
        lines = page[page.index("<tfoot>") : page.index("</tfoot>")].split("</tr>")[:-1]
        foot[task] = [re.sub(r"(<[^>]*>|\s)+", " ", line).strip() for line in lines]
    assert foot[LINEAR] == [
        f"all positive anchor: {TRIVIAL} 5.0",
        f"resnet50 (random) anchor: {RANDOM} 21.0 ± 2.5",
        f"ResNet-50 ImageNet anchor: {IMAGENET} 42 ± 4",
        f"{DINOV2} anchor – not measured; lobe run --backbone dinov2-small",
        f"grid oracle 7 x 7 anchor: {ORACLE} 87.0",
    ]
    assert [line.split(" anchor")[0] for line in foot[BOXES]] == [TRIVIAL, "resnet50 (random)", *ORDER[2:]]
