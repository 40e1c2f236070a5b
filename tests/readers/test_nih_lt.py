"""Promises of the NIH-CXR-LT reader: exactly one label an image, the release's own lists, and images where ChestX-ray14 lies."""

from __future__ import annotations

from pathlib import Path

import PIL.Image
import pytest

from benchmark import registry
from benchmark.errors import DataError, SplitError
from benchmark.readers.base import open_reader

CARD = registry.dataset("nih-lt")
HEADER = ",".join(("id", *CARD.classes, "subj_id"))
LISTS = {
    "train": [("00000011_004", "Mass"), ("00000011_005", "No Finding"), ("00000013_000", "Hernia")],
    "balanced-val": [("00000020_001", "Mass")],
    "balanced-test": [("00000031_002", "Hernia")],
    "test": [("00000030_001", "No Finding"), ("00000031_002", "Hernia")],
}


def row(sample_id: str, *names: str, patient: str | None = None) -> str:
    given = patient or str(int(sample_id.partition("_")[0]))
    return f"{sample_id}.png,{','.join(str(int(c in names)) for c in CARD.classes)},{given}"


def write(root: Path, images: Path | None = None, **changed: list[str]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, listed in LISTS.items():
        rows = changed.get(name.replace("-", "_"), [row(i, c) for i, c in listed])
        (root / f"nih-cxr-lt_single-label_{name}.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    place = (images or root) / "images_001" / "images"
    place.mkdir(parents=True)
    for i in {i for listed in LISTS.values() for i, _ in listed}:
        PIL.Image.new("L", (8, 8), 90).save(place / f"{i}.png")
    return root


def test_an_image_has_one_label_and_nihs_patient(tmp_path: Path) -> None:
    sample = open_reader(CARD, write(tmp_path)).sample("00000013_000")
    assert [CARD.classes[k] for k in sample.labels.nonzero()[0]] == ["Hernia"]
    assert (sample.labels.shape, sample.patient_id) == ((20,), "00000013")


def test_splits_are_the_releases_lists(tmp_path: Path) -> None:
    reader = open_reader(CARD, write(tmp_path))
    long_tailed, balanced = (reader.split(CARD.splits[name]) for name in ("long-tailed", "balanced"))
    assert set(long_tailed["train"]) == {"00000011_004", "00000011_005", "00000013_000"}
    assert (long_tailed["validation"], long_tailed["test"]) == (("00000020_001",), ("00000030_001", "00000031_002"))
    assert balanced["test"] == ("00000031_002",)
    with pytest.raises(SplitError, match="known: 'long-tailed test', 'balanced test'"):
        reader.split(CARD.splits["balanced"].model_copy(update={"rule": "all"}))


def test_images_may_lie_in_chestx_ray14s_own_folder_and_the_digest_is_the_same(tmp_path: Path) -> None:
    beside = open_reader(CARD, write(tmp_path / "a" / "nih-lt", tmp_path / "a" / "nih-cxr"))
    within = open_reader(CARD, write(tmp_path / "b" / "nih-lt"))
    assert beside.outline_digest() == within.outline_digest()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"train": [row("00000011_004", "Mass", "Hernia")]}, "train.csv line 2 .*2 labels are 1; expected exactly one"),
        ({"train": [row("00000011_004")]}, "0 labels are 1"),
        ({"train": [row("00000011_004", "Mass", patient="12")]}, "subj_id is '12', another patient than the name says"),
        ({"train": [row("00000011_004", "Mass")] * 2}, "line 3: image 00000011_004 is listed a second time"),
        ({"balanced_test": [row("00000011_004", "Hernia")]}, "has another label than in a list before"),
        ({"test": [row("mine", "Mass", patient="1")]}, "no image name such as"),
    ],
)
def test_a_row_that_says_something_else_is_named_with_its_line(tmp_path: Path, changed: dict, sentence: str) -> None:
    with pytest.raises(DataError, match=rf"nih-lt: nih-cxr-lt_single-label_.*{sentence}"):
        open_reader(CARD, write(tmp_path, **changed))


def test_no_images_at_all_is_told_with_both_places(tmp_path: Path) -> None:
    for name in LISTS:
        (tmp_path / f"nih-cxr-lt_single-label_{name}.csv").write_text(f"{HEADER}\n{row('00000011_004', 'Mass')}\n")
    with pytest.raises(DataError, match=r"no images\. Expected those of ChestX-ray14 in .*nih-cxr beside"):
        open_reader(CARD, tmp_path)
