"""What a file of predictions says beside them, in any form: whose they are, in which frame, of which images, and how these lie in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.cards import Job
from benchmark.errors import FrameMismatch, UsageError
from benchmark.imaging.geometry import Frame
from benchmark.kinds.base import Part

_SIDE = re.compile(r"padded-([1-9]\d{0,3})")  # up to 9,999 pixels, far beyond any task's frame


@dataclass(frozen=True)
class Placement:
    """How N images lie in their frame.

    Attributes:
        height, width: (N,) int64, of the original images in pixels.
        pad_left, pad_top: (N,) int64, zeros before the image, in original pixels.
        scale_x, scale_y: (N,) float64, frame pixels per original pixel.
    """

    height: np.ndarray
    width: np.ndarray
    pad_left: np.ndarray
    pad_top: np.ndarray
    scale_x: np.ndarray
    scale_y: np.ndarray


WHOLE, REAL = ("height", "width", "pad_left", "pad_top"), ("scale_x", "scale_y")


@dataclass(frozen=True)
class Heading:
    """A file of predictions without its predictions.

    Attributes:
        key, task: of the job; empty in files of others.
        frame: the predictions were measured in.
        split: name and rule; None where the file does not say.
        classes: names, in the order of its class numbers.
        ids: of the images, in order.
        placement: None where the file does not say.
    """

    key: str
    task: str
    frame: str
    split: tuple[str, str] | None
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    placement: Placement | None


def of(job: Job, part: Part) -> Heading:
    """Of the predictions of a job for a part."""
    frames, dataset = part.cache.frames(part.rows), job.experiment.dataset
    placed = {name: np.array([getattr(frame, name) for frame in frames], np.int64) for name in WHOLE}
    scaled = {name: np.array([getattr(frame, name) for frame in frames], np.float64) for name in REAL}
    split = (dataset.split, dataset.split_rule.rule)
    return Heading(job.key, job.labels.task, part.frame_name, split, dataset.classes, part.ids, Placement(**placed, **scaled))


def side_of(path: Path, frame: object) -> int:
    """Pixels of a square frame such as "padded-224". Raises FrameMismatch for another one."""
    found = _SIDE.fullmatch(frame) if isinstance(frame, str) else None
    if found is None:
        raise FrameMismatch(f'{path} was measured in frame {frame!r}; masks are in a square frame such as "padded-224". Map them first.')
    return int(found[1])


def frames_of(path: Path, heading: Heading) -> list[Frame]:
    """How each image lies in the frame.

    Raises:
        UsageError: the file does not say, or says what no frame is.
        FrameMismatch: it was measured in no square frame.
    """
    side, placed = side_of(path, heading.frame), heading.placement
    if placed is None:
        raise UsageError(f"{path} does not say how its images lie in the frame: it has no size, padding and scale of each.")
    found = []
    for k, name in enumerate(heading.ids):
        height, width = int(placed.height[k]), int(placed.width[k])
        frame = Frame.of(height, width, side) if min(height, width) > 0 and max(height, width) < 2**20 else None
        if frame is None or any(getattr(frame, each) != getattr(placed, each)[k] for each in (*WHOLE, *REAL)):
            raise UsageError(f"{path}: image {k + 1:,} ({name}) does not lie in a frame of {side} pixels as it says.")
        found.append(frame)
    return found


def class_places(path: Path, names: Sequence[str], classes: Sequence[str] | None, what: str) -> list[int]:
    """Class number for each of a file's: by name where `classes` are given, never by place.

    Raises:
        UsageError: the names are not those of the classes.
    """
    if classes is None:
        return list(range(len(names)))
    if sorted(names) != sorted(classes):
        raise UsageError(f"{path}: its {what} are {', '.join(names) or '(none)'}; the task's classes are {', '.join(classes)}.")
    return [list(classes).index(name) for name in names]
