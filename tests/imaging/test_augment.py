"""Promises of augmentation: image and mask move together, a draw can be repeated anywhere, and masks stay masks."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from benchmark.imaging.augment import PIPELINES, Augmentation


def _frames(n: int = 40, side: int = 64) -> np.ndarray:
    frames = np.zeros((n, side, side), np.uint8)
    frames[:, 16:40, 10:50] = 255
    return frames


def test_image_and_masks_asked_for_separately_belong_together() -> None:
    draws, index = Augmentation("scale-rotate", seed=3), np.arange(40)
    frames = _frames()
    masks = np.stack([frames > 0, np.zeros_like(frames, dtype=bool)], axis=1)
    moved, targets = draws.images(frames, index), draws.masks(masks, index)
    assert moved.dtype == np.uint8
    assert targets.dtype == bool
    changed = (moved != frames).any(axis=(1, 2))
    assert 10 < changed.sum() < 30  # every second one
    assert not (targets[:, 0] != masks[:, 0]).any(axis=(1, 2))[~changed].any()
    assert (targets[:, 0] != masks[:, 0]).any(axis=(1, 2)).sum() > 10
    assert not targets[:, 1].any()
    wrong = ((moved > 127) != targets[:, 0]).mean(axis=(1, 2))
    assert wrong.max() < 0.03  # interpolation, at the outline


def test_moved_by_at_most_ten_degrees_and_ten_percent_about_the_centre() -> None:
    frames = np.zeros((300, 128, 128), np.uint8)
    frames[:, 32:96, 32:96] = 255
    area = (Augmentation("scale-rotate", seed=0).images(frames, np.arange(300)) > 127).sum(axis=(1, 2)) / 64**2
    assert 0.78 < area.min() < 0.86  # 0.9 squared
    assert 1.14 < area.max() < 1.25
    centre = [np.argwhere(frame > 127).mean(axis=0) for frame in Augmentation("scale-rotate", seed=0).images(frames, np.arange(300))]
    assert np.abs(np.array(centre) - 63.5).max() < 1.5


def test_a_draw_depends_on_seed_epoch_and_place_and_on_nothing_else() -> None:
    frames = _frames(8)
    draws = Augmentation("scale-rotate", seed=3, epoch=2)
    together = draws.images(frames, np.arange(8))
    backwards = Augmentation("scale-rotate", seed=3, epoch=2).images(frames[::-1], np.arange(8)[::-1])[::-1]
    assert np.array_equal(together, backwards)
    assert np.array_equal(together[5:6], draws.images(frames[5:6], np.array([5])))
    for other in (Augmentation("scale-rotate", seed=4, epoch=2), Augmentation("scale-rotate", seed=3, epoch=3)):
        assert not np.array_equal(together, other.images(frames, np.arange(8)))


def test_stored_arrays_are_left_as_they_are() -> None:
    frames, masks = _frames(), _frames()[:, None] > 0
    before = frames.copy(), masks.copy()
    draws = Augmentation("scale-rotate", seed=1)
    draws.images(frames, np.arange(40)), draws.masks(masks, np.arange(40))
    assert np.array_equal(frames, before[0])
    assert np.array_equal(masks, before[1])


def test_a_name_that_is_no_pipeline_is_an_error() -> None:
    assert set(PIPELINES) == {"scale-rotate"}
    with pytest.raises(KeyError):
        Augmentation("flip", seed=0).images(_frames(1), np.array([0]))


def test_no_server_is_asked_for_a_newer_albumentations() -> None:
    code = (
        "import os, sys; os.environ.pop('NO_ALBUMENTATIONS_UPDATE', None); import numpy as np\n"
        "from benchmark.imaging.augment import Augmentation\n"
        "print('albumentations' in sys.modules)\n"
        "Augmentation('scale-rotate', 1).images(np.zeros((1, 8, 8), np.uint8), [0])\n"
        "print(os.environ['NO_ALBUMENTATIONS_UPDATE'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "1"]
