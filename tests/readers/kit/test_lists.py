"""Split lists as files: same ids in the same order as the rule they came from, checked against the release, and a key of their own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmark import registry
from benchmark.cards import SplitRule
from benchmark.errors import DataError, SplitChanged, SplitError
from benchmark.readers.base import SPLITS, Reader, open_reader
from benchmark.readers.kit.lists import is_lists, lists_rule, published_rule, read_lists, require_same_boxes, splits_of
from benchmark.readers.kit.splits import lovt_csv, split_by_rule
from benchmark.readers.rsna import read_labels

RULE = registry.dataset("rsna").splits["lovt"]


@pytest.fixture
def reader(corpora: Path) -> Reader:
    return open_reader(registry.dataset("rsna"), corpora / "rsna")


def write_lists(reader: Reader, folder: Path, rule: SplitRule = RULE) -> Path:
    """The rule's splits as LoVT would have written them."""
    folder.mkdir(parents=True)
    for split, ids in reader.split(rule).items():
        lines = ["ID,boxes,classes"]
        for sample_id in ids:
            boxes = reader.sample(sample_id).boxes_xywh
            lines.append(f"{sample_id},{'|'.join(';'.join(map(str, box)) for box in boxes)},{'|'.join('1' for _ in boxes)}")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return folder


def edit(folder: Path, split: str, change) -> None:
    path = folder / f"{split}.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *change(rows)]) + "\n")


def test_lists_written_from_the_rule_give_its_ids_in_its_order(reader: Reader, tmp_path: Path):
    folder = write_lists(reader, tmp_path / "rsna")
    assert read_lists(reader, folder) == reader.split(RULE)
    rule = lists_rule(reader.split(RULE))
    assert is_lists(rule)
    assert splits_of(reader, rule, folder) == reader.split(RULE)


def test_a_rule_of_the_card_needs_no_folder(reader: Reader):
    assert not is_lists(RULE)
    assert splits_of(reader, RULE, None) == reader.split(RULE)


@pytest.mark.parametrize("split", SPLITS)
def test_the_rule_of_lists_knows_content_and_order_of_every_split(split: str):
    splits = {name: ("a", "b") if name == split else (name,) for name in SPLITS}
    swapped = splits | {split: ("b", "a")}
    shorter = splits | {split: ("a",)}
    assert len({lists_rule(s).rule for s in (splits, swapped, shorter)}) == 3


def test_lists_that_changed_after_planning_are_refused(reader: Reader, tmp_path: Path):
    folder = write_lists(reader, tmp_path / "rsna")
    rule = lists_rule(reader.split(RULE))
    edit(folder, "train", lambda rows: rows[::-1])
    with pytest.raises(SplitChanged, match="not those the job was planned with"):
        splits_of(reader, rule, folder)
    (folder / "train.csv").unlink()
    with pytest.raises(SplitChanged, match=r"train\.csv"):
        splits_of(reader, rule, folder)
    with pytest.raises(SplitError, match="--splits DIR"):
        splits_of(reader, rule, None)


def test_an_id_the_release_does_not_have_is_named(reader: Reader, tmp_path: Path):
    folder = write_lists(reader, tmp_path / "rsna")
    edit(folder, "validation", lambda rows: [*rows, "no-such-image,,"])
    with pytest.raises(SplitError, match="no-such-image"):
        read_lists(reader, folder)


def test_an_empty_list_is_an_error(reader: Reader, tmp_path: Path):
    folder = write_lists(reader, tmp_path / "rsna")
    edit(folder, "test", lambda rows: [])
    with pytest.raises(SplitError, match=r"test\.csv lists no image"):
        read_lists(reader, folder)


