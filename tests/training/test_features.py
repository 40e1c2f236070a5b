"""Features computed once are the features computed every time, whoever asks first and however little memory there is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from benchmark.encoders.build import build_backbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.training import data
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
        assert bank.prepare(part)
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


def test_memory_stays_near_the_budget_and_what_does_not_fit_has_the_same_bits(encoder, parts):
    whole = FeatureBank(encoder, STRIDES, UNLIMITED)
    train = parts[0]
    whole.prepare(train)
    per_image = sum(level[0].nbytes for level in whole.pyramid(train, np.array([0])).values())
    for budget in (0, per_image):
        tight = FeatureBank(encoder, STRIDES, budget)
        assert not tight.prepare(train)
        kept = sum(feature.nbytes for level in tight._levels.values() for feature in level)
        assert kept <= budget + 16 * per_image  # one batch beyond
        index = np.arange(len(train))
        assert equal(tight.pyramid(train, index), whole.pyramid(train, index))


def test_features_carry_no_gradient(encoder, parts):
    bank = FeatureBank(encoder, STRIDES, UNLIMITED)
    bank.prepare(parts[0])
    assert not any(level.requires_grad for level in bank.pyramid(parts[0], np.array([0])).values())
