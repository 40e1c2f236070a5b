"""How well scores tell which findings an image has: ranking, decisions and calibration, per class.

Everything takes image weights (copies of each image, for the bootstrap) and gives NaN for a class that has no answer: no positive, or no
negative where one is needed. Which classes enter a mean is decided in `label_statistics`.

Formulas:
    auroc, {class}_auroc: (1 / (P N)) Σ_p Σ_n ([s_p > s_n] + ½ [s_p = s_n]); over P positives p and N negatives n of a class; the mean over
        classes takes each alike, as in the lines below
    ap, {class}_ap: Σ_k (R_k - R_{k-1}) P_k; recall R_k and precision P_k when the images from the k-th highest score on are called positive
    f1, {class}_f1: 2 TP / (2 TP + FP + FN); decided at 0.5, or for the class of the highest score
    f1_validated: 2 TP / (2 TP + FP + FN); decided at each class's best threshold on validation
    precision: TP / (TP + FP)
    recall: TP / (TP + FN)
    accuracy, {class}_accuracy: (TP + TN) / (TP + FP + FN + TN); where classes exclude each other the bare name is the share of images
        whose decided class is the true one
    mcc, {class}_mcc: (TP TN - FP FN) / √((TP + FP) (TP + FN) (TN + FP) (TN + FN)); where classes exclude each other the bare name is
        Gorodkin's R_K of the confusion matrix
    kappa: (p_o - p_e) / (1 - p_e); share of agreement p_o, and the share p_e that chance gives with the same class counts
    calibration_error, {class}_calibration_error: Σ_b (n_b / n) |p_b - y_b|; mean probability p_b and share of positives y_b of the n_b
        images in bin b, of 15 bins of equal width
    brier, {class}_brier: (1 / n) Σ_i (p_i - y_i)^2; probability p_i and label y_i of image i
    auroc_{sets}, ap_{sets}: mean_m v_m, min_m v_m or max_m v_m; value v_m with prompt set m
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from benchmark.errors import TrainingError, UsageError
from benchmark.metrics.many_resamples import under_precision, under_roc
from benchmark.metrics.spec import SEVERAL_CLASSES, MetricSpec, PooledMetric

if TYPE_CHECKING:
    from benchmark.metrics.label_statistics import ByClass, ClassView

UNKNOWN = -1  # a label nobody gave: the image is left out of this class, and of no other
THRESHOLD = 0.5
CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Ranked:
    """Scores reduced to what ranking needs.

    Attributes:
        truth: (N, C) int8: 1, 0, or UNKNOWN.
        place: (N, C) int64: place of the score among the distinct scores of its class, 0 the lowest.
        n_places: (C,) how many distinct scores.
    """

    truth: np.ndarray
    place: np.ndarray
    n_places: tuple[int, ...]


@dataclass(frozen=True)
class Confusion:
    """Weighted counts of decisions per class: tp, fp, fn, tn, each (C,) float64, or (R, C) of many resamples."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray


def rank(scores: np.ndarray, truth: np.ndarray) -> Ranked:
    """Sorts the scores once; every curve and every resample is counted from the places.

    Args:
        scores: (N, C) float, higher means more likely; any scale.
        truth: (N, C) of 1, 0 and UNKNOWN.

    Raises:
        UsageError: shapes differ, or truth holds something else.
        TrainingError: a score is not finite.
    """
    scores, truth = np.asarray(scores, np.float64), np.asarray(truth)
    if scores.shape != truth.shape or scores.ndim != 2:
        raise UsageError(f"Scores of shape {scores.shape} do not fit labels of shape {truth.shape}; both are (images, classes).")
    if not np.isin(truth, (0, 1, UNKNOWN)).all():
        raise UsageError(f"Labels are 1, 0 or {UNKNOWN} (unknown), found {sorted(set(np.unique(truth).tolist()) - {0, 1, UNKNOWN})[:3]}.")
    if not np.isfinite(scores).all():
        raise TrainingError(f"{np.count_nonzero(~np.isfinite(scores)):,} class scores are not finite numbers.")
    places, sizes = np.empty(scores.shape, np.int64), []
    for label in range(scores.shape[1]):
        values, places[:, label] = np.unique(scores[:, label], return_inverse=True)
        sizes.append(len(values))
    return Ranked(truth.astype(np.int8), places, tuple(sizes))


