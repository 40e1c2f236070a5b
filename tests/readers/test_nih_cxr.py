"""Promises of the ChestX-ray14 reader: broken headers read by position, archives at any depth, and LoVT's split by patient.

Tests called `..._committed_...` compare with LoVT's own lists where they lie beside the checkout; all others use files made here.
"""

from __future__ import annotations

import itertools
import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
import pytest

from benchmark import registry
from benchmark.errors import DataError, ImageError, SplitError
from benchmark.readers.base import ids_digest, open_reader
from benchmark.readers.kit.splits import check_digests, lovt_csv, shared_patients
from benchmark.readers.nih_cxr import patient_of, split_with_normals

CARD = registry.dataset("nih-cxr")
RULE = CARD.splits["lovt"]
LOVT = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "lovt_splits" / "nih-cxr"
needs_lovt = pytest.mark.skipif(not LOVT.is_dir(), reason="LoVT's committed lists are not beside the checkout")

# docs/sources.md, ChestX-ray14: both headers literally.
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
ENTRY_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
N_NORMAL_IMAGES = 9861

BOXED = ["00000011_004", "00000012_000", "00000011_005", "00000013_001", "00000014_001", "00000015_002"]
BOXES = [
    ("00000011_004", "Atelectasis", (231.186440677966, 512.542372881356, 90.8474576271186, 84.0677966101695)),
    ("00000012_000", "Infiltrate", (100.0, 50.0, 30.5, 200.4)),
    ("00000011_005", "Effusion", (10.5, 11.5, 20.0, 40.0)),
    ("00000011_004", "Pneumothorax", (700.0, 100.0, 60.0, 20.0)),
    ("00000013_001", "Mass", (1.0, 2.0, 1023.0, 1022.0)),
    ("00000014_001", "Nodule", (5.0, 6.0, 7.0, 8.0)),
    ("00000015_002", "Pneumonia", (5.0, 6.0, 70.0, 80.0)),
]
LABELS = {
    "00000011_004": "Atelectasis|Pneumothorax",
    "00000012_000": "Infiltration|Nodule",
    "00000011_005": "Effusion",
    "00000013_001": "Mass",
    "00000014_001": "Nodule",
    "00000015_002": "Pneumonia",
}
NORMAL = [f"000001{k:02d}_000" for k in range(10)]


def write_boxes(folder: Path, boxes=BOXES) -> None:
    lines = [f"{i}.png,{label},{','.join(map(str, xywh))}" for i, label, xywh in boxes]
    (folder / "BBox_List_2017.csv").write_text("\n".join([BOX_HEADER, *lines]) + "\n")


def write_entries(folder: Path, labels: dict[str, str], *, year: str = "2020") -> None:
    """The 2020 file, or the 2017 one, whose lines end with a comma."""
    end, name = ("", "Data_Entry_2017_v2020.csv") if year == "2020" else (",", "Data_Entry_2017.csv")
    lines = [f"{i}.png,{found},0,{int(patient_of(i))},61,M,PA,2700,2800,0.143,0.143{end}" for i, found in labels.items()]
    (folder / name).write_text("\n".join([ENTRY_HEADER + end, *lines]) + "\n")


def write_list(folder: Path, ids, name: str = "test_list.txt") -> None:
    (folder / name).write_text("".join(f"{i}.png\n" for i in ids))


def touch_images(folder: Path, ids, *places: str) -> None:
    for k, sample_id in enumerate(ids):
        place = folder / places[k % len(places)]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{sample_id}.png").touch()


def release(folder: Path, *places: str, year: str = "2020") -> Path:
    """Six boxed images of five patients, ten normal test images, and normal images outside the test list."""
    folder.mkdir(parents=True, exist_ok=True)
    outside = {"00000200_000": "No Finding", "00000201_000": "Hernia"}
    write_boxes(folder)
    write_entries(folder, outside | dict.fromkeys(NORMAL, "No Finding") | LABELS, year=year)
    write_list(folder, [*BOXED, *NORMAL])
    write_list(folder, outside, "train_val_list.txt")
    touch_images(folder, [*BOXED, *NORMAL], *(places or ("images",)))
    return folder


# -------------------------------------------------------------------------------------------------------------- the label files


