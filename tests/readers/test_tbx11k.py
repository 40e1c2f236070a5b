"""Promises of the TBX11K reader, on folders written here in the public layout (docs/sources.md, TBX11K)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from benchmark import registry, resolve
from benchmark.errors import DataError, ImageError, PartialRelease, SplitError
from benchmark.plan import Settings, plan
from benchmark.readers.base import open_reader

CARD = registry.dataset("tbx11k")
RULE = CARD.splits["official-val"]
CATEGORIES = [{"id": k, "name": name} for k, name in enumerate(CARD.classes, start=1)]
TRAIN = ("tb/tb0002.png", "health/h0001.png", "sick/s0001.png", "tb/tb0001.png")
VAL = ("tb/tb0003.png", "health/h0002.png")


def box_of(number: int, image: int, category: int = 1, bbox: Any = (300.0, 120.0, 50.0, 40.0), **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "iscrowd": 0, "area": 2000, "bbox": list(bbox), **more}


def coco(files: tuple[str, ...], boxes: list[dict[str, Any]]) -> dict[str, Any]:
    images = [{"id": k, "file_name": name, "width": 512, "height": 512} for k, name in enumerate(files, start=1)]
    return {"images": images, "annotations": boxes, "categories": CATEGORIES}


def write(folder: Path, train: tuple[str, ...] = TRAIN, val: tuple[str, ...] = VAL, boxes: list[dict[str, Any]] | None = None) -> Path:
    """A release; `boxes` are those of the training images, numbered from 1 in the order of the list."""
    (folder / "lists").mkdir(parents=True)
    (folder / "annotations" / "json").mkdir(parents=True)
    default = [box_of(1, 1), box_of(2, 1, 2, (10.5, 20.0, 30.0, 60.0)), box_of(3, 4, 3, (0, 0, 512, 512))]
    for part, files, own in (("train", train, default if boxes is None else boxes), ("val", val, [box_of(1, 1)])):
        (folder / "lists" / f"TBX11K_{part}.txt").write_text("".join(f"{name}\n" for name in files))
        (folder / "annotations" / "json" / f"TBX11K_{part}.json").write_text(json.dumps(coco(files, own)))
        for name in files:
            path = folder / "imgs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.new("RGB", (512, 512), (40, 40, 40)).save(path, compress_level=1)
    return folder


def opened(root: Path):
    return open_reader(CARD, root)


# ------------------------------------------------------------------------------------------------------------------ reading


def test_a_sample_has_grey_pixels_boxes_and_masks_by_class(tmp_path):
    sample = opened(write(tmp_path)).sample("tb0002")
    image = sample.image()
    assert (image.shape, image.dtype) == ((512, 512), np.uint8)
    assert sample.boxes_xywh.tolist() == [[300, 120, 50, 40], [10.5, 20, 30, 60]]
    assert sample.box_labels.tolist() == [0, 1]
    masks = sample.masks(image.shape)
    assert masks.shape == (3, 512, 512)
    assert masks[0, 120:160, 300:350].all()
    assert masks.sum(axis=(1, 2)).tolist() == [50 * 40, 30 * 60, 0]
    assert (sample.positive, sample.patient_id) == (True, None)


@pytest.mark.parametrize("name", ["h0001", "s0001"])
def test_healthy_and_otherwise_sick_images_are_negatives(tmp_path, name):
    sample = opened(write(tmp_path)).sample(name)
    assert (sample.positive, sample.boxes_xywh.shape) == (False, (0, 4))
    assert not sample.masks((512, 512)).any()


def test_ids_follow_the_lists_and_box_numbers_of_the_two_files_do_not_mix(tmp_path):
    reader = opened(write(tmp_path))
    assert reader.ids == ("tb0002", "h0001", "s0001", "tb0001", "tb0003", "h0002")
    assert len(reader.sample("tb0003").boxes_xywh) == 1


def test_images_without_boxes_may_be_missing_in_the_coco_file(tmp_path):
    root = write(tmp_path)
    path = root / "annotations" / "json" / "TBX11K_train.json"
    content = json.loads(path.read_text())
    content["images"] = [image for image in content["images"] if image["file_name"].startswith("tb")]
    del content["categories"]
    path.write_text(json.dumps(content))
    assert opened(root).sample("h0001").positive is False
    assert len(opened(root).sample("tb0002").boxes_xywh) == 2


def test_unlabelled_test_images_and_extra_folders_are_not_read(tmp_path):
    root = write(tmp_path)
    for folder in ("test", "extra"):
        (root / "imgs" / folder).mkdir()
        shutil.copy(root / "imgs" / "tb" / "tb0001.png", root / "imgs" / folder / "tb0001.png")
    assert len(opened(root).image_files()) == 6


def test_a_release_inside_its_top_folder_is_found(tmp_path):
    write(tmp_path / "TBX11K")
    assert len(opened(tmp_path).ids) == 6


# ------------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("boxes", "sentences"),
    [
        ([box_of(1, 1), box_of(1, 4)], ["annotation 1 stands twice"]),
        ([box_of(1, 1), box_of(2, 1)], ["annotation 2 (tb0002)", "same box once more"]),
        ([box_of(1, 99)], ["annotation 1 is of image 99"]),
        ([box_of(1, 1, category=4)], ["category 4", "1 ActiveTuberculosis"]),
        ([box_of(1, 2)], ["(h0001)", "image of the folder health"]),
        ([box_of(1, 1, bbox=(500, 10, 13, 5))], ["leaves the image (x 500 to 513", "edited copy"]),
        ([box_of(1, 1, bbox=(-1, 10, 13, 5))], ["leaves the image"]),
        ([box_of(1, 1, bbox=(1, 10, 0, 5))], ["has no area"]),
        ([box_of(1, 1, bbox=(1, 10, float("nan"), 5))], ["has no area"]),
        ([box_of(1, 1, bbox=(1, 10, 5))], ["lacks id, image_id, category_id or bbox"]),
        ([{"id": 1, "image_id": 1, "category_id": 1}], ["lacks", "bbox"]),
    ],
)
def test_a_damaged_annotation_is_an_error_with_file_and_number(tmp_path, boxes, sentences):
    with pytest.raises(DataError) as caught:
        opened(write(tmp_path, boxes=boxes))
    assert "annotations/json/TBX11K_train.json" in str(caught.value)
    assert [s for s in sentences if s not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("train", "sentence"),
    [
        (("tb/tb0001.png", "tb/tb0001.png"), "line 2: tb0001 is already listed"),
        (("tb/tb0003.png",), "already listed in lists/TBX11K_train.txt"),  # VAL has it too
        (("tb0001.png",), "no file such as tb/tb0001.png"),
        (("test/t0001.png",), "no file such as"),
        (("tb/tb0001.jpg",), "no file such as"),
    ],
)
def test_a_list_with_a_doubtful_line_is_an_error(tmp_path, train, sentence):
    with pytest.raises(DataError) as caught:
        opened(write(tmp_path, train=train, boxes=[]))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c["images"].append(c["images"][0]), "stands twice"),
        (lambda c: c["images"][0].update(id=2), "shares its id"),
        (lambda c: c["images"][0].update(file_name="tb/tb0003.png"), "is not in lists/TBX11K_train.txt"),
        (lambda c: c["images"][0].update(height=2840), "2840 rows x 512 columns"),
        (lambda c: c.pop("annotations"), "no COCO file"),
        (lambda c: c["categories"][0].update(name="tb"), "categories"),
        (lambda c: c["categories"].reverse() or [c["categories"][k].update(id=k + 1) for k in range(3)], "categories"),
    ],
)
def test_a_coco_file_that_does_not_fit_is_an_error(tmp_path, change, sentence):
    root = write(tmp_path)
    path = root / "annotations" / "json" / "TBX11K_train.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        opened(root)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("name", ["lists/TBX11K_val.txt", "annotations/json/TBX11K_val.json", "annotations/json/TBX11K_train.json"])
def test_a_missing_label_file_is_named(tmp_path, name):
    root = write(tmp_path)
    (root / name).unlink()
    with pytest.raises(DataError, match=f"{name} is missing"):
        opened(root)


def test_a_missing_image_is_an_error_with_its_id(tmp_path):
    root = write(tmp_path)
    (root / "imgs" / "tb" / "tb0001.png").unlink()
    with pytest.raises(DataError, match=r"1 of 6 images listed in .* tb0001"):
        opened(root)


def test_the_simplified_version_is_refused_by_name(tmp_path):
    (tmp_path / "data.csv").write_text("fname,target,bbox\n")
    with pytest.raises(DataError, match="simplified Kaggle version"):
        opened(tmp_path)


def test_a_resized_copy_is_an_error_because_boxes_would_not_fit(tmp_path):
    root = write(tmp_path)
    PIL.Image.new("RGB", (256, 256)).save(root / "imgs" / "tb" / "tb0002.png")
    sample = opened(root).sample("tb0002")
    with pytest.raises(ImageError, match="256 rows x 256 columns"):
        sample.image()
    with pytest.raises(ImageError, match="resized copy"):
        sample.masks((256, 256))


def test_an_unknown_id_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no image 'tb9999'"):
        opened(write(tmp_path)).sample("tb9999")


# --------------------------------------------------------------------------------------------------------- splits and verify


def many(folder: Path) -> Path:
    kinds = {"health": "h", "sick": "s", "tb": "tb"}
    train = tuple(f"{kind}/{letters}{k:04d}.png" for kind, letters in kinds.items() for k in range(11, 21))
    return write(folder, train=train, boxes=[])


def test_the_official_validation_list_is_the_test_set_and_every_kind_is_held_out_alike(tmp_path):
    splits = opened(many(tmp_path)).split(RULE)
    assert splits["test"] == ("tb0003", "h0002")
    assert sorted(i.rstrip("0123456789") for i in splits["validation"]) == ["h", "h", "s", "s", "tb", "tb"]
    assert len(splits["train"]) == 24
    assert opened(tmp_path).split(RULE) == splits


def test_too_few_images_of_a_kind_are_an_error_with_the_numbers(tmp_path):
    with pytest.raises(SplitError, match=r"too few training images \(1 health, 1 sick, 2 tb\)"):
        opened(write(tmp_path)).split(RULE)


def test_another_rule_is_refused(tmp_path):
    with pytest.raises(SplitError, match="official validation as test"):
        opened(many(tmp_path)).split(RULE.model_copy(update={"rule": "permutation"}))


def test_verify_of_an_incomplete_release_shows_counts_as_errors(tmp_path):
    verification = opened(many(tmp_path)).verify()
    lines = {c.what: c for c in verification.checks}
    assert not verification.ok
    assert (lines["train tb"].expected, lines["train tb"].found, lines["train tb"].verdict) == ("600", "10", "error")
    assert lines["official-val test: images"].verdict == "error"
    assert lines["images of tuberculosis without a box"].verdict == "error"


def test_one_image_of_tuberculosis_without_a_box_is_known(tmp_path):
    reader = opened(write(tmp_path, boxes=[box_of(1, 1)]))
    line = next(c for c in reader.checks() if c.what == "images of tuberculosis without a box")
    assert (line.found, line.verdict) == ("1", "warning")
    assert "tb1199" in line.hint


def test_verify_of_a_phantom_compares_with_its_own_file(tmp_path):
    root = write(tmp_path)
    (root / "PHANTOM.json").write_text(json.dumps({"counts": {"images": 6, "boxes": 4, "positives": 3}}))
    assert opened(root).verify().ok
    (root / "PHANTOM.json").write_text(json.dumps({"counts": {"boxes": 5}}))
    assert not opened(root).verify().ok


# ----------------------------------------------------------------------------------------------------------- copies people have


def voc(name: str, boxes: list[tuple[str, tuple[int, int, int, int]]], size: tuple[int, int] = (1024, 2048), difficult: int = 0) -> str:
    """An XML annotation; corners in pixels of `size`, (width, height)."""
    objects = "".join(
        f"<object><name>{category}</name><difficult>{difficult}</difficult><bndbox>"
        f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for category, (x1, y1, x2, y2) in boxes
    )
    return f"<annotation><filename>{name}</filename><size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}</annotation>"


BOX = ("ActiveTuberculosis", (602, 484, 702, 644))


def with_xml(root: Path, **contents: str) -> Path:
    """The release with XML annotations in place of COCO files; every image of tuberculosis has one."""
    shutil.rmtree(root / "annotations" / "json")
    folder = root / "annotations" / "xml"
    folder.mkdir()
    for name in (*TRAIN, *VAL):
        stem = Path(name).stem
        if name.startswith("tb/") or stem in contents:
            (folder / f"{stem}.xml").write_text(contents.get(stem, voc(stem, [BOX])))
    return root


def test_xml_boxes_are_scaled_from_the_original_pixels_less_one_as_the_releases_script_has_it(tmp_path):
    """602 / 2 - 1 = 300 and 484 / 4 - 1 = 120: the box of the COCO file above."""
    reader = opened(with_xml(write(tmp_path)))
    assert reader.release == "lists and XML annotations"
    assert reader.sample("tb0002").boxes_xywh.tolist() == [[300, 120, 50, 40]]
    assert reader.sample("tb0002").box_labels.tolist() == [0]
    assert reader.sample("h0001").positive is False
    assert not reader.partial
    assert {path.suffix for path in reader.label_files()} == {".txt", ".xml"}


def test_xml_boxes_are_the_scripts_single_precision_numbers(tmp_path):
    corners, size = (1446, 250, 2007, 1017), (2840, 2827)
    reader = opened(with_xml(write(tmp_path), tb0002=voc("tb0002", [("ObsoletePulmonaryTuberculosis", corners)], size)))
    x1, y1, x2, y2 = (np.array([corners[k] / (size[k % 2] / 512) for k in range(4)]) - 1).astype(np.float32)
    assert reader.sample("tb0002").boxes_xywh.tolist() == [[float(x1), float(y1), float(x2 - x1), float(y2 - y1)]]


@pytest.mark.parametrize(
    "content",
    [
        voc("tb0002", []),
        voc("tb0002", [BOX], difficult=1),
        voc("tb0002", [(BOX[0], (600, 480, 601, 640))]),  # half a pixel wide
        voc("tb0002", [(BOX[0], (600, 480, 608, 496))]),  # 4 x 4 pixels, less than 20
    ],
)
def test_difficult_and_tiny_boxes_are_left_out_as_the_releases_script_does(tmp_path, content):
    assert opened(with_xml(write(tmp_path), tb0002=content)).sample("tb0002").positive is False


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("tb0002", voc("tb0002", [("Tuberculosis", BOX[1])]), "object 1 is called 'Tuberculosis'"),
        ("tb0002", voc("tb0002", [BOX, BOX]), "object 2 (tb0002): the same box once more"),
        ("tb0002", voc("tb0002", [(BOX[0], (900, 480, 1100, 640))]), "the box leaves the image"),
        ("tb0002", voc("tb0001", [BOX]), "is of the image 'tb0001'"),
        ("h0001", voc("h0001", [BOX]), "image of the folder health"),
    ],
)
def test_a_doubtful_annotation_is_an_error_with_its_file(tmp_path, name, content, sentence):
    with pytest.raises(DataError) as caught:
        opened(with_xml(write(tmp_path), **{name: content}))
    assert sentence in str(caught.value)
    assert f"xml/{name}.xml" in str(caught.value)


def test_coco_files_decide_where_both_are_there(tmp_path):
    root = write(tmp_path)
    (root / "annotations" / "xml").mkdir()
    (root / "annotations" / "xml" / "tb0001.xml").write_text(voc("tb0001", [BOX]))
    assert opened(root).release == "lists and COCO files"
    assert opened(root).sample("tb0001").boxes_xywh.tolist() == [[0, 0, 512, 512]]


def trimmed(root: Path) -> Path:
    for kind in ("health", "sick"):
        shutil.rmtree(root / "imgs" / kind)
    return root


def test_images_of_tuberculosis_alone_are_a_partial_release_with_the_whole_ones_split(tmp_path):
    whole = opened(many(tmp_path)).split(RULE)
    reader = opened(trimmed(tmp_path))
    assert reader.partial == "images of tuberculosis only"
    assert reader.release.startswith("partial release, images of tuberculosis only")
    assert any("11 of 32 listed images" in warning and "Never ranked" in warning for warning in reader.warnings)
    assert reader.split(RULE) == {name: tuple(i for i in ids if i.startswith("tb")) for name, ids in whole.items()}
    assert len(reader.image_files()) == len(reader.ids) == 11
    with pytest.raises(DataError, match="no image 'h0002'"):
        reader.sample("h0002")


def test_verify_excuses_a_partial_release_for_what_it_leaves_out_and_for_nothing_else(tmp_path):
    verification = opened(trimmed(write(tmp_path))).verify()
    lines = {check.what: check for check in verification.checks}
    assert verification.partial == "images of tuberculosis only"
    assert (lines["train health"].verdict, lines["images"].verdict) == ("warning", "warning")
    assert "never ranked" in lines["train health"].hint
    assert (lines["train tb"].verdict, lines["boxes"].verdict) == ("error", "error")


@pytest.mark.parametrize("gone", [("health",), ("sick",), ("tb",), ("health", "tb")])
def test_any_other_part_of_the_release_is_no_known_one(tmp_path, gone):
    root = write(tmp_path)
    for kind in gone:
        shutil.rmtree(root / "imgs" / kind)
    with pytest.raises(PartialRelease, match="are not in the folder"):
        opened(root)


def test_a_partial_release_that_lacks_one_of_its_own_images_is_refused(tmp_path):
    root = trimmed(write(tmp_path))
    (root / "imgs" / "tb" / "tb0001.png").unlink()
    with pytest.raises(PartialRelease, match=r"1 of 3 images listed in .* tb0001"):
        opened(root)


def test_images_may_lie_in_folders_of_another_layout(tmp_path):
    root = trimmed(write(tmp_path / "TBX11K"))
    for number, name in enumerate(("tb0001", "tb0002", "tb0003")):
        place = root / "a copy" / "images" / ("train" if number < 2 else "val")
        place.mkdir(parents=True, exist_ok=True)
        shutil.move(root / "imgs" / "tb" / f"{name}.png", place)
    shutil.rmtree(root / "imgs")
    reader = opened(tmp_path)
    assert sorted(reader.ids) == ["tb0001", "tb0002", "tb0003"]
    assert reader.sample("tb0002").image().shape == (512, 512)
    shutil.copy(place / "tb0003.png", root)
    with pytest.raises(DataError, match="tb0003 exists twice"):
        opened(tmp_path)


def test_jobs_on_a_partial_release_count_as_limited_and_those_on_the_whole_one_do_not(tmp_path):
    root, task = many(tmp_path / "tbx11k"), registry.task("tbx11k-linear-frozen-100-lobe")
    backbone = resolve.backbone("torchvision:resnet18", tmp_path / "cache").named

    def planned() -> tuple[str, set[bool]]:
        ref = resolve.dataset(CARD, root, registry.protocol("corrected"), split=task.split).ref
        jobs = plan([task], [backbone], {"tbx11k": ref}, registry.protocol("corrected"), Settings(runs=1))
        return ref.partial, {job.limited for job in jobs}

    assert planned() == ("", {False})
    trimmed(root)
    assert planned() == ("images of tuberculosis only", {True})


def test_xml_annotations_in_a_linked_folder_and_with_litter_beside_them_are_the_same(tmp_path):
    plain = opened(with_xml(write(tmp_path)))
    said, counts = {i: plain.sample(i).boxes_xywh.tolist() for i in plain.ids}, plain._counts()
    base = plain._base
    for folder in (base / "annotations" / "xml", base / "imgs" / "tb", base / "lists"):
        for path in list(folder.iterdir()):
            path.with_name(f"._{path.name}").write_bytes(b"Mac OS X")
        moved = tmp_path.with_name(f"{tmp_path.name}-disk") / folder.name
        moved.parent.mkdir(exist_ok=True)
        folder.rename(moved)
        folder.symlink_to(moved)
    (base / "imgs" / "test").mkdir(exist_ok=True)
    (base / "imgs" / "test" / "._1.png").write_bytes(b"Mac OS X")
    again = opened(plain.root)
    assert {i: again.sample(i).boxes_xywh.tolist() for i in again.ids} == said
    assert again.label_files() == plain.label_files()
    assert again._counts() == counts
