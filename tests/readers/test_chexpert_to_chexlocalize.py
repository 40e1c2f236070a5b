"""Promises of the pair of CheXpert and CheXlocalize: labels to learn from, masks to be held to, and no patient on both sides."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmark import registry
from benchmark.errors import CardError, SplitError
from benchmark.observations import CHEXPERT_OBSERVATIONS
from benchmark.phantom import chexlocalize
from benchmark.readers.base import open_reader
from tests.corpora import write_chexpert_and_chexlocalize

CARD = registry.dataset("chexpert-to-chexlocalize")
RULE = CARD.splits["mgca-disjoint-to-official"]
OPACITY = CARD.classes.index("Airspace Opacity")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chexpert_and_chexlocalize(tmp_path_factory.mktemp("pair"))


def test_it_trains_on_chexpert_and_is_validated_and_tested_on_chexlocalize(corpora: Path) -> None:
    splits = open_reader(CARD, corpora).split(RULE)
    own = open_reader(registry.dataset("chexpert"), corpora / "chexpert")
    assert splits["train"] == tuple(f"chexpert/{i}" for i in own.split(own.card.splits["mgca-disjoint"])["train"])
    for name, folder in (("validation", "val"), ("test", "test")):
        assert splits[name]
        assert {i.split("/")[:2][1] for i in splits[name]} == {folder}
        assert {i.split("/")[0] for i in splits[name]} == {"chexlocalize"}


def test_labels_are_of_all_ten_findings_by_name(corpora: Path) -> None:
    reader = open_reader(CARD, corpora)
    with (corpora / "chexpert" / "train.csv").open() as table:
        rows = {row["Path"].partition("/")[2]: row for row in csv.DictReader(table)}
    # Uncertain: as the card chexpert says of its five; of the others nobody said.
    uncertain = {name: {"positive": 1, "negative": 0}[how] for name, how in registry.dataset("chexpert").uncertain.items()}
    wanted = ["Lung Opacity" if name == "Airspace Opacity" else name for name in CARD.classes]
    seen = set()
    for sample_id in reader.split(RULE)["train"]:
        cells = [rows[sample_id.partition("/")[2]][name] for name in wanted]
        expected = [uncertain.get(name, -1) if cell == "-1.0" else int(cell == "1.0") for name, cell in zip(wanted, cells, strict=True)]
        sample = reader.sample(sample_id)
        assert sample.labels.tolist() == expected
        assert sample.positive == (1 in expected)
        assert sample.masks is None
        seen |= set(cells)
    assert {"1.0", "-1.0", ""} <= seen


def test_lung_opacity_is_what_the_masks_call_airspace_opacity(corpora: Path, tmp_path: Path) -> None:
    shutil.copytree(corpora, tmp_path / "data")
    table = tmp_path / "data" / "chexpert" / "train.csv"
    header, *lines = table.read_text().splitlines()
    column = 5 + CHEXPERT_OBSERVATIONS.index("Lung Opacity")
    changed = [[*line.split(",")[:column], "1.0", *line.split(",")[column + 1 :]] for line in lines]
    table.write_text("\n".join([header, *map(",".join, changed)]) + "\n")
    reader = open_reader(CARD, tmp_path / "data")
    assert all(reader.sample(i).labels[OPACITY] == 1 for i in reader.split(RULE)["train"])


def test_a_finding_is_there_whose_mask_is_not_empty(corpora: Path) -> None:
    reader = open_reader(CARD, corpora)
    found = [reader.sample(i) for name in ("validation", "test") for i in reader.split(RULE)[name]]
    assert {s.positive for s in found} == {True, False}
    for sample in found:
        masks = sample.masks((chexlocalize.HEIGHT, chexlocalize.WIDTH))
        assert sample.labels.tolist() == masks.any(axis=(1, 2)).astype(int).tolist()
        assert np.flatnonzero(sample.labels).tolist() == sorted(set(sample.box_labels.tolist()))


def test_a_patient_of_the_training_images_in_chexlocalize_is_refused(corpora: Path, tmp_path: Path) -> None:
    shutil.copytree(corpora, tmp_path / "data")
    reader = open_reader(CARD, corpora)
    learned = reader.split(RULE)["train"][0].split("/")[2]
    shown = reader.split(RULE)["test"][0].split("/")[2]
    for path in (tmp_path / "data" / "chexlocalize").rglob("*.*"):
        if path.suffix in (".json", ".csv"):
            path.write_text(path.read_text().replace(shown, learned))
    folder = next((tmp_path / "data" / "chexlocalize").rglob(shown))
    folder.rename(folder.with_name(learned))
    changed = open_reader(CARD, tmp_path / "data")
    with pytest.raises(SplitError, match="1 patients of the training images are among those validated and tested on") as refused:
        changed.split(RULE)
    assert learned not in str(refused.value)


def test_patients_of_both_sides_have_one_numbering(corpora: Path) -> None:
    reader = open_reader(CARD, corpora)
    assert all(reader.sample(i).patient_id == f"chexpert/{i.split('/')[2]}" for part in reader.split(RULE).values() for i in part)


def test_two_labels_for_one_finding_are_refused(corpora: Path) -> None:
    both = {"Airspace Opacity": ("Lung Opacity", "Pneumonia")}
    with pytest.raises(CardError, match="a class has several labels of chexpert"):
        open_reader(CARD.model_copy(update={"merged": both}), corpora)


def test_both_releases_are_verified(corpora: Path) -> None:
    verified = open_reader(CARD, corpora).verify()
    assert verified.ok
    assert {line.what.split(":")[0] for line in verified.checks} == {"chexpert", "chexlocalize"}
