"""The reconstruction's loss and rollout, on the vectors of its reference."""

from __future__ import annotations

import pytest

from benchmark.encoders.local_region_clip import rollout
from benchmark.pretraining.group import Group
from benchmark.pretraining.objectives.local_region_clip import losses
from tests.pretraining.numbers import RELATIVE, leaf, norm, r


def test_pairs_and_texts_with_what_they_found():
    image, text, found = leaf(1, (4, 8)), leaf(2, (4, 8)), leaf(18, (4, 8))
    parts = losses(image, text, found, 1 / 0.07, Group.alone(4))
    assert [float(one) for one in parts.values()] == pytest.approx([1.144092, 2.637093], rel=RELATIVE)
    total = sum(parts.values())
    total.backward()
    assert float(total) == pytest.approx(3.781185, rel=RELATIVE)
    assert norm(image, text, found) == pytest.approx([2.173825, 5.050602, 2.510146], rel=RELATIVE)


def test_rollout_of_two_layers():
    rolled = rollout([r(19, (1, 2, 5, 5)).softmax(dim=-1), r(20, (1, 2, 5, 5)).softmax(dim=-1)])
    assert rolled[0, 0, 1:].tolist() == pytest.approx([0.157402, 0.158424, 0.145227, 0.174211], rel=RELATIVE)
