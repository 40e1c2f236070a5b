"""Trivial predictors on the RSNA phantom, in the 224-pixel frame of the task (docs/adr/0004-phantoms.md)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from benchmark.phantom.anatomy import draw_patient
from benchmark.phantom.base import CorpusPlan, patient_key, shots_of, stream_of
from benchmark.phantom.findings import draw_count, draw_opacities
from benchmark.phantom.radiograph import compose, develop
from benchmark.phantom.rsna import DEFAULT_POSITIVE_SHARE

FRAME = 224
PLAN = CorpusPlan("rsna", 44, seed=3)


@pytest.fixture(scope="module")
def frames():
    """Pictures (n, 224, 224) float32 and filled boxes (n, 224, 224) bool of about 110 images at the real prevalence."""
    pictures, masks = [], []
    for shot in shots_of(PLAN, DEFAULT_POSITIVE_SHARE):
        rng = stream_of(PLAN, shot)
        n = draw_count(rng) if shot.positive else 0
        make = (lambda scene, n=n, rng=rng: draw_opacities(scene, n, rng)) if n else (lambda scene: [])
        radiograph = compose(draw_patient(patient_key(PLAN, shot.patient)), rng, make)
        pictures.append(develop(radiograph, FRAME, FRAME, rng).astype(np.float32))
        mask = np.zeros((FRAME, FRAME), dtype=bool)
        for one in radiograph.findings:
            x, y, w, h = (round(v * FRAME / 320) for v in one.box())
            mask[y : y + h, x : x + w] = True
        masks.append(mask)
    return np.array(pictures), np.array(masks)


def micro_dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    return 2 * np.count_nonzero(predicted & truth) / (np.count_nonzero(predicted) + np.count_nonzero(truth))


def best_dice(scores: np.ndarray, truth: np.ndarray) -> float:
    """Best micro-Dice over 100 thresholds of a score map, either way round."""
    edges = np.unique(np.percentile(scores[:, ::4, ::4], np.linspace(0, 100, 101)))
    everywhere, hits = (np.histogram(values, edges)[0] for values in (scores, scores[truth]))
    dices = [2 * h.cumsum() / (e.cumsum() + hits.sum()) for h, e in ((hits, everywhere), (hits[::-1], everywhere[::-1]))]
    return float(np.max(dices))


def test_prevalence_and_positive_area_are_those_of_rsna(frames):
    _, masks = frames
    assert masks.any(axis=(1, 2)).mean() == pytest.approx(6_012 / 26_684, abs=0.01)
    assert masks.mean() == pytest.approx(0.0265, abs=0.012)  # the real label file's


def test_predicting_everything_scores_like_on_the_real_boxes(frames):
    _, masks = frames
    assert 0.02 < micro_dice(np.ones_like(masks), masks) < 0.085  # 5.3 % on RSNA's test boxes


def test_mean_location_scores_low(frames):
    _, masks = frames
    half = len(masks) // 2
    prior = np.broadcast_to(gaussian_filter(masks[:half].mean(axis=0, dtype=np.float32), 4), masks[half:].shape)
    assert best_dice(prior, masks[half:]) < 0.20


def test_brightness_scores_low(frames):
    pictures, masks = frames
    assert best_dice(pictures, masks) < 0.10
    small, truth = pictures[:, ::2, ::2], masks[:, ::2, ::2]
    bands = [(low, low + width) for low in range(0, 250, 25) for width in (25, 50, 100)]
    assert max(micro_dice((small > low) & (small < high), truth) for low, high in bands) < 0.12


def test_brightness_relative_to_the_surroundings_scores_low(frames):
    pictures, masks = frames
    relative = np.array([picture - gaussian_filter(picture, 20.0) for picture in pictures])
    assert best_dice(relative, masks) < 0.14
