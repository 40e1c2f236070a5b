"""Promises of the CheXlocalize reader: masks where a code says so, true negatives where no entry is, and nothing taken on trust."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from benchmark import registry
from benchmark.errors import DataError, ImageError, SplitError
from benchmark.observations import CHEXPERT_OBSERVATIONS
from benchmark.readers.base import open_reader

CARD = registry.dataset("chexlocalize")
FIRST, SECOND, LATERAL = "patient90001/study1/view1_frontal", "patient90002/study1/view1_frontal", "patient90001/study1/view2_lateral"
SIZE = [4, 5]
EMPTY = {"size": SIZE, "counts": "d0"}  # docs/sources.md, CheXlocalize: 20 zeros
EDEMA, PNEUMOTHORAX = CARD.classes.index("Edema"), CARD.classes.index("Pneumothorax")
# Down the columns: six zeros, three ones, eleven zeros. Not symmetric, so exchanged sides show.
PART = {"size": SIZE, "counts": [6, 3, 11]}


def masks_of(**given) -> dict:
    return {name: given.get(name.replace(" ", "_"), EMPTY) for name in CARD.classes}


def write(root: Path, val=(FIRST, LATERAL, SECOND), test=(FIRST,), masks=None, test_masks=None, drawn=SIZE) -> Path:
    masks = {FIRST.replace("/", "_"): masks_of(Edema=PART)} if masks is None else masks
    test_masks = {FIRST.replace("/", "_"): masks_of(Pneumothorax=PART)} if test_masks is None else test_masks
    for folder in ("CheXpert", "CheXlocalize"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for subset, listed, found, top in (("val", val, masks, "CheXpert-v1.0/valid/"), ("test", test, test_masks, "test/")):
        (root / "CheXlocalize" / f"gt_segmentations_{subset}.json").write_text(json.dumps(found))
        header = ",".join(("Path", *CHEXPERT_OBSERVATIONS))
        rows = "".join(f"{top}{path}.jpg{',0.0' * len(CHEXPERT_OBSERVATIONS)}\n" for path in listed)
        (root / "CheXpert" / f"{subset}_labels.csv").write_text(f"{header}\n{rows}")
        for path in listed:
            place = root / "CheXpert" / subset / f"{path}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.new("L", (drawn[1], drawn[0]), 90).save(place)
    return root


def opened(root: Path):
    return open_reader(CARD, root)


def test_a_mask_is_what_its_code_says_down_the_columns(tmp_path: Path) -> None:
    sample = opened(write(tmp_path)).sample(f"val/{FIRST}.jpg")
    masks = sample.masks((4, 5))
    assert np.flatnonzero(masks.any(axis=(1, 2))).tolist() == [EDEMA]
    assert np.argwhere(masks[EDEMA]).tolist() == [[0, 2], [2, 1], [3, 1]]
    assert (sample.positive, sample.patient_id, sample.view) == (True, "patient90001", None)


def test_boxes_are_the_extents_of_masks(tmp_path: Path) -> None:
    sample = opened(write(tmp_path)).sample(f"val/{FIRST}.jpg")
    assert sample.boxes_xywh.tolist() == [[1, 0, 2, 4]]
    assert sample.box_labels.tolist() == [EDEMA]


def test_an_image_without_an_entry_is_a_true_negative(tmp_path: Path) -> None:
    reader = opened(write(tmp_path))
    sample = reader.sample(f"val/{SECOND}.jpg")
    assert (sample.positive, len(sample.boxes_xywh)) == (False, 0)
    assert not sample.masks((4, 5)).any()
    assert reader.sample(f"val/{LATERAL}.jpg").view == "LATERAL"


def test_nothing_trains_on_the_test_images_and_patients_stay_together(tmp_path: Path) -> None:
    many = [f"patient9{k:04d}/study1/view{v}_frontal" for k in range(8) for v in (1, 2)]
    reader = opened(write(tmp_path, val=many, masks={}))
    assert reader.split(CARD.splits["test"]) == {"train": (), "validation": (), "test": (f"test/{FIRST}.jpg",)}
    few = reader.split(CARD.splits["few"])
    patients = {name: {i.split("/")[1] for i in ids} for name, ids in few.items()}
    assert (len(patients["train"]), len(patients["validation"]), len(few["train"])) == (6, 2, 12)
    assert not patients["train"] & patients["validation"]
    assert few["test"] == (f"test/{FIRST}.jpg",)
    with pytest.raises(SplitError, match="known: 'test images', 'validation images choose', 'validation images train'"):
        reader.split(CARD.splits["few"].model_copy(update={"rule": "all"}))


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"Edema": PART}, "masks of Edema; expected one of each of Enlarged Cardiomediastinum"),
        ([], "masks of list"),
        (masks_of(Edema={"size": SIZE, "counts": "d"}), "Edema: the run-length code breaks off|ends at pixel"),
        (masks_of(Edema={"size": SIZE, "counts": [6, 3, 10]}), "Edema: the run-length code ends at pixel 19 of 20"),
        (masks_of(Edema={"size": [5, 4], "counts": "d0"}), "masks of 2 sizes on one image"),
        (masks_of(Edema={"counts": "d0"}), "no COCO run-length code"),
    ],
)
def test_a_damaged_entry_is_named_by_its_place_and_names_nobody(tmp_path: Path, entry, sentence: str) -> None:
    write(tmp_path, masks={SECOND.replace("/", "_"): masks_of(), FIRST.replace("/", "_"): entry})
    with pytest.raises(DataError, match=rf"chexlocalize: gt_segmentations_val\.json entry 2.*({sentence})") as refused:
        opened(tmp_path)
    assert "patient" not in str(refused.value)


def test_an_entry_of_an_image_that_no_table_lists_is_refused(tmp_path: Path) -> None:
    write(tmp_path, masks={"patient1_study1_view1_frontal": masks_of()})
    with pytest.raises(DataError, match=r"entry 1: val_labels\.csv lists no such image"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("listed", "sentence"), [((FIRST, FIRST), "line 3: the same image as in line 2"), (("study1/view1_frontal",), "ends with no patient")]
)
def test_a_row_that_is_no_image_or_one_twice_is_refused(tmp_path: Path, listed, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        opened(write(tmp_path, val=listed, masks={}))


def test_a_resized_copy_is_refused(tmp_path: Path) -> None:
    reader = opened(write(tmp_path, drawn=[8, 10]))
    with pytest.raises(ImageError, match="line 2"):
        reader.sample(f"val/{FIRST}.jpg").image()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "CheXlocalize" / "gt_segmentations_test.json").unlink()
    with pytest.raises(DataError, match=r"gt_segmentations_test\.json is nowhere in"):
        opened(tmp_path)
