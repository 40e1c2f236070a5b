"""Findings by name: every name asked for has its box, on the scene that shows it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.phantom.anatomy import draw_patient
from benchmark.phantom.boxed import SMALLEST_BOX, draw, draw_names, opacity, small_disc
from benchmark.phantom.radiograph import GRID

LOOKS = {"Patch": opacity, "Disc": small_disc}


def drawn(names, seed=3):
    return draw(draw_patient("test/0/1"), names, LOOKS, "Heart", np.random.default_rng(seed))


def test_every_name_has_a_box_inside_the_scene_and_the_heart_has_no_finding():
    radiograph, boxes = drawn(["Heart", "Patch", "Disc"])
    assert [name for name, _, _ in boxes] == ["Patch", "Disc", "Heart"]
    assert [finding is None for _, finding, _ in boxes] == [False, False, True]
    assert radiograph.heart_enlarged
    for _, finding, (x, y, width, height) in boxes:
        assert 0 <= x < x + width <= GRID
        assert 0 <= y < y + height <= GRID
        if finding is not None:
            assert min(width, height) * 1024 / GRID >= SMALLEST_BOX
            assert (x, y, width, height) == finding.box()
    assert len(radiograph.findings) == 2


def test_two_findings_lie_in_different_lungs():
    _, boxes = drawn(["Patch", "Disc"])
    assert len({finding.side for _, finding, _ in boxes}) == 2


def test_no_names_draw_no_finding():
    radiograph, boxes = drawn([])
    assert boxes == []
    assert not radiograph.heart_enlarged


def test_names_of_an_image_differ_and_come_as_often_as_their_weights():
    rng = np.random.default_rng(0)
    images = [draw_names({"a": 8, "b": 2}, {1: 3, 2: 1}, rng) for _ in range(2_000)]
    assert all(len(set(names)) == len(names) for names in images)
    assert np.mean([len(names) == 2 for names in images]) == pytest.approx(0.25, abs=0.03)
    alone = [names[0] for names in images if len(names) == 1]
    assert alone.count("a") / len(alone) == pytest.approx(0.8, abs=0.03)
