"""A folder that is not there is looked for beside, above and below, and the sentence gives the option that finds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import registry
from benchmark.cards.own_data import MaskData
from benchmark.errors import DataError
from benchmark.readers.base import open_reader
from benchmark.readers.kit.elsewhere import what_to_do

RSNA = registry.dataset("rsna")
LABELS = "stage_2_train_labels.csv"


def made(root: Path, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    ("files", "given", "sentence"),
    [
        ((), "no/rsna", "There is no folder {0}/no either: look at --data."),
        ((f"{LABELS}",), "rsna", f"{{0}} holds {LABELS} itself: give --data rsna={{0}}."),
        ((f"a/rsna/{LABELS}", "b/siim/x"), "rsna", "There is one in {0}/a: give --data {0}/a."),
        (("b/siim/x",), "rsna", "`lobe data get rsna --data {0}` fetches it or lists the steps to have it."),
        ((), "mine", "Look at the path in --data rsna=PATH."),
    ],
    ids=["no data folder", "the dataset's own folder", "one level deeper", "nowhere", "by name"],
)
def test_the_sentence_gives_the_option_that_finds_the_folder(tmp_path: Path, files, given: str, sentence: str):
    made(tmp_path, *files)
    said = what_to_do(RSNA, tmp_path / given)
    assert said == sentence.format(tmp_path)
    with pytest.raises(DataError) as error:
        open_reader(RSNA, tmp_path / given)
    assert str(error.value).endswith(said)


def test_a_folder_with_a_blank_in_its_name_is_quoted_for_the_shell(tmp_path: Path):
    root = made(tmp_path / "my data", f"deep er/rsna/{LABELS}")
    assert what_to_do(RSNA, root / "rsna").endswith(f"give --data '{root / 'deep er'}'.")


def test_a_dataset_of_ones_own_is_not_sent_to_the_downloads(tmp_path: Path):
    card = RSNA.model_copy(update={"reader": "masks", "masks": MaskData.model_construct()})
    assert what_to_do(card, tmp_path / "rsna") == "Put it there, or name it: --data rsna=PATH."
