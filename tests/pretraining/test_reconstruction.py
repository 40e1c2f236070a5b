"""The loss and the rollout of LOBE's own reconstruction, which its encoder holds, on the vectors of the reference."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from benchmark.encoders.local_region_clip import LocalRegionClip, rollout
from tests.pretraining.numbers import RELATIVE, leaf, norm, r


def test_pairs_and_texts_with_what_they_found():
    image, text, found = leaf(1, (4, 8)), leaf(2, (4, 8)), leaf(18, (4, 8))
    adapter = SimpleNamespace(network=SimpleNamespace(logit_scale=torch.tensor(math.log(1 / 0.07))))
    whole, pairs = (LocalRegionClip.loss(adapter, image, text, found, weight) for weight in (1.0, 0.0))
    whole.backward()
    assert [pairs.item(), whole.item() - pairs.item()] == pytest.approx([1.144092, 2.637093], rel=RELATIVE)
    assert norm(image, text, found) == pytest.approx([2.173825, 5.050602, 2.510146], rel=RELATIVE)


def test_rollout_of_two_layers():
    rolled = rollout([r(19, (1, 2, 5, 5)).softmax(dim=-1), r(20, (1, 2, 5, 5)).softmax(dim=-1)])
    assert rolled[0, 0, 1:].tolist() == pytest.approx([0.157402, 0.158424, 0.145227, 0.174211], rel=RELATIVE)
