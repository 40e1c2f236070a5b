"""Promises of the classification metrics: scikit-learn's and torchmetrics' numbers, brute force, and a defined answer for every gap."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torchmetrics.functional.classification import binary_auroc, binary_average_precision, binary_calibration_error

from benchmark.errors import TrainingError, UsageError
from benchmark.metrics import classification as cls
from benchmark.metrics.columns import identical
from benchmark.metrics.scores import score_classification
from benchmark.metrics.statistics import from_json, pooled_metrics, to_json

CASES = 300


def case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Few images, ties in every second case, classes without positives or negatives now and then."""
    random = np.random.default_rng(seed)
    n, c = int(random.integers(2, 40)), int(random.integers(1, 5))
    scores = random.random((n, c))
    if seed % 2:
        scores = np.round(scores, 1)
    return scores, (random.random((n, c)) < random.choice([0.05, 0.3, 0.5, 0.95])).astype(np.int8)


@pytest.mark.filterwarnings("ignore")
def test_every_family_agrees_with_scikit_learn_on_random_cases() -> None:
    compared = 0
    for seed in range(CASES):
        scores, truth = case(seed)
        ranked, counts = cls.rank(scores, truth), cls.count_decisions(scores >= 0.5, truth)
        for k in (0,):  # scikit-learn is slow; further classes are counted by the same code
            t, p, d = truth[:, k], scores[:, k], scores[:, k] >= 0.5
            if 0 < t.sum() < len(t):
                assert cls.auroc(ranked)[k] == pytest.approx(sk.roc_auc_score(t, p), abs=1e-12)
                compared += 1
            else:
                assert np.isnan(cls.auroc(ranked)[k])
            if t.sum():
                assert cls.average_precision(ranked)[k] == pytest.approx(sk.average_precision_score(t, p), abs=1e-12)
            if t.sum() or d.sum():
                assert cls.f1(counts)[k] == pytest.approx(sk.f1_score(t, d), abs=1e-12)
                assert cls.precision(counts)[k] == pytest.approx(sk.precision_score(t, d, zero_division=0), abs=1e-12)
            assert cls.mcc(counts)[k] == pytest.approx(sk.matthews_corrcoef(t, d), abs=1e-12)
            assert cls.accuracy(counts)[k] == pytest.approx(sk.accuracy_score(t, d), abs=1e-12)
            assert cls.brier(scores, truth)[k] == pytest.approx(sk.brier_score_loss(t, p), abs=1e-12)
    assert compared >= 150


def test_ranking_and_calibration_agree_with_torchmetrics_on_random_cases() -> None:
    compared = 0
    for seed in range(CASES):
        scores, truth = case(2 * seed)  # no ties on a bin's edge
        ranked, calibration = cls.rank(scores, truth), cls.calibration_error(scores, truth)
        p, t = torch.from_numpy(scores[:, 0]), torch.from_numpy(truth[:, 0].astype(np.int64))
        assert calibration[0] == pytest.approx(float(binary_calibration_error(p, t, n_bins=15)), abs=1e-5)
        if 0 < t.sum() < len(t):
            assert cls.auroc(ranked)[0] == pytest.approx(float(binary_auroc(p, t)), abs=1e-6)
            assert cls.average_precision(ranked)[0] == pytest.approx(float(binary_average_precision(p, t)), abs=1e-6)
            compared += 1
    assert compared >= 150


def test_exclusive_classes_agree_with_scikit_learn_on_random_cases() -> None:
    for seed in range(40):
        random = np.random.default_rng(seed)
        c = int(random.integers(2, 6))
        n = int(random.integers(3 * c, 60))
        true = np.r_[np.arange(c), random.integers(c, size=n - c)]
        scores = random.random((n, c))
        matrix = cls.confusion_matrix(scores.argmax(1), true, c)
        assert matrix.tolist() == sk.confusion_matrix(true, scores.argmax(1), labels=range(c)).tolist()
        assert cls.multiclass_accuracy(matrix) == pytest.approx(sk.accuracy_score(true, scores.argmax(1)))
        assert cls.multiclass_mcc(matrix) == pytest.approx(sk.matthews_corrcoef(true, scores.argmax(1)), abs=1e-12)
        assert cls.cohen_kappa(matrix) == pytest.approx(sk.cohen_kappa_score(true, scores.argmax(1)), abs=1e-12)
        found = score_classification(scores, cls.one_hot(true, c), [f"c{k}" for k in range(c)], exclusive=True).metrics
        assert found["f1"] == pytest.approx(sk.f1_score(true, scores.argmax(1), average="macro"), abs=1e-12)
        assert found["precision"] == pytest.approx(sk.precision_score(true, scores.argmax(1), average="macro", zero_division=0), abs=1e-12)


