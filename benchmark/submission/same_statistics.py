"""Stored statistics held to those of predictions that were scored again, image by image.

Intervals, p and bands rest on single images and on whose they are, and a metric that agrees follows from many others as well. Of masks
nobody stores probabilities, nor the batches of the test: what follows from those alone, as the ranking of pixels, is as its author says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmark.errors import UsageError
from benchmark.kinds.kit.stored import ByImage
from benchmark.metrics import pixels
from benchmark.metrics import statistics as of_split
from benchmark.metrics.columns import Lists, exact
from benchmark.metrics.label_statistics import ClassificationStatistics
from benchmark.metrics.statistics import Statistics
from benchmark.submission.verified import ABSOLUTE, RELATIVE, differing

# By which class scores that are rounded to single precision in a file may move a metric, a fraction: a page shows a tenth of a per cent.
ROUNDED = 1e-3
_NOT_IN_PREDICTIONS = frozenset({*pixels.COLUMNS, "batch_size"})
_OF_THE_SPLIT = ("kind", "classes", "names", "frame", "exclusive", "calibrated")  # all that is no image's, without thresholds of validation


def differing_metrics(said: Mapping[str, float], again: Mapping[str, float], stored: ByImage | None) -> list[str]:
    """Metrics of a record that its predictions, scored again, do not give.

    Class scores that statistics hold in double precision are rounded in the file of predictions: two then tie, or one comes to lie on the
    other side of a threshold.

    Args:
        stored: the record's statistics; None where it has none.
    """
    margin = ROUNDED if stored is not None and _is_rounded_in_predictions(stored.statistics) else 0.0
    return [name for name in differing(said, again) if abs(said[name] - again[name]) > margin]


def fault_of_images(stored: ByImage, again: ByImage) -> str:
    """What stored statistics say of single images, and predictions scored again do not, as a clause; empty where nothing.

    Images are met by name. A field that one of the two has not is not compared; statistics that lack what a metric needs do not give it.

    Args:
        again: of the test split as it is here, with its patients.
    """
    place = {name: k for k, name in enumerate(stored.ids)}
    if len(place) != len(stored.ids) or place.keys() != set(again.ids):
        return "its statistics are of other images than its predictions"
    order = np.array([place[name] for name in again.ids], np.int64)
    n_others = sum(stored.patients[k] != patient for k, patient in zip(order, again.patients, strict=True))
    if n_others:
        return f"its statistics give {n_others:,} of {len(order):,} test images another patient than the release does"
    try:
        given, found = of_split.to_columns(stored.statistics), of_split.to_columns(again.statistics)
    except UsageError as error:
        return f"its statistics cannot be held to its predictions: {str(error).rstrip('.')}"
    if _of_split(given.about) != _of_split(found.about):
        return "its statistics are of another kind, frame or classes than its predictions"
    wrong = {
        name: differ
        for name, column in found.columns.items()
        if name not in _NOT_IN_PREDICTIONS and isinstance(column, Lists) and isinstance(other := given.columns.get(name), Lists)
        if (differ := _differing(other.taken(order), column)).any()
    }
    if not wrong:
        return ""
    n_images = np.count_nonzero(np.any(list(wrong.values()), axis=0))
    return f"its statistics say something else of {n_images:,} of {len(order):,} test images than its predictions do ({', '.join(wrong)})"


def _is_rounded_in_predictions(statistics: Statistics) -> bool:
    return isinstance(statistics, ClassificationStatistics) and exact(statistics.scores).dtype != np.float32


def _of_split(about: Mapping[str, Any]) -> list[Any]:
    return [about.get(name) for name in _OF_THE_SPLIT]


def _differing(given: Lists, found: Lists) -> np.ndarray:
    """(N,) bool, images of which two columns say something else; where lists are of other lengths, those images alone.

    Whole numbers are equal, others as two machines give them; single precision, with an error of 6e-8, is within that.
    """
    longer: np.ndarray = given.counts != found.counts
    if longer.any():
        return longer
    a, b = given.values, found.values
    whole = a.dtype.kind in "biu" and b.dtype.kind in "biu"
    unequal = a != b if whole else ~np.isclose(a.astype(np.float64), b, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
    return np.bincount(found.image[unequal], minlength=len(found.counts)) > 0
