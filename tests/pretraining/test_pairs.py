"""Pairs are images with what their reports say; official test images are refused, and what is left out is counted."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark import registry
from benchmark.cards.pretraining import PairsCard
from benchmark.errors import DataError
from benchmark.pretraining import pairs
from benchmark.readers.base import open_reader
from tests.pretraining.small import corpus

CARD = PairsCard(dataset="mimic-cxr")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return corpus(tmp_path_factory.mktemp("pairs") / "mimic-cxr")


@pytest.fixture(scope="module")
def both(folder):
    return pairs.load(CARD, folder, 32, 0)


def test_no_official_test_image_is_among_them(folder, both):
    reader = open_reader(registry.dataset("mimic-cxr"), folder)
    tested = set(reader.split(registry.dataset("mimic-cxr").splits["test-reports"])["test"])
    train, held_out = both
    assert tested
    assert not tested & {*train.ids, *held_out.ids}
    assert not {*train.ids} & {*held_out.ids}
    patients = [{reader.sample(i).patient_id for i in part.ids} for part in both]
    assert not patients[0] & patients[1]


def test_what_is_left_out_is_counted(folder, both):
    reader = open_reader(registry.dataset("mimic-cxr"), folder)
    parts = reader.split(registry.dataset("mimic-cxr").splits["pretraining"])
    assert len(both[0]) + sum(both[0].dropped.values()) == len(parts["train"])
    longest = max(sum(len(s.split()) for s in report) for report in both[0].reports)
    with pytest.raises(DataError, match=r"0 of \d+ images for training have a report of \d+ words or more"):
        pairs.load(CARD.model_copy(update={"fewest_words": longest + 1}), folder, 32, 0)


def test_frames_and_reports_decide_the_digest(folder, both):
    again = pairs.load(CARD, folder, 32, 0)[0]
    assert again.digest == both[0].digest
    assert np.array_equal(again.frames, both[0].frames)
    assert pairs.load(CARD, folder, 33, 0)[0].digest != again.digest


def test_the_control_gives_every_image_the_report_of_another(folder, both):
    exchanged = pairs.load(CARD.model_copy(update={"is_shuffled": True}), folder, 32, 0)[0]
    assert sorted(exchanged.reports) == sorted(both[0].reports)
    assert exchanged.ids == both[0].ids
    assert exchanged.reports != both[0].reports
    assert exchanged.digest != both[0].digest


def test_a_share_is_of_patients(folder, both):
    half = pairs.load(CARD.model_copy(update={"share": 0.5}), folder, 32, 0)[0]
    reader = open_reader(registry.dataset("mimic-cxr"), folder)
    patients = {reader.sample(i).patient_id for i in half.ids}
    assert 0 < len(half) < len(both[0])
    assert {i for i in both[0].ids if reader.sample(i).patient_id in patients} == set(half.ids)


def test_a_dataset_that_names_no_images_for_it_is_refused(folder):
    with pytest.raises(DataError, match="no split `pretraining`"):
        pairs.load(PairsCard(dataset="rsna"), folder, 32, 0)


def test_where_a_release_has_no_validation_images_patients_are_held_out(folder):
    reader = open_reader(registry.dataset("mimic-cxr"), folder)
    ids = reader.split(registry.dataset("mimic-cxr").splits["pretraining"])["train"]
    train, held_out = pairs._held_out(reader, ids, 0)
    of = [{reader.sample(i).patient_id for i in part} for part in (train, held_out)]
    assert held_out
    assert not of[0] & of[1]
    assert sorted((*train, *held_out)) == sorted(ids)


def test_sections_and_studies_of_mimic_are_told_apart(folder, both):
    reader = open_reader(registry.dataset("mimic-cxr"), folder)
    for i in both[0].ids[:8]:
        assert " ".join(reader.sections_of(i).values()) == reader.report_of(i)
    impressions = pairs.load(CARD.model_copy(update={"sections": ("impression",), "fewest_words": 1}), folder, 32, 0)[0]
    whole = dict(zip(both[0].ids, both[0].reports, strict=True))
    assert all(len(report) <= len(whole.get(i, report)) for i, report in zip(impressions.ids, impressions.reports, strict=True))
    studies = pairs.load(CARD.model_copy(update={"unit": "study"}), folder, 32, 0)[0]
    assert len(studies) == len({reader.study_of(i) for i in both[0].ids})
    assert studies.frames.shape == both[0].frames.shape
    assert studies.digest != both[0].digest
