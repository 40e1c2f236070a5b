"""What a record keeps of predicted boxes: scored detections with their overlaps and their hits by COCO's and MGCA's rules.

Which metrics follow is declared in their families; how statistics are read and resampled is in `statistics`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from benchmark.metrics import coco, mgca
from benchmark.metrics.coco import CocoHits
from benchmark.metrics.columns import Column, Columns, Lists, counts_in_order, exact, narrow
from benchmark.metrics.matching import FULL_CONFIDENCE, FULL_PER_IMAGE, LOVT_CONFIDENCE, Matched, full_pool, lovt_pool, match
from benchmark.metrics.overlaps import Overlaps, rank_within_image
from benchmark.metrics.spec import SEVERAL_CLASSES

FIELDS = frozenset({"lovt_pool", "full_pool", "coco", "mgca"})


@dataclass(frozen=True)
class DetectionStatistics:
    """Scored detections of a split with their IoU and centre hit on every ground-truth box they touch.

    Attributes:
        coco: (n,) int64 of `coco.coco_hits`, detection by detection; None where only LoVT's geometry was kept.
        mgca: (n,) int64 of `mgca.mgca_hits`; None there and in older records.
    """

    kind: ClassVar[str] = "detection"
    target: ClassVar[str] = "boxes"
    large: ClassVar[frozenset[str]] = frozenset({"coco", "mgca"})
    columns_of: ClassVar[Mapping[str, tuple[str, ...]]] = {"coco": ("coco",), "mgca": ("mgca",)}

    class_names: tuple[str, ...]
    table: Overlaps
    coco: np.ndarray | None = None
    mgca: np.ndarray | None = None

    @property
    def n_images(self) -> int:
        return self.table.n_images

    @property
    def fields(self) -> frozenset[str]:
        kept = {"coco": self.coco is not None, "mgca": self.mgca is not None, SEVERAL_CLASSES: len(self.class_names) > 1}
        return frozenset({"lovt_pool", "full_pool", *(field for field, there in kept.items() if there)})

    def view(self) -> BoxView:
        return BoxView(self)

    def only(self, needs: Collection[str]) -> DetectionStatistics:
        """Without detections under confidence 0.2 where LoVT's pool is all that is needed, and without hits that are not."""
        if "lovt_pool" in needs:
            return DetectionStatistics(self.class_names, lovt_pool(self.table))
        coco_hits, mgca_hits = self.coco if "coco" in needs else None, self.mgca if "mgca" in needs else None
        return DetectionStatistics(self.class_names, self.table, coco_hits, mgca_hits)

    def to_json(self) -> dict[str, Any]:
        table = self.table
        return {
            "kind": self.kind,
            "classes": list(self.class_names),
            "frame": table.frame,
            "n_images": table.n_images,
            "detections": {name: getattr(table, name).tolist() for name in ("image", "label", "confidence")},
            "coco": None if self.coco is None else self.coco.tolist(),
            "mgca": None if self.mgca is None else self.mgca.tolist(),
            "truth": {"image": table.truth_image.tolist(), "label": table.truth_label.tolist()},
            "pairs": {
                "detection": table.pair_detection.tolist(),
                "truth": table.pair_truth.tolist(),
                "iou": table.pair_iou.tolist(),
                "centre": table.pair_centre.astype(int).tolist(),
            },
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> DetectionStatistics:
        """Raises KeyError, TypeError or ValueError for anything that `to_json` did not write."""
        detections, truth, pairs = stored["detections"], stored["truth"], stored["pairs"]
        table = Overlaps(
            n_images=int(stored["n_images"]),
            frame=str(stored["frame"]),
            image=np.array(detections["image"], np.int64),
            label=np.array(detections["label"], np.int64),
            confidence=np.array(detections["confidence"], np.float64),
            truth_image=np.array(truth["image"], np.int64),
            truth_label=np.array(truth["label"], np.int64),
            pair_detection=np.array(pairs["detection"], np.int64),
            pair_truth=np.array(pairs["truth"], np.int64),
            pair_iou=np.array(pairs["iou"], np.float64),
            pair_centre=np.array(pairs["centre"], bool),
        )
        hits = (None if stored.get(name) is None else np.array(stored[name], np.int64) for name in ("coco", "mgca"))
        return cls._consistent(tuple(stored["classes"]), table, *hits)

    def to_columns(self) -> Columns:
        """A row per image; the order over all images follows from the confidences, since equal ones keep the order of images.

        Raises:
            ValueError: detections, true boxes or pairs stand in another order than `Overlaps` has them.
        """
        table, n = self.table, self.n_images
        equal = np.diff(table.confidence) == 0
        if np.any(np.diff(table.confidence) > 0) or np.any(np.diff(table.image)[equal] < 0):
            raise ValueError("detections are not sorted by falling confidence, equal ones by image")
        same = np.diff(table.pair_detection) == 0
        if np.any(np.diff(table.pair_detection) < 0) or np.any(np.diff(table.pair_truth)[same] < 0):
            raise ValueError("pairs are not sorted by detection, then truth")
        n_truth = counts_in_order(table.truth_image, n, "true boxes")
        by_image = _argsort_images(table.image, n)
        n_detections = np.bincount(table.image, minlength=n).astype(np.int64)
        place = np.empty(table.n_detections, np.int64)
        place[by_image] = np.arange(table.n_detections)  # among all, image by image
        pair_image = table.image[table.pair_detection]
        if np.any(table.truth_image[table.pair_truth] != pair_image):
            raise ValueError("a pair of a detection and a true box of two images")
        pairs = np.lexsort((table.pair_truth, place[table.pair_detection]))
        n_pairs = np.bincount(pair_image, minlength=n).astype(np.int64)
        first, first_truth = np.cumsum(n_detections) - n_detections, np.cumsum(n_truth) - n_truth
        hits = {"coco": self.coco, "mgca": self.mgca}
        columns: dict[str, Column] = {
            "confidence": Lists(n_detections, exact(table.confidence[by_image])),
            "label": Lists(n_detections, narrow(table.label[by_image])),
            **{name: Lists(n_detections, narrow(found[by_image])) for name, found in hits.items() if found is not None},
            "truth_label": Lists(n_truth, narrow(table.truth_label)),
            "pair_detection": Lists(n_pairs, narrow((place[table.pair_detection] - first[pair_image])[pairs])),
            "pair_truth": Lists(n_pairs, narrow((table.pair_truth - first_truth[pair_image])[pairs])),
            "pair_iou": Lists(n_pairs, exact(table.pair_iou[pairs])),
            "pair_centre": Lists(n_pairs, table.pair_centre[pairs]),
        }
        return Columns({"classes": list(self.class_names), "frame": table.frame}, columns)

    @classmethod
    def from_columns(cls, about: Mapping[str, Any], columns: Mapping[str, Column]) -> DetectionStatistics:
        """Raises KeyError, TypeError or ValueError for anything that `to_columns` did not write; columns of hits may be left out."""
        lists = {name: found for name, found in columns.items() if isinstance(found, Lists)}
        found, truth, pairs = lists["confidence"], lists["truth_label"], lists["pair_detection"]
        beside = {
            "label": found, "coco": found, "mgca": found, "pair_truth": pairs, "pair_iou": pairs, "pair_centre": pairs,
        }  # fmt: skip
        for name, other in beside.items():
            if name in lists and not np.array_equal(lists[name].counts, other.counts):
                raise ValueError("lists of different length")
        confidence = found.values.astype(np.float64)
        order = np.argsort(-confidence, kind="stable")
        position = np.empty(len(order), np.int64)
        position[order] = np.arange(len(order))
        local, local_truth, pair_image = pairs.values.astype(np.int64), lists["pair_truth"].values.astype(np.int64), pairs.image
        for name, index, counts in (("pair detection", local, found.counts), ("pair truth", local_truth, truth.counts)):
            if np.any((index < 0) | (index >= counts[pair_image])):
                raise ValueError(f"a {name} index outside its image")
        pair_detection, pair_truth = position[found.first[pair_image] + local], truth.first[pair_image] + local_truth
        by_pair = np.lexsort((pair_truth, pair_detection))
        table = Overlaps(
            n_images=len(found.counts),
            frame=str(about["frame"]),
            image=found.image[order],
            label=lists["label"].values.astype(np.int64)[order],
            confidence=confidence[order],
            truth_image=truth.image,
            truth_label=truth.values.astype(np.int64),
            pair_detection=pair_detection[by_pair],
            pair_truth=pair_truth[by_pair],
            pair_iou=lists["pair_iou"].values.astype(np.float64)[by_pair],
            pair_centre=lists["pair_centre"].values.astype(bool)[by_pair],
        )
        hits = (lists[name].values.astype(np.int64)[order] if name in lists else None for name in ("coco", "mgca"))
        return cls._consistent(tuple(about["classes"]), table, *hits)

    @classmethod
    def _consistent(
        cls, class_names: tuple[str, ...], table: Overlaps, coco_hits: np.ndarray | None, mgca_hits: np.ndarray | None
    ) -> DetectionStatistics:
        """Raises ValueError for tables and hits that contradict each other."""
        _require_consistent(table)
        for name, found, thresholds in (("coco", coco_hits, coco.THRESHOLDS), ("mgca", mgca_hits, mgca.THRESHOLDS)):
            if found is not None and (
                len(found) != table.n_detections or np.any((found < coco.UNCOUNTED) | (found >= 2 ** len(thresholds)))
            ):
                raise ValueError(f"hits of {name} that do not fit the detections")
        return cls(class_names, table, coco_hits, mgca_hits)


@dataclass(frozen=True)
class BoxView:
    """Pools, matches and hits of one split, each made when a metric first asks for it and shared by all that do."""

    statistics: DetectionStatistics

    @property
    def table(self) -> Overlaps:
        return self.statistics.table

    @property
    def n_classes(self) -> int:
        return len(self.statistics.class_names)

    @cached_property
    def cut(self) -> Overlaps:
        return lovt_pool(self.table)

    @cached_property
    def full(self) -> Overlaps:
        return full_pool(self.table)

    @cached_property
    def matched(self) -> Matched:
        """LoVT's matches in LoVT's pool."""
        return match(self.cut, n_classes=self.n_classes)

    @property
    def coco(self) -> CocoHits:
        return self._hits(self.statistics.coco, len(coco.THRESHOLDS))

    @property
    def mgca(self) -> CocoHits:
        return self._hits(self.statistics.mgca, len(mgca.THRESHOLDS))

    def _hits(self, hits: np.ndarray | None, n_thresholds: int) -> CocoHits:
        assert hits is not None, "a metric that needs hits was asked of statistics without them"
        table = self.table
        return CocoHits(table.n_images, table.image, table.label, hits, table.truth_image, table.truth_label, n_thresholds)


def detection_statistics(
    table: Overlaps, class_names: Sequence[str], coco_hits: np.ndarray | None = None, mgca_hits: np.ndarray | None = None
) -> DetectionStatistics:
    """Keeps the detections that some pool reads: confidence at least 0.001, and of those under 0.2 the 100 most confident per image."""
    among_first = rank_within_image(table.image) < FULL_PER_IMAGE
    read = (table.confidence >= FULL_CONFIDENCE) & (among_first | (table.confidence >= LOVT_CONFIDENCE))
    hits = (None if found is None else found[read] for found in (coco_hits, mgca_hits))
    return DetectionStatistics(tuple(class_names), table.select(read), *hits)


def _argsort_images(image: np.ndarray, n_images: int) -> np.ndarray:
    """(n,) int64 stable order by image; of 16 bits NumPy sorts by radix, several times as fast."""
    return np.argsort(image.astype(np.uint16) if n_images < 2**16 else image, kind="stable")


def _require_consistent(table: Overlaps) -> None:
    lengths = {len(table.image), len(table.label), len(table.confidence)}
    pair_lengths = {len(table.pair_detection), len(table.pair_truth), len(table.pair_iou), len(table.pair_centre)}
    if len(lengths) > 1 or len(pair_lengths) > 1 or len(table.truth_image) != len(table.truth_label):
        raise ValueError("lists of different length")
    for name, index, n in (
        ("image", table.image, table.n_images),
        ("truth image", table.truth_image, table.n_images),
        ("pair detection", table.pair_detection, table.n_detections),
        ("pair truth", table.pair_truth, table.n_truth),
    ):
        if len(index) and not (index.min() >= 0 and index.max() < n):
            raise ValueError(f"a {name} index outside 0 to {n - 1}")
    if np.any(np.diff(table.confidence) > 0):
        raise ValueError("detections are not sorted by falling confidence")
