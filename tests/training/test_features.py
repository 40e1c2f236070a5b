"""Features computed once are the features computed every time, whoever asks first and however little memory there is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.encoders.build import build_backbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.training import data, features
from benchmark.training.features import FeatureBank

STRIDES = (8, 32)
UNLIMITED = 2**30


@pytest.fixture
def encoder(small, tiny) -> SealedEncoder:
    job, place = small.one("rsna-linear-frozen-100", tiny())
    ref = job.experiment.backbone.model_copy(update={"model": place.backbone_model})
    return SealedEncoder(build_backbone(ref, None, init_seed=None)[0], job.experiment.dataset.statistics)


@pytest.fixture
def parts(small, tiny) -> list[data.Part]:
    """Three parts of 20, 11 and 12 images: no multiple of a batch among them."""
    job, place = small.one("rsna-linear-frozen-100", tiny("parts"), limit=20)
    return [data.load_part(job.experiment, place, name) for name in ("train", "validation", "test")]


def equal(one, other) -> bool:
    return all(torch.equal(one[stride], other[stride]) for stride in STRIDES)


def test_bank_gives_what_the_encoder_gives(encoder, parts):
    bank = FeatureBank(encoder, STRIDES, UNLIMITED)
    for part in parts:
        assert bank.prepare(part) == 0
        index = np.arange(len(part))[::-1].copy()
        plain = encoder.pyramid(part.images(index), STRIDES)
        for stride, level in bank.pyramid(part, index).items():
            assert torch.allclose(level, plain[stride], atol=1e-5, rtol=0)


def test_an_image_gets_the_same_bits_whoever_asks_first(encoder, parts):
    train, validation, test = parts
    one, other = FeatureBank(encoder, STRIDES, UNLIMITED), FeatureBank(encoder, STRIDES, UNLIMITED)
    for part in (train, validation, test):
        one.prepare(part)
    # Another job of the unit: fewer labels, other splits first.
    few = dataclasses.replace(train, ids=train.ids[5:8], rows=train.rows[5:8], boxes=train.boxes[5:8], labels=train.labels[5:8])
    for part in (test, few, validation, train):
        other.prepare(part)
    for part in parts:
        index = np.arange(len(part))
        assert equal(one.pyramid(part, index), other.pyramid(part, index))


def test_every_image_is_computed_once(encoder, parts, monkeypatch):
    seen = []
    compute = FeatureBank._compute
    monkeypatch.setattr(FeatureBank, "_compute", lambda self, part, index: seen.extend(part.rows[index]) or compute(self, part, index))
    bank = FeatureBank(encoder, STRIDES, UNLIMITED)
    for part in (*parts, *parts):
        bank.prepare(part)
        bank.pyramid(part, np.arange(len(part)))
    assert sorted(seen) == sorted(row for part in parts for row in part.rows)


def per_image_bytes(encoder, part) -> int:
    return sum(level[0].nbytes for level in encoder.pyramid(part.images(np.array([0])), STRIDES).values())


def test_memory_disk_and_recomputing_give_the_same_bits(encoder, parts, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(features, "_reading_s", lambda stored: 0.0)
    train = parts[0]
    index = np.arange(len(train))[::-1].copy()
    memory, disk, nowhere = (FeatureBank(encoder, STRIDES, budget, folder=tmp_path) for budget in (UNLIMITED, 0, 0))
    nowhere.folder, nowhere._spilling = None, False
    assert (memory.prepare(train), disk.prepare(train), nowhere.prepare(train)) == (0, 0, len(train))
    whole = len(train) * per_image_bytes(encoder, train)
    assert (memory.memory_bytes, memory.disk_bytes) == (whole, 0)
    assert (disk.memory_bytes, disk.disk_bytes) == (0, whole)
    assert (nowhere.memory_bytes, nowhere.disk_bytes) == (0, 0)
    expected = memory.pyramid(train, index)
    assert equal(disk.pyramid(train, index), expected)
    assert equal(nowhere.pyramid(train, index), expected)


@pytest.mark.parametrize("images", [0, 5, 16, 25])
def test_memory_stays_under_the_budget_for_a_corpus_larger_than_it(encoder, parts, tmp_path: Path, images, monkeypatch):
    monkeypatch.setattr(features, "_reading_s", lambda stored: 0.0)
    budget = images * per_image_bytes(encoder, parts[0])
    bank, whole = FeatureBank(encoder, STRIDES, budget, folder=tmp_path), FeatureBank(encoder, STRIDES, UNLIMITED)
    for part in parts:
        assert bank.prepare(part) == whole.prepare(part) == 0
    assert bank.memory_bytes <= budget
    assert (bank.memory_bytes > 0) == (images > 0)  # the last batch of the first part holds four images
    assert bank.memory_bytes + bank.disk_bytes == whole.memory_bytes
    for part in parts:
        index = np.arange(len(part))
        assert equal(bank.pyramid(part, index), whole.pyramid(part, index))


def test_features_on_disk_have_no_name_and_leave_nothing_behind(encoder, parts, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(features, "_reading_s", lambda stored: 0.0)
    bank = FeatureBank(encoder, STRIDES, 0, folder=tmp_path / "features")
    bank.prepare(parts[0])
    assert bank.disk_bytes > 0
    assert list((tmp_path / "features").iterdir()) == []


def test_features_slower_to_read_than_to_compute_are_computed_again(encoder, parts, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(features, "_reading_s", lambda stored: 1e9)
    bank = FeatureBank(encoder, STRIDES, 0, folder=tmp_path)
    assert bank.prepare(parts[0]) == len(parts[0])
    assert bank.prepare(parts[1]) == len(parts[1])
    assert bank.disk_bytes == 0


@pytest.mark.parametrize("fault", ["full", "unwritable"])
def test_a_disk_that_refuses_costs_time_and_no_result(encoder, parts, tmp_path: Path, monkeypatch, fault):
    folder = tmp_path / "features"
    if fault == "full":
        monkeypatch.setattr(features, "LEAST_FREE_BYTES", 10**18)
    else:
        folder.write_text("a file where a folder should be")
    bank, whole = FeatureBank(encoder, STRIDES, 0, folder=folder), FeatureBank(encoder, STRIDES, UNLIMITED)
    assert bank.prepare(parts[0]) == len(parts[0])
    whole.prepare(parts[0])
    index = np.arange(len(parts[0]))
    assert equal(bank.pyramid(parts[0], index), whole.pyramid(parts[0], index))


def test_a_write_that_fails_half_way_keeps_what_was_stored(encoder, parts, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(features, "_reading_s", lambda stored: 0.0)
    write, calls = features.os.pwrite, []

    def fails_later(*arguments):
        calls.append(1)
        if len(calls) > len(STRIDES):
            raise OSError(28, "No space left on device")
        return write(*arguments)

    monkeypatch.setattr(features.os, "pwrite", fails_later)
    bank, whole = FeatureBank(encoder, STRIDES, 0, folder=tmp_path), FeatureBank(encoder, STRIDES, UNLIMITED)
    assert bank.prepare(parts[0]) == len(parts[0]) - features.BATCH
    whole.prepare(parts[0])
    for index in (np.arange(features.BATCH), np.arange(len(parts[0]))):
        assert equal(bank.pyramid(parts[0], index), whole.pyramid(parts[0], index))


def test_features_carry_no_gradient(encoder, parts):
    bank = FeatureBank(encoder, STRIDES, UNLIMITED)
    bank.prepare(parts[0])
    assert not any(level.requires_grad for level in bank.pyramid(parts[0], np.array([0])).values())
