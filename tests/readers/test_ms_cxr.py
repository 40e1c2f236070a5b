"""Promises of the MS-CXR reader: rows become phrases, images are MIMIC-CXR-JPG's own, and no error names anybody or quotes a word."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from benchmark import data, registry
from benchmark.errors import DataError, ImageError, SplitError
from benchmark.readers.base import open_reader
from benchmark.readers.kit.unnamed import read_unnamed
from benchmark.readers.ms_cxr import COLUMNS
from tests.corpora import CorpusPlan, write_corpus

CARD = registry.dataset("ms-cxr")
NEWER, OLDER = "MS_CXR_Local_Alignment_v1.1.0.csv", "MS_CXR_Local_Alignment_v1.0.0.csv"
FIRST, SECOND = "0a1b2c3d-4e5f6071-8293a4b5-c6d7e8f9-00112233", "ffeeddcc-4e5f6071-8293a4b5-c6d7e8f9-00112233"
PATHS = {FIRST: f"files/p30/p30000001/s70000001/{FIRST}.jpg", SECOND: f"files/p31/p31000002/s70000002/{SECOND}.jpg"}
APICAL, HEART = "small left apical pneumothorax", "the heart is enlarged, as before"
HEIGHT, WIDTH = 90, 60  # higher than wide: an exchange of the two must fail

ROWS = [
    ("Pneumothorax", APICAL, PATHS[FIRST], 30, 5, 20, 15, WIDTH, HEIGHT, FIRST, "test"),
    ("Cardiomegaly", HEART, PATHS[SECOND], 10, 40, 45, 30, WIDTH, HEIGHT, SECOND, "val"),
    ("Pneumothorax", APICAL, PATHS[FIRST], 5, 60, 10, 30, WIDTH, HEIGHT, FIRST, "test"),
    ("Cardiomegaly", HEART, PATHS[FIRST], 10, 40, 45, 30, WIDTH, HEIGHT, FIRST, "test"),
]
SECRETS = (FIRST, SECOND, "30000001", "31000002", "70000001", APICAL, HEART, "apical", "enlarged")


def write_table(path: Path, rows=ROWS, header=(*COLUMNS, "split")) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows([header, *rows])


def write_images(base: Path, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    for level, path in enumerate(PATHS.values(), start=1):
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(np.full(shape, 50 * level, np.uint8)).save(base / path, quality=95)


def release(root: Path, rows=ROWS) -> Path:
    write_table(root / "ms-cxr" / "ms-cxr/1.1.0" / NEWER, rows)
    write_images(root / "ms-cxr" / "mimic-cxr-jpg/2.0.0")
    return root / "ms-cxr"


def changed(row: int, **cells: object) -> list[tuple]:
    names = (*COLUMNS, "split")
    return [tuple(cells.get(n, v) if k == row else v for n, v in zip(names, cell, strict=True)) for k, cell in enumerate(ROWS)]


def says_nothing(error: BaseException) -> bool:
    return not [secret for secret in SECRETS if secret in str(error)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ms-cxr") / "ms-cxr"
    write_corpus(CorpusPlan(dataset="ms-cxr", n_patients=6, seed=5, images_per_patient=(1, 2)), root)
    return root


# -------------------------------------------------------------------------------------------------------------------- rows


def test_rows_of_one_phrase_are_one_phrase_with_several_boxes(tmp_path: Path) -> None:
    reader = open_reader(CARD, release(tmp_path))
    assert reader.ids == (FIRST, SECOND)
    sample = reader.sample(FIRST)
    assert [(phrase.category, phrase.text) for phrase in sample.phrases] == [("Pneumothorax", APICAL), ("Cardiomegaly", HEART)]
    assert sample.phrases[0].boxes_xywh.tolist() == [[30, 5, 20, 15], [5, 60, 10, 30]]
    assert [CARD.classes[label] for label in sample.box_labels] == ["Pneumothorax", "Pneumothorax", "Cardiomegaly"]
    assert sample.patient_id == "30000001"
    assert sample.masks is None
    assert sample.image().shape == (HEIGHT, WIDTH)


def test_the_same_words_of_two_images_or_two_findings_are_two_phrases(tmp_path: Path) -> None:
    reader = open_reader(CARD, release(tmp_path, changed(2, category_name="Pneumonia")))
    assert sum(len(reader.sample(i).phrases) for i in reader.ids) == 4


def test_a_box_may_touch_the_edges_of_its_image(tmp_path: Path) -> None:
    reader = open_reader(CARD, release(tmp_path, changed(0, x=0, y=0, w=WIDTH, h=HEIGHT)))
    assert reader.sample(FIRST).phrases[0].boxes_xywh[0].tolist() == [0, 0, WIDTH, HEIGHT]


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        ({"x": 50}, r"the box leaves its image \(right\)"),
        ({"y": 80}, r"the box leaves its image \(bottom\)"),
        ({"x": -1}, r"the box leaves its image \(left\)"),
        ({"image_width": HEIGHT, "image_height": WIDTH, "y": 50}, r"leaves its image \(bottom\)"),
        ({"w": 0}, "no area"),
        ({"h": "nan"}, "h is not a number"),
        ({"x": ""}, "x is not a number"),
        ({"image_height": 0}, "not whole numbers above 0"),
        ({"category_name": APICAL}, "category_name is none of"),
        ({"label_text": " "}, "label_text is empty"),
        ({"split": "validate"}, "none of train, val, test"),
        ({"path": f"../{PATHS[FIRST]}"}, "path is none of MIMIC-CXR-JPG"),
        ({"path": PATHS[FIRST].replace("p30/", "p31/")}, "path is none of MIMIC-CXR-JPG"),
        ({"path": PATHS[SECOND]}, "name different images"),
    ],
)
def test_a_damaged_row_is_named_by_its_line_alone(tmp_path: Path, cells: dict, sentence: str) -> None:
    with pytest.raises(DataError, match=rf"v1\.1\.0\.csv line 2: .*{sentence}") as raised:
        open_reader(CARD, release(tmp_path, changed(0, **cells)))
    assert says_nothing(raised.value)


def test_a_box_listed_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 6: the same box of the same phrase a second time") as raised:
        open_reader(CARD, release(tmp_path, [*ROWS, ROWS[0]]))
    assert says_nothing(raised.value)


@pytest.mark.parametrize("cells", [{"split": "train"}, {"image_width": 61}, {"path": PATHS[FIRST].replace("s70000001", "s70000009")}])
def test_an_image_has_one_split_one_size_and_one_path(tmp_path: Path, cells: dict) -> None:
    with pytest.raises(DataError, match="line 4: another path, size or split of the image than in line 2") as raised:
        open_reader(CARD, release(tmp_path, changed(2, **cells)))
    assert says_nothing(raised.value)


@pytest.mark.parametrize(
    ("header", "rows", "sentence"),
    [
        (COLUMNS[:-1], [row[:9] for row in ROWS], "one column dicom_id"),
        ((*COLUMNS, "x"), ROWS, "one column x"),
        ((*COLUMNS, "split"), [], "a header and no rows"),
        ((*COLUMNS, "split"), [ROWS[0], ROWS[1][:5]], "line 3 has 5 cells"),
        (ROWS[0], ROWS[1:], "one column category_name"),
    ],
)
def test_a_damaged_table_is_named_without_its_content(tmp_path: Path, header, rows, sentence: str) -> None:
    write_table(tmp_path / "ms-cxr" / NEWER, rows, header)
    with pytest.raises(DataError, match=NEWER) as raised:
        open_reader(CARD, tmp_path / "ms-cxr")
    assert sentence in str(raised.value)
    assert says_nothing(raised.value)


# ------------------------------------------------------------------------------------------------------------------ images


def test_images_lie_here_or_in_mimics_own_folder_and_the_digest_is_the_same(tmp_path: Path) -> None:
    inside = open_reader(CARD, release(tmp_path))
    write_table(tmp_path / "beside" / "ms-cxr" / NEWER)
    write_images(tmp_path / "beside" / "mimic-cxr" / "mimic-cxr-jpg" / "2.1.0")
    beside = open_reader(CARD, tmp_path / "beside" / "ms-cxr")
    assert beside.sample(SECOND).files[0].is_relative_to(tmp_path / "beside" / "mimic-cxr")
    assert beside.sample(SECOND).image().mean() == 100
    assert inside.outline_digest() == beside.outline_digest()
    write_table(tmp_path / "beside" / "ms-cxr" / NEWER, ROWS[:3])
    assert open_reader(CARD, tmp_path / "beside" / "ms-cxr").outline_digest() != inside.outline_digest()


def test_without_a_table_the_reader_says_where_it_may_lie(tmp_path: Path) -> None:
    root = release(tmp_path)
    (root / "ms-cxr/1.1.0" / NEWER).unlink()
    with pytest.raises(DataError, match=rf"{NEWER} or {OLDER} is neither in .* nor in its ms-cxr/1\.1\.0"):
        open_reader(CARD, root)


def test_without_images_the_reader_says_where_they_may_lie(tmp_path: Path) -> None:
    write_table(tmp_path / "ms-cxr" / NEWER)
    with pytest.raises(DataError, match="in the folder mimic-cxr beside it"):
        open_reader(CARD, tmp_path / "ms-cxr")


def test_missing_images_are_counted_and_not_named(tmp_path: Path) -> None:
    root = release(tmp_path)
    (root / "mimic-cxr-jpg/2.0.0" / PATHS[SECOND]).unlink()
    with pytest.raises(DataError, match="1 of 2 images") as raised:
        open_reader(CARD, root).outline_digest()
    assert says_nothing(raised.value)


def test_a_resized_or_turned_copy_is_refused_and_shows_in_verify(tmp_path: Path) -> None:
    root = release(tmp_path)
    write_images(root / "mimic-cxr-jpg/2.0.0", (WIDTH, HEIGHT))
    reader = open_reader(CARD, root)
    with pytest.raises(ImageError, match=r"line 2: the image has 60 rows x 90 columns, and boxes are in pixels of 90 x 60") as raised:
        reader.sample(FIRST).image()
    assert says_nothing(raised.value)
    line = next(c for c in reader.checks() if c.what == "image sizes")
    assert line.verdict == "error"


def test_a_cut_off_image_is_named_by_the_line_that_lists_it(tmp_path: Path) -> None:
    root = release(tmp_path)
    path = root / "mimic-cxr-jpg/2.0.0" / PATHS[SECOND]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ImageError, match=r"v1\.1\.0\.csv line 3: .*cut off") as raised:
        open_reader(CARD, root).sample(SECOND).image()
    assert says_nothing(raised.value)
    assert raised.value.__suppress_context__


def test_words_of_a_library_lose_the_files_name(tmp_path: Path) -> None:
    def fail(path: Path, sample_id: str) -> None:
        raise ImageError(f"{path} (id {sample_id}): damaged, says the library of {path.name} and {path.stem}")

    with pytest.raises(ImageError) as raised:
        read_unnamed(fail, tmp_path / PATHS[FIRST], "table.csv line 7")
    assert str(raised.value).startswith("table.csv line 7: ")
    assert says_nothing(raised.value)


# --------------------------------------------------------------------------------------------------------- splits and verify


def test_everything_is_tested_on_or_the_releases_own_split_is_kept(tmp_path: Path) -> None:
    reader = open_reader(CARD, release(tmp_path))
    assert reader.split(CARD.splits["all-phrases"]) == {"train": (), "validation": (), "test": (FIRST, SECOND)}
    assert reader.split(CARD.splits["official"]) == {"train": (), "validation": (SECOND,), "test": (FIRST,)}
    with pytest.raises(SplitError, match="all phrases"):
        reader.split(CARD.splits["official"].model_copy(update={"rule": "permutation"}))


def test_the_older_release_has_no_split_and_says_so(tmp_path: Path) -> None:
    write_table(tmp_path / "ms-cxr" / "0.1" / OLDER, [row[:-1] for row in ROWS], COLUMNS)
    write_images(tmp_path / "ms-cxr")
    reader = open_reader(CARD, tmp_path / "ms-cxr")
    assert reader.release == "0.1, images of MIMIC-CXR-JPG"
    assert len(reader.split(CARD.splits["all-phrases"])["test"]) == 2
    with pytest.raises(SplitError, match="no column split"):
        reader.split(CARD.splits["official"])


def test_of_both_tables_the_newer_is_read_with_a_warning(tmp_path: Path) -> None:
    root = release(tmp_path)
    write_table(root / OLDER, [row[:-1] for row in ROWS[:1]], COLUMNS)
    reader = open_reader(CARD, root)
    assert len(reader.ids) == 2
    assert any("v1.0.0.csv (not read)" in warning for warning in reader.warnings)


def test_a_cut_table_is_not_the_release(tmp_path: Path) -> None:
    checks = {c.what: c for c in open_reader(CARD, release(tmp_path)).checks()}
    assert (checks["images"].found, checks["images"].verdict, checks["boxes"].verdict) == ("2", "error", "error")
    assert (checks["phrases"].expected, checks["phrases"].found, checks["phrases"].verdict) == ("1,162", "3", "warning")


def test_a_phantom_verifies_and_its_phrases_lie_on_their_images(corpus: Path) -> None:
    reader = open_reader(CARD, corpus)
    assert [check for check in reader.verify().checks if check.verdict != "ok"] == []
    for sample_id in reader.ids:
        sample = reader.sample(sample_id)
        height, width = sample.image().shape
        assert sample.phrases
        for phrase in sample.phrases:
            assert (phrase.boxes_xywh[:, :2] + phrase.boxes_xywh[:, 2:] <= [width, height]).all()


def test_data_verify_counts_what_the_official_split_shares(corpus: Path) -> None:
    (found,) = data.verify(["ms-cxr"], [f"ms-cxr={corpus}"])
    assert found.ok
    lines = {check.what: check.found for check in found.checks}
    assert "0 of" in lines["split official"]
    assert lines["split all-phrases"].startswith("train 0, validation 0, test ")


def test_an_edited_phantom_does_not_verify(corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus, tmp_path / "ms-cxr")
    table = tmp_path / "ms-cxr" / "ms-cxr/1.1.0" / NEWER
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    assert not open_reader(CARD, tmp_path / "ms-cxr").verify().ok


def test_an_id_of_no_image_is_refused_and_not_repeated(tmp_path: Path):
    with pytest.raises(DataError, match="an id was asked for that is not among the 2 images") as caught:
        open_reader(CARD, release(tmp_path)).sample("p30000009")
    assert "p30000009" not in str(caught.value)
