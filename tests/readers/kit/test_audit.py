"""The audit of leaks: NIH's 12, 13 and 5 shared patients to the digit, RSNA's two thirds, and plain words where patients are unknown."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import registry
from benchmark.readers.base import SPLITS
from benchmark.readers.kit.audit import leak_sentence, leakage, leakage_checks, summary_check
from benchmark.readers.kit.splits import drop_patients_of_test
from benchmark.readers.nih_cxr import patient_of as nih_patient

SPLIT = {"train": ("a1", "a2", "b1", "c1"), "validation": ("b2", "d1"), "test": ("a3", "e1", "x")}


def first_letter(sample_id: str) -> str | None:
    return None if sample_id == "x" else sample_id[0]


def test_images_and_patients_are_counted_per_split_and_pair():
    found = leakage(SPLIT, first_letter)
    assert found["train_images"] == 4
    assert found["train_patients"] == 3
    assert found["shared_patients_train_validation"] == 1
    assert found["shared_patients_train_test"] == 1
    assert found["shared_patients_validation_test"] == 0
    assert found["shared_images_train_test"] == 0
    assert found["test_images_patient_in_train"] == 1
    assert found["test_images_patient_known"] == 2
    assert leak_sentence(found) == "1 of 2 matched test images share a patient with train"


def test_a_shared_image_is_an_error_and_a_shared_patient_a_warning():
    shared = leakage({**SPLIT, "test": ("a1", "e1")}, first_letter)
    verdicts = {c.what: c.verdict for c in leakage_checks(registry.dataset("nih-cxr"), "lovt", shared)}
    assert verdicts["split lovt: images in two splits"] == "error"
    assert verdicts["split lovt: patients in train and test"] == "warning"
    assert verdicts["split lovt: patients in validation and test"] == "ok"


def test_unknown_patients_are_said_and_never_counted_as_none():
    unknown = leakage(SPLIT, lambda _: None)
    assert leak_sentence(unknown) == "patients unknown, resampling by image"
    (images, patients) = leakage_checks(registry.dataset("siim"), "lovt", unknown)
    assert (images.verdict, patients.verdict, patients.found) == ("ok", "unknown", "patients unknown")


def test_no_id_is_among_the_counts():
    text = repr(leakage(SPLIT, first_letter))
    assert not any(i in text for ids in SPLIT.values() for i in ids if len(i) > 1)


def test_rsnas_matched_test_images_are_put_as_the_reference_puts_them():
    counts = dict.fromkeys(leakage(SPLIT, first_letter), 0)
    counts |= {"test_images": 5337, "test_images_patient_known": 5334, "test_images_patient_in_train": 3543}
    assert leak_sentence(counts) == "3,543 of 5,334 matched test images share a patient with train"


@pytest.fixture
def nih_lists(real_files: Path) -> dict[str, tuple[str, ...]]:
    folder = real_files / "lovt_splits" / "nih-cxr"
    return {s: tuple(line.split(",")[0] for line in (folder / f"{s}.csv").read_text().splitlines()[1:]) for s in SPLITS}


def test_nih_shares_12_13_and_5_patients_as_published(nih_lists: dict[str, tuple[str, ...]]):
    found = leakage(nih_lists, nih_patient)
    pairs = ("train_validation", "train_test", "validation_test")
    assert tuple(found[f"shared_patients_{pair}"] for pair in pairs) == (12, 13, 5)
    assert tuple(found[f"shared_images_{pair}"] for pair in pairs) == (0, 0, 0)


def test_a_patient_disjoint_nih_split_keeps_the_test_images_and_leaks_no_patient_into_them(nih_lists: dict[str, tuple[str, ...]]):
    disjoint = drop_patients_of_test(nih_lists, nih_patient)
    found = leakage(disjoint, nih_patient)
    assert disjoint["test"] == nih_lists["test"]
    assert (found["shared_patients_train_test"], found["shared_patients_validation_test"]) == (0, 0)
    assert found["train_images"] < 588
    assert "0 of 196 test images share a patient with train" in summary_check("patient-disjoint", found).found
