"""What records keep of tasks with labels and words: class scores per image, and values per query or phrase.

Two kinds beside those of `statistics`, which hands them out by name. A mean over classes takes the classes that occur in the split with
both answers; a class without them is named as undefined and never counts as zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmark.errors import UsageError
from benchmark.metrics import classification as of_classes
from benchmark.metrics.classification import UNKNOWN, Ranked

Pooled = Callable[[np.ndarray | None], float | None]
PER_CLASS = ("auroc", "ap", "f1", "mcc", "accuracy", "calibration_error", "brier")


@dataclass(frozen=True)
class ClassificationStatistics:
    """Scores of every image for every class.

    Attributes:
        scores: (N, C) float64; probabilities when `calibrated`.
        truth: (N, C) int8: 1, 0 or UNKNOWN.
        exclusive: each image has exactly one class, and the highest score decides it (the earlier class in a tie).
        thresholds: (C,) from validation, applied beside 0.5; None when there are none.
        calibrated: scores are probabilities in [0, 1]; otherwise nothing is decided at 0.5 and nothing is calibrated.
    """

    class_names: tuple[str, ...]
    scores: np.ndarray
    truth: np.ndarray
    exclusive: bool
    thresholds: tuple[float, ...] | None = None
    calibrated: bool = True

    @property
    def n_images(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class MeanStatistics:
    """Values of queries or phrases, each belonging to an image; the pooled metric is their mean where they are defined.

    The candidates a query was ranked among stay as they are under resampling: what is resampled is who asks.

    Attributes:
        names: metric names, one a column.
        image: (n,) int64 owner of each row.
        values: (n, len(names)) float64, NaN where undefined.
    """

    names: tuple[str, ...]
    image: np.ndarray
    values: np.ndarray
    n_images: int

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.names


LabelStatistics = ClassificationStatistics | MeanStatistics


def metrics_of(statistics: LabelStatistics) -> dict[str, Pooled]:
    """Every metric the statistics define, by name: `<class>_auroc`, `auroc` (mean over classes), ..."""
    if isinstance(statistics, MeanStatistics):
        return {name: partial(_mean_of_rows, statistics, column) for column, name in enumerate(statistics.names)}
    return _classification_metrics(statistics)


def stack(first: LabelStatistics, second: LabelStatistics) -> LabelStatistics:
    """Two methods over the same images as one split of twice the length."""
    if isinstance(first, MeanStatistics):
        image = np.r_[first.image, second.image + first.n_images]
        return MeanStatistics(first.names, image, np.r_[first.values, second.values], 2 * first.n_images)
    if first.thresholds != second.thresholds:
        raise UsageError("Methods with thresholds of their own are compared by metrics that need none: auroc, ap.")
    return ClassificationStatistics(
        first.class_names,
        np.r_[first.scores, second.scores],
        np.r_[first.truth, second.truth],
        first.exclusive,
        first.thresholds,
        first.calibrated and second.calibrated,
    )


def to_json(statistics: LabelStatistics) -> dict[str, Any]:
    """Lists and numbers, exact; NaN as null."""
    if isinstance(statistics, MeanStatistics):
        values = [[None if np.isnan(v) else v for v in row] for row in statistics.values.tolist()]
        return {
            "kind": "means",
            "names": list(statistics.names),
            "n_images": statistics.n_images,
            "image": statistics.image.tolist(),
            "values": values,
        }
    return {
        "kind": "classification",
        "classes": list(statistics.class_names),
        "exclusive": statistics.exclusive,
        "calibrated": statistics.calibrated,
        "thresholds": None if statistics.thresholds is None else [None if np.isnan(t) else t for t in statistics.thresholds],
        "scores": statistics.scores.tolist(),
        "truth": statistics.truth.tolist(),
    }


def means_from_json(stored: dict[str, Any]) -> MeanStatistics:
    names = tuple(stored["names"])
    values = np.array([[np.nan if v is None else v for v in row] for row in stored["values"]], np.float64).reshape(-1, len(names))
    found = MeanStatistics(names, np.array(stored["image"], np.int64), values, int(stored["n_images"]))
    if len(found.image) != len(found.values) or (len(found.image) and not 0 <= found.image.min() <= found.image.max() < found.n_images):
        raise ValueError("rows and their images disagree")
    return found


def classification_from_json(stored: dict[str, Any]) -> ClassificationStatistics:
    classes = tuple(stored["classes"])
    thresholds = stored["thresholds"]
    found = ClassificationStatistics(
        classes,
        np.array(stored["scores"], np.float64).reshape(-1, len(classes)),
        np.array(stored["truth"], np.int8).reshape(-1, len(classes)),
        bool(stored["exclusive"]),
        None if thresholds is None else tuple(np.nan if t is None else float(t) for t in thresholds),
        bool(stored["calibrated"]),
    )
    if found.scores.shape != found.truth.shape:
        raise ValueError("scores and labels of different length")
    return found


def undefined_classes(truth: np.ndarray, class_names: Sequence[str]) -> dict[str, str]:
    """Classes that cannot be ranked in a split, with the reason; (N, C) labels."""
    why = {}
    for label, name in enumerate(class_names):
        if not (truth[:, label] == 1).any():
            why[name] = "no image of the split is positive"
        elif not (truth[:, label] == 0).any():
            why[name] = "no image of the split is negative"
    return why


def _classification_metrics(statistics: ClassificationStatistics) -> dict[str, Pooled]:
    names, truth = statistics.class_names, statistics.truth
    ranked = of_classes.rank(statistics.scores, truth)
    missing = undefined_classes(truth, names)
    # Which classes a mean covers is a property of the split: a resample that loses one of them is undefined, not easier.
    averaged = np.array([name not in missing for name in names])
    metrics: dict[str, Pooled] = {}
    for family in PER_CLASS[:2] if not statistics.calibrated and not statistics.exclusive else PER_CLASS:
        if family in ("calibration_error", "brier") and not statistics.calibrated:
            continue
        values = partial(_FAMILIES[family], statistics, ranked)
        metrics[family] = partial(_macro, values, averaged)
        if len(names) > 1:
            metrics |= {f"{name}_{family}": partial(_of_class, values, label) for label, name in enumerate(names)}
    if statistics.thresholds is not None:
        metrics["f1_validated"] = partial(_macro, partial(_f1_validated, statistics), averaged)
    if statistics.exclusive:
        metrics |= {
            "accuracy": partial(_of_matrix, statistics, of_classes.multiclass_accuracy),
            "mcc": partial(_of_matrix, statistics, of_classes.multiclass_mcc),
            "kappa": partial(_of_matrix, statistics, of_classes.cohen_kappa),
            "precision": partial(_macro, partial(_decision, of_classes.precision, statistics, ranked), averaged),
            "recall": partial(_macro, partial(_decision, of_classes.recall, statistics, ranked), averaged),
        }
    return metrics


def _counts(statistics: ClassificationStatistics, weights: np.ndarray | None) -> of_classes.Confusion:
    if statistics.exclusive:
        return of_classes.of_matrix(_matrix(statistics, weights))
    return of_classes.count_decisions(statistics.scores >= of_classes.THRESHOLD, statistics.truth, weights)


def _matrix(statistics: ClassificationStatistics, weights: np.ndarray | None) -> np.ndarray:
    decided, true = statistics.scores.argmax(axis=1), statistics.truth.argmax(axis=1)
    return of_classes.confusion_matrix(decided, true, len(statistics.class_names), weights)


def _auroc(statistics: ClassificationStatistics, ranked: Ranked, weights: np.ndarray | None = None) -> np.ndarray:
    return of_classes.auroc(ranked, weights)


def _ap(statistics: ClassificationStatistics, ranked: Ranked, weights: np.ndarray | None = None) -> np.ndarray:
    return of_classes.average_precision(ranked, weights)


def _decision(score, statistics: ClassificationStatistics, ranked: Ranked, weights: np.ndarray | None = None) -> np.ndarray:
    return score(_counts(statistics, weights))


def _calibration(score, statistics: ClassificationStatistics, ranked: Ranked, weights: np.ndarray | None = None) -> np.ndarray:
    return score(statistics.scores, statistics.truth, weights)


_FAMILIES = {
    "auroc": _auroc,
    "ap": _ap,
    "f1": partial(_decision, of_classes.f1),
    "mcc": partial(_decision, of_classes.mcc),
    "accuracy": partial(_decision, of_classes.accuracy),
    "calibration_error": partial(_calibration, of_classes.calibration_error),
    "brier": partial(_calibration, of_classes.brier),
}


def _f1_validated(statistics: ClassificationStatistics, weights: np.ndarray | None = None) -> np.ndarray:
    thresholds = np.asarray(statistics.thresholds)
    decided = statistics.scores >= np.where(np.isnan(thresholds), np.inf, thresholds)
    return of_classes.f1(of_classes.count_decisions(decided, statistics.truth, weights))


def _of_matrix(statistics: ClassificationStatistics, score: Callable[[np.ndarray], float], weights: np.ndarray | None = None):
    return _or_none(score(_matrix(statistics, weights)))


def _macro(values: Callable[[np.ndarray | None], np.ndarray], averaged: np.ndarray, weights: np.ndarray | None = None) -> float | None:
    return _or_none(values(weights)[averaged].mean()) if averaged.any() else None


def _of_class(values: Callable[[np.ndarray | None], np.ndarray], label: int, weights: np.ndarray | None = None) -> float | None:
    return _or_none(values(weights)[label])


def _mean_of_rows(statistics: MeanStatistics, column: int, weights: np.ndarray | None = None) -> float | None:
    values = statistics.values[:, column]
    copies = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)[statistics.image]
    copies = copies * ~np.isnan(values)
    return float((copies * np.nan_to_num(values)).sum() / copies.sum()) if copies.sum() > 0 else None


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


__all__ = ["UNKNOWN", "ClassificationStatistics", "LabelStatistics", "MeanStatistics", "metrics_of", "stack", "to_json"]
