from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_f1_score, binary_jaccard_index, binary_precision, binary_recall

from benchmark.errors import TrainingError, UsageError
from benchmark.metrics import dice

seeds = st.integers(0, 2**32 - 1)

# Checked against torchmetrics 0.6.0: three images of 2 x 3 pixels.
PROBABILITIES = np.array(
    [[[0.9, 0.5, 0.2], [0.1, 0.49, 0.7]], [[0.6, 0.1, 0.1], [0.2, 0.1, 0.1]], [[0.1, 0.2, 0.1], [0.1, 0.3, 0.9]]], np.float32
)[:, None]
MASKS = np.array([[[1, 1, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 1]]], bool)[:, None]


def test_vector_dice_1_of_the_reference():
    counts = _counts(PROBABILITIES, MASKS)
    assert [part.sum() for part in (counts.tp, counts.fp, counts.fn)] == [3, 2, 1]
    assert counts.tp.dtype == np.int64
    assert counts.tp.shape == (3, 1)
    assert dice.micro_dice(counts)[0] == pytest.approx(0.666667, abs=5e-7)
    assert dice.avg_dice(counts) == dice.pooled_dice(counts) == dice.micro_dice(counts)[0]
    assert dice.pos_dice(counts) == dice.image_dice_positives(counts) == pytest.approx(0.833333, abs=5e-7)
    assert dice.image_dice(counts).mean() == pytest.approx(0.555556, abs=5e-7)
    assert dice.precision(counts) == pytest.approx(0.6)
    assert dice.recall(counts) == pytest.approx(0.75)
    assert dice.iou(counts) == pytest.approx(0.5)
    assert dice.negatives_empty(counts) == 0.0


@given(seed=seeds, share=st.sampled_from([0.0, 0.02, 0.3, 1.0]))
def test_pooled_values_equal_torchmetrics(seed, share):
    probabilities, masks = _random(seed, share, shape=(3, 2, 4, 5))
    counts = _counts(probabilities, masks)
    # torchmetrics applies a sigmoid when values leave [0, 1] and takes > 0.5: given decisions, the definitions coincide.
    decided, true = torch.from_numpy(probabilities >= 0.5).int(), torch.from_numpy(masks).int()
    for label in range(2):
        assert dice.micro_dice(counts)[label] == pytest.approx(float(binary_f1_score(decided[:, label], true[:, label])), abs=1e-6)
    for ours, theirs in ((dice.precision, binary_precision), (dice.recall, binary_recall), (dice.iou, binary_jaccard_index)):
        assert (ours(counts) or 0.0) == pytest.approx(float(theirs(decided, true)), abs=1e-6)
    assert dice.pooled_dice(counts) == pytest.approx(float(binary_f1_score(decided, true)), abs=1e-6)


@given(seed=seeds, share=st.sampled_from([0.02, 0.1, 0.3]))
def test_image_values_equal_a_loop_over_images(seed, share):
    probabilities, masks = _random(seed, share, shape=(6, 2, 3, 3))
    counts = _counts(probabilities, masks)
    per_class, pooled, empty = [], [], []
    for label in range(2):
        values = []
        for p, y in zip(probabilities[:, label] >= 0.5, masks[:, label], strict=True):
            if y.any():
                values.append(2 * (p & y).sum() / (p.sum() + y.sum()))
            else:
                empty.append(not p.any())
        per_class += [np.mean(values)] if values else []
        pooled += values
    for found, expected in (
        (dice.pos_dice(counts), per_class),
        (dice.image_dice_positives(counts), pooled),
        (dice.negatives_empty(counts), empty),
    ):
        assert found == (pytest.approx(np.mean(expected)) if len(expected) else None)


