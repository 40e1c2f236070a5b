"""Promises of the JSRT reader: raw words turned the right way round, SCR's masks by class, two folds, and no file name in an error."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from benchmark import registry
from benchmark.errors import DataError, ImageError, SplitError
from benchmark.readers.base import ids_digest, open_reader
from tests.corpora import CorpusPlan, write_corpus

CARD = registry.dataset("jsrt")
RULE = CARD.splits["train-fold1"]
NAMES = ("JPCLN001", "JPCLN002", "JPCNN001", "JPCNN002")
BOX = {"left lung": (100, 500, 600, 800), "right lung": (100, 500, 200, 400), "heart": (400, 700, 450, 650)}  # top, bottom, left, right


def fold_of(name: str) -> str:
    return "fold1" if int(name[-3:]) % 2 else "fold2"


def write_image(root: Path, name: str, values: np.ndarray | int = 1000) -> Path:
    path = root / f"{name}.IMG"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # it may be a link
    path.write_bytes(np.broadcast_to(np.asarray(values, ">u2"), (2048, 2048)).tobytes())
    return path


def write_mask(root: Path, name: str, structure: str, fold: str | None = None, side: int = 1024) -> Path:
    mask = np.zeros((side, side), np.uint8)
    top, bottom, left, right = BOX[structure]
    mask[top:bottom, left:right] = 255
    path = root / (fold or fold_of(name)) / "masks" / structure / f"{name}.gif"
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(mask).save(path)
    return path


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One image that stands for all: 8 MB each would be much for every test."""
    return write_image(tmp_path_factory.mktemp("blank"), "JPCLN000")


@pytest.fixture
def release(tmp_path: Path, blank: Path) -> Path:
    (tmp_path / "All247images").mkdir()
    for name in NAMES:
        os.link(blank, tmp_path / "All247images" / f"{name}.IMG")
        for structure in BOX:
            write_mask(tmp_path / "scratch", name, structure)
    return tmp_path


def says_nothing(error: BaseException) -> bool:
    return "JPC" not in str(error)


def test_pixels_are_big_endian_and_inverted(release: Path) -> None:
    values = np.zeros((2048, 2048), np.uint16)
    values[0, 5], values[5, 0], values[7, 7] = 4095, 256, 1
    write_image(release / "All247images", "JPCLN001", values)
    image = open_reader(CARD, release).sample("JPCLN001").image()
    assert (image.dtype, image.shape) == (np.uint16, (2048, 2048))
    assert (image[0, 5], image[5, 0], image[7, 7], image[0, 0]) == (0, 3839, 4094, 4095)


def test_swapped_bytes_are_refused(release: Path) -> None:
    path = write_image(release / "All247images", "JPCLN002", 1000)
    path.write_bytes(np.fromfile(path, ">u2").astype("<u2").tobytes())
    with pytest.raises(ImageError, match=r"image 2 of 4 in the order of names: a pixel of 59,395, above 4,095") as raised:
        open_reader(CARD, release).sample("JPCLN002").image()
    assert says_nothing(raised.value)


@pytest.mark.parametrize("n_bytes", [8_388_607, 2 * 1024 * 1024, 0])
def test_a_cut_off_or_converted_image_is_refused_and_shows_in_verify(release: Path, n_bytes: int) -> None:
    path = release / "All247images" / "JPCNN001.IMG"
    path.unlink()
    path.write_bytes(b"\0" * n_bytes)
    reader = open_reader(CARD, release)
    with pytest.raises(ImageError, match=rf"image 3 of 4 .*: {n_bytes:,} bytes, expected 8,388,608") as raised:
        reader.sample("JPCNN001").image()
    assert says_nothing(raised.value)
    line = next(c for c in reader.checks() if c.what == "files")
    assert line.verdict == "error"
    assert "JPC" not in line.found


def test_masks_are_the_union_of_both_lungs_and_the_heart_at_the_images_size(release: Path) -> None:
    masks = open_reader(CARD, release).sample("JPCLN001").masks((2048, 2048))
    assert (masks.shape, masks.dtype) == ((2, 2048, 2048), np.bool_)
    expected = np.zeros_like(masks)
    for structure, (top, bottom, left, right) in BOX.items():
        expected[int(structure == "heart"), 2 * top : 2 * bottom, 2 * left : 2 * right] = True
    assert np.array_equal(masks, expected)


