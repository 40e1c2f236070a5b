from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from benchmark.errors import DataError, ImageError
from tests import own_folders
from tests.own_cards import odd, opened


def test_every_fault_of_the_folder_is_named_and_sixteen_bits_are_kept(tmp_path: Path) -> None:
    folder = own_folders.masks(tmp_path / "own", 8)
    reader = opened(folder, "masks", {"images": "images"}, classes=("lesion",))
    assert odd(reader) == {
        "images without a mask": "1: no mask.png",
        "masks without an image": "1: masks/no image.png",
        "masks of another size than their image": "1: small.png, mask 32 x 32, image 64 x 64",
        "empty masks": "1: empty.png",
    }
    sample = reader.sample("case00.png")
    assert sample.masks is not None
    assert sample.image().dtype == np.uint16
    assert (sample.masks((64, 64))[0] == own_folders.disc(own_folders.box_in(0))).all()
    assert [path.parent.name for path in sample.files] == ["images", "masks"]


def test_images_without_a_mask_are_empty_where_the_card_says_so(tmp_path: Path) -> None:
    folder = own_folders.masks(tmp_path / "own", 3)
    reader = opened(folder, "masks", {"images": "images", "without_mask": "empty"}, classes=("lesion",))
    sample = reader.sample("no mask.png")
    assert sample.positive is False
    assert sample.masks is not None
    assert not sample.masks((64, 64)).any()


@pytest.mark.parametrize("pattern", ["{class}/{stem}", "labels/{stem}_{class}", "{folder}/m_{class}/{name}"])
def test_a_file_for_each_class(tmp_path: Path, pattern: str) -> None:
    folder = tmp_path / "own"
    place = "a/x" if "{folder}" in pattern else "x"
    own_folders.save(folder / "img" / f"{place}.tif", own_folders.picture(1))
    drawn = {name: own_folders.disc(own_folders.box_in(k)) for k, name in enumerate(("heart", "lungs"))}
    for name, mask in drawn.items():
        stem = pattern.replace("{stem}", place).replace("{class}", name).replace("{folder}", "a").replace("{name}", "x")
        own_folders.save(folder / f"{stem}.PNG", mask.astype(np.uint8))
    reader = opened(folder, "masks", {"images": "img", "masks": pattern}, classes=("lungs", "heart"))
    (sample,) = map(reader.sample, reader.ids)
    assert sample.masks is not None
    assert (sample.masks((64, 64)) == np.stack([drawn["lungs"], drawn["heart"]])).all()