def auroc(ranked: Ranked, weights: np.ndarray | None = None) -> np.ndarray:
    """(C,) chance that a positive scores above a negative, equal scores counting half; NaN without a positive or a negative."""
    found = np.full(len(ranked.n_places), np.nan)
    for label, (positive, negative) in enumerate(_by_place(ranked, weights)):
        pairs = positive.sum() * negative.sum()
        if pairs > 0:
            below = np.cumsum(negative) - negative
            found[label] = (positive * (below + negative / 2)).sum() / pairs
    return found


def average_precision(ranked: Ranked, weights: np.ndarray | None = None) -> np.ndarray:
    """(C,) sum over falling scores of (recall gained) x (precision), equal scores entering together; NaN without a positive."""
    found = np.full(len(ranked.n_places), np.nan)
    for label, (positive, negative) in enumerate(_by_place(ranked, weights)):
        hits, seen = np.cumsum(positive[::-1]), np.cumsum((positive + negative)[::-1])
        if hits[-1] > 0:
            precision = np.divide(hits, seen, out=np.zeros(len(hits)), where=seen > 0)
            found[label] = (positive[::-1] * precision).sum() / hits[-1]
    return found


def count_decisions(decided: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None) -> Confusion:
    """Counts (N, C) bool decisions against (N, C) labels; unknown labels count nowhere.

    Args:
        weights: (N,) copies of each image, or (R, N) of them in each resample; counts are (R, C) then.
    """
    copies = _weights(len(truth), weights)
    return Confusion(*(copies @ (mask & part).astype(np.float64) for mask, part in _four(decided, truth == 1, truth == 0)))


def f1(counts: Confusion) -> np.ndarray:
    """(C,) 2 TP / (2 TP + FP + FN); 0 when nothing is found, NaN for a class that neither occurs nor is predicted."""
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def precision(counts: Confusion) -> np.ndarray:
    """(C,) TP / (TP + FP); 0 for a class that occurs and is never predicted, NaN for one that does neither."""
    return np.where((counts.tp + counts.fp == 0) & (counts.fn > 0), 0.0, _ratio(counts.tp, counts.tp + counts.fp))


def recall(counts: Confusion) -> np.ndarray:
    """(C,) TP / (TP + FN); NaN for a class that does not occur."""
    return _ratio(counts.tp, counts.tp + counts.fn)


def accuracy(counts: Confusion) -> np.ndarray:
    """(C,) share of right decisions among images whose label is known; NaN without such an image."""
    return _ratio(counts.tp + counts.tn, counts.tp + counts.fp + counts.fn + counts.tn)


def mcc(counts: Confusion) -> np.ndarray:
    """(C,) Matthews correlation of decision and label; 0 when one of them is constant (scikit-learn's rule), NaN without images."""
    tp, fp, fn, tn = counts.tp, counts.fp, counts.fn, counts.tn
    spread = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    found = np.divide(tp * tn - fp * fn, spread, out=np.zeros(tp.shape), where=spread > 0)
    return np.where(tp + fp + fn + tn > 0, found, np.nan)


def confusion_matrix(decided: np.ndarray, truth: np.ndarray, n_classes: int, weights: np.ndarray | None = None) -> np.ndarray:
    """(C, C) float64 weighted counts, rows the true class and columns the decided one, for classes that exclude each other."""
    flat = np.asarray(truth, np.int64) * n_classes + np.asarray(decided, np.int64)
    return np.bincount(flat, _weights(len(flat), weights), minlength=n_classes**2).reshape(n_classes, n_classes)


def of_matrix(matrix: np.ndarray) -> Confusion:
    """Every class against the rest."""
    tp = np.diag(matrix).astype(np.float64)
    fp, fn = matrix.sum(axis=0) - tp, matrix.sum(axis=1) - tp
    return Confusion(tp, fp, fn, matrix.sum() - tp - fp - fn)


