from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.metrics.dice import DiceCounts, DicePool
from benchmark.metrics.many_resamples import mean_average_precisions
from benchmark.metrics.matching import average_precisions, lovt_pool, match
from benchmark.metrics.overlaps import overlaps


@given(seed=st.integers(0, 2**32 - 1), n_classes=st.integers(1, 3), tied=st.booleans())
def test_many_resamples_at_once_give_the_values_of_one_at_a_time(random_split, seed, n_classes, tied):
    detections, truth = random_split(seed, n_images=6, n_classes=n_classes, tied=tied)
    matched = match(lovt_pool(overlaps(detections, truth)), n_classes=n_classes)
    weights = np.random.default_rng(seed).integers(0, 3, (7, 6))
    weights[0] = 0
    expected = [average_precisions(matched, row).mean(axis=1).mean() for row in weights]
    np.testing.assert_allclose(mean_average_precisions(matched, weights), expected, rtol=0, atol=1e-12)


def test_more_resamples_than_one_table_holds_are_all_there(random_split):
    matched = match(lovt_pool(overlaps(*random_split(3, n_images=6))))
    weights = np.random.default_rng(0).integers(0, 3, (205, 6))
    assert mean_average_precisions(matched, weights) == pytest.approx([average_precisions(matched, row).mean() for row in weights])
    assert mean_average_precisions(matched, weights[:0]).shape == (0,)


@pytest.mark.parametrize("label", [None, 0, 1])
def test_dice_of_many_resamples_is_dice_of_each(label):
    rng = np.random.default_rng(1)
    pool = DicePool(DiceCounts(*(rng.integers(0, 50, (9, 2)) for _ in range(3))), label)
    weights = rng.integers(0, 3, (20, 9))
    assert pool.many(weights) == pytest.approx([pool(row) for row in weights], rel=1e-12)
