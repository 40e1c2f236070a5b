"""What a record keeps of predicted boxes: scored detections with their overlaps and their hits by COCO's and MGCA's rules.

Which metrics follow is declared in their families; how statistics are read and resampled is in `statistics`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from benchmark.metrics import coco, mgca
from benchmark.metrics.coco import CocoHits
from benchmark.metrics.matching import FULL_CONFIDENCE, FULL_PER_IMAGE, LOVT_CONFIDENCE, Matched, full_pool, lovt_pool, match
from benchmark.metrics.overlaps import Overlaps, rank_within_image, stack
from benchmark.metrics.spec import SEVERAL_CLASSES

PARTS = frozenset({"lovt_pool", "full_pool", "coco", "mgca"})


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

    class_names: tuple[str, ...]
    table: Overlaps
    coco: np.ndarray | None = None
    mgca: np.ndarray | None = None

    @property
    def n_images(self) -> int:
        return self.table.n_images

    @property
    def parts(self) -> frozenset[str]:
        kept = {"coco": self.coco is not None, "mgca": self.mgca is not None, SEVERAL_CLASSES: len(self.class_names) > 1}
        return frozenset({"lovt_pool", "full_pool", *(part for part, there in kept.items() if there)})

    def view(self) -> BoxView:
        return BoxView(self)

    def only(self, needs: Collection[str]) -> DetectionStatistics:
        """Without detections under confidence 0.2 where LoVT's pool is all that is needed, and without hits that are not."""
        if "lovt_pool" in needs:
            return DetectionStatistics(self.class_names, lovt_pool(self.table))
        coco_hits, mgca_hits = self.coco if "coco" in needs else None, self.mgca if "mgca" in needs else None
        return DetectionStatistics(self.class_names, self.table, coco_hits, mgca_hits)

    def stacked(self, second: DetectionStatistics) -> DetectionStatistics:
        """Both as one split of twice the length."""
        order = np.argsort(-np.concatenate([self.table.confidence, second.table.confidence]), kind="stable")  # as `stack` does
        pairs = ((self.coco, second.coco), (self.mgca, second.mgca))
        hits = (None if a is None or b is None else np.concatenate([a, b])[order] for a, b in pairs)
        return DetectionStatistics(self.class_names, stack(self.table, second.table), *hits)

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
        _require_consistent(table)
        hits = {name: None if stored.get(name) is None else np.array(stored[name], np.int64) for name in ("coco", "mgca")}
        for (name, found), thresholds in zip(hits.items(), (coco.THRESHOLDS, mgca.THRESHOLDS), strict=True):
            if found is not None and (
                len(found) != table.n_detections or np.any((found < coco.UNCOUNTED) | (found >= 2 ** len(thresholds)))
            ):
                raise ValueError(f"hits of {name} that do not fit the detections")
        return cls(tuple(stored["classes"]), table, **hits)


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
