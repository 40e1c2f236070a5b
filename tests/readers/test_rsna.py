"""Promises of the RSNA reader: the release in its own order, every known copy by name, and no edited label file unnoticed."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate

from benchmark import registry
from benchmark.cards import SplitCounts
from benchmark.errors import DataError, ImageError, SplitError
from benchmark.readers import rsna
from benchmark.readers.base import ids_digest, open_reader
from benchmark.readers.kit.boxes import box_masks
from benchmark.readers.kit.generated import PHANTOM_REPORTS
from benchmark.readers.kit.splits import check_digests, lovt_csv, prefix, split_by_rule
from benchmark.readers.rsna import LABELS, MAPPING, read_labels

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
REAL_LABELS = SHARED / "labels" / "rsna_stage_2_train_labels_semicolon.csv"
needs_real_files = pytest.mark.skipif(not SHARED.is_dir(), reason="the real files are not beside the checkout")

CARD = registry.dataset("rsna")
HEADER = "patientId,x,y,width,height,Target"
ROWS = (
    "0bbb2222-3c3c,251.0,140.0,207.0,366.0,1",
    "0aaa1111-2b2b,,,,,0",
    "0bbb2222-3c3c,575.0,161.0,240.0,431.0,1",
    "0ccc3333-4d4d,10.0,20.0,30.5,40.5,1",
)
IDS = ("0bbb2222-3c3c", "0aaa1111-2b2b", "0ccc3333-4d4d")


def write_dicom(path: Path, side: int = 1024) -> None:
    pixels = np.full((side, side), 7, dtype=np.uint8)
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).save(stream, "JPEG")
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = uid.SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = uid.generate_uid()
    dataset.Rows = dataset.Columns = side
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = encapsulate([stream.getvalue()])
    dataset["PixelData"].is_undefined_length = True
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


@pytest.fixture(scope="session")
def radiograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rsna") / "radiograph.dcm"
    write_dicom(path)
    return path


@pytest.fixture
def release(tmp_path: Path, radiograph: Path) -> Callable[..., Path]:
    """Writes a small release and returns its folder."""

    def write(rows: tuple[str, ...] = ROWS, header: str = HEADER, images: tuple[str, ...] = IDS) -> Path:
        root = tmp_path / "rsna"
        for folder, names in (("stage_2_train_images", images), ("stage_2_test_images", ("0ddd-test",))):
            (root / folder).mkdir(parents=True, exist_ok=True)
            for name in names:
                shutil.copy(radiograph, root / folder / f"{name}.dcm")
        (root / LABELS).write_text("\n".join((header, *rows)) + "\n")
        return root

    return write


def verdicts(root: Path) -> dict[str, str]:
    return {c.what: c.verdict for c in open_reader(CARD, root).checks()}


# ------------------------------------------------------------------------------------------------------------------ reading


def test_ids_keep_the_order_of_first_appearance(release: Callable[..., Path]) -> None:
    assert open_reader(CARD, release()).ids == IDS


def test_a_sample_has_its_boxes_pixels_and_box_mask(release: Callable[..., Path]) -> None:
    reader = open_reader(CARD, release())
    sample = reader.sample("0bbb2222-3c3c")
    assert sample.boxes_xywh.tolist() == [[251, 140, 207, 366], [575, 161, 240, 431]]
    assert sample.box_labels.tolist() == [0, 0]
    assert (sample.patient_id, sample.positive) == (None, True)
    image = sample.image()
    assert (image.shape, image.dtype) == ((1024, 1024), np.uint8)
    mask = sample.masks(image.shape)
    assert mask.shape == (1, 1024, 1024)
    assert mask.sum() == 207 * 366 + 240 * 431
    assert mask[0, 140, 251]
    assert not mask[0, 251, 140]


def test_a_negative_sample_has_no_box_and_an_empty_mask(release: Callable[..., Path]) -> None:
    sample = open_reader(CARD, release()).sample("0aaa1111-2b2b")
    assert sample.boxes_xywh.shape == (0, 4)
    assert sample.positive is False
    assert not sample.masks((1024, 1024)).any()


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte-order-mark"])
def test_the_semicolon_copy_reads_the_same_and_is_named(release: Callable[..., Path], mark: str, ending: str) -> None:
    root = release()
    comma = open_reader(CARD, root)
    text = mark + (root / LABELS).read_text().replace(",", ";").replace("\n", ending)
    (root / LABELS).write_bytes(text.encode())
    semicolon = open_reader(CARD, root)
    assert semicolon.ids == comma.ids
    assert all((semicolon.sample(i).boxes_xywh == comma.sample(i).boxes_xywh).all() for i in IDS)
    assert comma.release == "stage 2, labels as released"
    assert semicolon.release == "stage 2, labels re-saved with semicolons"


def test_a_release_inside_its_top_folder_is_found(release: Callable[..., Path]) -> None:
    root = release()
    outer = root.parent / "outer"
    outer.mkdir()
    root.rename(outer / "rsna-pneumonia-detection-challenge")
    assert open_reader(CARD, outer).ids == IDS


def test_images_without_a_label_row_are_left_out_with_a_warning(release: Callable[..., Path]) -> None:
    reader = open_reader(CARD, release(images=(*IDS, "0eee-extra", "0fff-extra")))
    assert reader.ids == IDS
    assert len(reader.warnings) == 1
    assert "2 images have no row" in reader.warnings[0]
    assert "0eee-extra" in reader.warnings[0]
    assert len(reader.image_files()) == 3


def test_patients_come_from_rsnas_mapping_where_it_lies_beside_the_labels(release: Callable[..., Path]) -> None:
    root = release()
    without = open_reader(CARD, root)
    mapping = [{"subset_img_id": i, "img_id": f"0000000{n // 2}_00{n}.png"} for n, i in enumerate(IDS)]
    (root / MAPPING).write_text(json.dumps(mapping))
    reader = open_reader(CARD, root)
    assert [reader.sample(i).patient_id for i in IDS] == ["00000000", "00000000", "00000001"]
    assert root / MAPPING in reader.label_files()
    assert reader.outline_digest() != without.outline_digest()
    with pytest.raises(SplitError, match=MAPPING):
        without.split(CARD.splits["patient-disjoint"])


def test_a_phantoms_patients_come_from_its_report_table_and_a_release_ignores_such_a_file(release: Callable[..., Path]) -> None:
    root = release()
    without = open_reader(CARD, root)
    (root / PHANTOM_REPORTS).write_text("id,patient_id,report\n" + "".join(f"{i},P{n // 2},Clear.\n" for n, i in enumerate(IDS)))
    beside = open_reader(CARD, root)
    assert (beside.sample(IDS[0]).patient_id, beside.outline_digest()) == (None, without.outline_digest())
    (root / "PHANTOM.json").write_text(json.dumps({"counts": {"patients": 2}}))
    phantom = open_reader(CARD, root)
    assert [phantom.sample(i).patient_id for i in IDS] == ["P0", "P0", "P1"]
    assert phantom.outline_digest() != without.outline_digest()
    assert next(c for c in phantom.verify().checks if c.what == "patients").verdict == "ok"


@pytest.mark.parametrize(
    ("text", "sentence"), [("id,report\n", "no columns"), ('id,patient_id\na,"P1\nb,P2\n', "not a readable table .* `lobe data sample`")]
)
def test_a_phantom_with_a_damaged_report_table_is_an_error(release, text, sentence):
    root = release()
    (root / "PHANTOM.json").write_text("{}")
    (root / PHANTOM_REPORTS).write_text(text)
    with pytest.raises(DataError, match=sentence):
        open_reader(CARD, root).sample(IDS[0])


def test_an_image_put_into_a_phantom_later_has_no_patient(release):
    root = release()
    (root / "PHANTOM.json").write_text("{}")
    (root / PHANTOM_REPORTS).write_text(f"id,patient_id\n{IDS[0]},P1\n")
    assert [open_reader(CARD, root).sample(i).patient_id for i in IDS[:2]] == ["P1", None]


@pytest.mark.parametrize("nothing", [None, "", "nan", "null"])
def test_an_image_that_the_mapping_gives_no_patient_has_none(release: Callable[..., Path], nothing: object) -> None:
    root = release()
    entries = [{"subset_img_id": i, "img_id": f"0000000{n}_000.png"} for n, i in enumerate(IDS)]
    (root / MAPPING).write_text(json.dumps(entries))
    assert open_reader(CARD, root).decided() == ""
    (root / MAPPING).write_text(json.dumps([*({**entry, "img_id": nothing} for entry in entries[:2]), *entries[2:]]))
    reader = open_reader(CARD, root)
    assert [reader.sample(i).patient_id for i in IDS] == [None, None, "00000002"]
    assert reader.decided() != ""


def test_an_image_that_the_mapping_gives_two_patients_is_an_error(release: Callable[..., Path]) -> None:
    root = release()
    entries = [{"subset_img_id": IDS[0], "img_id": f"0000000{n}_000.png"} for n in (1, 1, 2)]
    (root / MAPPING).write_text(json.dumps(entries[:2]))
    assert open_reader(CARD, root).sample(IDS[0]).patient_id == "00000001"
    (root / MAPPING).write_text(json.dumps(entries))
    with pytest.raises(DataError, match=f"{MAPPING} entry 3 gives an image another patient than an entry before it"):
        open_reader(CARD, root)


@pytest.mark.parametrize("content", ["[[1, 2]]", "{}", "[", '[{"subset_img_id": "other", "img_id": "1_0.png"}]'])
def test_a_file_that_is_not_rsnas_mapping_is_an_error(release: Callable[..., Path], content: str) -> None:
    root = release()
    (root / MAPPING).write_text(content)
    with pytest.raises(DataError, match=MAPPING):
        open_reader(CARD, root)


def test_the_outline_follows_labels_and_image_sizes(release: Callable[..., Path]) -> None:
    root = release()
    before = open_reader(CARD, root).outline_digest()
    assert open_reader(CARD, root).outline_digest() == before
    (root / LABELS).write_text((root / LABELS).read_text().replace("30.5", "31.5"))
    changed = open_reader(CARD, root).outline_digest()
    with (root / "stage_2_train_images" / f"{IDS[0]}.dcm").open("ab") as handle:
        handle.write(b"\0\0")
    assert len({before, changed, open_reader(CARD, root).outline_digest()}) == 3


# ------------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("rows", "sentences"),
    [
        (("a,900.0,10.0,143.0,20.0,1",), ["box 1 of patient a leaves the image (x + width = 1,043 > 1,024)", "line 2", "edited copy"]),
        (("a,1.0,1.0,5.0,5.0,1", "a,1.0,1000.0,5.0,25.0,1"), ["box 2 of patient a", "y + height = 1,025 > 1,024", "line 3"]),
        (("a,-1.0,1.0,5.0,5.0,1",), ["x = -1 < 0", "line 2"]),
        (("a,1.0,2.0,3.0,4.0,1", "b,,,,,0", "a,1.0,2.0,3.0,4.0,1"), ["line 4", "the same box of patient a once more"]),
        (("a,,,,,0", "a,1.0,2.0,3.0,4.0,1"), ["line 3", "both negative and positive", "line 2"]),
        (("a,1.0,2.0,3.0,4.0,1", "a,,,,,0"), ["line 3", "both negative and positive", "line 2"]),
        (("a,,,,,0", "a,,,,,0"), ["line 3", "negative once more", "line 2"]),
        (("a,1.0,,3.0,4.0,1",), ["line 2", "3 of x, y, width, height are filled"]),
        (("a,,,,,1",), ["line 2", "0 of x, y, width, height are filled"]),
        (("a,1.0,2.0,3.0,4.0,0",), ["line 2", "a box, but Target is 0"]),
        (("b,,,,,0", "a,1.0,two,3.0,4.0,1"), ["line 3", "1.0, two, 3.0, 4.0", "four numbers"]),
        (("a,1.0,nan,3.0,4.0,1",), ["line 2", "finite"]),
        (("a,1.0,2.0,0.0,4.0,1",), ["line 2", "0 x 4", "empty"]),
        (("a,,,,,2",), ["line 2", "Target is '2'"]),
        ((",,,,,0",), ["line 2", "patientId is empty"]),
        (("a,,,,0",), ["line 2", "5 cells", "expected 6"]),
        ((), ["header and no rows"]),
    ],
)
def test_an_edited_label_file_is_an_error_with_its_line(release: Callable[..., Path], rows: tuple[str, ...], sentences: list[str]) -> None:
    root = release(rows=rows, images=("a", "b"))
    with pytest.raises(DataError) as error:
        open_reader(CARD, root)
    assert str(error.value).startswith("rsna: ")
    assert LABELS in str(error.value)
    assert [s for s in sentences if s not in str(error.value)] == []


@pytest.mark.parametrize("header", ["patientId,Target", "patientId,y,x,width,height,Target", "id,x,y,width,height,Target"])
def test_other_columns_are_an_error_naming_both(release: Callable[..., Path], header: str) -> None:
    with pytest.raises(DataError, match=r"expected patientId, x, y, width, height, Target"):
        open_reader(CARD, release(header=header))


def test_a_table_that_is_empty_or_not_text_is_an_error(release: Callable[..., Path]) -> None:
    root = release()
    (root / LABELS).write_text("")
    with pytest.raises(DataError, match="empty"):
        open_reader(CARD, root)
    (root / LABELS).write_bytes(b"patientId,\xff\xfe\x00bad")
    with pytest.raises(DataError, match="not a readable text"):
        open_reader(CARD, root)


def test_an_absent_or_empty_folder_and_a_missing_label_file_are_errors(tmp_path: Path, release: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="no folder"):
        open_reader(CARD, tmp_path / "nowhere")
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match=r"is empty.*stage_2_train_labels\.csv"):
        open_reader(CARD, tmp_path / "void")
    root = release()
    (root / LABELS).unlink()
    with pytest.raises(DataError, match=r"stage_2_train_labels\.csv is missing.*Kaggle"):
        open_reader(CARD, root)


def test_stage_1_and_copies_without_boxes_are_called_by_their_name(release: Callable[..., Path]) -> None:
    root = release(header="patientId,Target", rows=("a,0",))
    with pytest.raises(DataError, match="one of the public copies without boxes"):
        open_reader(CARD, root)
    (root / "stage_2_train_labels.csv").rename(root / "stage_1_train_labels.csv")
    with pytest.raises(DataError, match=r"stage_2_train_labels\.csv is missing .* This is stage 1"):
        open_reader(CARD, root)


def test_label_rows_without_an_image_are_an_error_with_three_ids_and_the_count(release: Callable[..., Path]) -> None:
    rows = tuple(f"id-{i},,,,,0" for i in range(6))
    with pytest.raises(DataError) as error:
        open_reader(CARD, release(rows=rows, images=("id-0",)))
    assert "5 of 6 images" in str(error.value)
    assert "id-1, id-2, id-3" in str(error.value)
    assert "id-4" not in str(error.value)


def test_an_id_in_two_folders_is_an_error(release: Callable[..., Path]) -> None:
    root = release()
    shutil.copy(root / "stage_2_train_images" / f"{IDS[0]}.dcm", root / "stage_2_test_images")
    with pytest.raises(DataError, match=f"{IDS[0]} exists twice"):
        open_reader(CARD, root)


def test_a_resized_copy_is_an_error_because_boxes_would_not_fit(release: Callable[..., Path]) -> None:
    root = release()
    path = root / "stage_2_train_images" / f"{IDS[0]}.dcm"
    write_dicom(path, side=512)
    with pytest.raises(ImageError, match=r"512 rows x 512 columns.*resized copy"):
        open_reader(CARD, root).sample(IDS[0]).image()
    assert verdicts(root)["first image"] == "error"


def test_an_unknown_id_is_an_error(release: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="0ddd-test"):
        open_reader(CARD, release()).sample("0ddd-test")


# ------------------------------------------------------------------------------------------------------------------- verify


def test_a_small_copy_that_claims_to_be_the_release_fails_verification(release: Callable[..., Path]) -> None:
    reader = open_reader(CARD, release())
    verification = reader.verify()
    assert not verification.ok
    assert not verification.phantom
    found = {c.what: c for c in verification.checks}
    assert (found["label rows"].expected, found["label rows"].found, found["label rows"].verdict) == ("30,227", "4", "error")
    assert found["lovt train: order of ids"].verdict == "error"
    assert found["patients known"].verdict == "unknown"


def test_a_folder_that_matches_its_card_passes_verification(release: Callable[..., Path]) -> None:
    rows = tuple(f"id-{i},,,,,0" if i % 4 else f"id-{i},{i}.0,2.0,3.0,4.0,1" for i in range(20))
    ids = tuple(f"id-{i}" for i in range(20))
    root = release(rows=rows, images=ids)
    rule = CARD.splits["lovt"]
    splits = split_by_rule(ids, rule, lambda _: None)
    expected = {name: SplitCounts(n_images=len(s), sha256_ordered=ids_digest(s, ordered=True)) for name, s in splits.items()}
    rule = rule.model_copy(update={"expected": expected})
    counts = {"label_rows": 20, "images": 20, "image_files": 20, "boxes": 5, "positives": 5}
    card = CARD.model_copy(update={"expected": counts, "splits": {"lovt": rule}})
    assert open_reader(card, root).verify().ok
    lines = (root / LABELS).read_text().splitlines()
    (root / LABELS).write_text("\n".join([lines[0], *sorted(lines[1:])]) + "\n")  # what a spreadsheet does
    wrong = [c.what for c in open_reader(card, root).verify().checks if c.verdict == "error"]
    assert set(wrong) == {f"lovt {split}: order of ids" for split in ("train", "validation", "test")}


def test_a_phantom_is_verified_against_its_own_manifest(release: Callable[..., Path]) -> None:
    root = release()
    manifest = {
        "version": 1,
        "seed": 0,
        "counts": {"images": 3, "boxes": 3},
        "digests": {"ids_sha256_ordered": ids_digest(IDS, ordered=True)},
    }
    (root / "PHANTOM.json").write_text(json.dumps(manifest))
    verification = open_reader(CARD, root).verify()
    assert verification.phantom
    assert verification.ok
    (root / LABELS).write_text((root / LABELS).read_text().replace(ROWS[3], "0ccc3333-4d4d,,,,,0"))
    assert [c.what for c in open_reader(CARD, root).verify().checks if c.verdict == "error"] == ["boxes"]


def test_known_copies_are_called_by_their_name(release: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert (30_142, 26_605) in rsna.KNOWN_COPIES
    monkeypatch.setitem(rsna.KNOWN_COPIES, (4, 3), "truncated public copy")
    reader = open_reader(CARD, release())
    assert reader.release == "truncated public copy"
    assert "truncated public copy" in reader.warnings[0]
    assert {c.what: c.verdict for c in reader.checks()}["release"] == "error"


# --------------------------------------------------------------------------------------------------------------- box masks


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((2.0, 1.0, 3.0, 2.0), (1, 3), (2, 5)),
        ((2.5, 1.5, 3.0, 2.0), (2, 4), (2, 6)),  # halves to even: 2.5 -> 2, 5.5 -> 6, 1.5 -> 2, 3.5 -> 4
        ((2.6, 1.4, 3.0, 2.0), (1, 3), (3, 6)),
        ((-3.0, -2.0, 5.0, 4.0), (0, 2), (0, 2)),  # never wraps around
        ((6.0, 5.0, 9.0, 9.0), (5, 7), (6, 9)),
        ((20.0, 20.0, 3.0, 3.0), (0, 0), (0, 0)),
        ((3.0, 3.0, 0.2, 0.2), (0, 0), (0, 0)),
    ],
)
def test_boxes_fill_lovts_rounded_pixels(box: tuple[float, ...], rows: tuple[int, int], columns: tuple[int, int]) -> None:
    expected = np.zeros((7, 9), dtype=bool)
    expected[slice(*rows), slice(*columns)] = True
    assert (box_masks(np.array([box]), np.array([0]), 1, (7, 9))[0] == expected).all()


def test_each_class_has_its_own_channel_and_overlaps_count_once() -> None:
    boxes = np.array([[0, 0, 4, 4], [2, 2, 4, 4], [0, 0, 2, 2.0]])
    masks = box_masks(boxes, np.array([0, 0, 2]), 3, (8, 8))
    assert masks.sum(axis=(1, 2)).tolist() == [16 + 16 - 4, 0, 4]
    assert box_masks(np.zeros((0, 4)), np.zeros(0, np.int64), 3, (8, 8)).sum() == 0


# ------------------------------------------------------------------------------------------------------------ the real file


@pytest.fixture(scope="module")
def real_labels() -> rsna.RsnaLabels:
    return read_labels(REAL_LABELS)


@needs_real_files
def test_the_real_label_file_reproduces_every_published_digest(real_labels: rsna.RsnaLabels) -> None:
    assert (real_labels.n_rows, len(real_labels.ids), real_labels.separator) == (30_227, 26_684, ";")
    rule = CARD.splits["lovt"]
    splits = split_by_rule(real_labels.ids, rule, lambda _: None)
    checks = check_digests(
        {"all": real_labels.ids, **splits},
        rule.expected,
        n_boxes=lambda i: len(real_labels.boxes_xywh[i]),
        positive=lambda i: len(real_labels.boxes_xywh[i]) > 0,
    )
    assert len(checks) == 32
    assert [c for c in checks if c.verdict != "ok"] == []


@needs_real_files
def test_the_real_label_file_reproduces_lovts_lists_and_subsets_in_order(real_labels: rsna.RsnaLabels) -> None:
    lists = lovt_csv(SHARED / "lovt_splits" / "rsna")
    splits = split_by_rule(real_labels.ids, CARD.splits["lovt"], lambda _: None)
    assert splits == lists.splits
    for fraction, n_images in ((0.01, 160), (0.1, 1601)):
        assert prefix(splits["train"], fraction) == lists.splits["train"][:n_images]
    assert all((lists.boxes_xywh[i] == real_labels.boxes_xywh[i]).all() for i in real_labels.ids)


@needs_real_files
def test_an_all_positive_prediction_scores_the_published_5_316_percent(real_labels: rsna.RsnaLabels) -> None:
    """LoVT's random-initialised linear rows are 5.3 (docs/protocols/lovt.md, quirk 13): metric, split and masks agree end to end."""
    test = split_by_rule(real_labels.ids, CARD.splits["lovt"], lambda _: None)["test"]
    boxes = [real_labels.boxes_xywh[i] for i in test]
    n_positive = sum(int(box_masks(b, np.zeros(len(b), np.int64), 1, (1024, 1024)).sum()) for b in boxes if len(b))
    n_pixels = len(test) * 1024 * 1024
    assert n_positive / n_pixels == pytest.approx(0.027305, abs=5e-7)
    assert 2 * n_positive / (n_positive + n_pixels) == pytest.approx(0.05316, abs=5e-6)