def test_a_mask_of_another_size_is_refused_and_shows_in_verify(release: Path) -> None:
    write_mask(release / "scratch", "JPCLN002", "left lung", side=2048)
    reader = open_reader(CARD, release)
    with pytest.raises(ImageError, match=r"image 2 of 4 .*, lungs: the mask has 2,048 rows x 2,048 columns, .* 1024 x 1024") as raised:
        reader.sample("JPCLN002").masks((2048, 2048))
    assert says_nothing(raised.value)
    assert next(c for c in reader.checks() if c.what == "files").verdict == "error"


def test_a_damaged_mask_is_told_without_its_name(release: Path) -> None:
    path = release / "scratch" / "fold1" / "masks" / "heart" / "JPCLN001.gif"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ImageError, match=r"image 1 of 4 .*, heart: ") as raised:
        open_reader(CARD, release).sample("JPCLN001").masks((2048, 2048))
    assert says_nothing(raised.value)


def test_masks_for_an_image_of_another_size_are_refused(release: Path) -> None:
    with pytest.raises(ImageError, match="1,024 rows x 1,024 columns"):
        open_reader(CARD, release).sample("JPCLN001").masks((1024, 1024))


def test_an_image_in_two_places_is_an_error(release: Path) -> None:
    write_image(release / "copy", "JPCLN001")
    with pytest.raises(DataError, match="1 of 4 images exist twice") as raised:
        open_reader(CARD, release)
    assert says_nothing(raised.value)


def test_an_image_in_both_folds_is_an_error(release: Path) -> None:
    write_mask(release / "scratch", "JPCLN001", "heart", fold="fold2")
    with pytest.raises(DataError, match=r"image 1 of 4 .*: masks in both folds") as raised:
        open_reader(CARD, release)
    assert says_nothing(raised.value)


def test_a_card_with_another_structure_is_an_error(release: Path) -> None:
    with pytest.raises(DataError, match=r"class 'liver' of the card is none of lungs, heart"):
        open_reader(CARD.model_copy(update={"classes": ("lungs", "liver")}), release)


def test_an_empty_mask_shows_in_verify_and_says_nothing_of_negatives(release: Path) -> None:
    path = write_mask(release / "scratch", "JPCLN001", "heart")
    PIL.Image.fromarray(np.zeros((1024, 1024), np.uint8)).save(path)
    lines = {line.what: line for line in open_reader(CARD, release).checks()}
    assert (lines["files"].verdict, lines["files"].found) == ("error", "a mask of the first image is empty")
    assert not any("JPC" in line.found for line in lines.values())


@pytest.mark.parametrize("structure", list(BOX))
def test_a_missing_mask_names_its_folder(release: Path, structure: str) -> None:
    (release / "scratch" / "fold2" / "masks" / structure / "JPCLN002.gif").unlink()
    with pytest.raises(
        DataError, match=rf"image 2 of 4 .*: no mask in scratch/fold1/masks/{structure} or scratch/fold2/masks/{structure}"
    ) as raised:
        open_reader(CARD, release)
    assert says_nothing(raised.value)


def test_masks_without_an_image_are_counted(release: Path) -> None:
    (release / "All247images" / "JPCLN002.IMG").unlink()
    with pytest.raises(DataError, match=r"1 of 4 outlined images have no \.IMG file") as raised:
        open_reader(CARD, release)
    assert says_nothing(raised.value)


@pytest.mark.parametrize("part", ["All247images", "scratch"])
def test_half_of_the_two_releases_is_not_enough(release: Path, part: str) -> None:
    (release / part).rename(release.parent / f"away-{release.name}-{part}")
    with pytest.raises(DataError, match=r"\.IMG|fold1/masks"):
        open_reader(CARD, release)


