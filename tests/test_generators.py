"""The generators of a whole process: begun from a seed, kept apart, and put back where they stood."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch

from benchmark import generators

DRAWS: dict[str, Callable[[], float]] = {
    "torch": lambda: float(torch.rand(1)),
    "numpy": lambda: float(np.random.rand()),  # noqa: NPY002
    "python": random.random,
}


@pytest.mark.parametrize("of", DRAWS)
def test_a_seed_begins_every_generator(of):
    drawn = []
    for seed in (5, 5, 6, 2**40):
        generators.seed_all(seed)
        drawn.append(DRAWS[of]())
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


@pytest.mark.parametrize("of", DRAWS)
def test_what_is_drawn_inside_moves_nothing_outside(of):
    generators.seed_all(1)
    expected = [DRAWS[of]() for _ in range(2)]
    generators.seed_all(1)
    found = [DRAWS[of]()]
    with generators.drawn_from(7):
        DRAWS[of]()
    assert [*found, DRAWS[of]()] == expected


@pytest.mark.parametrize("of", DRAWS)
def test_a_draw_shows_and_a_state_is_put_back(of):
    before, saved = generators.fingerprint(), generators.state()
    first = DRAWS[of]()
    assert generators.fingerprint() != before
    generators.set_state(saved)
    assert generators.fingerprint() == before
    assert DRAWS[of]() == first