@given(seed=seeds, share=st.sampled_from([0.02, 0.3, 1.0]))
def test_image_values_equal_torchmetrics(seed, share):
    probabilities, masks = _random(seed, share, shape=(4, 2, 4, 5))
    counts = _counts(probabilities, masks)
    decided, true = torch.from_numpy(probabilities >= 0.5).int(), torch.from_numpy(masks).int()
    for label in range(2):
        expected = binary_f1_score(decided[:, label], true[:, label], multidim_average="samplewise").numpy()
        positive = counts.positive[:, label]
        np.testing.assert_allclose(dice.image_dice(counts)[positive, label], expected[positive], atol=1e-6)


@given(seed=seeds)
def test_weights_equal_a_list_of_repeated_images(seed):
    probabilities, masks = _random(seed, 0.2, shape=(6, 2, 3, 3))
    weights = np.random.default_rng(seed).integers(0, 3, 6)
    counts = _counts(probabilities, masks)
    repeated = dice.DiceCounts(*(np.repeat(part, weights, axis=0) for part in (counts.tp, counts.fp, counts.fn)))
    np.testing.assert_allclose(dice.micro_dice(counts, weights), dice.micro_dice(repeated))
    for metric in (dice.pos_dice, dice.image_dice_positives, dice.negatives_empty, dice.precision, dice.recall, dice.iou, dice.pooled_dice):
        expected = metric(repeated)
        assert metric(counts, weights) == (None if expected is None else pytest.approx(expected))


def test_trivial_all_positive_predictor_scores_twice_the_share_over_one_plus_the_share():
    # docs/protocols/lovt.md, quirk 13: RSNA's 2.7305 % of positive pixels give 5.316 % micro Dice.
    masks = np.zeros((1, 1, 200, 1000), bool)
    masks.ravel()[:5461] = True
    counts = dice.count_overlap(np.ones_like(masks), masks)
    assert dice.micro_dice(counts)[0] == pytest.approx(0.05316, abs=5e-6)


def test_empty_against_empty_is_zero_pooled_and_undefined_per_image():
    counts = dice.count_overlap(np.zeros((2, 1, 3, 3), bool), np.zeros((2, 1, 3, 3), bool))
    assert dice.micro_dice(counts)[0] == dice.avg_dice(counts) == dice.pooled_dice(counts) == 0.0
    assert dice.negatives_empty(counts) == 1.0
    assert [m(counts) for m in (dice.pos_dice, dice.image_dice_positives, dice.precision, dice.recall, dice.iou)] == [None] * 5


def test_counts_do_not_depend_on_the_chunk():
    probabilities, masks = _random(0, 0.3, shape=(7, 3, 5, 5))
    whole = _counts(probabilities, masks)
    for chunk in (1, 3, 7):
        parts = dice.join([_counts(probabilities[s : s + chunk], masks[s : s + chunk]) for s in range(0, 7, chunk)])
        for name in ("tp", "fp", "fn"):
            np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


@pytest.mark.parametrize("value", [np.nan, 1.5, -3.0, np.inf])
def test_logits_and_nan_are_not_taken_for_probabilities(value):
    probabilities = PROBABILITIES.copy()
    probabilities[1, 0, 0, 0] = value
    with pytest.raises(TrainingError, match=r"leave \[0, 1\]"):
        _counts(probabilities, MASKS)


def test_unequal_shapes_and_types_are_refused():
    with pytest.raises(UsageError, match="cannot be counted"):
        _counts(PROBABILITIES[:2], MASKS)
    with pytest.raises(UsageError, match="cannot be counted"):
        dice.count_overlap(MASKS[..., :2], MASKS)
    with pytest.raises(UsageError, match="uint8"):
        dice.count_overlap(MASKS.astype(np.uint8), MASKS)


def _counts(probabilities, masks):
    return dice.count_overlap(dice.binarise(probabilities), masks)


def _random(seed, share, shape):
    rng = np.random.default_rng(seed)
    probabilities = rng.random(shape, np.float32) ** rng.choice([0.3, 1, 4])
    probabilities[rng.random(shape) < 0.1] = 0.5
    return probabilities, rng.random(shape) < share


# ------------------------------------------------------------------------------------ families that must not be taken for each other