def test_auroc_is_the_share_of_ordered_pairs() -> None:
    for seed in range(60):
        scores, truth = case(seed)
        for k, value in enumerate(cls.auroc(cls.rank(scores, truth))):
            pairs = [(p > q) + (p == q) / 2 for p in scores[truth[:, k] == 1, k] for q in scores[truth[:, k] == 0, k]]
            assert value == pytest.approx(np.mean(pairs)) if pairs else np.isnan(value)


def test_weights_are_copies_of_images() -> None:
    for seed in range(40):
        scores, truth = case(seed)
        copies = np.random.default_rng(seed).integers(0, 4, len(scores))
        repeated = scores.repeat(copies, axis=0), truth.repeat(copies, axis=0)
        if not copies.sum():
            continue
        for family in (cls.auroc, cls.average_precision):
            np.testing.assert_allclose(family(cls.rank(scores, truth), copies), family(cls.rank(*repeated)), atol=1e-12)
        for family in (cls.calibration_error, cls.brier):
            np.testing.assert_allclose(family(scores, truth, copies), family(*repeated), atol=1e-12)


def test_the_chosen_threshold_has_the_best_f1_there_is() -> None:
    for seed in range(12):
        scores, truth = case(seed)
        for k, threshold in enumerate(cls.best_f1_thresholds(scores, truth)):
            if not truth[:, k].any():
                assert np.isnan(threshold)
                continue
            by_threshold = {t: sk.f1_score(truth[:, k], scores[:, k] >= t) for t in np.unique(scores[:, k])}
            assert threshold == max(by_threshold, key=lambda t: (round(by_threshold[t], 12), t))


def test_an_unknown_label_takes_the_image_out_of_that_class_only() -> None:
    scores, truth = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]]), np.array([[1, 0], [0, 1], [-1, 1]])
    ranked = cls.rank(scores, truth)
    assert cls.auroc(ranked).tolist() == [1.0, 1.0]
    assert cls.accuracy(cls.count_decisions(scores >= 0.5, truth)).tolist() == [1.0, pytest.approx(2 / 3)]


def test_a_class_absent_from_the_split_is_named_and_left_out_of_the_mean() -> None:
    scores = np.array([[0.9, 0.5], [0.2, 0.6], [0.3, 0.7]])
    found = score_classification(scores, np.array([[1, 0], [0, 0], [0, 0]]), ["edema", "fracture"], exclusive=False)
    assert found.metrics["auroc"] == found.metrics["edema_auroc"] == 1.0
    assert "fracture_auroc" not in found.metrics
    assert "no image of the split is positive" in found.undefined["fracture_auroc"]
    assert any("means cover the other 1" in why for why in found.undefined.values())


def test_statistics_come_back_exactly_and_pool_to_the_same_numbers() -> None:
    scores, truth = case(7)
    names = [f"c{k}" for k in range(scores.shape[1])]
    found = score_classification(scores, truth, names, exclusive=False, thresholds=np.full(len(names), 0.3))
    again = from_json(to_json(found.statistics))
    assert identical(again, found.statistics)
    values = {name: metric(None) for name, metric in pooled_metrics(again).items()}
    assert {name: v for name, v in values.items() if v is not None} == found.metrics


def test_scores_that_are_no_numbers_and_labels_of_another_shape_are_refused() -> None:
    with pytest.raises(TrainingError, match="not finite"):
        cls.rank(np.array([[np.nan]]), np.array([[1]]))
    with pytest.raises(UsageError, match="do not fit"):
        cls.rank(np.zeros((2, 1)), np.zeros((3, 1)))
    with pytest.raises(UsageError, match=r"found \[7\]"):
        cls.rank(np.zeros((1, 1)), np.array([[7]]))


def test_without_an_image_agreement_is_no_number() -> None:
    nothing = np.zeros((3, 3), np.int64)
    assert np.isnan(cls.multiclass_mcc(nothing))
    assert np.isnan(cls.cohen_kappa(nothing))
    assert cls.multiclass_mcc(np.diag([3, 0, 0])) == 0.0  # a constant decision, as scikit-learn has it