def multiclass_accuracy(matrix: np.ndarray) -> float:
    """Share of images whose decided class is the true one; NaN without images."""
    return float(_ratio(np.trace(matrix), matrix.sum()))


def multiclass_mcc(matrix: np.ndarray) -> float:
    """Gorodkin's R_K; 0 when decision or label is constant, NaN without images."""
    true, decided, n = matrix.sum(axis=1), matrix.sum(axis=0), matrix.sum()
    spread = np.sqrt(n**2 - (decided**2).sum()) * np.sqrt(n**2 - (true**2).sum())
    if n == 0:
        return float("nan")
    return float((np.trace(matrix) * n - (true * decided).sum()) / spread) if spread > 0 else 0.0


def cohen_kappa(matrix: np.ndarray) -> float:
    """Agreement beyond chance; NaN when chance alone agrees everywhere, or without images."""
    n = matrix.sum()
    if n == 0:
        return float("nan")
    by_chance = (matrix.sum(axis=1) * matrix.sum(axis=0)).sum() / n**2
    return float(_ratio(np.trace(matrix) / n - by_chance, 1 - by_chance))


def calibration_error(
    probabilities: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None, n_bins: int = CALIBRATION_BINS
) -> np.ndarray:
    """(C,) expected calibration error: mean over equal-width bins, by their images, of |mean probability - share of positives|."""
    copies = _weights(len(truth), weights)
    # Bins are open on the left, closed on the right, and the first holds 0 as well.
    bins = np.clip(np.ceil(np.asarray(probabilities, np.float64) * n_bins) - 1, 0, n_bins - 1).astype(np.int64)
    found = np.full(truth.shape[1], np.nan)
    for label in range(truth.shape[1]):
        known = copies * (truth[:, label] != UNKNOWN)
        if known.sum() > 0:
            claimed = np.bincount(bins[:, label], known * probabilities[:, label], minlength=n_bins)
            true = np.bincount(bins[:, label], known * (truth[:, label] == 1), minlength=n_bins)
            found[label] = np.abs(claimed - true).sum() / known.sum()
    return found


