"""Predictions for people: COCO JSON in the task's frame, which is scored again, or in original pixels, where the image's own pixels are."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from benchmark import kinds
from benchmark.cards import Failure
from benchmark.convert import convert
from benchmark.errors import StoreError, UnknownName, UsageError
from benchmark.export import export
from benchmark.imaging.geometry import Frame
from benchmark.integrity import sealed
from benchmark.kinds.detection import DETECTIONS_FILE, DETECTIONS_JSON, read_detections, write_detections
from benchmark.kinds.kit import heading
from benchmark.kinds.kit.class_scores import SCORES_CSV, SCORES_FILE, read_scores
from benchmark.kinds.segmentation import MASKS_FILE, MASKS_JSON, encode, read_masks, write_masks
from benchmark.metrics.boxes import Detections
from benchmark.store import Store
from tests.full_disk import full_disk
from tests.test_convert import of_target
from tests.test_convert import packed as packed

SIZES = ((60, 91), (128, 100), (75, 75))  # height and width; the first and the second differ by an odd and an even number


@pytest.fixture
def out(packed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(packed, tmp_path / "out")


def about(side: int) -> heading.Heading:
    """Three images in a frame."""
    frames = [Frame.of(height, width, side) for height, width in SIZES]
    placed = {name: np.array([getattr(frame, name) for frame in frames]) for name in (*heading.WHOLE, *heading.REAL)}
    return heading.Heading("k", "t", f"padded-{side}", ("lovt", "r"), ("a", "b"), ("x", "y", "z"), heading.Placement(**placed))


def exported(kind_of: str, file: Path, frame: str) -> dict:
    return json.loads(kinds.find(kind_of, trains=True).export(file, frame)[1])


def test_boxes_go_to_the_original_pixels_that_they_came_from(tmp_path: Path) -> None:
    original = np.array([[3.0, 4, 20, 30], [10, 11, 12, 13], [0, 0, 75, 75]])
    frames = [Frame.of(height, width, 64) for height, width in SIZES]
    inside = np.concatenate([frame.to_frame(box) for frame, box in zip(frames, original, strict=True)])
    given = Detections(np.arange(3), inside, np.array([1, 0, 1]), 3, "padded-64", np.array([0.5, 0.25, 0.125]))
    write_detections(tmp_path / DETECTIONS_FILE, about(64), given)
    content = exported("boxes", tmp_path / DETECTIONS_FILE, "original")
    assert content["frame"] == "original"
    assert [(row["image_id"], row["category_id"], row["score"]) for row in content["annotations"]] == [
        (1, 2, 0.5),
        (2, 1, 0.25),
        (3, 2, 0.125),
    ]
    assert np.allclose([row["bbox"] for row in content["annotations"]], original, atol=1e-9)


def test_a_box_without_end_has_none_in_original_pixels_either(tmp_path: Path) -> None:
    box = np.array([[-np.inf, 1.0, np.inf, 2.0]])
    write_detections(tmp_path / DETECTIONS_FILE, about(64), Detections(np.array([1]), box, np.array([0]), 3, "padded-64", np.array([0.5])))
    for frame in ("task", "original"):
        (row,) = exported("boxes", tmp_path / DETECTIONS_FILE, frame)["annotations"]
        assert (row["overflowed"], row["bbox"][0], row["bbox"][2]) == (True, None, None)
        assert all(row["bbox"][k] is not None for k in (1, 3))


def write_masks_of(path: Path, side: int, masks: np.ndarray) -> Path:
    write_masks(path, about(side), encode(masks))
    return path


def test_masks_on_the_original_image_are_the_masks_of_the_frame_again(tmp_path: Path) -> None:
    """Images larger than the frame: every pixel of the frame is taken from an original pixel, and goes back to it."""
    side = 48
    frames = [Frame.of(height, width, side) for height, width in SIZES]
    drawn = np.random.default_rng(0)
    masks = np.stack([frame.place_masks(drawn.random((2, frame.height, frame.width)) < 0.4) for frame in frames])
    file = write_masks_of(tmp_path / MASKS_FILE, side, masks)
    content = exported("masks", file, "original")
    for k, frame in enumerate(frames):
        rows = [row for row in content["annotations"] if row["image_id"] == k + 1]
        assert [row["segmentation"]["size"] for row in rows] == [[frame.height, frame.width]] * 2
        whole = np.stack([coco_mask.decode({**row["segmentation"], "counts": row["segmentation"]["counts"].encode()}) for row in rows])
        assert np.array_equal(frame.place_masks(whole.astype(bool)), masks[k])


def test_masks_that_fill_the_frame_fill_the_image_and_no_more(tmp_path: Path) -> None:
    content = exported("masks", write_masks_of(tmp_path / MASKS_FILE, 224, np.ones((3, 2, 224, 224), bool)), "original")
    for row in content["annotations"]:
        assert coco_mask.area({**row["segmentation"], "counts": row["segmentation"]["counts"].encode()}) == np.prod(
            SIZES[row["image_id"] - 1]
        )


@pytest.mark.parametrize("side", [48, 64, 75, 224])
def test_a_pixel_of_the_original_takes_the_frame_pixel_that_lies_over_it(side: int) -> None:
    for height, width in SIZES:
        frame = Frame.of(height, width, side)
        mask = np.zeros((1, side, side), bool)
        mask[0, side // 3, side // 2] = True
        rows, columns = np.nonzero(frame.masks_to_original(mask)[0])
        boxes = frame.to_frame(np.column_stack([columns, rows, np.ones((len(rows), 2))]))
        centres = boxes[:, :2] + boxes[:, 2:] / 2
        assert (np.floor(centres) == [side // 2, side // 3]).all()


def test_masks_of_another_size_are_not_mapped() -> None:
    with pytest.raises(ValueError, match="expected bool"):
        Frame.of(10, 10, 8).masks_to_original(np.zeros((1, 9, 8), bool))


@pytest.mark.parametrize("converted", [False, True], ids=["as stored", "converted"])
def test_everything_is_written_and_what_is_written_holds_the_same(out: Path, tmp_path: Path, converted: bool) -> None:
    if converted:
        convert(out)
    found = export(out, None, tmp_path / "to")
    assert (len(found.files), found.left_out, found.n_private) == (5, (), 0)
    for record in Store(out).all():
        folder, given = out / "predictions" / record.key, tmp_path / "to" / record.key
        if (given / DETECTIONS_JSON).exists():
            one, other = (
                read_detections(f) for f in (given / DETECTIONS_JSON, folder / (DETECTIONS_FILE if converted else DETECTIONS_JSON))
            )
            assert one[1] == other[1]
            assert all(np.array_equal(getattr(one[0], n), getattr(other[0], n)) for n in ("image", "xywh", "label", "confidence"))
        elif (given / MASKS_JSON).exists():
            one, other = (read_masks(file) for file in (given / MASKS_JSON, folder / (MASKS_FILE if converted else MASKS_JSON)))
            assert np.array_equal(one[0], other[0])
            assert one[1:] == other[1:]
        else:
            scores, ids, classes = read_scores(folder / SCORES_FILE)
            with (given / SCORES_CSV).open(newline="") as handle:
                table = list(csv.reader(handle))
            assert table[0] == ["id", *classes]
            assert [row[0] for row in table[1:]] == list(ids)
            assert np.array_equal(np.array([row[1:] for row in table[1:]], np.float32), scores.astype(np.float32))


def test_a_record_is_named_by_its_key_or_how_it_begins(out: Path, tmp_path: Path) -> None:
    record = of_target(out, "boxes")
    (file,) = export(out, [record.key[:8]], tmp_path / "to", "original").files
    assert file == tmp_path / "to" / record.key / DETECTIONS_JSON
    assert json.loads(file.read_text())["frame"] == "original"
    for key in ("0" * 32, record.key[:3]):
        with pytest.raises(UnknownName, match="no record called"):
            export(out, [key], tmp_path / "to")


def test_files_of_data_that_may_not_be_passed_on_are_private(out: Path, tmp_path: Path) -> None:
    record = of_target(out, "boxes")
    Store(out).path(record.key).write_text(sealed(record.model_copy(update={"redistribution": "none"})).model_dump_json())
    before = os.umask(0o022)
    try:
        found = export(out, None, tmp_path / "to")
    finally:
        os.umask(before)
    assert found.n_private == 1
    hidden = tmp_path / "to" / record.key
    assert {path.stat().st_mode & 0o077 for path in (hidden, *hidden.iterdir())} == {0}
    assert all(path.stat().st_mode & 0o044 for path in found.files if path.parent != hidden)


def test_a_damaged_file_is_left_out_and_named(out: Path, tmp_path: Path) -> None:
    record = of_target(out, "boxes")
    path = out / "predictions" / record.key / DETECTIONS_JSON
    path.write_bytes(path.read_bytes() + b" ")
    found = export(out, None, tmp_path / "to")
    ((key, why),) = found.left_out
    assert (key, len(found.files)) == (record.key, 4)
    assert "is not the file that was stored" in why
    Store(out).path(record.key).write_text("{")
    with pytest.raises(StoreError, match="is damaged"):
        export(out, [record.key], tmp_path / "to")


def test_a_damaged_record_and_a_failed_one_are_left_out_of_all_and_said(out: Path, tmp_path: Path, lobe) -> None:
    damaged, failed, *others = Store(out).all()
    Store(out).path(damaged.key).write_text("{")
    nothing = {"status": "failed", "failure": Failure(kind="x", sentence="y", traceback=""), "predictions": (), "file_digests": {}}
    Store(out).path(failed.key).write_text(sealed(failed.model_copy(update=nothing)).model_dump_json())
    found = export(out, None, tmp_path / "to")
    assert {path.parent.name for path in found.files} == {record.key for record in others}
    why = dict(found.left_out)
    assert why.keys() == {damaged.key, failed.key}
    assert "is damaged" in why[damaged.key]
    assert why[failed.key] == "it failed and has no predictions"
    code, said, err = lobe("export", out, failed.key, "--to", tmp_path / "again")
    assert (code, ": 0." in said) == (1, True)
    assert f"left out: {failed.key}: it failed and has no predictions" in err


def test_a_record_without_files_for_other_programs_says_so(out: Path, tmp_path: Path) -> None:
    record = of_target(out, "boxes")
    Store(out).path(record.key).write_text(sealed(record.model_copy(update={"predictions": (), "file_digests": {}})).model_dump_json())
    found = export(out, [record.key], tmp_path / "to")
    ((key, why),) = found.left_out
    assert (found.files, key) == ((), record.key)
    assert f"no other form ({record.job.labels.task})" in why


def test_a_folder_that_takes_no_files_is_named(out: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("where a folder should be")
    with pytest.raises(StoreError, match=r"Cannot write to .*to: Not a directory\. Choose another folder with --to"):
        export(out, None, tmp_path / "file" / "to")
    with full_disk(), pytest.raises(StoreError, match=r"Cannot write to .*: File too large"):
        export(out, None, tmp_path / "to")
    assert [path for path in (tmp_path / "to").rglob("*") if path.is_file()] == []


def test_a_beginning_of_two_keys_is_refused(out: Path, tmp_path: Path) -> None:
    record = of_target(out, "boxes")
    other = f"{record.key[:10]}{'0' * 22}"
    shutil.copy(Store(out).path(record.key), Store(out).path(other))
    with pytest.raises(UsageError, match=f"2 records begin with '{record.key[:10]}': give more of the key"):
        export(out, [record.key[:10]], tmp_path / "to")
    assert [path.parent.name for path in export(out, [record.key], tmp_path / "to").files] == [record.key]


def test_images_that_do_not_lie_as_the_file_says_are_refused_and_not_mapped(tmp_path: Path) -> None:
    said = about(64)
    wrong = heading.Placement(**{**vars(said.placement), "pad_top": said.placement.pad_top + 1})
    given = Detections(np.array([0]), np.ones((1, 4)), np.array([0]), 3, "padded-64", np.array([0.5]))
    for placement, why in ((wrong, r"image 1 \(x\) does not lie in a frame of 64 pixels"), (None, "does not say how its images lie")):
        write_detections(tmp_path / DETECTIONS_FILE, heading.Heading(**{**vars(said), "placement": placement}), given)
        with pytest.raises(UsageError, match=why):
            exported("boxes", tmp_path / DETECTIONS_FILE, "original")


def test_nothing_is_written_among_the_results_and_a_folder_without_results_is_named(out: Path, tmp_path: Path) -> None:
    for to in (out / "predictions" / "mine", out / "records"):
        with pytest.raises(UsageError, match="lies among the results"):
            export(out, None, to)
    with pytest.raises(UsageError, match="holds no results"):
        export(tmp_path / "nothing", None, tmp_path / "to")


def test_the_command_says_where_files_are_and_takes_keys_or_all(out: Path, lobe, tmp_path: Path) -> None:
    code, said, _ = lobe("export", out, "--all", "--to", tmp_path / "to")
    assert (code, ": 5." in said) == (0, True)
    code, said, _ = lobe("export", out, of_target(out, "masks").key, "--to", tmp_path / "to", "--original", "--json")
    (file,) = json.loads(said)["files"]
    assert (code, json.loads(Path(file).read_text())["frame"]) == (0, "original")
    for wrong in ((), ("0123456789", "--all")):
        code, _, err = lobe("export", out, *wrong, "--to", tmp_path / "to")
        assert (code, "KEY" in err) == (2, True)
