from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.cards.own_split import CALLED, OwnSplit
from benchmark.errors import SplitError
from benchmark.readers.base import Sample
from benchmark.readers.kit.own_splits import own_splits
from tests import own_folders
from tests.own_cards import card, opened


def samples(patients: list[int], shown: list[bool]) -> list[Sample]:
    return [
        Sample(id=f"{k:03d}", patient_id=f"p{patient}", image=lambda: np.zeros((1, 1)), files=(), positive=positive)
        for k, (patient, positive) in enumerate(zip(patients, shown, strict=True))
    ]


CARD = card(Path("mine"), "masks", {}, classes=("a",))


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=4, max_size=80), st.integers(0, 5))
def test_a_draw_never_parts_a_patient_and_loses_no_image(drawn: list[tuple[int, bool]], seed: int) -> None:
    listed = samples([patient for patient, _ in drawn], [shown for _, shown in drawn])
    split = OwnSplit(seed=seed)
    try:
        made = own_splits(listed, dict.fromkeys([s.id for s in listed], "train"), split, CARD)
    except SplitError:
        assert len({s.patient_id for s in listed}) < 3
        return
    assert len({s.patient_id for s in listed}) >= 3
    assert all(made.values())
    patient_of = {s.id: s.patient_id for s in listed}
    assert sorted(i for ids in made.values() for i in ids) == sorted(patient_of)
    patients = [{patient_of[i] for i in ids} for ids in made.values()]
    assert sum(map(len, patients)) == len(set.union(*patients))


def test_shares_and_findings_are_kept_and_another_seed_draws_others() -> None:
    listed = samples(list(range(200)), [k % 4 == 0 for k in range(200)])
    given_ = dict.fromkeys([s.id for s in listed], "train")
    made = own_splits(listed, given_, OwnSplit(), CARD)
    assert {name: len(ids) for name, ids in made.items()} == {"train": 140, "validation": 30, "test": 30}
    positive = {s.id for s in listed if s.positive}
    assert all(abs(len(positive & set(made[name])) - 7.5) <= 1 for name in ("validation", "test"))
    assert own_splits(listed[::-1], given_, OwnSplit(), CARD) == made
    assert own_splits(listed, given_, OwnSplit(seed=1), CARD) != made


def test_nothing_to_train_on_is_said() -> None:
    listed = samples([0, 1], [True, True])
    with pytest.raises(SplitError, match="no image is in the training split"):
        own_splits(listed, {"000": "test"}, OwnSplit(), CARD)


# ------------------------------------------------------------------------------------------------------ what the card says


def parted(folder: Path, *parts: str) -> Path:
    """Eight images with labels in a folder for each part."""
    places = [f"{part}/{part}{k}.png" for part in parts for k in range(8)]
    for k, place in enumerate(places):
        own_folders.save(folder / place, own_folders.picture(k))
    own_folders.table(folder / "l.csv", [("f", "x", "part"), *((place, k % 2, place.partition("/")[0]) for k, place in enumerate(places))])
    return folder


def made(folder: Path, split: dict) -> dict[str, set[str]]:
    """Split -> folders of its images."""
    reader = opened(folder, "csv", {"table": "l.csv", "image": "f", "labels": {"a": "x"}}, classes=("a",), split=split)
    return {name: {i.partition("/")[0] for i in ids} for name, ids in reader.split(reader.card.splits["own"]).items()}


def decided(folder: Path, split: dict) -> str:
    return opened(folder, "csv", {"table": "l.csv", "image": "f", "labels": {"a": "x"}}, classes=("a",), split=split).decided()


@pytest.mark.parametrize("by", [{"by": "folder"}, {"by": "column", "column": "part"}])
@pytest.mark.parametrize("word", ["val", "VAL"])
def test_what_the_card_says_of_a_word_comes_before_what_lobe_takes_it_for(tmp_path: Path, by: dict, word: str) -> None:
    folder = parted(tmp_path / "own", "train", "val")
    said = {**by, "names": {"test": [word]}}
    assert made(folder, said) == {"train": {"train"}, "validation": {"train"}, "test": {"val"}}
    assert "read_anew" in decided(folder, said)
    assert "read_anew" not in decided(folder, {**by, "names": {"validation": [word]}})


def test_other_names_are_taken_to_the_letter() -> None:
    split = OwnSplit(by="folder", names={"test": ("A",), "validation": ("a",)})
    assert [split.split_of(name) for name in ("A", "a", "b", " Train ")] == ["test", "validation", None, "train"]
    assert not split.overrules
    assert all(OwnSplit().split_of(word) == name for name, words in CALLED.items() for word in words)


@pytest.mark.parametrize(
    ("split", "absent"),
    [
        ({"by": "lists", "lists": {"train": "train.txt", "test": "empty.txt"}}, "test"),
        ({"by": "lists", "lists": {"train": "train.txt", "test": "others.txt"}}, "test"),
        ({"by": "lists", "lists": {"train": "train.txt", "validation": "empty.txt"}}, "validation"),
        ({"by": "folder", "names": {"test": ["holdout"]}}, "test"),
        ({"by": "column", "column": "part", "names": {"validation": ["tuning"]}}, "validation"),
    ],
)
def test_a_split_that_the_card_says_and_that_has_no_image_is_not_drawn_from_another(tmp_path: Path, split: dict, absent: str) -> None:
    folder = parted(tmp_path / "own", "train", "other")
    (folder / "train.txt").write_text("".join(f"train/train{k}.png\n" for k in range(8)))
    (folder / "others.txt").write_text("elsewhere/x.png\n")
    (folder / "empty.txt").write_text("")
    with pytest.raises(SplitError, match=f"the card says which images are {absent}, and not one of them is there"):
        made(folder, split)
    drawn = {key: {} if key == "names" else {"train": "train.txt"} if key == "lists" else value for key, value in split.items()}
    assert made(folder, drawn)["test"] == {"train"}


def test_an_annotation_file_of_a_split_without_a_usable_image_is_not_drawn_from_another(tmp_path: Path) -> None:
    folder = coco_files(tmp_path / "own", train=range(8), test=())
    given = {"annotations": {"train": "train.json", "test": "test.json"}}
    reader = opened(folder, "coco", given, classes=("a",))
    with pytest.raises(SplitError, match="which images are test, and not one of them is there"):
        reader.split(reader.card.splits["own"])


def test_a_file_for_each_split_is_the_split_unless_the_card_says_another(tmp_path: Path) -> None:
    folder = coco_files(tmp_path / "own", train=range(8), test=range(8, 16))
    given = {"annotations": {"train": "train.json", "test": "test.json"}}
    held_out = {f"{k}.png" for k in range(8, 16)}
    for split, kept in (({}, True), ({"seed": 3}, True), ({"by": "folder"}, True), ({"by": "rule"}, False)):
        reader = opened(folder, "coco", given, classes=("a",), split=split)
        assert (set(reader.split(reader.card.splits["own"])["test"]) == held_out) == kept


def coco_files(folder: Path, **listed: Sequence[int]) -> Path:
    """A COCO file for each split, of images that all lie in one folder."""
    for name, numbers in listed.items():
        for k in numbers:
            own_folders.save(folder / f"{k}.png", own_folders.picture(k))
        content = {
            "images": [{"id": k, "file_name": f"{k}.png"} for k in numbers],
            "categories": [{"id": 1, "name": "a"}],
            "annotations": [{"id": k, "image_id": k, "category_id": 1, "bbox": [1, 2, 9, 9]} for k in numbers],
        }
        own_folders.write_json(folder / f"{name}.json", content)
    return folder