def test_one_fold_trains_and_the_other_tests_and_the_folders_decide(release: Path) -> None:
    reader = open_reader(CARD, release)
    assert set(reader.split(RULE)["test"]) == {"JPCLN002", "JPCNN002"}
    splits = reader.split(RULE.model_copy(update={"validation_share": 0.5}))
    assert (len(splits["train"]), len(splits["validation"])) == (1, 1)
    assert {*splits["train"], *splits["validation"]} == {"JPCLN001", "JPCNN001"}
    assert set(reader.split(CARD.splits["train-fold2"])["test"]) == {"JPCLN001", "JPCNN001"}
    with pytest.raises(SplitError, match="train on fold 1"):
        reader.split(RULE.model_copy(update={"rule": "permutation"}))
    for structure in BOX:
        path = release / "scratch" / "fold1" / "masks" / structure / "JPCLN001.gif"
        path.rename(release / "scratch" / "fold2" / "masks" / structure / path.name)
    moved = open_reader(CARD, release)
    assert set(moved.split(RULE)["test"]) == {"JPCLN001", "JPCLN002", "JPCNN002"}
    line = next(c for c in moved.checks() if c.what.startswith("odd file numbers"))
    assert (line.found, line.verdict) == ("3", "warning")


def test_verify_counts_against_the_card_and_a_phantom_against_itself(release: Path) -> None:
    checks = {c.what: c for c in open_reader(CARD, release).checks()}
    assert (checks["images"].expected, checks["images"].found, checks["images"].verdict) == ("247", "4", "error")
    assert (checks["nodule images"].expected, checks["nodule images"].found) == ("154", "2")
    assert checks["files"].verdict == "ok"
    ids = open_reader(CARD, release).ids
    assert ids == NAMES
    manifest = {"counts": {"images": 4, "fold1_images": 2}, "digests": {"ids_sha256_ordered": ids_digest(ids, ordered=True)}}
    (release / "PHANTOM.json").write_text(json.dumps(manifest))
    assert open_reader(CARD, release).verify().ok


def test_a_phantom_comes_back_as_it_was_drawn(tmp_path: Path) -> None:
    write_corpus(CorpusPlan(dataset="jsrt", n_patients=4, seed=5, positive_share=0.5), tmp_path / "jsrt")
    reader = open_reader(CARD, tmp_path / "jsrt")
    assert [check for check in reader.verify().checks if check.verdict != "ok"] == []
    for sample_id in reader.ids[:2]:
        sample = reader.sample(sample_id)
        image, (lungs, heart) = sample.image(), sample.masks((2048, 2048))
        assert 0.05 < lungs.mean() < 0.5
        assert 0.01 < heart.mean() < 0.2
        assert image[lungs].mean() < image[heart].mean(), "air is darker than the heart"
        assert sample.patient_id is None
    splits = reader.split(RULE)
    assert {*splits["train"], *splits["validation"], *splits["test"]} == set(reader.ids)


# ----------------------------------------------------------------------------------------------------------- copies people have


def write_copy(folder: Path, names: tuple[str, ...], *, lungs: int = 150, heart: int = 220, structures: str = "{}") -> Path:
    """PNG images as the known copy has them, indices into an inverted palette, and all outlines in one folder."""
    images = folder / "images"
    images.mkdir(parents=True)
    for name in names:
        shown = np.full((2048, 2048), 90, np.uint8)
        for structure, (top, bottom, left, right) in BOX.items():
            shown[2 * top : 2 * bottom, 2 * left : 2 * right] = heart if structure == "heart" else lungs
            mask = np.zeros((1024, 1024), np.uint8)
            mask[top:bottom, left:right] = 255
            path = folder / "masks" / structures.format(structure.replace(" ", "_")) / f"{name}.gif"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(mask).save(path)
        picture = PIL.Image.fromarray(255 - shown)
        picture.putpalette([255 - level for level in range(256) for _ in range(3)])
        picture.save(images / f"{name}.IMG.png", compress_level=1)
    return folder