@pytest.mark.parametrize("year", ["2017", "2020"])
def test_both_label_tables_are_read_by_position(tmp_path, year):
    reader = open_reader(CARD, release(tmp_path, year=year))
    assert f"labels of {year}" in reader.release
    assert reader.ids == (*BOXED, *NORMAL)
    sample = reader.sample("00000012_000")
    assert (sample.view, sample.sex, sample.age_decade) == ("PA", "M", 60)


def test_boxes_survive_the_header_that_has_more_names_than_cells(tmp_path):
    reader = open_reader(CARD, release(tmp_path))
    sample = reader.sample("00000011_004")
    assert sample.boxes_xywh.tolist() == [[231.186440677966, 512.542372881356, 90.8474576271186, 84.0677966101695], [700, 100, 60, 20]]
    assert sample.box_labels.tolist() == [0, 7]
    assert sample.patient_id == "00000011"
    assert sample.positive


def test_infiltrate_of_the_box_list_is_infiltration_of_the_labels(tmp_path):
    reader = open_reader(CARD, release(tmp_path))
    assert reader.sample("00000012_000").box_labels.tolist() == [CARD.classes.index("Infiltrate")] == [3]
    line = next(c for c in reader.checks() if c.what.startswith("boxes whose class"))
    assert (line.found, line.verdict) == ("0", "ok")


def test_a_box_of_a_class_its_image_is_not_labelled_with_shows_in_verify(tmp_path):
    release(tmp_path)
    write_entries(tmp_path, dict.fromkeys(NORMAL, "No Finding") | LABELS | {"00000013_001": "Hernia"})
    line = next(c for c in open_reader(CARD, tmp_path).checks() if c.what.startswith("boxes whose class"))
    assert (line.found, line.verdict) == ("1", "error")


def test_only_the_label_no_finding_alone_makes_a_normal_image(tmp_path):
    release(tmp_path)
    write_entries(tmp_path, dict.fromkeys(NORMAL, "No Finding") | {NORMAL[3]: "No Finding|Mass"} | LABELS)
    assert NORMAL[3] not in open_reader(CARD, tmp_path).ids


BAD_BOXES = [
    ("00000011_004.png,Atelectasis,1,2,3", "has 5 cells, expected 6"),
    ("00000011_004.png,Atelectasis,1,2,3,4,5", "has 7 cells, expected 6"),
    ("00000011_004.png,Atelectasis,1,2,x,4", "are not four numbers"),
    ("00000011_004.png,Atelectasis,1,2,nan,4", "has no area"),
    ("00000011_004.png,Atelectasis,1,2,0,4", "has no area"),
    ("00000011_004.png,Atelectasis,1000,2,30,4", "leaves the image (x 1000 to 1030"),
    ("00000011_004.png,Atelectasis,-1,2,30,4", "leaves the image"),
    ("00000011_004.png,Fibrosis,1,2,30,4", "class 'Fibrosis'; expected one of Atelectasis"),
    ("picture.png,Mass,1,2,30,4", "is no image name"),
]


@pytest.mark.parametrize(("row", "sentence"), BAD_BOXES)
def test_a_damaged_box_row_names_its_line(tmp_path, row, sentence):
    release(tmp_path)
    (tmp_path / "BBox_List_2017.csv").write_text(f"{BOX_HEADER}\n00000013_001.png,Mass,5,5,5,5\n{row}\n")
    with pytest.raises(DataError) as caught:
        open_reader(CARD, tmp_path)
    assert "nih-cxr: BBox_List_2017.csv line 3" in str(caught.value)
    assert sentence in str(caught.value)


def test_a_second_box_of_a_class_is_a_duplicate(tmp_path):
    release(tmp_path)
    write_boxes(tmp_path, [*BOXES, ("00000013_001", "Mass", (1, 1, 5, 5))])
    with pytest.raises(DataError, match=r"line 9 \(00000013_001\): a second Mass box"):
        open_reader(CARD, tmp_path)


def test_an_image_listed_twice_names_its_line(tmp_path):
    release(tmp_path)
    with (tmp_path / "Data_Entry_2017_v2020.csv").open("a") as handle:
        handle.write("00000014_001.png,Nodule,0,14,61,M,PA,2700,2800,0.143,0.143\n")
    with pytest.raises(DataError, match=r"line 20: image 00000014_001 is listed a second time"):
        open_reader(CARD, tmp_path)


