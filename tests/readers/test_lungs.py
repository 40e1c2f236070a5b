"""Promises of the Montgomery and Shenzhen readers: a mask for each image, of its size, and one lung of two."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from benchmark import registry
from benchmark.errors import DataError, ImageError, PartialRelease, SplitError
from benchmark.readers.base import open_reader

MONTGOMERY, SHENZHEN = registry.dataset("montgomery"), registry.dataset("shenzhen")
SHAPE = (6, 9)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path)


def half(columns: slice) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:5, columns] = 255
    return mask


def montgomery(root: Path, n: int = 3) -> Path:
    for k in range(1, n + 1):
        name = f"MCUCXR_{k:04d}_{k % 2}.png"
        save(root / "MontgomerySet" / "CXR_png" / name, np.full(SHAPE, 90, np.uint8))
        save(root / "MontgomerySet" / "ManualMask" / "leftMask" / name, half(slice(5, 8)))
        save(root / "MontgomerySet" / "ManualMask" / "rightMask" / name, half(slice(1, 4)))
    return root


def shenzhen(root: Path, masked: int = 2, n: int = 3) -> Path:
    for k in range(1, n + 1):
        save(root / "ChinaSet_AllFiles" / "CXR_png" / f"CHNCXR_{k:04d}_0.png", np.full(SHAPE, 90, np.uint8))
        if k <= masked:
            save(root / "mask" / "mask" / f"CHNCXR_{k:04d}_0_mask.png", half(slice(1, 8)))
    return root


def test_each_lung_is_read_from_the_folder_of_its_side(tmp_path: Path) -> None:
    sample = open_reader(MONTGOMERY, montgomery(tmp_path)).sample("MCUCXR_0001_1")
    masks = dict(zip(MONTGOMERY.classes, sample.masks(SHAPE), strict=True))
    assert np.flatnonzero(masks["left lung"].any(axis=0)).tolist() == [5, 6, 7]
    assert np.flatnonzero(masks["right lung"].any(axis=0)).tolist() == [1, 2, 3]
    assert [path.parent.name for path in sample.files] == ["CXR_png", "leftMask", "rightMask"]


def test_tuberculosis_is_the_last_digit_of_a_name(tmp_path: Path) -> None:
    counts = {c.what: c.found for c in open_reader(MONTGOMERY, montgomery(tmp_path)).verify().checks}
    assert (counts["images"], counts["tuberculosis images"], counts["normal images"]) == ("3", "2", "1")


def test_a_lung_without_a_mask_and_one_of_another_size_are_told(tmp_path: Path) -> None:
    root = montgomery(tmp_path)
    mask = root / "MontgomerySet" / "ManualMask" / "leftMask" / "MCUCXR_0002_0.png"
    save(mask, np.zeros((9, 6), np.uint8))
    reader = open_reader(MONTGOMERY, root)
    assert next(c for c in reader.verify().checks if c.what == "files").verdict == "error"
    with pytest.raises(ImageError, match="9 rows"):
        reader.sample("MCUCXR_0002_0").masks(SHAPE)
    mask.unlink()
    with pytest.raises(PartialRelease, match="1 of 3 images listed in leftMask"):
        open_reader(MONTGOMERY, root)


def test_montgomerys_split_is_a_permutation_of_sorted_names(tmp_path: Path) -> None:
    reader = open_reader(MONTGOMERY, montgomery(tmp_path, 20))
    splits = reader.split(MONTGOMERY.splits["permuted"])
    drawn = [reader.ids[k] for k in np.random.RandomState(42).permutation(20)]
    assert splits == {"train": tuple(drawn[6:]), "validation": tuple(drawn[4:6]), "test": tuple(drawn[:4])}


def test_images_without_a_mask_are_left_out_with_a_word(tmp_path: Path) -> None:
    reader = open_reader(SHENZHEN, shenzhen(tmp_path))
    assert reader.ids == ("CHNCXR_0001_0", "CHNCXR_0002_0")
    assert reader.warnings == ["shenzhen: 1 of 3 images have no mask and are left out."]
    assert reader.sample("CHNCXR_0001_0").masks(SHAPE).sum() == 28
    assert reader.split(SHENZHEN.splits["masked"]) == {"train": (), "validation": (), "test": reader.ids}
    with pytest.raises(SplitError, match="known: 'all with a mask'"):
        reader.split(MONTGOMERY.splits["permuted"])


def test_a_mask_without_its_image_and_a_missing_half_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "mask" / "CHNCXR_0009_1_mask.png", half(slice(1, 8)))
    with pytest.raises(DataError, match=r"no CHNCXR_0001_0\.png"):
        open_reader(SHENZHEN, tmp_path)
    with pytest.raises(DataError, match="1 of 3 masks have no image"):
        open_reader(SHENZHEN, shenzhen(tmp_path))
    with pytest.raises(DataError, match=r"no MCUCXR_0001_0\.png"):
        open_reader(MONTGOMERY, tmp_path)
