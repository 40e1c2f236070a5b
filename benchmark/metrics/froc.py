"""Free-response ROC: sensitivity against false positives per image, after LoVT's scorer and without its truncation.

Box overlap plays no part here: a detection is its centre. The two families differ in pool and in reading the curve, never share a column.

Formulas:
    froc: (1 / 7) Σ_f S(f); at f = ⅛, ¼, ½, 1, 2, 4, 8 false positives per image the share S(f) of boxes that hold the centre of a detection
        so far, from confidence 0.2 on; rates never reached take the last S that was read
    froc_full: (1 / 7) Σ_f S(f); from confidence 0.001 on, S joined linearly, and beyond its end the final share
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from benchmark.metrics.matching import NO_BOX
from benchmark.metrics.overlaps import Overlaps
from benchmark.metrics.spec import MetricSpec

FROC_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_AT_ONCE = 2**19  # false positives of all resamples that are read together: they fit into a core's cache


@dataclass(frozen=True)
class Froc:
    """Sensitivity in [0, 1] at each rate of false positives per image, and their mean. For LoVT's rule the list is as filled up."""

    rates: tuple[float, ...]
    sensitivity: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.sensitivity))


@dataclass(frozen=True)
class CentreHits:
    """What FROC needs of a split: per detection by falling confidence, how many boxes it hits first and whether it is a false positive.

    Attributes:
        image: (n,) int64; confidence: (n,) float64, falling.
        new_hits: (n,) int64; false_positive: (n,) bool.
        truth_image: (m,) int64.
        n_images: images in the split.
    """

    image: np.ndarray
    confidence: np.ndarray
    new_hits: np.ndarray
    false_positive: np.ndarray
    truth_image: np.ndarray
    n_images: int

    @cached_property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Where false positives stand among the detections, and where first hits do."""
        return np.flatnonzero(self.false_positive), np.flatnonzero(self.new_hits)

    @cached_property
    def ends(self) -> np.ndarray:
        """Where each group of detections of equal confidence ends."""
        return np.flatnonzero(np.r_[self.confidence[1:] != self.confidence[:-1], True][: len(self.confidence)])


def centre_hits(table: Overlaps) -> CentreHits:
    """Counts hits and false positives per detection; the pool is the caller's.

    Detections are taken by falling confidence (equal ones keep image order, then the head's order). A detection hits every box of its
    image and class that contains its centre (edges included); inside boxes already hit it is neither hit nor false positive; inside none
    it is a false positive.
    """
    inside = table.pair_centre
    detection, truth = table.pair_detection[inside], table.pair_truth[inside]
    # Pairs are sorted by detection, so the first pair of a box is its first hit.
    _, first = np.unique(truth, return_index=True)
    new_hits = np.bincount(detection[first], minlength=table.n_detections)
    false_positive = np.ones(table.n_detections, bool)
    false_positive[detection] = False
    return CentreHits(table.image, table.confidence, new_hits, false_positive, table.truth_image, table.n_images)


def read_carrying_forward(hits: CentreHits, weights: np.ndarray | None = None, rates: Sequence[float] = FROC_RATES) -> Froc:
    """LoVT's reading of the curve with its carry-forward, column `froc`.

    After each detection, if false positives / images reaches the current rate, the current sensitivity is recorded and the next rate
    becomes current. Rates never reached take the last recorded value, so hits after it are lost; if none was recorded all take the final
    sensitivity, which is 1 without boxes. Images without boxes count in the denominator.

    Args:
        hits: of `matching.lovt_pool`.
        weights: (n_images,) how often each image stands in a resample; None takes every image once.
        rates: false positives per image, rising.

    Source: LoVT's released code; the class rule is ours (LoVT's FROC tasks have one class).
    """
    n_images, n_truth, repeat = _resampled(hits, weights)
    needed = [_false_positives_for(rate, n_images) for rate in rates]
    if all(fewer < more for fewer, more in pairwise([0, *needed])):
        return _at_false_positives(hits, repeat, n_truth, needed, rates)
    # So few images that one false positive reaches two rates: the next rate is read one detection later.
    # Copies of a detection follow each other, as they would in a list of resampled images; the second copy of a box is a box of its own.
    found = np.cumsum(np.repeat(hits.new_hits, repeat))
    per_image = np.cumsum(np.repeat(hits.false_positive, repeat)) / n_images
    recorded: list[float] = []
    earliest = 0
    for rate in rates:
        at = max(int(np.searchsorted(per_image, rate, side="left")), earliest)
        if at >= len(per_image):
            break
        recorded.append(float(found[at] / max(n_truth, 1)))
        earliest = at + 1
    if recorded:
        last = recorded[-1]
    else:
        last = float(found[-1] / n_truth) if n_truth and len(found) else float(n_truth == 0)
    return Froc(tuple(rates), tuple(recorded + [last] * (len(rates) - len(recorded))))


def read_interpolating(hits: CentreHits, weights: np.ndarray | None = None, rates: Sequence[float] = FROC_RATES) -> Froc | None:
    """The curve interpolated, late hits counted; column `froc_full`.

    Detections of equal confidence enter together, so their order cannot matter. The curve joins, for each number of false positives, the
    highest sensitivity reached, linearly, from (0, hits before the first false positive); beyond its end it stays at the final
    sensitivity. None without ground truth.

    Args:
        hits: of `matching.full_pool`.
        weights: (n_images,) how often each image stands in a resample; None takes every image once.
        rates: false positives per image, rising.
    """
    n_images, n_truth, repeat = _resampled(hits, weights)
    if n_truth == 0:
        return None
    found = np.r_[0, np.cumsum(hits.new_hits * repeat)[hits.ends]] / n_truth
    per_image = np.r_[0, np.cumsum(hits.false_positive * repeat)[hits.ends]] / n_images
    last_at_rate = np.r_[per_image[1:] != per_image[:-1], True]
    sensitivity = np.interp(rates, per_image[last_at_rate], found[last_at_rate])
    return Froc(tuple(rates), tuple(sensitivity.tolist()))


def _false_positives_for(rate: float, n_images: int) -> int:
    """The smallest number of false positives whose rate, as a float, is at least this one."""
    if n_images == 0:
        return 0
    fewest = max(math.ceil(rate * n_images) - 1, 0)
    return next(k for k in (fewest, fewest + 1, fewest + 2) if k / n_images >= rate)


def _at_false_positives(hits: CentreHits, repeat: np.ndarray, n_truth: int, needed: Sequence[int], rates: Sequence[float]) -> Froc:
    """Each rate is first reached at a false positive of its own, so only hits before that one are counted; no list is written out."""
    false, first = hits.places
    reached_at = np.searchsorted(np.cumsum(repeat[false]), needed, side="left")
    found = np.r_[0, np.cumsum((repeat * hits.new_hits)[first])]
    before = np.searchsorted(first, false[reached_at[reached_at < len(false)]])
    recorded = (found[before] / max(n_truth, 1)).tolist()
    last = recorded[-1] if recorded else float(found[-1] / n_truth) if n_truth else 1.0
    return Froc(tuple(rates), tuple(recorded + [last] * (len(rates) - len(recorded))))


def _resampled(hits: CentreHits, weights: np.ndarray | None) -> tuple[int, int, np.ndarray]:
    """Images, boxes, and copies of every detection in the resample."""
    weights = np.ones(hits.n_images, np.int64) if weights is None else np.asarray(weights, np.int64)
    return int(weights.sum()), int(weights[hits.truth_image].sum()), weights[hits.image]


@dataclass(frozen=True)
class _Drawn:
    """Some resamples with a box, a column each.

    Attributes:
        n_images, n_truth: (r,) int64.
        false: (1 + false positives, r) int32, their copies before each, and in the end.
        found: (1 + first hits, r) int64, boxes found before each, and in the end.
    """

    n_images: np.ndarray
    n_truth: np.ndarray
    false: np.ndarray
    found: np.ndarray


@dataclass(frozen=True)
class _MeanSensitivity(ABC):
    """A reading of the curve as a pooled metric."""

    hits: CentreHits

    @abstractmethod
    def __call__(self, weights: np.ndarray | None = None) -> float | None:
        """Of the split, or of one resample; None without boxes."""

    @abstractmethod
    def _of_drawn(self, drawn: _Drawn) -> np.ndarray:
        """(r,) float64; NaN for a resample that has to be read alone."""

    def many(self, weights: np.ndarray) -> np.ndarray:
        """(R,) float64 of (R, n_images) weights; NaN without boxes."""
        hits = self.hits
        (false, first), n_truth = hits.places, weights[:, hits.truth_image].sum(axis=1, dtype=np.int64)
        values = np.full(len(weights), np.nan)
        with_a_box = np.flatnonzero(n_truth)
        at_once = max(1, _AT_ONCE // (1 + len(false)))
        for start in range(0, len(with_a_box), at_once):
            rows = with_a_box[start : start + at_once]
            copies = np.ascontiguousarray(weights[rows].T)
            values[rows] = self._of_drawn(
                _Drawn(
                    n_images=copies.sum(axis=0, dtype=np.int64),
                    n_truth=n_truth[rows],
                    false=_before_each(copies[hits.image[false]], np.int32),
                    found=_before_each(copies[hits.image[first]] * hits.new_hits[first, None], np.int64),
                )
            )
            for row in rows[np.isnan(values[rows])]:
                values[row] = self(weights[row])
        return values


class CarriedForward(_MeanSensitivity):
    """`read_carrying_forward`. LoVT scores a split without boxes by the absence of false positives; LOBE calls that undefined."""

    def __call__(self, weights: np.ndarray | None = None) -> float | None:
        boxes = len(self.hits.truth_image) if weights is None else np.sum(np.asarray(weights)[self.hits.truth_image])
        return read_carrying_forward(self.hits, weights).mean if boxes else None

    def _of_drawn(self, drawn: _Drawn) -> np.ndarray:
        false, first = self.hits.places
        sizes, size = np.unique(drawn.n_images, return_inverse=True)
        needed = np.array([[_false_positives_for(rate, int(n)) for n in sizes] for rate in FROC_RATES])[:, size]
        reached_at = _first_to_reach(drawn.false[1:], needed)
        before = np.searchsorted(first, np.append(false, len(self.hits.image)))[reached_at]  # hits; all of them where it is never reached
        # A rate that is never reached takes the last that was recorded; where none was, all take the end of the curve.
        last = np.maximum((reached_at < len(false)).sum(axis=0) - 1, 0)
        held = np.minimum(np.arange(len(FROC_RATES))[:, None], last)
        found = np.take_along_axis(drawn.found, np.take_along_axis(before, held, axis=0), axis=0)
        each_has_its_own = (np.diff(needed, axis=0, prepend=0) > 0).all(axis=0)
        return np.where(each_has_its_own, (found / drawn.n_truth).mean(axis=0), np.nan)


class Interpolated(_MeanSensitivity):
    """`read_interpolating`."""

    def __call__(self, weights: np.ndarray | None = None) -> float | None:
        curve = read_interpolating(self.hits, weights)
        return None if curve is None else curve.mean

    def _of_drawn(self, drawn: _Drawn) -> np.ndarray:
        (false, first), ends = self.hits.places, self.hits.ends
        # Points of the curve are the origin and the end of each group of equal confidence. Behind the last there is one point more.
        n_false, n_hits = (np.r_[0, np.searchsorted(places, ends, side="right")] for places in (false, first))
        point_of = np.r_[np.searchsorted(ends, false), len(ends)] + 1
        rates = np.array(FROC_RATES)[:, None]
        allowed = np.floor(rates * drawn.n_images).astype(np.int64)
        beyond = point_of[_first_to_reach(drawn.false[1:], allowed + 1)]
        more = np.take_along_axis(drawn.false, n_false[np.minimum(beyond, len(ends))], axis=0)
        last_of_more = point_of[_first_to_reach(drawn.false[1:], more + 1)] - 1  # the highest at that number of false positives
        (rate, sensitivity), (next_rate, next_sensitivity) = (
            (
                np.take_along_axis(drawn.false, n_false[point], axis=0) / drawn.n_images,
                np.take_along_axis(drawn.found, n_hits[point], axis=0) / drawn.n_truth,
            )
            for point in (beyond - 1, last_of_more)
        )
        rise, gap = next_sensitivity - sensitivity, next_rate - rate
        slope = np.divide(rise, gap, out=np.zeros(gap.shape), where=beyond <= len(ends))
        values: np.ndarray = (slope * (rates - rate) + sensitivity).mean(axis=0)
        return values


def _before_each(numbers: np.ndarray, dtype: type[np.integer]) -> np.ndarray:
    """(n + 1, r) sums of the (n, r) numbers before each, and of all."""
    sums = np.zeros((len(numbers) + 1, numbers.shape[1]), dtype)
    np.cumsum(numbers, axis=0, out=sums[1:])
    return sums


def _first_to_reach(rising: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(k, r) int64: where each column of (n, r) rising numbers first is at least each of the column's (k, r) numbers; n where never."""
    below = np.full(wanted.shape, -1)  # the last that is known to be less
    for step in 2 ** np.arange(len(rising).bit_length())[::-1]:  # bisection, of all columns together
        tried = below + step
        there = tried < len(rising)
        less = np.zeros(wanted.shape, bool)
        less[there] = rising[tried[there], np.nonzero(there)[1]] < wanted[there]
        below[less] = tried[less]
    return below + 1


METRICS = (
    MetricSpec(
        name="froc",
        title="FROC (LoVT)",
        target="boxes",
        needs=("lovt_pool",),
        compute=lambda boxes: CarriedForward(centre_hits(boxes.cut)),
        undefined=NO_BOX,
        selects=True,
    ),
    MetricSpec(
        name="froc_full",
        title="FROC (full)",
        target="boxes",
        needs=("full_pool",),
        compute=lambda boxes: Interpolated(centre_hits(boxes.full)),
        undefined=NO_BOX,
        selects=True,
    ),
)
