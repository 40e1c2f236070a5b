"""Checks of a file of predictions that may come from anywhere: the images and the frame must be those of the part it is scored on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmark.cards import DatasetCard
from benchmark.errors import FrameMismatch, UsageError
from benchmark.kinds.base import Part
from benchmark.readers.kit.withheld import is_withheld


def require_same_images(file: Path, ids: Sequence[str], part: Part, card: DatasetCard) -> None:
    """Raises UsageError for images that are missing, repeated or not of the part."""
    given, wanted = set(ids), set(part.ids)
    if len(given) != len(ids):
        raise UsageError(f"{file}: {len(ids) - len(given)} image names are repeated. Every image stands once.")
    missing, foreign = sorted(wanted - given), sorted(given - wanted)
    if missing or foreign:
        some = "" if is_withheld(card) else f" ({', '.join((missing or foreign)[:3])})"
        raise UsageError(
            f"{file}: its images are not the task's {len(wanted):,} test images: "
            f"{len(missing):,} missing, {len(foreign):,} foreign{some}. "
            "Predictions of a limited run need the same --limit."
        )


def require_frame(file: Path, frame: str, part: Part) -> None:
    """Raises FrameMismatch for another frame than the part's: the same boxes in another frame give another number."""
    if frame != part.frame_name:
        raise FrameMismatch(
            f"{file} was measured in frame {frame!r}, the task is scored in {part.frame_name!r}. Map the predictions first."
        )


def positions(ids: Sequence[str], part: Part) -> np.ndarray:
    """(N,) int64 place in the part of each image of a file."""
    where = {name: i for i, name in enumerate(part.ids)}
    return np.array([where[name] for name in ids], np.int64)
