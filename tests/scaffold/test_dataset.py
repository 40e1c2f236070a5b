"""Folders as people have them become cards that can be opened at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from benchmark import registry, task_rules
from benchmark.cards import DatasetCard
from benchmark.errors import UsageError
from benchmark.readers.base import Reader, open_reader
from benchmark.scaffold.dataset import measure, new_dataset
from tests import own_folders
from tests.own_folders import SIDE, box_in, disc, picture, save, table


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """The cards that a test includes."""
    yield
    registry._included.clear()
    registry.forget()


def made(folder: Path, **options: Any) -> tuple[DatasetCard, Reader]:
    """The card as it is read from its file, which must be valid with its tasks, and its reader."""
    out = folder.parent / "cards"
    written = new_dataset(folder, out, **options)
    assert written.problem == ""
    registry.include(out)
    task_rules.require_included()
    card = registry.dataset(written.card.name)
    assert registry.suite(card.name).tasks == written.tasks
    assert card.model_copy(update={"statistics": written.card.statistics}) == written.card
    return card, open_reader(card, folder)


def test_a_coco_folder_with_its_faults(tmp_path: Path) -> None:
    folder = own_folders.coco(tmp_path / "My boxes ü", 12)
    card, reader = made(folder)
    assert card.name == "my-boxes"
    assert card.coco is not None
    assert (card.coco.annotations, card.coco.images, card.coco.masks) == ("annotations.json", "images", "boxes")
    assert card.classes == ("nodule", "mass")
    assert card.patients_known
    assert len({reader.sample(i).patient_id for i in reader.ids} - {None}) == 6
    assert card.redistribution == "none"


def test_statistics_are_those_of_the_equalised_training_images(tmp_path: Path) -> None:
    folder = own_folders.masks(tmp_path / "own", 8, faults=False)
    card, reader = made(folder)
    measured = measure(reader, reader.split(card.splits["own"])["train"])
    assert measured is not None
    assert card.statistics.mean == (round(measured.mean, 4),)
    assert card.statistics.std == (round(measured.std, 4),)
    assert measured.wide
    assert measured.n_images == measured.n_train == 6
    assert registry.task("own-linear-frozen").protocols == ("corrected",)


def masks_beside(folder: Path) -> dict[str, Any]:
    for k in range(8):
        save(folder / f"{k}.png", picture(k))
        save(folder / f"{k}_mask.png", disc(box_in(k)).astype(np.uint8))
    return {"block": "masks", "images": ".", "masks": "{stem}_mask"}


def masks_by_value(folder: Path) -> dict[str, Any]:
    for k in range(8):
        save(folder / "img" / f"{k}.jpg", picture(k))
        save(folder / "labels" / f"{k}.tif", (disc(box_in(k)) + 2 * disc(box_in(k + 1))).astype(np.uint8))
    return {"block": "masks", "images": "img", "masks": "labels/{stem}", "values": {"value_1": 1, "value_2": 2, "value_3": 3}}


def masks_by_class(folder: Path) -> dict[str, Any]:
    for k in range(8):
        save(folder / "CXR" / f"{k}.png", picture(k))
        for name in ("heart", "lungs"):
            save(folder / "masks" / name / f"{k}.png", disc(box_in(k)).astype(np.uint8))
    return {"block": "masks", "images": "CXR", "masks": "masks/{class}/{stem}"}


def yolo_by_split(folder: Path) -> dict[str, Any]:
    for k in range(9):
        part = ("train", "valid", "test")[k % 3]
        save(folder / part / "images" / f"{k}.png", picture(k))
        (folder / part / "labels").mkdir(exist_ok=True)
        (folder / part / "labels" / f"{k}.txt").write_text(f"{k % 2} 0.5 0.5 0.25 0.5\n")
    (folder / "data.yaml").write_text("names: [mass, nodule]\nnc: 2\n")
    return {"block": "yolo", "images": ".", "labels": "{folder}/labels/{name}", "names": ("mass", "nodule"), "by": "folder"}


def labels_in_columns(folder: Path) -> dict[str, Any]:
    rows = [(f"{k}.png", 100 + k // 2, k % 2, 1 - k % 2, ("train", "train", "val", "test")[k % 4]) for k in range(16)]
    for name, *_ in rows:
        save(folder / "files" / str(name), picture(len(rows)))
    table(folder / "t.csv", [("image", "PatientID", "edema", "mass", "split"), *rows], ";")
    return {"block": "csv", "image": "image", "patient": "PatientID", "labels": {"edema": "edema", "mass": "mass"}, "by": "column"}


def boxes_in_a_table(folder: Path) -> dict[str, Any]:
    for k in range(8):
        save(folder / f"p{k // 2}_{k}.png", picture(k))
    rows = [(f"p{k // 2}_{k}", "mass" if k % 2 else "No finding", *((4, 5, 30, 40) if k % 2 else ("", "", "", ""))) for k in range(8)]
    table(folder / "b.tsv", [("image_id", "class_name", "x_min", "y_min", "x_max", "y_max"), *rows], "\t")
    return {"block": "csv", "image": "image_id", "finding": "class_name", "patient_pattern": "p"}


def captions_in_a_table(folder: Path) -> dict[str, Any]:
    for k in range(8):
        save(folder / f"{k}.png", picture(k))
    table(folder / "c.csv", [("file", "caption"), *[(f"{k}.png", f"Image number {k}, clear lungs.") for k in range(8)]])
    return {"block": "pairs", "table": "c.csv", "image": "file", "caption": "caption"}


def captions_in_files(folder: Path) -> dict[str, Any]:
    for k in range(8):
        save(folder / f"{k}.png", picture(k))
        (folder / f"{k}.txt").write_text(f"Image number {k}, clear lungs.\n")
    return {"block": "pairs", "texts": "{stem}"}


FOLDERS = (
    masks_beside,
    masks_by_value,
    masks_by_class,
    yolo_by_split,
    labels_in_columns,
    boxes_in_a_table,
    captions_in_a_table,
    captions_in_files,
)


@pytest.mark.parametrize("make", FOLDERS, ids=lambda make: make.__name__)
def test_what_a_folder_holds_is_guessed_and_every_image_is_used(tmp_path: Path, make: Callable[[Path], dict[str, Any]]) -> None:
    folder = tmp_path / "mine"
    expected = make(folder)
    own_folders.litter(folder)
    card, reader = made(folder)
    block = getattr(card, expected.pop("block"))
    assert card.split is not None
    assert card.split.by == expected.pop("by", "rule")
    pattern = expected.pop("patient_pattern", None)
    assert pattern is None or pattern in block.patient_pattern
    assert {key: getattr(block, key) for key in expected} == expected
    assert sum(map(len, reader.split(card.splits["own"]).values())) == len(reader.ids) >= 8
    sample = reader.sample(reader.ids[1])
    assert sample.image().shape == (SIDE, SIDE)
    if sample.masks is not None:
        assert sample.masks((SIDE, SIDE)).any(axis=(1, 2)).sum() >= 1


def test_classes_get_the_names_that_are_given(tmp_path: Path) -> None:
    masks_by_value(tmp_path / "mine")
    card, _ = made(tmp_path / "mine", classes=("heart", "lungs", "both"), name="named")
    assert card.classes == ("heart", "lungs", "both")
    assert card.masks is not None
    assert card.masks.values == {"heart": 1, "lungs": 2, "both": 3}


def test_what_cannot_be_done_is_said_and_nothing_is_overwritten(tmp_path: Path) -> None:
    folder = own_folders.masks(tmp_path / "mine", 4, faults=False)
    made(folder)
    card = tmp_path / "cards" / "datasets" / "mine.yaml"
    before = card.read_text()
    registry._included.clear()
    registry.forget()
    for options, sentence in (
        ({}, "exists already"),
        ({"name": "rsna"}, "already: give another --name"),
        ({"name": "Ü"}, "is no name of a dataset"),
        ({"name": "other", "classes": ("a", "b")}, "has 1 classes: finding"),
    ):
        with pytest.raises(UsageError, match=sentence):
            new_dataset(folder, tmp_path / "cards", **options)
    assert card.read_text() == before
    shutil.rmtree(folder / "masks")
    with pytest.raises(UsageError, match="nothing here looks like labels"):
        new_dataset(folder, tmp_path / "cards", name="other")


def test_cards_that_cannot_be_written_are_a_sentence(tmp_path: Path) -> None:
    folder = own_folders.masks(tmp_path / "mine", 4, faults=False)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"mine\.yaml cannot be written: Not a directory\. Name another folder with --out"):
        new_dataset(folder, tmp_path / "file")


def test_what_was_not_known_stands_in_the_card(tmp_path: Path) -> None:
    folder = own_folders.masks(tmp_path / "mine", 5)
    new_dataset(folder, tmp_path / "cards")
    text = (tmp_path / "cards" / "datasets" / "mine.yaml").read_text()
    assert "# not known: What the masks show: rename `finding` in `classes`." in text
    assert "# not known: Which images are of one patient" in text
    assert "# not known: Whether the 1 images without a mask show nothing there" in text
    assert yaml.safe_load(text)["datasets"][0]["masks"]["without_mask"] == "left out"


def test_a_missing_mask_of_one_class_is_asked_about(tmp_path: Path) -> None:
    masks_by_class(tmp_path / "mine")
    (tmp_path / "mine" / "masks" / "heart" / "3.png").unlink()
    new_dataset(tmp_path / "mine", tmp_path / "cards")
    text = (tmp_path / "cards" / "datasets" / "mine.yaml").read_text()
    assert "# not known: Whether the 1 images without a mask of every class show nothing there" in text
    assert yaml.safe_load(text)["datasets"][0]["masks"]["without_mask"] == "left out"


def test_a_folder_that_cannot_be_used_as_it_is_says_so_in_the_card(tmp_path: Path) -> None:
    folder = own_folders.masks(tmp_path / "mine", 2, faults=False)
    written = new_dataset(folder, tmp_path / "cards")
    assert "too few" in written.problem
    assert "# not usable yet: mine: 2 images" in written.files[0].read_text()


def test_the_verbs_lead_from_a_folder_to_every_odd_place_by_name(tmp_path: Path, lobe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own_folders.masks(tmp_path / "data" / "my masks", 9)
    code, out, _ = lobe("new", "dataset", "data/my masks", "--classes", "lesion")
    assert code == 0
    assert "Wrote lobe-cards/datasets/my-masks.yaml" in out
    assert f"Next: lobe --include lobe-cards data verify my-masks --data {tmp_path / 'data'}" in out
    assert "not known: Which images are of one patient" in out
    odd = tmp_path / "odd.csv"
    code, out, _ = lobe("--include", "lobe-cards", "data", "verify", "my-masks", "--data", "data", "--odd", odd)
    assert code == 0
    assert "no mask.png" not in out
    assert odd.stat().st_mode & 0o077 == 0
    assert odd.read_text(encoding="utf-8").splitlines() == [
        "dataset,what,where",
        "my-masks,images without a mask,no mask.png",
        "my-masks,masks without an image,masks/no image.png",
        'my-masks,masks of another size than their image,"small.png, mask 32 x 32, image 64 x 64"',
        "my-masks,empty masks,empty.png",
    ]