def brier(probabilities: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(C,) mean squared difference between probability and label; NaN without a known label."""
    known = _weights(len(truth), weights)[:, None] * (truth != UNKNOWN)
    return _ratio((known * (probabilities - (truth == 1)) ** 2).sum(axis=0), known.sum(axis=0))


def best_f1_thresholds(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(C,) threshold of the highest F1 when scores at or above it are positive; of several the highest; NaN without a positive.

    To be chosen on a validation split: chosen on the split that is reported, it flatters.
    """
    scores = np.asarray(scores, np.float64)
    ranked = rank(scores, truth)
    found = np.full(scores.shape[1], np.nan)
    for label, (positive, negative) in enumerate(_by_place(ranked, None)):
        if positive.sum() > 0:
            tp, called = np.cumsum(positive[::-1]), np.cumsum((positive + negative)[::-1])
            found[label] = np.unique(scores[:, label])[::-1][np.argmax(2 * tp / (called + positive.sum()))]
    return found


def one_hot(classes: Sequence[int] | np.ndarray, n_classes: int) -> np.ndarray:
    """(N,) class numbers -> (N, C) int8 labels."""
    labels: np.ndarray = (np.asarray(classes)[:, None] == np.arange(n_classes)).astype(np.int8)
    return labels


def _by_place(ranked: Ranked, weights: np.ndarray | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Per class the weight of positives and of negatives at each distinct score, rising."""
    copies = _weights(len(ranked.truth), weights)
    for label, size in enumerate(ranked.n_places):
        place, truth = ranked.place[:, label], ranked.truth[:, label]
        yield np.bincount(place, copies * (truth == 1), minlength=size), np.bincount(place, copies * (truth == 0), minlength=size)


def _four(decided: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    decided = np.asarray(decided, bool)
    return (decided, positive), (decided, negative), (~decided, positive), (~decided, negative)


def _weights(n_images: int, weights: np.ndarray | None) -> np.ndarray:
    return np.ones(n_images) if weights is None else np.asarray(weights, np.float64)


def _ratio(part: np.ndarray | float, whole: np.ndarray | float) -> np.ndarray:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    ratio: np.ndarray = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole != 0)
    return ratio


_NOTHING_DECIDED = "nothing was decided for it"


def _of_classes(
    name: str,
    title: str,
    needs: str,
    values: Callable[[ClassView], ByClass],
    *,
    of_matrix: Callable[[np.ndarray], float] | None = None,
    low: float = 0.0,
    better: Literal["higher", "lower"] = "higher",
) -> tuple[MetricSpec, MetricSpec]:
    """A metric of single classes, and their mean under the bare name; where classes exclude each other the matrix may say it at once."""

    def mean(view: ClassView) -> PooledMetric:
        return view.matrix(of_matrix) if of_matrix is not None and view.exclusive else view.mean(values(view))

    whole = MetricSpec(
        name=name,
        title=title if of_matrix is not None else f"{title} (mean over classes)",
        target="labels",
        needs=(needs,),
        compute=mean,
        undefined=_NOTHING_DECIDED,
        low=low,
        better=better,
        selects=True,
    )
    of_each = replace(
        whole,
        name=f"{{class}}_{name}",
        title=f"{{class}} {title}",
        needs=(needs, SEVERAL_CLASSES),
        compute=lambda view, label: view.of_class(values(view), label),
    )
    return whole, of_each


SEVERAL_PROMPT_SETS = "several_prompt_sets"
_SETS = {"mean_of_sets": "mean of prompt sets", "lowest_set": "lowest prompt set", "highest_set": "highest prompt set"}

METRICS = (
    *_of_classes("auroc", "AUROC", "scores", lambda view: view.ranking(auroc, under_roc)),
    *_of_classes("ap", "AP", "scores", lambda view: view.ranking(average_precision, under_precision)),
    *_of_classes("f1", "F1", "decisions", lambda view: view.decisions(f1)),
    *_of_classes("mcc", "MCC", "decisions", lambda view: view.decisions(mcc), of_matrix=multiclass_mcc, low=-1.0),
    *_of_classes("accuracy", "accuracy", "decisions", lambda view: view.decisions(accuracy), of_matrix=multiclass_accuracy),
    *_of_classes(
        "calibration_error", "calibration error", "probabilities", lambda view: view.probabilities(calibration_error), better="lower"
    ),
    *_of_classes("brier", "Brier score", "probabilities", lambda view: view.probabilities(brier), better="lower"),
    MetricSpec(
        name="kappa",
        title="Cohen's kappa",
        target="labels",
        needs=("exclusive",),
        compute=lambda view: view.matrix(cohen_kappa),
        undefined=_NOTHING_DECIDED,
        low=-1.0,
        selects=True,
    ),
    MetricSpec(
        name="precision",
        title="precision (mean over classes)",
        target="labels",
        needs=("exclusive",),
        compute=lambda view: view.mean(view.decisions(precision)),
        undefined=_NOTHING_DECIDED,
        selects=True,
    ),
    MetricSpec(
        name="recall",
        title="recall (mean over classes)",
        target="labels",
        needs=("exclusive",),
        compute=lambda view: view.mean(view.decisions(recall)),
        undefined=_NOTHING_DECIDED,
        selects=True,
    ),
    MetricSpec(
        name="f1_validated",
        title="F1 at thresholds from validation (mean over classes)",
        target="labels",
        needs=("thresholds",),
        compute=lambda view: view.mean(view.validated_decisions(f1)),
        undefined=_NOTHING_DECIDED,
    ),
    *(
        MetricSpec(name=f"{ranked}_{{sets}}", title=f"{title}, {{sets}}", target="labels", values=_SETS, needs=(SEVERAL_PROMPT_SETS,))
        for ranked, title in (("auroc", "AUROC"), ("ap", "AP"))
    ),
)