def test_a_truncated_label_row_names_its_line(tmp_path):
    release(tmp_path)
    with (tmp_path / "Data_Entry_2017_v2020.csv").open("a") as handle:
        handle.write("00000300_001.png,Nodu")
    with pytest.raises(DataError, match=r"line 20 has 2 cells, expected 11"):
        open_reader(CARD, tmp_path)


@pytest.mark.parametrize("labels", [{"00000013_001": "No Finding"}, None])
def test_boxes_that_contradict_the_label_table_are_refused(tmp_path, labels):
    release(tmp_path)
    kept = {i: found for i, found in LABELS.items() if labels is not None or i != "00000013_001"}
    write_entries(tmp_path, dict.fromkeys(NORMAL, "No Finding") | kept | (labels or {}))
    with pytest.raises(DataError, match=r"BBox_List_2017\.csv line 6 \(00000013_001\): the image has .* belong together"):
        open_reader(CARD, tmp_path)


@pytest.mark.parametrize("name", ["BBox_List_2017.csv", "Data_Entry_2017_v2020.csv", "test_list.txt"])
def test_a_missing_label_file_is_named(tmp_path, name):
    release(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        open_reader(CARD, tmp_path)


def test_a_box_table_with_other_columns_is_named_with_them(tmp_path):
    release(tmp_path)
    table = tmp_path / "BBox_List_2017.csv"
    table.write_text(table.read_text().replace(BOX_HEADER, "Image Index,Bbox [x,y,w,h],Finding Label"))
    with pytest.raises(
        DataError, match=r"BBox_List_2017\.csv starts with the columns Image Index, Bbox \[x, y; expected Image Index, Finding"
    ):
        open_reader(CARD, tmp_path)


def test_a_list_with_a_repeated_or_foreign_line_is_refused(tmp_path):
    release(tmp_path)
    write_list(tmp_path, [*BOXED, BOXED[0]])
    with pytest.raises(DataError, match=r"test_list\.txt lists 00000011_004 twice"):
        open_reader(CARD, tmp_path)
    (tmp_path / "test_list.txt").write_text("00000011_004.png\n<html>\n")
    with pytest.raises(DataError, match=r"test_list\.txt line 2: '<html>' is no image name"):
        open_reader(CARD, tmp_path)


# -------------------------------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize(
    ("places", "layout"),
    [
        (("images",), "in one folder"),
        ((".",), "in one folder"),
        (("images_001/images", "images_002/images"), "in archive folders"),
        (("images/images_01/images", "images/images_12/images"), "in archive folders"),
    ],
)
def test_archives_may_be_unpacked_in_any_known_way(tmp_path, places, layout):
    reader = open_reader(CARD, release(tmp_path, *places))
    assert reader.release.endswith(layout)
    assert len(reader.image_files()) == len(BOXED) + len(NORMAL)


def test_equalised_copies_of_lovts_preparation_are_not_mistaken_for_images(tmp_path):
    release(tmp_path)
    touch_images(tmp_path, BOXED, "processed_images")
    assert {p.parent.name for p in open_reader(CARD, tmp_path).image_files()} == {"images"}


def test_an_image_in_two_archives_is_an_error(tmp_path):
    release(tmp_path)
    touch_images(tmp_path, BOXED[:1], "images_001")
    with pytest.raises(DataError, match=r"image 00000011_004 exists twice"):
        open_reader(CARD, tmp_path)


def test_a_missing_box_image_is_named(tmp_path):
    release(tmp_path)
    (tmp_path / "images" / "00000013_001.png").unlink()
    with pytest.raises(DataError, match=r"1 of 6 images listed in BBox_List_2017\.csv .* 00000013_001"):
        open_reader(CARD, tmp_path)