def test_a_png_copy_without_folds_is_read_as_displayed_and_named(tmp_path: Path) -> None:
    reader = open_reader(CARD, write_copy(tmp_path, ("JPCLN001", "JPCLN002", "JPCNN003")))
    image = reader.sample("JPCLN001").image()
    masks = reader.sample("JPCLN001").masks(image.shape)
    assert (image.shape, image.dtype) == ((2048, 2048), np.uint8)
    assert (np.median(image[masks[0]]), image[masks[1]].max()) == (150, 220)
    assert reader.release == "images as PNG, outlines without folds, which file numbers decide"
    assert any("PNG copies" in warning for warning in reader.warnings)
    assert set(reader.split(RULE)["test"]) == {"JPCLN002"}
    lines = {check.what: check for check in reader.checks()}
    assert (lines["files"].verdict, lines["folds"].verdict) == ("ok", "warning")
    assert lines["lungs darker than the heart"].verdict == "ok"


def test_a_negative_copy_is_an_error_of_verify(tmp_path: Path) -> None:
    reader = open_reader(CARD, write_copy(tmp_path, ("JPCLN001",), lungs=200, heart=60))
    line = next(check for check in reader.checks() if check.what == "lungs darker than the heart")
    assert (line.verdict, line.found) == ("error", "in 0")
    assert "negatives" in line.hint


def test_a_copy_has_the_phantoms_masks_and_its_pixels_to_eight_bits(tmp_path: Path) -> None:
    write_corpus(CorpusPlan(dataset="jsrt", n_patients=1, seed=5), tmp_path / "jsrt")
    release = open_reader(CARD, tmp_path / "jsrt")
    (name,) = release.ids
    copy = write_copy(tmp_path / "copy", (name,))
    image = release.sample(name).image()
    PIL.Image.fromarray((image >> 4).astype(np.uint8)).save(copy / "images" / f"{name}.IMG.png", compress_level=1)
    for path in release.label_files():
        (copy / "masks" / path.parent.name.replace(" ", "_") / path.name).write_bytes(path.read_bytes())
    sample = open_reader(CARD, copy).sample(name)
    assert np.array_equal(sample.image(), image >> 4)
    assert np.array_equal(sample.masks(image.shape), release.sample(name).masks(image.shape))


def test_empty_raw_files_give_way_to_the_copy_and_full_ones_do_not(tmp_path: Path) -> None:
    root = write_copy(tmp_path, ("JPCLN001",))
    (root / "raw").mkdir()
    (root / "raw" / "JPCLN001.IMG").touch()
    reader = open_reader(CARD, root)
    assert reader.release.startswith("images as PNG")
    assert any("1 .IMG files are empty" in warning for warning in reader.warnings)
    write_image(root / "raw", "JPCLN001")
    assert open_reader(CARD, root).release.startswith("raw images")


def test_a_resized_copy_is_refused_without_its_name(tmp_path: Path) -> None:
    root = write_copy(tmp_path, ("JPCLN001",))
    PIL.Image.new("L", (1024, 1024)).save(root / "images" / "JPCLN001.IMG.png")
    reader = open_reader(CARD, root)
    with pytest.raises(ImageError, match=r"image 1 of 1 .*1,024 rows x 1,024 columns, .* 2048 x 2048. Is this a resized copy") as raised:
        reader.sample("JPCLN001").image()
    assert says_nothing(raised.value)
    assert next(check for check in reader.checks() if check.what == "files").verdict == "error"


def test_a_png_copy_in_linked_folders_with_litter_is_the_same_copy(tmp_path: Path) -> None:
    plain = open_reader(CARD, write_copy(tmp_path / "copy", ("JPCLN001", "JPCLN002")))
    for folder in (tmp_path / "copy" / "images", tmp_path / "copy" / "masks"):
        for path in [p for p in folder.rglob("*") if p.is_file()]:
            path.with_name(f"._{path.name}").write_bytes(b"Mac OS X")
        folder.rename(tmp_path / folder.name)
        folder.symlink_to(tmp_path / folder.name)
    again = open_reader(CARD, tmp_path / "copy")
    assert (again.ids, again.release, again.label_files(), again.warnings) == (
        plain.ids,
        plain.release,
        plain.label_files(),
        plain.warnings,
    )
