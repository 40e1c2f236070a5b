"""The files of a tested job: its kind's predictions, per-image statistics, and a few images for the eye where they may be kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmark.cards import SCHEMA_VERSION, Job
from benchmark.files import open_regular
from benchmark.kinds.base import Example, Part, ScoredSplit

STATISTICS_FILE = "statistics.json"
EXAMPLES_FILE = "examples.npz"
N_EXAMPLES = 4


def write(folder: Path, job: Job, part: Part, tested: ScoredSplit, *, with_examples: bool) -> None:
    """Writes predictions and statistics of a tested part into `folder`.

    Args:
        with_examples: whether images may be kept, which the data agreement decides.
    """
    part.kind.store(folder, job, part, tested.predictions)
    about = {"schema_version": SCHEMA_VERSION, "ids": list(part.ids), "patients": list(part.patients)}
    dump(folder / STATISTICS_FILE, {**about, **tested.statistics})
    if with_examples and (shown := part.kind.examples(part, tested.predictions)) is not None:
        arrays = cast("dict[str, Any]", shown)  # NumPy's stub would have each of them be a bool, as `allow_pickle` is
        np.savez_compressed(folder / EXAMPLES_FILE, **arrays)


def read_examples(path: Path) -> list[Example]:
    """The example images of a tested part; empty when there are none."""
    if not path.exists():
        return []
    with open_regular(path) as file, np.load(file, allow_pickle=False) as stored:
        kept = {name: stored[name] for name in stored.files}
    masks, boxes, similarity = kept.get("masks"), kept.get("boxes_xywh"), kept.get("similarity")
    return [
        Example(
            index=int(index),
            image=kept["images"][k],
            boxes_xywh=None if boxes is None else boxes[kept["box_owner"] == k],
            masks=None if masks is None else masks[k],
            similarity=None if similarity is None else similarity[k],
            box_labels=kept["box_labels"][kept["box_owner"] == k] if "box_labels" in kept else None,
        )
        for k, index in enumerate(kept["index"])
    ]


def dump(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON. In one piece: `json.dump` would encode in Python, which takes a minute for the detections of a whole test set."""
    path.write_text(json.dumps(content, separators=(",", ":"), allow_nan=False), encoding="utf-8")
