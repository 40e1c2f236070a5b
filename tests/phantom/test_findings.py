from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmark.phantom.anatomy import draw_patient, draw_pose
from benchmark.phantom.base import scaled_box
from benchmark.phantom.findings import (
    BOX_MAX_WH,
    BOX_MIN_WH,
    BOXES_PER_POSITIVE,
    atelectasis,
    draw_count,
    draw_opacities,
    effusion,
    interstitial,
    nodule,
    pneumothorax,
    smooth_shadow,
    zone_of,
)
from benchmark.phantom.projection import project
from benchmark.phantom.radiograph import GRID
from benchmark.phantom.seeds import stream

# Quartiles of the 9,555 boxes of RSNA's stage 2 label file, pixels of 1024 (computed from the file; docs/sources.md, RSNA).
RSNA_WIDTH, RSNA_HEIGHT = (177, 217, 259), (203, 298, 438)
RSNA_LEFT_SHARE = 0.535


def scene_of(number: int, size: int = GRID):
    patient = draw_patient(f"findings {number}")
    return project(patient, draw_pose(patient, stream("findings pose", number)), size, size)


@pytest.fixture(scope="module")
def positives():
    """Opacities of 80 positive images with their scenes."""
    images = []
    for number in range(80):
        rng, scene = stream("positives", number), scene_of(number)
        images.append((scene, draw_opacities(scene, draw_count(rng), rng)))
    return images


def test_boxes_have_the_sizes_and_places_of_rsna(positives):
    boxes = np.array([scaled_box(one.box(), GRID, 1024, 1024) for _, found in positives for one in found])
    quartiles = np.percentile(boxes[:, 2:], [25, 50, 75], axis=0)
    assert quartiles[:, 0] == pytest.approx(RSNA_WIDTH, rel=0.12)
    assert quartiles[:, 1] == pytest.approx(RSNA_HEIGHT, rel=0.15)
    assert np.corrcoef(np.log(boxes[:, 2]), np.log(boxes[:, 3]))[0, 1] == pytest.approx(0.61, abs=0.15)
    assert (boxes[:, 0] + boxes[:, 2] / 2 < 512).mean() == pytest.approx(RSNA_LEFT_SHARE, abs=0.08)
    assert (boxes[:, 2:] <= BOX_MAX_WH).all()
    assert (boxes[:, 2:] >= np.array(BOX_MIN_WH) - 4).all()
    assert boxes[:, :2].min() >= 1
    assert (boxes[:, :2] + boxes[:, 2:]).max() <= 1023


def test_number_of_boxes_per_positive_image_is_that_of_rsna():
    rng = stream("counts")
    drawn = np.bincount([draw_count(rng) for _ in range(6_000)], minlength=5)[1:] / 6_000
    expected = np.array(list(BOXES_PER_POSITIVE.values())) / 6_012
    assert drawn == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_as_many_opacities_as_asked_and_none_touches_another(n):
    for number in range(3):
        found = draw_opacities(scene_of(number), n, stream("n", n, number))
        assert len(found) == n
        assert len({one.side for one in found}) == min(n, 2)
        heavy = [one.density > 0.5 for one in found]
        assert sum(mask.sum() for mask in heavy) <= 1.05 * np.logical_or.reduce(heavy).sum()


def test_side_and_zone_are_where_the_box_is(positives):
    for scene, found in positives:
        for one in found:
            x, y, width, height = one.box()
            assert one.side == ("right" if x + width / 2 < to_column(scene) else "left")
            # The report speaks of the centre; the lung's edge may cut a box, so its middle may fall just over a zone's border.
            near = {zone_of(scene, one.side, y + height / 2 + shift * GRID) for shift in (-0.06, 0, 0.06)}
            assert one.zone in near


def to_column(scene) -> float:
    """Column of the patient's midline at the height of the hila."""
    return float(np.abs(scene.x[GRID // 2]).argmin())


def test_look_alikes_are_as_bright_as_opacities(positives):
    opacity, shadow = [], []
    for number, (scene, found) in enumerate(positives[:40]):
        look_alike = smooth_shadow(scene, "left", stream("look-alike", number))
        shadow.append(look_alike.added[look_alike.density > 0.9].mean())
        opacity += [one.added[one.density > 0.9].mean() for one in found if (one.density > 0.9).any()]
    low, high = np.percentile(opacity, [10, 90])
    assert np.mean((np.array(shadow) > low) & (np.array(shadow) < 1.25 * high)) > 0.7
    assert np.median(shadow) > 0.9 * np.median(opacity)


def test_anatomy_is_as_bright_as_opacities(positives):
    """Heart and hila: the brightest tenth of opaque lung stays below the heart's median."""
    for scene, found in positives[:40]:
        attenuation = scene.attenuation + sum(one.added for one in found)
        opaque = np.logical_or.reduce([one.density > 0.5 for one in found]) & (scene.heart < 0.1)
        assert np.median(attenuation[opaque]) < np.median(scene.attenuation[scene.heart > 0.9])


def test_opacities_are_patchy_and_look_alikes_are_smooth(positives):
    rough, smooth = [], []
    for number, (scene, found) in enumerate(positives[:30]):
        rough += [roughness(one) for one in found]
        smooth.append(roughness(smooth_shadow(scene, "right", stream("smooth", number))))
    assert np.percentile(rough, 5) > np.percentile(smooth, 95)


def roughness(finding) -> float:
    """Relative spread of what a finding adds where its density is full."""
    full = finding.added[finding.density > 0.97]
    return (
        float(full.std() / full.mean()) if len(full) > 20 else float(finding.added[finding.mask].std() / finding.added[finding.mask].mean())
    )


@pytest.mark.parametrize("draw", [atelectasis, effusion, interstitial, pneumothorax, lambda s, side, rng: nodule(s, side, rng, (25, 44))])
@pytest.mark.parametrize("side", ["right", "left"])
def test_every_finding_stays_in_its_lung(draw, side):
    scene = scene_of(1)
    finding = draw(scene, side, stream("stays", side))
    left, top, right, bottom = scene.boxes[side]
    x, y, width, height = finding.box()
    assert min(width, height) > 0
    assert left - 12 <= x <= x + width <= right + 12
    assert top - 12 <= y <= y + height <= bottom + 12


def test_a_finding_of_which_nothing_is_left_has_a_box_of_no_width(positives):
    finding = next(one for _, found in positives for one in found)
    assert finding.box()[2] > 0
    assert dataclasses.replace(finding, density=np.zeros_like(finding.density)).box() == (0.0, 0.0, 0.0, 0.0)


def test_pneumothorax_takes_vessels_away():
    scene = scene_of(2)
    finding = pneumothorax(scene, "right", stream("air"), separation=0.4)
    inside = finding.density > 0.95
    assert np.abs((scene.detail + finding.added + 0.09)[inside]).mean() < 0.5 * scene.detail[scene.lungs["right"] > 0.9].mean()
