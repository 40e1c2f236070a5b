"""Files are named by label files below the dataset's folder and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import registry
from benchmark.errors import DataError
from benchmark.readers import chexpert, covidx
from benchmark.readers.kit.tables import require_inside
from benchmark.readers.mimic_cxr import DatasetReader

LEADING_OUT = (
    "/etc/passwd",
    "../other/a.png",
    "a/../../b.png",
    "a/./b.png",
    "a//b.png",
    "..",
    "a\0.png",
    "\\\\host\\a.png",
    "a\\..\\b.png",
    "",
)


@pytest.mark.parametrize("name", LEADING_OUT)
def test_a_name_that_leads_out_is_refused_and_not_repeated(name: str):
    with pytest.raises(DataError, match=r"^set: labels\.csv line 7: a file is named by a path that is absolute or leads out") as error:
        require_inside(name, "set: labels.csv line 7")
    assert not name or name not in str(error.value)


@pytest.mark.parametrize("name", ["a.png", "train/patient1/study1/view1.jpg", "..a.png", "a..b/c d.png", "ä.png"])
def test_a_name_below_the_folder_is_one(name: str):
    require_inside(name, "set: labels.csv line 7")


def test_readers_hold_the_names_of_their_label_files_to_the_folder(tmp_path: Path):
    (tmp_path / "list.txt").write_text("1 a.png normal x\n1 ../a.png normal x\n")
    with pytest.raises(DataError, match=r"covidx: list\.txt line 2: a file is named by a path"):
        covidx.read_list(tmp_path / "list.txt", "covidx", ("normal",))
    rows = [",".join(chexpert.COLUMNS), "CheXpert-v1.0-small/valid/../../../p/study1/view1.jpg,Male,1,Frontal,AP" + "," * 14]
    (tmp_path / "valid.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(DataError, match=r"valid\.csv line 2: a file is named by a path"):
        chexpert.read_studies(tmp_path / "valid.csv", "chexpert")


@pytest.mark.parametrize(("study", "said"), [("..", "leads out"), ("5/0", "study_id holds a slash"), ("/5", "leads out")])
def test_parts_of_a_path_are_no_paths(tmp_path: Path, study: str, said: str):
    card = registry.dataset("mimic-cxr")
    (tmp_path / "mimic-cxr-2.0.0-split.csv").write_text(f"dicom_id,study_id,subject_id,split\na,{study},10000000,test\n")
    (tmp_path / "mimic-cxr-2.0.0-metadata.csv").write_text("dicom_id,ViewPosition\na,PA\n")
    (tmp_path / "mimic-cxr-2.0.0-chexpert.csv").write_text(",".join(("study_id", *card.classes)) + "\n")
    with pytest.raises(DataError, match=rf"mimic-cxr-2\.0\.0-split\.csv line 2: .*{said}"):
        DatasetReader(card, tmp_path)
