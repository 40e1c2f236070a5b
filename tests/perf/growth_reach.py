"""What `lobe bench growth` found, as a plain document; how cost grows with size; and what it is held to, in one table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 1
TOLERANCE = 1e-5  # of metrics, as in the other benches
MOST = 1.05  # exponent of what grows with the science alone
LARGEST_LIMIT, LARGEST_LIST, FEW_RECORDS, MANY_RECORDS = 3200, 377_110, 1000, 4000


class Point(BaseModel):
    """One measured value.

    Attributes:
        size: as asked for: `--limit`, number of records, images of a list.
        x: what it comes to: images of all splits, test images, records; what cost is told per.
    """

    model_config = ConfigDict(frozen=True)

    size: int
    x: float
    value: float


class Measured(BaseModel):
    """One side.

    Attributes:
        series: points by rising size, by name of `SERIES`.
        failures: why a step has no value, by step.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    commit: str
    series: Mapping[str, tuple[Point, ...]]
    failures: Mapping[str, str] = {}

    def at(self, name: str, size: int) -> Point | None:
        return next((point for point in self.series.get(name, ()) if point.size == size), None)


class GrowthReport(BaseModel):
    """The whole bench.

    Attributes:
        command: that repeats it.
        sizes: asked for, by name.
        difference: the largest between metrics of the two sides' runs; None where none could be compared.
        compared: how many metrics were.
        seconds: of all sittings.
        sittings: how often the bench was started, each but the last having been stopped.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: int = SCHEMA_VERSION
    bench: str = "growth"
    quick: bool
    command: str
    sizes: dict[str, str]
    sides: tuple[Measured, ...]
    difference: float | None
    compared: int
    seconds: float
    sittings: int = 1
    machine: dict[str, str]
    finished_at: str

    @property
    def equal(self) -> bool:
        """Whether nothing that was compared differs by more than rounding."""
        return self.difference is None or self.difference <= TOLERANCE


@dataclass(frozen=True)
class Series:
    """What is measured at several sizes.

    Attributes:
        unit: of a value: "s", "MB" (10^6 bytes) or "" for a ratio.
        per: what cost is told per.
    """

    title: str
    unit: Literal["s", "MB", ""]
    per: str


SERIES = {
    "linear_s": Series("linear task: the whole command", "s", "image"),
    "linear_features_s": Series("linear task: features", "s", "image"),
    "linear_test_s": Series("linear task: test", "s", "test image"),
    "linear_storing_s": Series("linear task: storing", "s", "test image"),
    "linear_memory": Series("linear task: peak memory", "MB", "image"),
    "linear_bytes": Series("linear task: files of the run", "MB", "test image"),
    "yolo_s": Series("YOLOv3 task after it: the whole command", "s", "image"),
    "yolo_features_s": Series("YOLOv3 task after it: features", "s", "image"),
    "yolo_test_s": Series("YOLOv3 task after it: test", "s", "test image"),
    "yolo_storing_s": Series("YOLOv3 task after it: storing", "s", "test image"),
    "yolo_memory": Series("YOLOv3 task after it: peak memory", "MB", "image"),
    "yolo_bytes": Series("YOLOv3 task after it: files of the run", "MB", "test image"),
    "budget_memory": Series("the same with `--cache-budget 1GB`: peak memory", "MB", "image"),
    "budget_difference": Series("the same with `--cache-budget 1GB`: largest difference of a metric", "", "metric"),
    "pass_ratio": Series("frozen tasks of one backbone together, over one pass and their heads on tensors in memory", "", "image"),
    "floor_pass_s": Series("one pass of their encoder over all images", "s", "image"),
    "floor_heads_s": Series("their heads on tensors in memory", "s", "image"),
    "pass_s": Series("frozen tasks of one backbone together, without start and planning", "s", "image"),
    "files_s": Series("files of a run with made boxes: writing", "s", "box"),
    "files_bytes": Series("files of a run with made boxes", "MB", "box"),
    "files_memory": Series("files of a run with made boxes: peak memory", "MB", "box"),
    "report_first_s": Series("`lobe report`, the first time", "s", "record"),
    "report_s": Series("`lobe report` again, nothing new", "s", "record"),
    "report_memory": Series("`lobe report` again: peak memory", "MB", "record"),
    "resume_s": Series("`lobe run` again, everything done", "s", "record"),
    "resume_memory": Series("`lobe run` again: peak memory", "MB", "record"),
    "list_s": Series("`lobe run --dry-run` on MIMIC-CXR's list", "s", "image"),
    "list_memory": Series("`lobe run --dry-run` on MIMIC-CXR's list: peak memory", "MB", "image"),
}


@dataclass(frozen=True)
class Growth:
    """Exponents of a series: of all its points, and of its last step, where what is fixed weighs least."""

    fitted: float
    last: float

    @property
    def worst(self) -> float:
        return max(self.fitted, self.last)


def exponent(points: Sequence[Point]) -> float | None:
    """Slope of log(value) over log(x) by least squares: 1 where cost is proportional. None with fewer than two sizes, or a zero."""
    kept = [(math.log(point.x), math.log(point.value)) for point in points if point.x > 0 and point.value > 0]
    if len(kept) < len(points) or len({x for x, _ in kept}) < 2:
        return None
    mean_x, mean_y = (sum(column) / len(kept) for column in zip(*kept, strict=True))
    return sum((x - mean_x) * (y - mean_y) for x, y in kept) / sum((x - mean_x) ** 2 for x, _ in kept)


def growth(points: Sequence[Point]) -> Growth | None:
    """Exponents of points by rising size; None where there are none."""
    fitted, last = exponent(points), exponent(points[-2:])
    return None if fitted is None or last is None else Growth(fitted, last)


@dataclass(frozen=True)
class Target:
    """What the present side is held to.

    Attributes:
        most: largest value, in the unit of the series; of `growth`, the larger exponent.
        size: at which the value is taken; of `growth`, the largest size that must have been measured. None = the largest there is.
    """

    what: str
    series: str
    most: float
    size: int | None = None
    of: Literal["value", "growth"] = "value"

    @property
    def unit(self) -> str:
        return SERIES[self.series].unit if self.of == "value" else ""

    def value(self, side: Measured) -> float | None:
        """What a side reached; None where it was not measured."""
        points = side.series.get(self.series, ())
        point = points[-1] if points and self.size is None else None if self.size is None else side.at(self.series, self.size)
        if point is None:
            return None
        if self.of == "value":
            return point.value
        found = growth(points)
        return None if found is None else found.worst


TARGETS = (
    Target("features of the YOLOv3 task at 3,200, after the linear one", "yolo_features_s", 3.0, LARGEST_LIMIT),
    Target("frozen tasks of one backbone and dataset, over one pass and heads on tensors in memory", "pass_ratio", 1.10),
    Target("files of one run, 1,216 test images and 1.4 million boxes", "files_bytes", 35.0, LARGEST_LIMIT),
    Target("writing them", "files_s", 1.5, LARGEST_LIMIT),
    Target("files of the YOLOv3 run at 3,200, as it came out", "yolo_bytes", 35.0, LARGEST_LIMIT),
    Target("storing them, as it came out", "yolo_storing_s", 1.5, LARGEST_LIMIT),
    Target("peak memory of that run with `--cache-budget 1GB`", "budget_memory", 2500.0, LARGEST_LIMIT),
    Target("its metrics, against those without the budget: largest difference", "budget_difference", 0.0, LARGEST_LIMIT),
    Target("`lobe report` again, 1,000 records, nothing new", "report_s", 3.0, FEW_RECORDS),
    Target("planning 377,110 images", "list_s", 60.0, LARGEST_LIST),
    Target("planning 377,110 images: peak memory", "list_memory", 4000.0, LARGEST_LIST),
    *(
        Target(f"exponent of time, {SERIES[name].title}", name, MOST, size, "growth")
        for name, size in (
            ("linear_s", LARGEST_LIMIT),
            ("yolo_s", LARGEST_LIMIT),
            ("list_s", LARGEST_LIST),
            ("report_s", MANY_RECORDS),
            ("resume_s", MANY_RECORDS),
        )
    ),
)


def verdict(target: Target, report: GrowthReport) -> str:
    """`reached`, `not reached` or `not measured` of the present side; a miniature measures nothing."""
    value = target.value(report.sides[-1])
    if report.quick or value is None:
        return "not measured"
    return "reached" if value <= target.most else "not reached"