def _families() -> tuple[np.ndarray, np.ndarray]:
    """Seven images of one class, 4 x 4: hit, half hit, missed, false alarm, and three true negatives."""
    truth, predicted = np.zeros((7, 1, 4, 4), bool), np.zeros((7, 1, 4, 4), bool)
    truth[0, 0, :2] = predicted[0, 0, :2] = True
    truth[1, 0, :2] = predicted[1, 0, 1:3] = True
    truth[2, 0, 0, 0] = True
    predicted[3, 0, 3, 3] = True
    return predicted, truth


def test_three_families_of_dice_written_out() -> None:
    counts = dice.count_overlap(*_families())
    per_image = [1, 0.5, 0, 0, 1, 1, 1]
    assert dice.image_dice_all(counts) == pytest.approx(np.mean(per_image))
    assert dice.image_dice_positives(counts) == pytest.approx(0.5)
    batches = [np.mean(per_image[:3]), np.mean(per_image[3:6]), per_image[6]]
    assert dice.image_dice_batches(counts, dice.sizes_of_batches(7, 3)) == pytest.approx(np.mean(batches))
    tp, wrong, tn = 12, 10, 7 * 16 - 22
    assert dice.dice_with_background(counts, 16) == pytest.approx((2 * tp / (2 * tp + wrong) + 2 * tn / (2 * tn + wrong)) / 2)
    assert float(dice.micro_dice(counts)[0]) == pytest.approx(24 / 34)


def test_dice_over_batches_is_that_over_images_where_all_batches_are_alike() -> None:
    counts = dice.count_overlap(*_families())
    for size in (1, 7, 100):
        assert dice.image_dice_batches(counts, dice.sizes_of_batches(7, size)) == pytest.approx(dice.image_dice_all(counts))
    assert dice.sizes_of_batches(7, 3).tolist() == [3, 3, 3, 3, 3, 3, 1]
    with pytest.raises(UsageError, match="A batch of 0 images"):
        dice.sizes_of_batches(7, 0)


def test_predicting_nothing_scores_the_share_of_negatives_in_one_family_only() -> None:
    _, truth = _families()
    counts = dice.count_overlap(np.zeros_like(truth), truth)
    assert dice.image_dice_all(counts) == pytest.approx(4 / 7)
    assert dice.image_dice_positives(counts) == 0
    assert dice.dice_with_background(counts, 16) < 0.5


def test_image_weights_count_images_again() -> None:
    predicted, truth = _families()
    counts = dice.count_overlap(predicted, truth)
    weights = np.array([2, 0, 1, 3, 0, 1, 0])
    again = dice.count_overlap(np.repeat(predicted, weights, axis=0), np.repeat(truth, weights, axis=0))
    assert dice.image_dice_all(counts, weights) == pytest.approx(dice.image_dice_all(again))
    assert dice.dice_with_background(counts, 16, weights) == pytest.approx(dice.dice_with_background(again, 16))
    assert dice.image_dice_all(counts, np.zeros(7)) is None


def test_a_side_without_a_pixel_is_left_out_and_a_frame_too_small_is_refused() -> None:
    full = np.ones((2, 1, 4, 4), bool)
    assert dice.dice_with_background(dice.count_overlap(full, full), 16) == 1
    assert dice.dice_with_background(dice.count_overlap(~full, ~full), 16) == 1
    with pytest.raises(UsageError, match="more pixels counted than the 15"):
        dice.dice_with_background(dice.count_overlap(full, full), 15)


def test_background_dice_is_the_dice_of_the_complements() -> None:
    """BenchX's mDice is the mean of the two classes' Dice over all pixels."""
    random = np.random.default_rng(5)
    predicted, truth = random.random((5, 1, 8, 8)) > 0.6, random.random((5, 1, 8, 8)) > 0.7
    sides = [float(dice.micro_dice(dice.count_overlap(*pair))[0]) for pair in ((predicted, truth), (~predicted, ~truth))]
    assert dice.dice_with_background(dice.count_overlap(predicted, truth), 64) == pytest.approx(np.mean(sides))
