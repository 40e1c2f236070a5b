"""What a test draws, and what it shares, depends on names alone."""

from __future__ import annotations

import zlib

import pytest
import torch

from tests import seeding


def drawn(name: str) -> float:
    return float(torch.rand((), generator=torch.Generator().manual_seed(zlib.crc32(name.encode()))))


@pytest.fixture(scope="module")
def shared() -> float:
    return float(torch.rand(()))


@pytest.mark.parametrize("order", ["first", "second"])
def test_a_test_draws_by_its_name_whoever_asked_for_what_it_shares(order: str, shared: float, request: pytest.FixtureRequest):
    """The first of the two makes `shared`, which draws; the second finds it made."""
    assert float(torch.rand(())) == drawn(request.node.nodeid)


def test_what_is_shared_draws_by_its_own_name(shared: float, request: pytest.FixtureRequest):
    assert shared == drawn(f"{request.node.parent.nodeid} shared")


def test_draws_apart_move_nothing():
    seeding.seed("a")
    with seeding.apart("b"):
        assert float(torch.rand(())) == drawn("b")
    assert float(torch.rand(())) == drawn("a")
