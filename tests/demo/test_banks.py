"""Encoders made by hand: each is a backbone, and none is another."""

from __future__ import annotations

import pytest
import torch

from benchmark.cards import IMAGENET
from benchmark.demo import banks
from benchmark.encoders import conformance
from benchmark.encoders.describe import state_digest
from benchmark.encoders.naming import parse
from benchmark.encoders.sealed import SealedEncoder


@pytest.mark.parametrize("factory", banks.PANEL)
def test_each_is_a_backbone(factory):
    bank = factory()
    conformance.check(SealedEncoder(bank, IMAGENET), 160)
    assert bank.spec.pretraining == ()
    flat = bank.pyramid(torch.full((1, 3, 96, 64), 0.5))[banks.STRIDE]
    assert flat.shape == (1, bank.spec.embed_dim, 3, 2)
    assert torch.isfinite(flat).all()


def test_no_two_are_one():
    assert len({state_digest(factory()) for factory in banks.PANEL}) == len(banks.PANEL) == 8


def test_tables_call_them_as_they_are_named():
    assert [parse(name).label for name in banks.names()] == [f"banks:{factory.__name__}" for factory in banks.PANEL]
