from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from benchmark import registry, task_rules
from benchmark.cards import DatasetCard

MINIMAL = {"name": "mine", "classes": ["a"], "coco": {"annotations": "a.json"}}


def test_a_name_classes_and_a_block_are_a_whole_card() -> None:
    card = DatasetCard.model_validate(MINIMAL)
    assert (card.reader, card.folder, card.title, card.redistribution, card.intensity) == ("coco", "mine", "mine", "none", "equalised")
    assert card.targets == ("masks", "boxes")
    assert card.splits["own"].rule == "own: by rule"
    assert not card.patients_known
    assert task_rules.dataset_faults(card) == []
    assert DatasetCard.model_validate(card.model_dump()) == card


@pytest.mark.parametrize(("split", "rule"), [({}, "own: by folder"), ({"seed": 3}, "own: by folder"), ({"by": "rule"}, "own: by rule")])
def test_annotations_in_a_file_for_each_split_are_the_split_unless_the_card_says_another(split: dict[str, Any], rule: str) -> None:
    given = {"coco": {"annotations": {"train": "a.json", "test": "b.json"}}}
    card = DatasetCard.model_validate({**MINIMAL, **given, **({"split": split} if split else {})})
    assert card.splits["own"].rule == rule
    assert DatasetCard.model_validate(card.model_dump()) == card


def test_cards_of_releases_hold_no_word_of_blocks() -> None:
    assert not registry.dataset("rsna").canonical.count("coco")
    assert all(card.own is None for card in registry.datasets().values())


@pytest.mark.parametrize(
    ("block", "given", "targets", "source"),
    [
        ("coco", {"annotations": "a.json", "masks": "segmentation"}, ("masks", "boxes"), "masks"),
        ("masks", {}, ("masks",), "masks"),
        ("csv", {"table": "t", "image": "i", "labels": {"a": "x"}}, ("labels",), "none"),
        ("csv", {"table": "t", "image": "i", "boxes": {"columns": ["1", "2", "3", "4"]}}, ("masks", "boxes"), "boxes"),
        ("yolo", {}, ("masks", "boxes"), "boxes"),
        ("pairs", {"texts": "{stem}"}, ("reports",), "none"),
    ],
)
def test_targets_follow_from_the_block(block: str, given: dict[str, Any], targets: tuple[str, ...], source: str) -> None:
    card = DatasetCard.model_validate({"name": "mine", "classes": [] if block == "pairs" else ["a"], block: given})
    assert card.targets == targets
    assert card.mask_source == source
    assert task_rules.dataset_faults(card) == []


def test_a_target_that_the_block_does_not_give_is_a_fault() -> None:
    card = DatasetCard.model_validate({**MINIMAL, "targets": ["masks", "labels"]})
    assert task_rules.dataset_faults(card) == ["`targets` has labels, which the reader coco does not give; it gives masks, boxes."]


@pytest.mark.parametrize(
    ("change", "place", "sentence"),
    [
        ({"coco": {}}, "coco.annotations", "Field required"),
        ({"coco": {"annotations": "a.json", "image": "x"}}, "coco.image", "Extra inputs"),
        ({"coco": {"annotations": "../a.json"}}, "coco.annotations", "lead nowhere else"),
        ({"coco": {"annotations": {"train": "/a.json"}}}, "coco.annotations", "lead nowhere else"),
        ({"coco": {"annotations": "a.json", "patient_pattern": "p[0-9]+"}}, "coco.patient_pattern", "0 groups in parentheses"),
        ({"coco": {"annotations": "a.json", "patient_pattern": "("}}, "coco.patient_pattern", "no regular expression"),
        ({"split": {"by": "column"}}, "split", "`column` names the column"),
        ({"split": {"by": "lists", "lists": {"test": "t.txt"}}}, "split", "no file for train"),
        ({"split": {"by": "folder", "names": {"train": ["x"], "test": ["y", "x"]}}}, "split", "'x' under train and under test"),
        ({"split": {"by": "folder", "names": {"train": ["Val"], "test": ["val"]}}}, "split", "'val' under train and under test"),
        ({"split": {"test_share": 0.6, "validation_share": 0.5}}, "split", "leave nothing to train on"),
        ({"reader": "rsna"}, "", "the block `coco:` is of the reader coco"),
        ({"coco": None, "reader": "masks"}, "classes", ""),
        ({"coco": None, "masks": {"masks": "m/{steam}"}}, "masks.masks", "needs {stem} or {name}"),
        ({"coco": None, "masks": {"values": {"a": [1, 2], "b": 2}}}, "masks", "each listed once"),
        ({"coco": None, "masks": {"masks": "{class}/{stem}", "values": {"a": 1}}}, "masks", "choose one"),
        ({"coco": None, "csv": {"table": "t", "image": "i"}}, "csv", "say either `labels`"),
        ({"coco": None, "pairs": {}}, "pairs", "say either `table`"),
        ({"coco": None, "pairs": {"table": "t.csv"}}, "pairs", "needs the columns"),
    ],
)
def test_what_is_wrong_has_its_place_in_the_card(change: dict[str, Any], place: str, sentence: str) -> None:
    given = {**MINIMAL, **change}
    if place == "classes":
        del given["classes"]
    with pytest.raises(ValidationError) as raised:
        DatasetCard.model_validate({key: value for key, value in given.items() if value is not None})
    found = {".".join(map(str, error["loc"])): error["msg"] for error in raised.value.errors()}
    assert place in found
    assert sentence in found[place]