def test_a_missing_folder_or_file_is_named(reader: Reader, tmp_path: Path):
    with pytest.raises(DataError, match="no folder of split lists"):
        read_lists(reader, tmp_path / "rsna")
    folder = write_lists(reader, tmp_path / "lists")
    (folder / "test.csv").unlink()
    with pytest.raises(DataError, match=r"test\.csv"):
        read_lists(reader, folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda boxes: boxes + np.array([1.0, 0, 0, 0]),
        lambda boxes: boxes[:, [0, 1, 3, 2]] + np.array([0, 0, 0, 0.01]),
        lambda boxes: boxes[:0],
    ],
    ids=["moved by one pixel", "transposed", "none"],
)
def test_boxes_that_are_not_the_releases_are_an_error_with_the_id(reader: Reader, tmp_path: Path, change):
    folder = write_lists(reader, tmp_path / "rsna")
    positive, split = next((i, s) for s in SPLITS for i in reader.split(RULE)[s] if reader.sample(i).positive)
    boxes = change(reader.sample(positive).boxes_xywh)
    line = f"{positive},{'|'.join(';'.join(map(str, box)) for box in boxes)},{'|'.join('1' for _ in boxes)}"
    edit(folder, split, lambda rows: [line if row.startswith(positive) else row for row in rows])
    with pytest.raises(DataError, match=positive):
        read_lists(reader, folder)


def test_boxes_in_another_order_are_the_same_boxes(tmp_path: Path):
    boxes = np.array([[1.0, 2, 3, 4], [5.0, 6, 7, 8]])
    reader = fake_reader({"a": boxes, "b": boxes[:0], "c": boxes[:0]})
    for split, line in zip(SPLITS, ("a,5;6;7;8|1;2;3;4,1|1", "b,,", "c,,"), strict=True):
        (tmp_path / f"{split}.csv").write_text(f"ID,boxes,classes\n{line}\n")
    assert read_lists(reader, tmp_path)["train"] == ("a",)


def test_boxes_of_an_image_that_is_not_here_are_no_other_boxes(tmp_path: Path):
    """That it is not here, another check says."""
    boxes = np.array([[1.0, 2, 3, 4]])
    for split, line in zip(SPLITS, ("a,1;2;3;4,1", "gone,5;6;7;8,1", "a,1;2;3;4,1"), strict=True):
        (tmp_path / f"{split}.csv").write_text(f"ID,boxes,classes\n{line}\n")
    lists = lovt_csv(tmp_path)
    require_same_boxes(fake_reader({"a": boxes}), lists, tmp_path)
    with pytest.raises(DataError, match="a"):
        require_same_boxes(fake_reader({"a": boxes + 9}), lists, tmp_path)


def fake_reader(boxes: dict[str, np.ndarray]) -> SimpleNamespace:
    """As much of a reader as lists need, for label files whose images are not here."""

    def sample(sample_id: str) -> SimpleNamespace:
        return SimpleNamespace(boxes_xywh=boxes[sample_id], box_labels=np.zeros(len(boxes[sample_id]), np.int64))

    return SimpleNamespace(card=registry.dataset("rsna"), ids=tuple(boxes), shapes="released", sample=sample)


def test_lovts_released_lists_are_the_rules_ids_in_order_and_agree_with_the_real_label_file(real_files: Path):
    labels = read_labels(real_files / "labels" / "rsna_stage_2_train_labels_semicolon.csv")
    listed = read_lists(fake_reader(labels.boxes_xywh), real_files / "lovt_splits" / "rsna")
    assert listed == split_by_rule(labels.ids, RULE, lambda _: None)
    assert lists_rule(listed) == published_rule(registry.dataset("rsna"))


@pytest.mark.parametrize("dataset", ["rsna", "siim", "object-cxr", "nih-cxr"])
def test_the_cards_digests_give_the_rule_of_lovts_released_lists(real_files: Path, dataset: str):
    ids = {split: tuple(ids_in(real_files / "lovt_splits" / dataset / f"{split}.csv")) for split in SPLITS}
    assert lists_rule(ids) == published_rule(registry.dataset(dataset))


def test_a_card_without_ordered_digests_has_no_published_rule():
    assert published_rule(registry.dataset("covid-rural")) is None


def ids_in(path: Path) -> list[str]:
    return [line.split(",")[0] for line in path.read_text().splitlines()[1:] if line]
