"""Promises of the ChestX-Det reader: three lists of one length, polygons that lie in their boxes, and the official test file.

Tests called `..._released_...` read the published JSON files where they lie beside the checkout; all others use files made here.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from sklearn.model_selection import train_test_split

from benchmark import registry
from benchmark.errors import DataError, ImageError, SplitError
from benchmark.readers.base import open_reader
from tests.corpora import CorpusPlan, write_corpus

CARD = registry.dataset("chestx-det")
RULE = CARD.splits["official"]
EFFUSION, NODULE = CARD.classes.index("Effusion"), CARD.classes.index("Nodule")

# docs/sources.md, ChestX-Det: the two entries literally but for their numbers.
FOUND = {
    "file_name": "30001.png",
    "syms": ["Effusion", "Nodule"],
    "boxes": [[780, 640, 930, 770], [220, 600, 262, 655]],
    # wider than high, and not symmetric: exchanged coordinates and a filled box both show
    "polygons": [[[780, 640], [930, 640], [780, 770]], [[220, 600], [262, 600], [262, 655], [220, 655]]],
}
NOTHING = {"file_name": "30002.png", "syms": [], "boxes": [], "polygons": []}
TEST = {**FOUND, "file_name": "36200.png"}


def write(folder: Path, train=(FOUND, NOTHING), test=(TEST,), *, images: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part, entries in (("train", train), ("test", test)):
        (folder / f"ChestX_Det_{part}.json").write_text(json.dumps(list(entries)))
        (folder / f"{part}_data").mkdir(exist_ok=True)
        for entry in entries if images else ():
            (folder / f"{part}_data" / str(entry["file_name"])).touch()
    return folder


def opened(root: Path):
    return open_reader(CARD, root)


def changed(**values) -> dict:
    return {**FOUND, **values}


# ------------------------------------------------------------------------------------------------------------------ reading


def test_boxes_are_corners_in_the_file_and_sides_in_a_sample(tmp_path):
    sample = opened(write(tmp_path)).sample("30001.png")
    assert sample.boxes_xywh.tolist() == [[780, 640, 150, 130], [220, 600, 42, 55]]
    assert sample.box_labels.tolist() == [EFFUSION, NODULE]
    assert (sample.positive, sample.patient_id) == (True, None)


def test_masks_are_filled_polygons_and_not_filled_boxes(tmp_path):
    masks = opened(write(tmp_path)).sample("30001.png").masks((1024, 1024))
    assert (masks.shape, masks.dtype) == ((13, 1024, 1024), bool)
    assert np.flatnonzero(masks.any(axis=(1, 2))).tolist() == [EFFUSION, NODULE]
    assert masks[EFFUSION, 645, 785]
    assert not masks[EFFUSION, 765, 925]  # in the box, beyond the diagonal
    assert not masks[EFFUSION, 785, 645]  # x and y exchanged
    assert masks[EFFUSION].sum() == pytest.approx(150 * 130 / 2, rel=0.03)


def test_polygons_of_one_class_are_united_where_they_overlap(tmp_path):
    square = [[100, 100], [110, 100], [110, 110], [100, 110]]
    entry = changed(syms=["Mass", "Mass"], boxes=[[100, 100, 110, 110]] * 2, polygons=[square, square])
    reader = opened(write(tmp_path, (entry, NOTHING)))
    assert reader.sample("30001.png").masks((1024, 1024)).sum() == 11 * 11
    line = next(c for c in reader.checks() if c.what.startswith("boxes that repeat"))
    assert (line.found, line.verdict) == ("1", "warning")


def test_an_image_without_findings_is_a_negative(tmp_path):
    sample = opened(write(tmp_path)).sample("30002.png")
    assert (sample.positive, sample.boxes_xywh.shape) == (False, (0, 4))
    assert not sample.masks((1024, 1024)).any()


def test_ids_keep_the_order_of_the_files_and_images_may_lie_at_any_depth(tmp_path):
    write(tmp_path / "inner", images=False)
    for k, name in enumerate(("30001", "30002", "36200")):
        place = tmp_path / "inner" / ("train_data" if k % 2 else "images/deep")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{name}.png").touch()
    assert opened(tmp_path).ids == ("30001.png", "30002.png", "36200.png")


def test_an_image_is_read_as_grey_and_a_resized_one_refused(tmp_path):
    write(tmp_path)
    ramp = np.tile(np.arange(1024, dtype=np.uint16) // 4, (1024, 1)).astype(np.uint8)
    PIL.Image.fromarray(np.stack([ramp] * 3, axis=2)).save(tmp_path / "train_data" / "30001.png")
    PIL.Image.new("L", (512, 512)).save(tmp_path / "train_data" / "30002.png")
    reader = opened(tmp_path)
    assert np.array_equal(reader.sample("30001.png").image(), ramp)
    with pytest.raises(ImageError, match=r"\(id 30002\.png\): the image has 512 rows x 512 columns"):
        reader.sample("30002.png").image()
    with pytest.raises(ImageError, match="512 rows"):
        reader.sample("30002.png").masks((512, 512))


# ------------------------------------------------------------------------------------------------------------------- errors

SWAPPED = [[[y, x] for x, y in polygon] for polygon in FOUND["polygons"]]


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (changed(syms=["Effusion"]), "not three lists of one length"),
        (changed(boxes="none"), "not three lists"),
        (changed(syms=["Effusion", "Hernia"]), "finding 'Hernia'; expected one of Consolidation"),
        (changed(boxes=[[930, 640, 780, 770], FOUND["boxes"][1]]), "box 1: .* are not 0 <= left < right"),
        (changed(boxes=[[780, 640, 150, 130], FOUND["boxes"][1]]), "box 1: .* are not 0 <= left < right"),  # x, y, width, height
        (changed(boxes=[FOUND["boxes"][0], [220, 600, 1262, 655]]), "box 2: "),
        (changed(boxes=[FOUND["boxes"][0], [220, 600, 262.5, 655]]), "four whole numbers"),
        (changed(boxes=[FOUND["boxes"][0], [220, 600, 262]]), "four whole numbers"),
        (changed(polygons=SWAPPED), r"polygon 1: it reaches from x 640 to 770 .* are x and y exchanged\?"),
        (changed(polygons=[FOUND["polygons"][0], [[220, 600], [262, 655]]]), "polygon 2: not a list of at least three pairs"),
        (changed(polygons=[FOUND["polygons"][0], [220, 600, 262, 600, 262, 655]]), "polygon 2: not a list"),
        (changed(file_name="30001"), "no file name such as"),
        ({k: v for k, v in FOUND.items() if k != "polygons"}, "ChestX-Det10 has no polygons"),
        (["30001.png"], "list; expected file_name"),
    ],
)
def test_a_damaged_entry_is_an_error_with_its_number(tmp_path, entry, sentence):
    write(tmp_path, (NOTHING,))
    (tmp_path / "ChestX_Det_train.json").write_text(json.dumps([NOTHING, entry]))
    with pytest.raises(DataError, match=rf"chestx-det: ChestX_Det_train\.json entry 2.*{sentence}"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("train", "test"), [((FOUND, FOUND), (TEST,)), ((FOUND, NOTHING), (FOUND,)), ((FOUND, {**NOTHING, "file_name": "36200.png"}), (TEST,))]
)
def test_an_image_listed_twice_is_an_error_in_one_file_or_in_both(tmp_path, train, test):
    with pytest.raises(DataError, match=r"is listed a second time, first in ChestX_Det_train\.json"):
        opened(write(tmp_path, train, test))


@pytest.mark.parametrize(
    ("content", "sentence"), [("[", "no readable JSON"), ("[]", "holds no images"), ("{}", "an object where a list belongs")]
)
def test_a_file_that_holds_no_list_is_refused(tmp_path, content, sentence):
    write(tmp_path)
    (tmp_path / "ChestX_Det_test.json").write_text(content)
    with pytest.raises(DataError, match=rf"ChestX_Det_test\.json.*{sentence}"):
        opened(tmp_path)


def test_a_missing_file_or_image_is_named(tmp_path):
    write(tmp_path)
    (tmp_path / "train_data" / "30002.png").unlink()
    with pytest.raises(DataError, match=r"1 of 3 images listed in .* 30002\.png"):
        opened(tmp_path)
    (tmp_path / "ChestX_Det_test.json").unlink()
    with pytest.raises(DataError, match=r"ChestX_Det_test\.json is missing"):
        opened(tmp_path)
    (tmp_path / "ChestX_Det_train.json").unlink()
    with pytest.raises(DataError, match=r"ChestX_Det_train\.json is missing"):
        opened(tmp_path)


# --------------------------------------------------------------------------------------------------------- splits and verify


def many(folder: Path) -> Path:
    entries = [{**(FOUND if k % 4 else NOTHING), "file_name": f"{k:05d}.png"} for k in range(40, 20, -1)]
    return write(folder, entries)


def test_the_split_keeps_the_test_file_and_holds_out_a_stratified_fifth_of_sorted_names(tmp_path):
    splits = opened(many(tmp_path)).split(RULE)
    ids = [f"{k:05d}.png" for k in range(21, 41)]
    train, validation = train_test_split(ids, test_size=4, stratify=[k % 4 > 0 for k in range(21, 41)], random_state=42)
    assert splits == {"train": tuple(train), "validation": tuple(validation), "test": ("36200.png",)}


def test_too_few_images_or_another_rule_are_refused(tmp_path):
    with pytest.raises(SplitError, match=r"too few training images \(1 normal, 1 with a finding\)"):
        opened(write(tmp_path)).split(RULE)
    with pytest.raises(SplitError, match="official test, stratified holdout"):
        opened(write(tmp_path)).split(RULE.model_copy(update={"rule": "permutation"}))


def test_verify_of_an_incomplete_release_is_not_ok(tmp_path):
    verification = opened(many(tmp_path)).verify()
    lines = {c.what: c for c in verification.checks}
    assert not verification.ok
    assert (lines["train images"].expected, lines["train images"].found) == ("3,025", "20")
    assert lines["official test: ids"].verdict == lines["official official_train: ids"].verdict == "error"


def test_released_files_have_the_counts_and_digests_of_the_card(real_files: Path, tmp_path):
    entries = {part: json.loads((real_files / "labels" / f"ChestX_Det_{part}.json").read_text()) for part in ("train", "test")}
    reader = opened(write(tmp_path, entries["train"], entries["test"]))
    lines = {c.what: c for c in reader.verify().checks}
    readable = lines.pop("first image with a finding")
    assert readable.verdict == "error"  # the files made here are empty
    assert {what: line for what, line in lines.items() if line.verdict not in ("ok", "warning")} == {}
    assert (lines["boxes that repeat another of their image"].found, len(lines) > 20) == ("1", True)
    splits = reader.split(RULE)
    assert (len(splits["train"]), len(splits["validation"]), len(splits["test"])) == (2_420, 605, 553)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("chestx-det")
    write_corpus(CorpusPlan("chestx-det", 24, seed=2, images_per_patient=(1, 1), positive_share=0.7), root / "chestx-det")
    return root


@pytest.mark.parametrize("head", ["linear", "unet", "yolov3", "faster-rcnn"])
def test_every_head_gives_its_number_on_a_generated_folder(small, tiny, generated, head, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("benchmark.heads.networks.faster_rcnn.HIDDEN", 64)  # of 1,024, over a thousand proposals an image
    task = registry.task(f"chestx-det-{head}-frozen-100-lobe")
    job, place = small.one(task.id, tiny(), root=generated, limit=8, max_steps=1, max_epochs=1, patience=1)
    record = small.fit(job, place)
    assert record.status == "ok"
    assert 0 <= record.metrics[task.report] <= 1
