from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from benchmark.errors import ImageError
from benchmark.imaging.any_picture import IMAGE_ENDINGS, read_image, size_of_image
from benchmark.imaging.picture import is_turned, read_levels
from tests.imaging.dicom_files import dataset_of, gradient


@pytest.mark.parametrize(
    ("ending", "bits"), [("png", 8), ("png", 16), ("tif", 8), ("tif", 16), ("bmp", 8), ("DCM", 8), ("dcm", 12), ("gif", 8)]
)
def test_lossless_formats_give_their_pixels_and_their_size(tmp_path: Path, ending: str, bits: int) -> None:
    pixels, path = gradient(bits=bits), tmp_path / f"x.{ending}"
    if ending.lower() == "dcm":
        dataset_of(pixels, bits).save_as(path, enforce_file_format=True)
    else:
        PIL.Image.fromarray(pixels).save(path)
    found = read_image(path, "x")
    assert found.dtype == pixels.dtype
    assert (found == pixels).all()
    assert size_of_image(path, "x") == pixels.shape
    assert path.suffix.lower() in IMAGE_ENDINGS


def test_a_picture_stored_turned_is_told(tmp_path: Path) -> None:
    turned = PIL.Image.Exif()
    turned[0x0112] = 6
    PIL.Image.fromarray(gradient()).save(tmp_path / "a.jpg", exif=turned)
    PIL.Image.fromarray(gradient()).save(tmp_path / "b.jpg")
    assert [is_turned(tmp_path / f"{name}.jpg") for name in "ab"] == [True, False]
    assert not is_turned(tmp_path / "absent.jpg")
    assert size_of_image(tmp_path / "a.jpg", "a") == gradient().shape[::-1]


def test_levels_of_a_mask_are_stored_values_in_every_mode(tmp_path: Path) -> None:
    levels = (gradient() % 5).astype(np.uint8)
    grey = PIL.Image.fromarray(levels)
    palette = grey.copy()
    palette.putpalette([255, 255, 255, *range(30)])
    wide = levels.astype(np.uint16) * 300
    for name, picture in {"l": grey, "p": palette, "rgb": PIL.Image.merge("RGB", [grey] * 3), "i": PIL.Image.fromarray(wide)}.items():
        picture.save(tmp_path / f"{name}.png")
    assert all((read_levels(tmp_path / f"{name}.png", "x") == levels).all() for name in ("l", "p", "rgb"))
    assert (read_levels(tmp_path / "i.png", "x") == wide).all()


def test_a_mask_in_jpeg_or_in_colour_is_refused(tmp_path: Path) -> None:
    grey = PIL.Image.fromarray(gradient())
    grey.save(tmp_path / "a.jpg")
    PIL.Image.merge("RGB", [grey, grey, PIL.Image.new("L", grey.size)]).save(tmp_path / "b.png")
    for name, sentence in (("a.jpg", "a JPEG cannot hold a mask"), ("b.png", "a mask in colour")):
        with pytest.raises(ImageError, match=sentence):
            read_levels(tmp_path / name, "x")