def test_values_mean_classes_and_masks_beside_images_are_no_images(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    own_folders.save(folder / "x.png", own_folders.picture(1))
    levels = np.zeros((64, 64), np.uint8)
    levels[:8], levels[8:16], levels[16:24] = 1, 2, 7
    own_folders.save(folder / "x_mask.png", levels)
    given = {"masks": "{stem}_mask", "values": {"heart": 2, "lungs": [1, 7]}}
    reader = opened(folder, "masks", given, classes=("heart", "lungs"))
    assert reader.ids == ("x.png",)
    draw = reader.sample("x.png").masks
    assert draw is not None
    assert [mask.sum() for mask in draw((64, 64))] == [8 * 64, 16 * 64]


def test_a_value_that_means_no_class_is_refused_unless_the_card_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    own_folders.save(folder / "x.png", own_folders.picture(1))
    levels = np.zeros((64, 64), np.uint8)
    levels[:8], levels[8:16] = 2, 9
    own_folders.save(folder / "x_mask.png", levels)
    given = {"masks": "{stem}_mask", "values": {"heart": 2}}
    draw = opened(folder, "masks", given, classes=("heart",)).sample("x.png").masks
    assert draw is not None
    with pytest.raises(ImageError, match=r"x_mask\.png .* the mask has the value 9, .* knows 2; .* under `masks\.background`"):
        draw((64, 64))
    told = opened(folder, "masks", {**given, "background": [9]}, classes=("heart",))
    draw = told.sample("x.png").masks
    assert draw is not None
    assert draw((64, 64)).sum() == 8 * 64
    assert opened(folder, "masks", {**given, "background": []}, classes=("heart",)).decided() != told.decided()


def test_a_palette_whose_zero_is_white_is_read_by_its_values_alone(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    own_folders.save(folder / "x.png", own_folders.picture(1))
    mask = own_folders.disc(own_folders.box_in(1)).astype(np.uint8)
    picture = PIL.Image.frombytes("P", (64, 64), mask.tobytes())
    picture.putpalette([255, 255, 255, 0, 0, 0])
    picture.save(folder / "x_mask.png")
    draw = opened(folder, "masks", {"masks": "{stem}_mask", "values": {"heart": 1}}, classes=("heart",)).sample("x.png").masks
    assert draw is not None
    assert (draw((64, 64))[0] == (mask > 0)).all()
    draw = opened(folder, "masks", {"masks": "{stem}_mask"}, classes=("heart",)).sample("x.png").masks
    assert draw is not None
    with pytest.raises(ImageError, match=r"x_mask\.png .* palette entry 0 is not black"):
        draw((64, 64))


@pytest.mark.parametrize(
    ("given", "classes", "sentence"),
    [
        ({"images": "images"}, ("a", "b"), "2 classes and one mask file an image"),
        ({"images": "images", "values": {"a": 1}}, ("a", "b"), "`masks.values` names a, and the card's classes are a, b"),
        ({"images": "images", "masks": "elsewhere/{stem}"}, ("a",), "no image has a mask at elsewhere/{stem}"),
        ({"images": "pictures"}, ("a",), "no folder pictures"),
        ({"images": "images", "leave_out": ["absent.png"]}, ("a",), "`leave_out` names 1 images that are not there, first absent.png"),
    ],
)
def test_what_the_card_lacks_is_said(tmp_path: Path, given: dict, classes: tuple[str, ...], sentence: str) -> None:
    folder = own_folders.masks(tmp_path / "own", 2, faults=False)
    with pytest.raises(DataError, match=sentence):
        opened(folder, "masks", given, classes=classes)


def test_an_image_that_the_card_leaves_out_is_not_read(tmp_path: Path) -> None:
    folder = own_folders.masks(tmp_path / "own", 3, faults=False)
    reader = opened(folder, "masks", {"images": "images", "leave_out": ["case01.png"]}, classes=("lesion",))
    assert reader.ids == ("case00.png", "case02.png")


def test_equal_images_in_two_splits_are_told(tmp_path: Path) -> None:
    folder = own_folders.masks(tmp_path / "own", 4, faults=False)
    for split, names in {"train": (0, 1), "val": (2,), "test": (3,)}.items():
        for k in names:
            for kind in ("images", "masks"):
                (folder / kind / split).mkdir(exist_ok=True)
                (folder / kind / f"case{k:02d}.png").rename(folder / kind / split / f"case{k:02d}.png")
    for kind in ("images", "masks"):
        (folder / kind / "test" / "again.png").write_bytes((folder / kind / "train" / "case00.png").read_bytes())
    reader = opened(folder, "masks", {"images": "images"}, classes=("lesion",), split={"by": "folder"})
    assert odd(reader)["equal images in two splits"] == "1: test/again.png = train/case00.png in test and train"
    assert {name: len(ids) for name, ids in reader.split(reader.card.splits["own"]).items()} == {"train": 2, "validation": 1, "test": 2}


def test_two_mask_files_of_an_image_are_refused_and_others_may_lie_beside(tmp_path: Path) -> None:
    folder = own_folders.masks(tmp_path / "own", 3, faults=False)
    for ending in ("png", "tif"):
        own_folders.save(folder / "masks" / f"stranger.{ending}", np.zeros((64, 64), np.uint8))
    reader = opened(folder, "masks", {"images": "images"}, classes=("lesion",))
    assert odd(reader)["masks without an image"] == "2: masks/stranger.png; masks/stranger.tif"
    own_folders.save(folder / "masks" / "case01.tif", np.zeros((64, 64), np.uint8))
    with pytest.raises(DataError, match=r"case01\.png and case01\.tif are masks of one name in masks\. Keep one, they may differ"):
        opened(folder, "masks", {"images": "images"}, classes=("lesion",))
    with pytest.raises(DataError, match=r"mine: a \.png and a \.tif are masks of one name in the folder of masks of image 2 of 3\."):
        opened(folder, "masks", {"images": "images"}, classes=("lesion",), redistribution="none")


def test_one_picture_in_two_formats_does_not_share_a_mask(tmp_path: Path) -> None:
    folder = own_folders.masks(tmp_path / "own", 3, faults=False)
    own_folders.save(folder / "images" / "case01.jpg", own_folders.picture(1))
    with pytest.raises(
        DataError, match=r"case01\.jpg and case01\.png have one label file between them\. Is it one picture in two formats\?"
    ):
        opened(folder, "masks", {"images": "images"}, classes=("lesion",))
    with pytest.raises(DataError, match=r"image 2 of 4 and image 3 of 4 have one label file"):
        opened(folder, "masks", {"images": "images"}, classes=("lesion",), redistribution="none")
    reader = opened(folder, "masks", {"images": "images", "leave_out": ["case01.jpg"]}, classes=("lesion",))
    assert reader.ids == ("case00.png", "case01.png", "case02.png")


def test_two_images_of_one_name_do_not_share_a_mask(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    for patient in ("p1", "p2"):
        own_folders.save(folder / "images" / patient / "1.png", own_folders.picture(1))
    own_folders.save(folder / "masks" / "1.png", np.ones((64, 64), np.uint8))
    with pytest.raises(DataError, match=r"p1/1\.png and p2/1\.png have one label file .* pattern under `masks` needs \{stem\}"):
        opened(folder, "masks", {"images": "images", "masks": "masks/{name}"}, classes=("lesion",))


@pytest.mark.parametrize("without_mask", ["left out", "empty"])
def test_an_image_without_a_mask_of_every_class_is_told_and_treated_as_one_without_a_mask(tmp_path: Path, without_mask: str) -> None:
    folder = tmp_path / "own"
    for k in range(2):
        own_folders.save(folder / "img" / f"{k}.png", own_folders.picture(k))
        own_folders.save(folder / "masks" / f"{k}_a.png", np.ones((64, 64), np.uint8))
        own_folders.save(folder / "masks" / f"{k}_b.png", np.ones((64, 64), np.uint8))
    given = {"images": "img", "masks": "masks/{stem}_{class}", "without_mask": without_mask}
    assert "read_anew" not in opened(folder, "masks", given, classes=("a", "b")).decided()
    (folder / "masks" / "0_b.png").unlink()
    reader = opened(folder, "masks", given, classes=("a", "b"))
    assert odd(reader)["images without a mask of every class"] == "1: 0.png"
    assert reader.ids == (("1.png",) if without_mask == "left out" else ("0.png", "1.png"))
    assert ("read_anew" in reader.decided()) == (without_mask == "left out")
    if without_mask == "empty":
        draw = reader.sample("0.png").masks
        assert draw is not None
        assert draw((64, 64)).any(axis=(1, 2)).tolist() == [True, False]
