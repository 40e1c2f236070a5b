"""What a record keeps of predicted masks: pixel counts, lesions, surfaces and pixels by probability, image by image.

Which metrics follow is declared in their families; how statistics are read and resampled is in `statistics`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from benchmark.metrics import pixels
from benchmark.metrics.columns import Column, Columns, Lists, counts_in_order, exact, narrow, of_rows
from benchmark.metrics.dice import DiceCounts
from benchmark.metrics.lesions import Lesions
from benchmark.metrics.pixels import PixelCounts
from benchmark.metrics.surface import Surfaces

FIELDS = frozenset({"counts", "lesions", "surfaces", "pixels", "frame_pixels", "batch_sizes"})

_SURFACE_LISTS = {"image": np.int64, "label": np.int64, "nsd": np.float64}


@dataclass(frozen=True)
class SegmentationStatistics:
    """Pixel counts; lesions; (true masks only) surfaces; pixels by probability where there are probabilities and not only masks.

    Attributes:
        lesions: None of an epoch's validation, which counts pixels alone.
        frame_pixels: pixels of an image; None in older records, which do not define `dice_with_background`.
        batch_sizes: (N,) int64 images in the test batch of each image, for the metric that depends on it; None where predictions were
            scored without batches.
    """

    kind: ClassVar[str] = "segmentation"
    target: ClassVar[str] = "masks"
    large: ClassVar[frozenset[str]] = frozenset({"pixels"})
    columns_of: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "lesions": ("lesion_label", "lesion_area", "lesion_covered"),
        "surfaces": ("surface_label", "surface_nsd"),
        "pixels": pixels.COLUMNS,
        "batch_sizes": ("batch_size",),
    }

    class_names: tuple[str, ...]
    counts: DiceCounts
    lesions: Lesions | None
    surfaces: Surfaces | None
    pixels: PixelCounts | None = None
    frame_pixels: int | None = None
    batch_sizes: np.ndarray | None = None

    @property
    def n_images(self) -> int:
        return len(self.counts.tp)

    @property
    def fields(self) -> frozenset[str]:
        return frozenset(field for field in FIELDS if getattr(self, field) is not None)

    def view(self) -> SegmentationStatistics:
        return self

    def only(self, needs: Collection[str]) -> SegmentationStatistics:
        """Without the fields that are not needed; the counts stay."""
        unread: dict[str, Any] = dict.fromkeys(FIELDS - {"counts"} - set(needs))
        return replace(self, **unread)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "classes": list(self.class_names),
            "counts": _lists(self.counts, ("tp", "fp", "fn")),
            "lesions": None if self.lesions is None else _lists(self.lesions, ("image", "label", "area", "covered")),
            "surfaces": None if self.surfaces is None else _lists(self.surfaces, _SURFACE_LISTS),
            "pixels": None if self.pixels is None else pixels.to_json(self.pixels),
            "frame_pixels": self.frame_pixels,
            "batch_sizes": None if self.batch_sizes is None else self.batch_sizes.tolist(),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> SegmentationStatistics:
        """Raises KeyError, TypeError or ValueError for anything that `to_json` did not write."""
        classes = tuple(stored["classes"])
        counts = DiceCounts(*(np.array(stored["counts"][name], np.int64).reshape(-1, len(classes)) for name in ("tp", "fp", "fn")))
        found = Lesions(*(np.array(stored["lesions"][name], np.int64) for name in ("image", "label", "area", "covered")))
        kept = stored["surfaces"]
        surfaces = kept and Surfaces(
            np.array(kept["image"], np.int64), np.array(kept["label"], np.int64), np.array(kept["nsd"], np.float64)
        )
        by_probability = stored.get("pixels")
        counted = by_probability and pixels.from_json(by_probability)
        batches = stored.get("batch_sizes")
        batch_sizes = None if batches is None else np.array(batches, np.int64)
        return cls._consistent(classes, counts, found, surfaces, counted, stored.get("frame_pixels"), batch_sizes)

    def to_columns(self) -> Columns:
        """A row per image; a field that there is none of has no column.

        Raises:
            ValueError: lesions or surfaces do not stand in the order of their images.
        """
        n = self.n_images
        columns: dict[str, Column] = {name: of_rows(narrow(getattr(self.counts, name))) for name in ("tp", "fp", "fn")}
        if self.lesions is not None:
            each = counts_in_order(self.lesions.image, n, "lesions")
            columns |= {f"lesion_{name}": Lists(each, narrow(getattr(self.lesions, name))) for name in ("label", "area", "covered")}
        if self.surfaces is not None:
            each = counts_in_order(self.surfaces.image, n, "surfaces")
            columns["surface_label"] = Lists(each, narrow(self.surfaces.label))
            columns["surface_nsd"] = Lists(each, exact(self.surfaces.nsd))
        if self.pixels is not None:
            columns |= pixels.to_columns(self.pixels)
        if self.batch_sizes is not None:
            columns["batch_size"] = narrow(self.batch_sizes)
        return Columns({"classes": list(self.class_names), "frame_pixels": self.frame_pixels}, columns)

    @classmethod
    def from_columns(cls, about: Mapping[str, Any], columns: Mapping[str, Column]) -> SegmentationStatistics:
        """Raises KeyError, TypeError or ValueError for what `to_columns` did not write; columns of single fields may be left out."""
        classes = tuple(about["classes"])
        lists = {name: found for name, found in columns.items() if isinstance(found, Lists)}
        for beside in (("lesion_label", "lesion_area", "lesion_covered"), ("surface_label", "surface_nsd")):
            if beside[0] in lists and any(not np.array_equal(lists[name].counts, lists[beside[0]].counts) for name in beside):
                raise ValueError("lists of different length")
        counts = DiceCounts(*(lists[name].rows(len(classes)).astype(np.int64) for name in ("tp", "fp", "fn")))
        found, outlines = None, None
        if "lesion_label" in lists:
            fields = (lists[f"lesion_{name}"].values.astype(np.int64) for name in ("label", "area", "covered"))
            found = Lesions(lists["lesion_label"].image, *fields)
        if "surface_label" in lists:
            label, nsd = lists["surface_label"], lists["surface_nsd"]
            outlines = Surfaces(label.image, label.values.astype(np.int64), nsd.values.astype(np.float64))
        counted = pixels.from_columns(lists, len(classes)) if "pixel_cell" in lists else None
        batches = columns.get("batch_size")
        batch_sizes = None if batches is None else np.asarray(batches, np.int64)
        return cls._consistent(classes, counts, found, outlines, counted, about.get("frame_pixels"), batch_sizes)

    @classmethod
    def _consistent(
        cls,
        classes: tuple[str, ...],
        counts: DiceCounts,
        found: Lesions | None,
        surfaces: Surfaces | None,
        counted: PixelCounts | None,
        frame_pixels: Any,
        batch_sizes: np.ndarray | None,
    ) -> SegmentationStatistics:
        """Raises ValueError for fields that contradict each other."""
        if counted is not None and counted.seen.shape[:2] != counts.tp.shape:
            raise ValueError("pixel counts of other images or classes")
        if frame_pixels is not None and (type(frame_pixels) is not int or frame_pixels < 1):
            raise ValueError(f"frames of {frame_pixels!r} pixels")
        if batch_sizes is not None and (batch_sizes.shape != (len(counts.tp),) or (batch_sizes < 1).any()):
            raise ValueError("batch sizes that do not fit the images")
        return cls(classes, counts, found, surfaces, counted, frame_pixels, batch_sizes)


def _lists(source: Any, names: Collection[str]) -> dict[str, list[float]]:
    return {name: getattr(source, name).tolist() for name in names}
