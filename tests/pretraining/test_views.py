"""A view is its key's: alone or in a batch, now or later; and the pipelines change what they say they change."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.pretraining.views import PIPELINES, SMALLER, Views

FRAMES = np.random.default_rng(0).integers(0, 255, (3, 32, 32), np.uint8)


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_a_view_depends_on_its_key_alone(name):
    views = Views(name, 32)
    batch = views.of(FRAMES, [7, 2**62, 9])
    assert batch.shape == ((3, 28, 28) if name in SMALLER else FRAMES.shape)
    assert batch.dtype == np.uint8
    assert np.array_equal(Views(name, 32).of(FRAMES[1:2], [2**62])[0], batch[1])
    other = views.of(FRAMES, [8, 2**62 + 1, 10])
    assert np.array_equal(other, batch) == (name in ("none", "centre"))


def test_comparisons_never_mirror_an_image():
    """Reports say left and right."""
    frame = np.zeros((1, 32, 32), np.uint8)
    frame[:, :, :8] = 200
    seen = [Views("moved", 32).of(frame, [key])[0] for key in range(40)]
    assert all(one[:, :16].sum() > one[:, 16:].sum() for one in seen)
    for name in ("prior", "lovt"):
        mirrored, kept = ([Views(one, 32).of(frame, [key])[0] for key in range(40)] for one in (name, f"{name}-unmirrored"))
        assert any(one[:, :16].sum() < one[:, 16:].sum() for one in mirrored)
        assert not any(one[:, :16].sum() < one[:, 16:].sum() for one in kept)
