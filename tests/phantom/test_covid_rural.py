"""The files of the COVID Rural phantom against the release's layout (docs/sources.md, COVID Rural)."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
from PIL import Image, ImageDraw

from benchmark import registry
from benchmark.errors import CardError, UsageError
from benchmark.phantom import covid_rural
from benchmark.phantom.corpus import CorpusPlan, write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "covid"
    summary = write_corpus(CorpusPlan("covid-rural", 5, seed=1, images_per_patient=(1, 2), positive_share=0.7), root)
    return root / "covid_rural_annot", summary


def lists():
    """Published patient lists by split, as bare numbers."""
    return {split: {name[-8:] for name in names} for split, names in registry.dataset("covid-rural").splits["lovt"].patients.items()}


def test_jpegs_are_colour_pictures_of_varying_size_named_by_patient_and_date(corpus):
    annot, summary = corpus
    files = sorted((annot / "jpgs").glob("*.jpg"))
    assert len(files) == summary.counts["jpegs"]
    sizes = set()
    for path in files:
        assert re.fullmatch(r"COVID-19-AR-\d{8}_\d{2}-\d{2}-\d{4}-XR", path.stem)
        with Image.open(path) as picture:
            assert picture.mode == "RGB"
            sizes.add(picture.size)
            channels = np.asarray(picture.reduce(8)).astype(int)
        assert np.abs(channels - channels.mean(axis=2, keepdims=True)).max() < 3
    assert len(sizes) > 1


def test_masks_hold_zero_and_one_in_the_size_of_their_jpeg(corpus):
    annot, summary = corpus
    files = sorted((annot / "pngs_masks").glob("*.png"))
    assert len(files) == summary.counts["masks"]
    positive = 0
    for path in files:
        with Image.open(path) as mask, Image.open(annot / "jpgs" / f"{path.stem}.jpg") as picture:
            assert mask.mode == "L"
            assert mask.size == picture.size
            values = set(np.unique(np.asarray(mask)))
        assert values <= {0, 1}
        positive += 1 in values
    assert positive == summary.counts["positives"] > 0


def test_labelme_outlines_are_the_masks(corpus):
    annot, summary = corpus
    files = sorted((annot / "jpgs" / "jsons").glob("*.json"))
    assert len(files) == summary.counts["images"]
    for path in files:
        content = json.loads(path.read_text())
        assert list(content) == ["version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"]
        assert (content["version"], content["imagePath"]) == ("4.5.6", f"{path.stem}.jpg")
        labels = {shape["label"] for shape in content["shapes"]}
        assert {"right_lung", "left_lung"} <= labels <= {"right_lung", "left_lung", "groud_glass_opacity", "consolidation"}
        drawn = Image.new("L", (content["imageWidth"], content["imageHeight"]))
        for shape in content["shapes"]:
            if "lung" not in shape["label"]:
                ImageDraw.Draw(drawn).polygon([tuple(p) for p in shape["points"]], fill=1)
        mask = annot / "pngs_masks" / f"{path.stem}.png"
        found = np.asarray(Image.open(mask)) if mask.exists() else np.zeros_like(np.asarray(drawn))
        assert np.count_nonzero(np.asarray(drawn) != found) <= 0.001 * found.size


def test_some_jpegs_have_no_annotation(corpus):
    annot, summary = corpus
    stems = {path.stem for path in (annot / "jpgs").glob("*.jpg")}
    annotated = {path.stem for path in (annot / "jpgs" / "jsons").glob("*.json")}
    assert annotated < stems
    assert len(annotated) == summary.counts["images"]


@pytest.mark.parametrize("n_patients", [3, 26, 52, 104])
def test_published_lists_split_the_patients_in_their_proportions(n_patients):
    names = covid_rural._numbers(CorpusPlan("covid-rural", n_patients, seed=0))
    assert len(set(names)) == n_patients
    for numbers in lists().values():
        share = len({name[-8:] for name in names} & numbers)
        assert share == pytest.approx(n_patients * len(numbers) / 104, abs=1)
        assert share >= 1


def test_more_patients_than_published_are_refused():
    with pytest.raises(UsageError, match="104 patients"):
        covid_rural.shots(CorpusPlan("covid-rural", 105, seed=0))


def test_a_card_without_the_published_lists_is_an_error(monkeypatch):
    card = registry.dataset("covid-rural")
    rule = card.splits["lovt"].model_copy(update={"patients": {"train": ("1",)}})
    monkeypatch.setattr(covid_rural.registry, "dataset", lambda name: card.model_copy(update={"splits": {"lovt": rule}}))
    with pytest.raises(CardError, match="'lovt' has no patient lists train, validation and test"):
        covid_rural._numbers(CorpusPlan("covid-rural", 5, seed=1))


def test_no_two_images_of_a_patient_share_a_date():
    plan = CorpusPlan("covid-rural", 104, seed=3)
    stems = [(shot.patient, covid_rural._study_date(plan, shot)) for shot in covid_rural.shots(plan)]
    assert len(set(stems)) == len(stems)


def test_tables_have_the_columns_of_the_release(corpus):
    annot, _ = corpus
    with (annot / "covid_rural_radiologist_notes.csv").open(newline="") as handle:
        notes = csv.DictReader(handle)
        assert notes.fieldnames[0] == "patient_id"
        assert notes.fieldnames[-1] == "Radiologist KEY FINDINGS"
        assert all("FINDINGS: " in row["Radiologist KEY FINDINGS"] for row in notes)
    with (annot / "covid_rural_patient_info.csv").open(newline="") as handle:
        assert {row["PATIENT_ID"] for row in csv.DictReader(handle)} == {path.stem.split("_")[0] for path in (annot / "jpgs").glob("*.jpg")}
