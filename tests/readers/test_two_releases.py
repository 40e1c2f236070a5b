"""Two releases side by side: both are named and the user chooses. Where one is the release's own, it is read, and the other named."""

from __future__ import annotations

import shutil
from pathlib import Path

import PIL.Image
import pytest

from benchmark import registry
from benchmark.errors import DataError
from benchmark.readers.base import Reader, open_reader
from benchmark.readers.kit.walk import find_files, the_one
from tests.corpora import CorpusPlan, write_corpus

BELOW = ("candid-ptx", "chestx-det", "chexpert", "covid-rural", "object-cxr", "open-i", "padchest", "rsna", "siim", "tbx11k", "vindr-cxr")


@pytest.fixture
def written(tmp_path: Path):
    def write(dataset: str, place: str = "") -> Path:
        root = tmp_path / "release" / place
        write_corpus(CorpusPlan(dataset, 6 if dataset == "padchest" else 4, seed=3, images_per_patient=(1, 1), positive_share=0.5), root)
        return tmp_path / "release"

    return write


def opened(dataset: str, root: Path) -> Reader:
    return open_reader(registry.dataset(dataset), root)


@pytest.mark.parametrize("dataset", BELOW)
def test_two_releases_in_one_folder_are_both_named_and_neither_is_read(written, dataset: str) -> None:
    root = written(dataset, "archive")
    alone = opened(dataset, root).ids
    shutil.copytree(root / "archive", root / "newer")
    with pytest.raises(DataError, match=r"release/archive and in .*release/newer.* move one away, or name the folder with --data") as told:
        opened(dataset, root)
    assert f"--data {dataset}=PATH" in str(told.value)
    assert opened(dataset, root / "newer").ids == alone  # as the sentence says
    shutil.rmtree(root / "newer")
    (root / "newer").symlink_to(root / "archive")  # one release under two names is one
    assert opened(dataset, root).ids == alone


def test_an_image_under_one_name_in_two_folders_is_no_choice_of_a_reader(written) -> None:
    root = written("open-i")
    picture = opened("open-i", root).image_files()[0]
    (root / "pictures again").mkdir()
    shutil.copy(picture, root / "pictures again")
    with pytest.raises(DataError, match=r"exists twice: .*pictures again"):
        opened("open-i", root)
    (root / "pictures again" / picture.name).unlink()
    (root / "pictures again" / picture.name).symlink_to(picture)  # a link to the same file is the same file
    assert opened("open-i", root).image_files()[0] == picture


def test_a_mask_under_one_name_in_two_folders_is_no_choice_of_a_reader(written) -> None:
    root = written("covid-rural")
    mask = opened("covid-rural", root).label_files()[0]
    (mask.parent / "corrected").mkdir()
    shutil.copy(mask, mask.parent / "corrected")
    with pytest.raises(DataError, match=r"exists twice: .*corrected"):
        opened("covid-rural", root)


def test_raw_images_of_jsrt_and_png_copies_are_both_named(written) -> None:
    root = written("jsrt")
    reader = opened("jsrt", root)
    assert not any("PNG" in warning for warning in reader.warnings)
    (root / "png").mkdir()
    PIL.Image.new("L", (4, 4)).save(root / "png" / f"{reader.ids[0]}.png")
    again = opened("jsrt", root)
    assert again.image_files() == reader.image_files()
    (told,) = [warning for warning in again.warnings if "PNG" in warning]
    assert ".IMG files (read) and 1 PNG copies (not read)" in told
    assert "--data jsrt=PATH" in told


def test_stage_1_of_rsna_beside_stage_2_is_named(written) -> None:
    root = written("rsna")
    shutil.copy(root / "stage_2_train_labels.csv", root / "stage_1_train_labels.csv")
    assert any("stage_1_train_labels.csv beside stage_2_train_labels.csv is not read" in w for w in opened("rsna", root).warnings)


def test_both_label_tables_of_nih_are_named(written) -> None:
    root = written("nih-cxr")
    (table,) = root.glob("Data_Entry*.csv")
    other = "Data_Entry_2017.csv" if "v2020" in table.name else "Data_Entry_2017_v2020.csv"
    shutil.copy(table, root / other)
    (told,) = [w for w in opened("nih-cxr", root).warnings if "Data_Entry" in w]
    assert "Data_Entry_2017_v2020.csv (read) and Data_Entry_2017.csv (not read)" in told


def test_two_versions_of_mimic_cxr_are_both_named(written) -> None:
    root = written("mimic-cxr")
    base = opened("mimic-cxr", root)._base
    version = root / "2.1.0"
    version.mkdir(exist_ok=True)
    for table in base.glob("mimic-cxr-2.0.0-*"):
        shutil.copy(table, version)
    with pytest.raises(DataError, match=r"split\.csv is in .* and in .*--data mimic-cxr=PATH"):
        opened("mimic-cxr", root)


def test_links_to_one_place_are_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert the_one("x", "it", [tmp_path / "a", tmp_path / "b"]) == tmp_path / "a"
    assert the_one("x", "it", []) is None
    (tmp_path / "a" / "1.png").write_bytes(b"1")
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "1.png").write_bytes(b"2")
    assert {stem: len(paths) for stem, paths in find_files(tmp_path, ".png").items()} == {"1": 2}