def test_normal_images_may_be_missing_unless_the_split_draws_them(tmp_path):
    reader = open_reader(CARD, release(tmp_path))
    drawn = {i for ids in reader.split(RULE).values() for i in ids} & set(NORMAL)
    assert len(drawn) == 1  # 100 for 880, so 1 for 6
    for sample_id in set(NORMAL) - drawn:
        (tmp_path / "images" / f"{sample_id}.png").unlink()
    reader = open_reader(CARD, tmp_path)
    assert drawn <= {i for ids in reader.split(RULE).values() for i in ids}
    with pytest.raises(DataError, match=r"no image .* is among the 7 images"):
        reader.sample(min(set(NORMAL) - drawn))
    (tmp_path / "images" / f"{min(drawn)}.png").unlink()
    with pytest.raises(DataError, match=f"1 of 7 images listed in the split .* {min(drawn)}"):
        open_reader(CARD, tmp_path).split(RULE)


def test_four_channel_files_are_read_as_grey(tmp_path):
    release(tmp_path)
    ramp = np.tile(np.arange(1024, dtype=np.uint16) // 4, (1024, 1)).astype(np.uint8)
    opaque = np.full_like(ramp, 255)
    PIL.Image.fromarray(np.stack([ramp, ramp, ramp, opaque], axis=2), "RGBA").save(tmp_path / "images" / "00000013_001.png")
    assert np.array_equal(open_reader(CARD, tmp_path).sample("00000013_001").image(), ramp)


def test_a_resized_image_or_frame_is_refused(tmp_path):
    release(tmp_path)
    PIL.Image.new("L", (512, 512)).save(tmp_path / "images" / "00000013_001.png")
    sample = open_reader(CARD, tmp_path).sample("00000013_001")
    with pytest.raises(ImageError, match=r"\(id 00000013_001\): the image has 512 rows x 512 columns"):
        sample.image()
    with pytest.raises(ImageError, match="512 rows"):
        sample.masks((512, 512))


def test_masks_have_one_channel_per_class_with_its_filled_box(tmp_path):
    reader = open_reader(CARD, release(tmp_path))
    masks = reader.sample("00000011_004").masks((1024, 1024))
    assert masks.shape == (8, 1024, 1024)
    assert np.flatnonzero(masks.any(axis=(1, 2))).tolist() == [0, 7]
    expected = np.zeros((1024, 1024), dtype=bool)
    expected[513:597, 231:322] = True  # rows round(512.54) to round(596.61), columns round(231.19) to round(322.03)
    assert np.array_equal(masks[0], expected)
    assert masks[7, 100:120, 700:760].all()
    assert masks[7].sum() == 20 * 60
    assert not reader.sample(NORMAL[0]).masks((1024, 1024)).any()


# ------------------------------------------------------------------------------------------------------------------- splits


@cache
def generated(n_boxed: int = 880, n_normal: int = N_NORMAL_IMAGES) -> tuple[list[str], list[str]]:
    """Ids of a release of the real size, several images per patient and patients in both parts."""
    random = np.random.RandomState(7)
    boxed = [f"{k // 40:08d}_{k % 40:03d}" for k in random.permutation(760 * 40)[:n_boxed]]
    normal = [f"{k // 40:08d}_{50 + k % 40:03d}" for k in random.permutation(4000 * 40)[:n_normal]]
    return boxed, normal


def test_whole_patients_fill_test_then_validation_then_train_on_generated_ids():
    boxed, normal = generated()
    splits = split_with_normals(boxed, normal, 123, 0.2, 0.2)
    parts = {split: [i for i in ids if i in set(boxed)] for split, ids in splits.items()}
    assert sum(map(len, parts.values())) == 880
    assert sum(map(len, splits.values())) == 980
    assert all(n == 0 for n in shared_patients(parts, patient_of).values())
    for split in ("test", "validation"):
        assert len(parts[split]) >= 176
        last_patient = sum(patient_of(i) == patient_of(parts[split][-1]) for i in parts[split])
        assert len(parts[split]) - last_patient < 176  # stops with the patient that fills the share
    assert all(ids[: len(parts[split])] == tuple(parts[split]) for split, ids in splits.items())  # boxed images first


def test_normal_images_are_drawn_as_pandas_draws_them_on_generated_ids():
    boxed, normal = generated()
    splits = split_with_normals(boxed, normal, 123, 0.2, 0.2)
    drawn = {i for ids in splits.values() for i in ids} - set(boxed)
    random = np.random.RandomState(123)
    random.permutation(len({patient_of(i) for i in boxed}))
    assert drawn == set(pd.Series(normal).sample(100, random_state=random))


def test_the_two_parts_may_share_patients_on_generated_ids():
    boxed, normal = generated()
    found = shared_patients(split_with_normals(boxed, normal, 123, 0.2, 0.2), patient_of)
    assert found == {("train", "validation"): 4, ("train", "test"): 1, ("validation", "test"): 0}


def test_too_few_normal_images_is_an_error_with_both_numbers():
    boxed, _ = generated()
    with pytest.raises(SplitError, match="50 images of test_list.txt have no finding, but 100 are drawn"):  # noqa: RUF043
        split_with_normals(boxed, [f"{k:08d}_000" for k in range(50)], 123, 0.2, 0.2)


def test_patient_disjoint_variant_drops_test_patients_and_its_control_as_many_images(tmp_path):
    boxed, _ = generated(220, 1)
    normal = [f"{patient_of(i)}_099" for i in {patient_of(i): i for i in boxed}.values()]  # a normal image of every patient
    write_boxes(tmp_path, [(i, "Mass", (1, 2, 3, 4)) for i in boxed])
    write_entries(tmp_path, dict.fromkeys(boxed, "Mass") | dict.fromkeys(normal, "No Finding"))
    write_list(tmp_path, [*boxed, *normal])
    touch_images(tmp_path, [*boxed, *normal], "images")
    reader = open_reader(CARD, tmp_path)
    plain, disjoint, control = (
        reader.split(RULE.model_copy(update={"rule": RULE.rule + variant})) for variant in ("", ", patient-disjoint", ", size-matched")
    )
    assert shared_patients(plain, patient_of)["train", "test"] > 0
    assert shared_patients(disjoint, patient_of)["train", "test"] == 0
    assert {s: len(i) for s, i in control.items()} == {s: len(i) for s, i in disjoint.items()}
    assert set(control["train"]) != set(disjoint["train"])
    with pytest.raises(SplitError, match=r"no split rule .*, other'"):
        reader.split(RULE.model_copy(update={"rule": RULE.rule + ", other"}))
    with pytest.raises(SplitError, match="patients-and-normals"):
        reader.split(RULE.model_copy(update={"rule": "permutation"}))


# ---------------------------------------------------------------------------------------------------- LoVT's committed lists


def committed_sources() -> tuple[list[str], list[str]]:
    """A box list and a table of 9,861 normal images that lead to LoVT's lists.

    Boxed images: the patients' permutation undone. Normal images: LoVT's 100 in name order (the label table goes by patient) at the 100
    places the second permutation draws; the others are unknown and have made-up ids. The third permutation is not used here at all.
    """
    lists = lovt_csv(LOVT)
    drawn = [i for split in ("test", "validation", "train") for i in lists.splits[split]]
    boxed = [i for i in drawn if len(lists.labels[i])]
    normal = [i for i in drawn if not len(lists.labels[i])]
    random = np.random.RandomState(123)
    patients = list(dict.fromkeys(map(patient_of, boxed)))
    order = [""] * len(patients)
    for place, patient in zip(random.permutation(len(patients)), patients, strict=True):
        order[place] = patient
    table = [f"{90_000_000 + k}_000" for k in range(N_NORMAL_IMAGES)]
    places = random.permutation(N_NORMAL_IMAGES)[: len(normal)]
    for place, sample_id in zip(sorted(places), sorted(normal), strict=True):
        table[place] = sample_id
    return [i for patient in order for i in boxed if patient_of(i) == patient], table


def n_runs(values: list[int]) -> int:
    return 1 + sum(a != b for a, b in itertools.pairwise(values))


@needs_lovt
def test_the_undone_order_of_the_committed_lists_goes_class_by_class_as_the_release():
    """Not circular: nothing in the undoing knows that the box list is ordered by class."""
    lists = lovt_csv(LOVT)
    first_class: dict[str, int] = {}
    for sample_id in committed_sources()[0]:
        patient = patient_of(sample_id)
        first_class[patient] = min(first_class.get(patient, 8), *lists.labels[sample_id].tolist())
    by_patient = list(first_class.values())
    assert len(by_patient) == 726
    assert n_runs(by_patient) <= 25
    assert n_runs(np.random.RandomState(0).permutation(by_patient).tolist()) > 500


@needs_lovt
def test_the_rule_reproduces_the_committed_lists_in_content_and_order():
    boxed, table = committed_sources()
    splits = split_with_normals(boxed, table, RULE.seed, RULE.validation_share, RULE.test_share)
    assert splits == lovt_csv(LOVT).splits
    checks = check_digests(splits, RULE.expected, positive=set(boxed).__contains__, patient_of=patient_of)
    assert len(checks) == 15
    assert all(c.verdict == "ok" for c in checks)


@needs_lovt
def test_the_committed_lists_share_12_13_and_5_patients():
    shared = shared_patients(lovt_csv(LOVT).splits, patient_of)
    assert shared == {("train", "validation"): 12, ("train", "test"): 13, ("validation", "test"): 5}


@needs_lovt
def test_the_reader_reproduces_the_committed_lists_and_boxes_from_rebuilt_files(tmp_path):
    lists = lovt_csv(LOVT)
    boxed, table = committed_sources()
    names = dict(enumerate(CARD.classes))
    rows = [(i, names[int(c)], b) for i in boxed for b, c in zip(lists.boxes_xywh[i], lists.labels[i], strict=True)]
    write_boxes(tmp_path, rows)
    findings = {i: "|".join(names[int(c)].replace("Infiltrate", "Infiltration") for c in lists.labels[i]) for i in boxed}
    write_entries(tmp_path, dict.fromkeys(table, "No Finding") | findings)
    write_list(tmp_path, [*boxed, *table])
    touch_images(tmp_path, [i for ids in lists.splits.values() for i in ids], "images")
    reader = open_reader(CARD, tmp_path)
    assert reader.split(RULE) == lists.splits
    for sample_id in boxed:
        sample = reader.sample(sample_id)
        assert np.array_equal(sample.boxes_xywh, lists.boxes_xywh[sample_id])
        assert np.array_equal(sample.box_labels, lists.labels[sample_id])
    checks = {c.what: c for c in reader.checks()}
    known = ["boxes", "boxed images", "boxed patients", "normal test images", *(f"boxes {name.lower()}" for name in CARD.classes)]
    assert [checks[what].verdict for what in known] == ["ok"] * len(known)
    assert all(line.verdict == "ok" for what, line in checks.items() if what.startswith(("train:", "validation:", "test:")))
    pairs = [("train", "validation", "12"), ("train", "test", "13"), ("validation", "test", "5")]
    for one, other, n in pairs:
        line = checks[f"patients in both {one} and {other}"]
        assert (line.found, line.verdict) == (n, "warning")


# ------------------------------------------------------------------------------------------------------------------- verify


def test_verify_of_an_incomplete_release_shows_what_is_missing(tmp_path):
    verification = open_reader(CARD, release(tmp_path)).verify()
    lines = {c.what: c for c in verification.checks}
    assert not verification.ok
    assert (lines["boxes"].expected, lines["boxes"].found, lines["boxes"].verdict) == ("984", "7", "error")
    assert (lines["train val list"].found, lines["train val list"].verdict) == ("2", "error")


def test_the_official_rest_list_is_counted_only_when_it_is_there(tmp_path):
    release(tmp_path)
    (tmp_path / "train_val_list.txt").unlink()
    lines = {c.what: c for c in open_reader(CARD, tmp_path).checks()}
    assert lines["train val list"].verdict == "unknown"


def test_verify_of_a_phantom_compares_with_its_own_file(tmp_path):
    release(tmp_path)
    PIL.Image.new("L", (1024, 1024)).save(tmp_path / "images" / f"{BOXED[0]}.png")
    entries = ["00000200_000", "00000201_000", *NORMAL, *BOXED]
    manifest = {
        "counts": {"images": 18, "boxes": 7, "positives": 6},
        "digests": {"ids_sha256_ordered": ids_digest(entries, ordered=True)},
    }
    (tmp_path / "PHANTOM.json").write_text(json.dumps(manifest))
    verification = open_reader(CARD, tmp_path).verify()
    assert verification.phantom
    assert verification.ok
    manifest["counts"]["boxes"] = 8
    (tmp_path / "PHANTOM.json").write_text(json.dumps(manifest))
    assert not open_reader(CARD, tmp_path).verify().ok
