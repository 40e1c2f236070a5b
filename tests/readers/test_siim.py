"""Promises of the SIIM-ACR reader: three variants of the table, the PNG re-release, masks by union, and LoVT's split."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from benchmark import registry
from benchmark.errors import DataError, ImageError
from benchmark.phantom.siim import relative_run_lengths
from benchmark.readers.base import ids_digest, open_reader
from benchmark.readers.kit.splits import lovt_csv, permutation_split

CARD = registry.dataset("siim")
RULE = CARD.splits["lovt"]
LOVT = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "lovt_splits" / "siim"

# docs/sources.md, SIIM-ACR: SHA-256 of the 12,047 ids of the merged file in first-appearance order.
MERGED_ORDER = "c99023d9eb00aeeab3ecc7da244670f350b5807595b5c1d40f844163ff0f2150"

SPACED, PLAIN = "ImageId, EncodedPixels", "ImageId,EncodedPixels"


def box(top: int, bottom: int, left: int, right: int, side: int = 1024) -> np.ndarray:
    mask = np.zeros((side, side), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


# Two overlapping instances, one of them touching pixel 0, both higher than wide.
FIRST, SECOND = box(0, 300, 0, 40), box(200, 600, 20, 50)
ROWS = {"1.2.3": ["-1"], "1.2.1": [relative_run_lengths(FIRST), relative_run_lengths(SECOND)], "1.2.2": ["-1"]}


def write_dicom(path: Path, pixels: np.ndarray) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.stem])
    image = Dataset()
    image.file_meta = meta
    image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, "MONOCHROME2", 0
    image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
    image.PixelData = pixels.tobytes()
    image.save_as(path, enforce_file_format=True)


def dicom_tree(folder: Path, ids, tree: str = "dicom-images-train") -> None:
    """Two folders above each file, as in the release; file contents matter only where a test decodes them."""
    for k, sample_id in enumerate(ids):
        place = folder / tree / f"study{k}" / f"series{k}"
        place.mkdir(parents=True)
        (place / f"{sample_id}.dcm").touch()


def release(folder: Path, rows=None, header: str = SPACED, blank: str = "", name: str = "train-rle.csv") -> Path:
    rows = ROWS if rows is None else rows
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{i},{blank}{code}" for i, codes in rows.items() for code in codes]
    (folder / name).write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    dicom_tree(folder, rows)
    return folder


def png_release(folder: Path, side: int = 1024) -> Path:
    """Training and test tables, images, masks; the second image is positive."""
    for sub in ("png_images", "png_masks"):
        (folder / sub).mkdir(parents=True)
    for table, kind, ids in (("train", "train", ["1.2.3", "1.2.1"]), ("test", "test", ["1.2.2"])):
        lines = ["new_filename,ImageId,has_pneumo"]
        for k, sample_id in enumerate(ids):
            positive = int(sample_id == "1.2.1")
            name = f"{k}_{kind}_{positive}_.png"
            lines.append(f"{name},{sample_id},{positive}")
            PIL.Image.new("L", (side, side), 10 * len(lines)).save(folder / "png_images" / name, compress_level=1)
            mask = (FIRST | SECOND)[:side, :side] if positive else np.zeros((side, side), dtype=bool)
            PIL.Image.fromarray((mask * 255).astype(np.uint8)).save(folder / "png_masks" / name, compress_level=1)
        (folder / f"stage_1_{table}_images.csv").write_text("\n".join(lines) + "\n")
    return folder


# ------------------------------------------------------------------------------------------------------------- run-length table


@pytest.mark.parametrize(
    ("header", "blank", "name", "named"),
    [
        (SPACED, "", "train-rle.csv", "merged stage 1 and 2"),
        (SPACED, " ", "train-rle.csv", "stage 1"),
        (PLAIN, "", "stage_2_train.csv", "stage 2"),
    ],
)
def test_three_variants_of_the_table_give_the_same_labels(tmp_path, header, blank, name, named):
    reader = open_reader(CARD, release(tmp_path, header=header, blank=blank, name=name))
    assert reader.release == named
    assert reader.ids == ("1.2.3", "1.2.1", "1.2.2")
    assert [reader.sample(i).positive for i in reader.ids] == [False, True, False]
    assert np.array_equal(reader.sample("1.2.1").masks((1024, 1024))[0], FIRST | SECOND)
    assert not reader.sample("1.2.2").masks((1024, 1024)).any()


def test_overlapping_instances_are_united_not_summed_or_flipped(tmp_path):
    reader = open_reader(CARD, release(tmp_path))
    mask = reader.sample("1.2.1").masks((1024, 1024))
    assert mask.shape == (1, 1024, 1024)
    assert mask.dtype == bool
    assert mask.sum() == 300 * 40 + 400 * 30 - 100 * 20
    assert mask[0, 250, 30]  # in both instances
    assert mask[0, 599, 49]
    assert not mask[0, 49, 599]  # the transpose


def test_the_image_is_decoded_from_the_dicom_file_of_its_id(tmp_path):
    release(tmp_path)
    pixels = np.arange(1024 * 1024, dtype=np.uint32).reshape(1024, 1024).astype(np.uint8)
    path = next(tmp_path.rglob("1.2.1.dcm"))
    write_dicom(path, pixels)
    sample = open_reader(CARD, tmp_path).sample("1.2.1")
    assert np.array_equal(sample.image(), pixels)
    assert sample.files == (path,)
    assert sample.patient_id is None
    assert sample.boxes_xywh.shape == (0, 4)


def test_an_id_with_minus_one_and_a_mask_names_both_lines(tmp_path):
    release(tmp_path, {"1.2.3": ["-1"], "1.2.1": ["5 3", "-1"]})
    with pytest.raises(DataError, match=r"train-rle\.csv line 4 \(1\.2\.1\): -1 here and a mask in line 3"):
        open_reader(CARD, tmp_path)


def test_an_id_with_two_rows_of_minus_one_is_a_duplicate(tmp_path):
    release(tmp_path, {"1.2.3": ["-1", "-1"]})
    with pytest.raises(DataError, match=r"line 2 \(1\.2\.3\): -1 here and -1 again in line 3"):
        open_reader(CARD, tmp_path)


@pytest.mark.parametrize(("code", "sentence"), [("5 3 2", "odd count"), ("5 x", "not a whole number"), ("5 -3", "never negative")])
def test_a_malformed_code_stops_its_image_and_shows_in_verify(tmp_path, code, sentence):
    reader = open_reader(CARD, release(tmp_path, {**ROWS, "1.2.9": ["7 3", code]}))
    with pytest.raises(DataError) as caught:
        reader.sample("1.2.9").masks((1024, 1024))
    assert "train-rle.csv line 7 (1.2.9)" in str(caught.value)
    assert sentence in str(caught.value)
    assert reader.sample("1.2.1").masks((1024, 1024)).any()
    line = next(c for c in reader.checks() if c.what == "run-length codes")
    assert line.verdict == "error"
    assert "line 7 (1.2.9)" in line.found


def test_a_code_beyond_the_image_is_an_error(tmp_path):
    reader = open_reader(CARD, release(tmp_path, {"1.2.3": [f"{1024 * 1024 - 2} 3"]}))
    with pytest.raises(DataError, match=r"ends at pixel 1,048,577, but the image has 1,048,576"):
        reader.sample("1.2.3").masks((1024, 1024))


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["ImageId,Pixels", "1.2.3,-1"], "expected ImageId, EncodedPixels"),
        ([SPACED, "1.2.3,-1", "1.2.1"], "line 3 has 1 cells"),
        ([SPACED, "1.2.3,-1", ",-1"], "line 3: the ImageId is empty"),
        ([SPACED], "a header and no rows"),
        ([], "is empty"),
    ],
)
def test_a_damaged_table_is_named(tmp_path, lines, sentence):
    release(tmp_path)
    (tmp_path / "train-rle.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match="train-rle.csv") as caught:  # noqa: RUF043
        open_reader(CARD, tmp_path)
    assert sentence in str(caught.value)


def test_label_rows_without_image_are_counted_and_named(tmp_path):
    release(tmp_path)
    next(tmp_path.rglob("1.2.2.dcm")).unlink()
    with pytest.raises(DataError, match=r"1 of 3 images listed in train-rle\.csv .* 1\.2\.2"):
        open_reader(CARD, tmp_path)


def test_an_image_in_two_places_is_an_error(tmp_path):
    release(tmp_path)
    dicom_tree(tmp_path, ["1.2.2"], tree="dicom-images-train-copy")
    with pytest.raises(DataError, match=r"image 1\.2\.2 exists twice"):
        open_reader(CARD, tmp_path)


def test_images_without_row_are_left_out_with_a_counted_warning(tmp_path):
    release(tmp_path)
    dicom_tree(tmp_path / "dicom-images-train" / "more", ["9.9.1", "9.9.2"])
    dicom_tree(tmp_path, ["9.9.3"], tree="dicom-images-test")  # the official test set never has rows
    reader = open_reader(CARD, tmp_path)
    assert len(reader.ids) == 3
    assert any("2 DICOM files have no row" in warning for warning in reader.warnings)
    line = next(c for c in reader.checks() if c.what == "DICOM files without a label row")
    assert (line.found, line.verdict) == ("2", "warning")


def test_more_images_without_row_than_the_release_has_is_an_error(tmp_path):
    release(tmp_path)
    dicom_tree(tmp_path / "dicom-images-train" / "more", [f"9.9.{k}" for k in range(43)])
    line = next(c for c in open_reader(CARD, tmp_path).checks() if c.what == "DICOM files without a label row")
    assert (line.expected, line.found, line.verdict) == ("at most 42", "43", "error")


def test_the_top_folder_of_the_archive_may_remain(tmp_path):
    release(tmp_path / "siim")
    assert open_reader(CARD, tmp_path).ids == ("1.2.3", "1.2.1", "1.2.2")


def test_a_folder_without_labels_says_what_is_expected(tmp_path):
    dicom_tree(tmp_path, ["1.2.3"])
    with pytest.raises(DataError, match=r"train-rle\.csv or stage_2_train\.csv"):
        open_reader(CARD, tmp_path)


def test_a_resized_image_or_frame_is_refused(tmp_path):
    release(tmp_path)
    write_dicom(next(tmp_path.rglob("1.2.1.dcm")), np.zeros((512, 512), dtype=np.uint8))
    sample = open_reader(CARD, tmp_path).sample("1.2.1")
    with pytest.raises(ImageError, match=r"\(id 1\.2\.1\): the image has 512 rows x 512 columns"):
        sample.image()
    with pytest.raises(ImageError, match="512 rows"):
        sample.masks((512, 512))


# --------------------------------------------------------------------------------------------------------------- PNG re-release


def test_the_png_release_is_read_with_its_masks(tmp_path):
    reader = open_reader(CARD, png_release(tmp_path / "siim-acr-pneumothorax").parent)
    assert reader.release == "PNG re-release"
    assert reader.ids == ("1.2.3", "1.2.1", "1.2.2")
    sample = reader.sample("1.2.1")
    assert (sample.image() == 30).all()
    assert np.array_equal(sample.masks((1024, 1024))[0], FIRST | SECOND)
    assert [p.parent.name for p in sample.files] == ["png_images", "png_masks"]
    assert not reader.sample("1.2.2").masks((1024, 1024)).any()


def test_a_table_beside_the_pngs_gives_order_and_masks(tmp_path):
    png_release(tmp_path)
    rows = {"1.2.2": ["-1"], "1.2.1": [relative_run_lengths(FIRST)], "1.2.3": ["-1"]}
    (tmp_path / "train-rle.csv").write_text("\n".join([SPACED, *(f"{i},{c}" for i, (c,) in rows.items())]) + "\n")
    reader = open_reader(CARD, tmp_path)
    assert reader.ids == ("1.2.2", "1.2.1", "1.2.3")
    assert reader.release == "merged stage 1 and 2"
    assert (reader.sample("1.2.1").image() == 30).all()
    assert np.array_equal(reader.sample("1.2.1").masks((1024, 1024))[0], FIRST)


def test_of_two_releases_side_by_side_the_one_that_is_read_is_said(tmp_path):
    release(tmp_path)
    (tmp_path / "stage_2_train.csv").write_text((tmp_path / "train-rle.csv").read_text())
    png_release(tmp_path)
    reader = open_reader(CARD, tmp_path)
    assert reader.sample("1.2.1").files[0].suffix == ".dcm"
    said = "\n".join(reader.warnings)
    assert (
        "train-rle.csv (read) and stage_2_train.csv (not read)" in said or "stage_2_train.csv (read) and train-rle.csv (not read)" in said
    )
    assert "the DICOM tree (read) and png_images (not read)" in said


def test_rows_whose_images_are_in_neither_form_are_counted(tmp_path):
    png_release(tmp_path)
    (tmp_path / "train-rle.csv").write_text("\n".join([SPACED, "1.2.1,-1", "9.9.9,-1"]) + "\n")
    with pytest.raises(
        DataError, match=r"1 of \d images of train-rle\.csv have no file, for example 9\.9\.9\. Expected dicom-images-train/"
    ):
        open_reader(CARD, tmp_path)


def test_a_mask_of_another_size_or_content_is_an_error(tmp_path):
    png_release(tmp_path)
    mask_path = tmp_path / "png_masks" / "1_train_1_.png"
    sample = open_reader(CARD, tmp_path).sample("1.2.1")
    PIL.Image.new("L", (1024, 1024), 0).save(mask_path)
    with pytest.raises(ImageError, match="the mask is empty, but has_pneumo says 1"):
        sample.masks((1024, 1024))
    PIL.Image.new("L", (256, 256), 255).save(mask_path)
    with pytest.raises(ImageError, match="the mask has 256 rows x 256 columns"):
        sample.masks((1024, 1024))


def test_a_resized_png_release_is_refused(tmp_path):
    reader = open_reader(CARD, png_release(tmp_path, side=512))
    with pytest.raises(ImageError, match="the image has 512 rows"):
        reader.sample("1.2.1").image()


def test_the_png_release_alone_warns_that_its_splits_are_not_lovts(tmp_path):
    checks = {c.what: c for c in open_reader(CARD, png_release(tmp_path)).checks()}
    assert checks["lovt train: order of ids"].verdict == "warning"
    assert "does not carry the order LoVT permuted" in checks["lovt train: order of ids"].hint
    assert checks["images"].verdict == "error"  # 3 of 12,047


@pytest.mark.parametrize(
    ("row", "sentence"),
    [("5_train_0_.png,1.2.3,0", "already listed"), ("5_train_2_.png,1.2.9,2", "found"), ("5_train_0_.png,,0", "no ImageId")],
)
def test_a_damaged_png_table_names_its_line(tmp_path, row, sentence):
    png_release(tmp_path)
    with (tmp_path / "stage_1_train_images.csv").open("a") as handle:
        handle.write(row + "\n")
    with pytest.raises(DataError, match=r"stage_1_train_images\.csv line 4") as caught:
        open_reader(CARD, tmp_path)
    assert sentence in str(caught.value)


# ---------------------------------------------------------------------------------------------------------- splits and verify


def test_the_split_permutes_first_appearance_order_with_seed_123(tmp_path):
    rows = {f"1.2.{k}": ["-1"] for k in range(10, 0, -1)}
    splits = open_reader(CARD, release(tmp_path, rows)).split(RULE)
    order = np.array(list(rows))[np.random.RandomState(123).permutation(10)]
    assert splits == {"test": tuple(order[:2]), "validation": tuple(order[2:4]), "train": tuple(order[4:])}


def test_the_stage_1_table_is_compared_with_its_own_counts(tmp_path):
    checks = {c.what: c for c in open_reader(CARD, release(tmp_path, blank=" ")).checks()}
    assert (checks["images"].expected, checks["images"].found) == ("10,675", "3")
    assert checks["lovt test: ids"].verdict == "warning"


def test_verify_of_a_phantom_compares_with_its_own_file(tmp_path):
    release(tmp_path)
    write_dicom(next(tmp_path.rglob("1.2.1.dcm")), np.zeros((1024, 1024), dtype=np.uint8))
    ids = open_reader(CARD, tmp_path).ids
    manifest = {"counts": {"images": 3, "positives": 1}, "digests": {"ids_sha256_ordered": ids_digest(ids, ordered=True)}}
    (tmp_path / "PHANTOM.json").write_text(json.dumps(manifest))
    verification = open_reader(CARD, tmp_path).verify()
    assert verification.phantom
    assert verification.ok
    next(tmp_path.rglob("1.2.1.dcm")).write_bytes(b"cut off")
    lines = {c.what: c for c in open_reader(CARD, tmp_path).checks()}
    assert lines["first image with a finding"].verdict == "error"
    assert "1.2.1" in lines["first image with a finding"].found
    manifest["digests"]["ids_sha256_ordered"] = ids_digest(ids[::-1], ordered=True)
    (tmp_path / "PHANTOM.json").write_text(json.dumps(manifest))
    assert not open_reader(CARD, tmp_path).verify().ok


def committed_order() -> tuple[str, ...]:
    """The label file's order, found by undoing the permutation in LoVT's committed lists."""
    lists = lovt_csv(LOVT).splits
    drawn = lists["test"] + lists["validation"] + lists["train"]
    order = [""] * len(drawn)
    for place, sample_id in zip(np.random.RandomState(123).permutation(len(drawn)), drawn, strict=True):
        order[place] = sample_id
    return tuple(order)


@pytest.mark.skipif(not LOVT.is_dir(), reason="LoVT's committed lists are not beside the checkout")
def test_undoing_the_permutation_gives_the_known_order_of_the_merged_file():
    order = committed_order()
    assert len(order) == 12047
    assert ids_digest(order, ordered=True) == MERGED_ORDER
    assert permutation_split(order, 123, 0.2, 0.2) == lovt_csv(LOVT).splits


@pytest.mark.skipif(not LOVT.is_dir(), reason="LoVT's committed lists are not beside the checkout")
def test_the_reader_reproduces_the_committed_lists_from_a_table_in_that_order(tmp_path):
    order = committed_order()
    (tmp_path / "train-rle.csv").write_text("\n".join([SPACED, *(f"{i},-1" for i in order)]) + "\n")
    place = tmp_path / "dicom-images-train" / "study" / "series"
    place.mkdir(parents=True)
    for sample_id in order:
        (place / f"{sample_id}.dcm").touch()
    reader = open_reader(CARD, tmp_path)
    assert reader.split(RULE) == lovt_csv(LOVT).splits
    digests = [c for c in reader.checks() if c.what.endswith(("ids", "order of ids"))]
    assert [c.verdict for c in digests] == ["ok"] * 6
