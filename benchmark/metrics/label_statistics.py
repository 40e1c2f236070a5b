"""What a record keeps of tasks with labels and words: class scores per image, and values per query or phrase.

A mean over classes takes the classes that occur in the split with both answers; a class without them is named as undefined and never counts
as zero. Which metrics follow from class scores is declared in `classification`; how statistics are read and resampled is in `statistics`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np

from benchmark.metrics import classification as of_classes
from benchmark.metrics.classification import Confusion, Ranked
from benchmark.metrics.columns import Column, Columns, Lists, counts_in_order, exact, narrow, of_rows
from benchmark.metrics.many_resamples import Area, by_chunk, of_scores
from benchmark.metrics.spec import SEVERAL_CLASSES, PooledMetric


@dataclass(frozen=True)
class ByClass:
    """Values of all classes, NaN for one without, as functions of image weights.

    Attributes:
        one: (n_images,) copies of each image, or None -> (C,).
        many: (R, n_images) copies -> (R, C), where that takes less time than R times one.
    """

    one: Callable[[np.ndarray | None], np.ndarray]
    many: Callable[[np.ndarray], np.ndarray] | None = None


@dataclass(frozen=True)
class MeanOfClasses:
    """The mean over some classes as a pooled metric; None where there are none, or one of them has no value.

    Attributes:
        classes: (C,) bool.
    """

    values: ByClass
    classes: np.ndarray

    def __call__(self, weights: np.ndarray | None = None) -> float | None:
        return _or_none(self.values.one(weights)[self.classes].mean()) if self.classes.any() else None

    @property
    def many(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """(R, n_images) weights -> (R,) float64, NaN for None."""
        return None if self.values.many is None else self._many

    def _many(self, weights: np.ndarray) -> np.ndarray:
        if self.values.many is None or not self.classes.any():
            return np.full(len(weights), np.nan)
        means: np.ndarray = np.ascontiguousarray(self.values.many(weights)[:, self.classes]).mean(axis=1)
        return means


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

    kind: ClassVar[str] = "classification"
    target: ClassVar[str] = "labels"
    large: ClassVar[frozenset[str]] = frozenset()
    columns_of: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    class_names: tuple[str, ...]
    scores: np.ndarray
    truth: np.ndarray
    exclusive: bool
    thresholds: tuple[float, ...] | None = None
    calibrated: bool = True

    @property
    def n_images(self) -> int:
        return len(self.scores)

    @property
    def fields(self) -> frozenset[str]:
        return class_fields(len(self.class_names), self.exclusive, self.calibrated, self.thresholds is not None)

    def view(self) -> ClassView:
        return ClassView(self)

    def only(self, needs: Collection[str]) -> ClassificationStatistics:
        return self

    def to_json(self) -> dict[str, Any]:
        """Lists and numbers, exact; NaN as null."""
        return {
            "kind": self.kind,
            "classes": list(self.class_names),
            "exclusive": self.exclusive,
            "calibrated": self.calibrated,
            "thresholds": None if self.thresholds is None else [None if np.isnan(t) else t for t in self.thresholds],
            "scores": self.scores.tolist(),
            "truth": self.truth.tolist(),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> ClassificationStatistics:
        """Raises KeyError, TypeError or ValueError for anything that `to_json` did not write."""
        classes = tuple(stored["classes"])
        thresholds = stored["thresholds"]
        found = cls(
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

    def to_columns(self) -> Columns:
        """A row per image, a value per class."""
        about = self.to_json()
        columns: dict[str, Column] = {"score": of_rows(exact(self.scores)), "truth": of_rows(narrow(self.truth))}
        return Columns({name: about[name] for name in ("classes", "exclusive", "calibrated", "thresholds")}, columns)

    @classmethod
    def from_columns(cls, about: Mapping[str, Any], columns: Mapping[str, Column]) -> ClassificationStatistics:
        """Raises KeyError, TypeError or ValueError for anything that `to_columns` did not write."""
        scores, truth = columns["score"], columns["truth"]
        if not isinstance(scores, Lists) or not isinstance(truth, Lists):
            raise TypeError("one value an image where one for each class belongs")
        n_classes = len(about["classes"])
        return cls.from_json({**about, "scores": scores.rows(n_classes), "truth": truth.rows(n_classes)})


@dataclass(frozen=True)
class ClassView:
    """Class scores as the metrics of `classification` read them; what several share is made once."""

    statistics: ClassificationStatistics

    @property
    def exclusive(self) -> bool:
        return self.statistics.exclusive

    @cached_property
    def ranked(self) -> Ranked:
        return of_classes.rank(self.statistics.scores, self.statistics.truth)

    @cached_property
    def averaged(self) -> np.ndarray:
        """(C,) bool, classes that a mean covers: a property of the split, so that a resample that loses one is undefined, not easier."""
        missing = undefined_classes(self.statistics.truth, self.statistics.class_names)
        return np.array([name not in missing for name in self.statistics.class_names])

    def mean(self, values: ByClass) -> PooledMetric:
        """The mean over classes; None where no class is covered, or one of them has no value."""
        return MeanOfClasses(values, self.averaged)

    def of_class(self, values: ByClass, label: int) -> PooledMetric:
        return MeanOfClasses(values, np.arange(len(self.statistics.class_names)) == label)

    def ranking(self, score: Callable[[Ranked, np.ndarray | None], np.ndarray], area: Area) -> ByClass:
        return ByClass(partial(score, self.ranked), partial(of_scores, self.ranked.truth, self.ranked.place, area))

    def decisions(self, score: Callable[[Confusion], np.ndarray]) -> ByClass:
        """Decided at 0.5, or for the class of the highest score where classes exclude each other."""
        if self.exclusive:
            return ByClass(lambda weights: score(of_classes.of_matrix(self._matrix(weights))))
        return self._decided(self.statistics.scores >= of_classes.THRESHOLD, score)

    def validated_decisions(self, score: Callable[[Confusion], np.ndarray]) -> ByClass:
        """Decided at the thresholds from validation; a class without one is never predicted."""
        thresholds = np.asarray(self.statistics.thresholds)
        return self._decided(self.statistics.scores >= np.where(np.isnan(thresholds), np.inf, thresholds), score)

    def probabilities(self, score: Callable[[np.ndarray, np.ndarray, np.ndarray | None], np.ndarray]) -> ByClass:
        return ByClass(partial(score, self.statistics.scores, self.statistics.truth))

    def matrix(self, score: Callable[[np.ndarray], float]) -> PooledMetric:
        """Of the confusion matrix of classes that exclude each other."""
        return lambda weights=None: _or_none(score(self._matrix(weights)))

    def _decided(self, decided: np.ndarray, score: Callable[[Confusion], np.ndarray]) -> ByClass:
        def values(weights: np.ndarray | None) -> np.ndarray:
            return score(of_classes.count_decisions(decided, self.statistics.truth, weights))

        return ByClass(values, partial(by_chunk, values))

    def _matrix(self, weights: np.ndarray | None) -> np.ndarray:
        decided, true = self.statistics.scores.argmax(axis=1), self.statistics.truth.argmax(axis=1)
        return of_classes.confusion_matrix(decided, true, len(self.statistics.class_names), weights)


@dataclass(frozen=True)
class MeanStatistics:
    """Values of queries or phrases, each belonging to an image; the pooled metric is their mean where they are defined.

    The candidates a query was ranked among stay as they are under resampling: what is resampled is who asks.

    Attributes:
        names: metric names, one a column.
        image: (n,) int64 owner of each row.
        values: (n, len(names)) float64, NaN where undefined.
    """

    kind: ClassVar[str] = "means"
    target: ClassVar[str] = ""  # the columns are metrics already, of reports or of phrases
    large: ClassVar[frozenset[str]] = frozenset()
    columns_of: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    names: tuple[str, ...]
    image: np.ndarray
    values: np.ndarray
    n_images: int

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.names

    def only(self, needs: Collection[str]) -> MeanStatistics:
        return self

    def mean_of(self, name: str) -> PooledMetric:
        """The mean of a column; None where no row defines it."""
        return MeanOfColumn(self.image, self.values[:, self.names.index(name)], self.n_images)

    def to_json(self) -> dict[str, Any]:
        """Lists and numbers, exact; NaN as null."""
        values = [[None if np.isnan(v) else v for v in row] for row in self.values.tolist()]
        return {
            "kind": self.kind,
            "names": list(self.names),
            "n_images": self.n_images,
            "image": self.image.tolist(),
            "values": values,
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> MeanStatistics:
        """Raises KeyError, TypeError or ValueError for anything that `to_json` did not write."""
        names = tuple(stored["names"])
        values = np.array([[np.nan if v is None else v for v in row] for row in stored["values"]], np.float64).reshape(-1, len(names))
        found = cls(names, np.array(stored["image"], np.int64), values, int(stored["n_images"]))
        if len(found.image) != len(found.values) or (len(found.image) and not 0 <= found.image.min() <= found.image.max() < found.n_images):
            raise ValueError("rows and their images disagree")
        return found

    def to_columns(self) -> Columns:
        """A row per image: the values of its queries or phrases one after another, each as many as there are names.

        Raises:
            ValueError: queries or phrases do not stand in the order of their images.
        """
        n_rows = counts_in_order(self.image, self.n_images, "queries or phrases")
        return Columns({"names": list(self.names)}, {"value": Lists(n_rows * len(self.names), exact(self.values).reshape(-1))})

    @classmethod
    def from_columns(cls, about: Mapping[str, Any], columns: Mapping[str, Column]) -> MeanStatistics:
        """Raises KeyError, TypeError or ValueError for anything that `to_columns` did not write."""
        names, found = tuple(about["names"]), columns["value"]
        if not isinstance(found, Lists) or not names or np.any(found.counts % len(names)):
            raise ValueError("values that do not fit the names")
        image = np.repeat(np.arange(len(found.counts), dtype=np.int64), found.counts // len(names))
        return cls(names, image, found.values.astype(np.float64).reshape(-1, len(names)), len(found.counts))


@dataclass(frozen=True)
class MeanOfColumn:
    """The mean of values that belong to images as a pooled metric; None where no value is defined.

    Attributes:
        image: (n,) int64; values: (n,) float64, NaN where undefined.
    """

    image: np.ndarray
    values: np.ndarray
    n_images: int

    def __call__(self, weights: np.ndarray | None = None) -> float | None:
        copies = np.ones(len(self.values)) if weights is None else np.asarray(weights, np.float64)[self.image]
        copies = copies * ~np.isnan(self.values)
        return float((copies * np.nan_to_num(self.values)).sum() / copies.sum()) if copies.sum() > 0 else None

    def many(self, weights: np.ndarray) -> np.ndarray:
        """(R,) float64 of (R, n_images) weights, up to rounding; NaN for None."""
        defined = ~np.isnan(self.values)
        image, values = self.image[defined], self.values[defined]
        of_images = np.stack([np.bincount(image, given, minlength=self.n_images) for given in (values, np.ones(len(values)))], axis=1)
        total, n = by_chunk(lambda copies: copies @ of_images, weights).T
        means: np.ndarray = np.divide(total, n, out=np.full(len(n), np.nan), where=n > 0)
        return means


def class_fields(n_classes: int, exclusive: bool, calibrated: bool, thresholds: bool) -> frozenset[str]:
    """What metrics of class scores may need: see `ClassificationStatistics` for the three flags."""
    there = {
        "scores": True,
        "decisions": exclusive or calibrated,
        "exclusive": exclusive,
        "probabilities": calibrated,
        "thresholds": thresholds,
        SEVERAL_CLASSES: n_classes > 1,
    }
    return frozenset(field for field, given in there.items() if given)


def undefined_classes(truth: np.ndarray, class_names: Sequence[str]) -> dict[str, str]:
    """Classes that cannot be ranked in a split, with the reason; (N, C) labels."""
    why = {}
    for label, name in enumerate(class_names):
        if not (truth[:, label] == 1).any():
            why[name] = "no image of the split is positive"
        elif not (truth[:, label] == 0).any():
            why[name] = "no image of the split is negative"
    return why


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
