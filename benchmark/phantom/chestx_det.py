"""The layout of ChestX-Det (docs/sources.md, ChestX-Det): two JSON files with findings, boxes and polygons, numbered PNG images.

Of the 13 findings the eight that this phantom can draw occur. Every separate piece of a finding is an entry with its own polygon, and a box
is the extent of its polygon, as in nearly all of the release.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.measure import approximate_polygon, find_contours

from benchmark.errors import UsageError
from benchmark.phantom.base import CorpusPlan, Listing, Shot, Written, patient_id, patient_of, shots_of, stream_of
from benchmark.phantom.boxed import CLASSES_PER_IMAGE, LOOKS, draw, draw_names
from benchmark.phantom.findings import OUTLINE
from benchmark.phantom.radiograph import GRID, develop
from benchmark.phantom.seeds import stream

DEFAULT_POSITIVE_SHARE = (2_478 + 489) / (3_025 + 553)  # docs/sources.md, ChestX-Det
TEST_SHARE = 553 / 3_578  # by image; whose images they are is not known in the release either
SIZE = 1024
NUMBERS = (10_000, 100_000)  # five digits
BOXES_PER_CLASS = {  # docs/sources.md, ChestX-Det, the findings that are drawn
    "Consolidation": 2_110,
    "Effusion": 1_734,
    "Nodule": 816,
    "Fibrosis": 619,
    "Atelectasis": 289,
    "Cardiomegaly": 223,
    "Pneumothorax": 169,
    "Mass": 133,
}
HEART = "Cardiomegaly"
SMALLEST_SIDE = 4  # pixels of a polygon's extent; smaller pieces are not outlined


def shots(plan: CorpusPlan) -> list[Shot]:
    """Roles are a part and the image's number, such as "train/36200"."""
    planned = shots_of(plan, DEFAULT_POSITIVE_SHARE)
    first, end = NUMBERS
    if len(planned) > end - first:
        raise UsageError(f"chestx-det: a phantom holds at most {end - first:,} images, because their numbers have five digits.")
    rng = stream("numbers", plan.dataset, plan.seed)
    numbers = rng.choice(np.arange(first, end), len(planned), replace=False)
    n_test = max(1, round(TEST_SHARE * len(planned)))
    test = set(rng.permutation(len(planned))[:n_test].tolist())
    return [replace(one, role=f"{'test' if k in test else 'train'}/{numbers[k]}") for k, one in enumerate(planned)]


def write_image(plan: CorpusPlan, shot: Shot, root: Path) -> Written:
    rng = stream_of(plan, shot)
    patient = patient_of(plan, shot)
    names = draw_names(BOXES_PER_CLASS, CLASSES_PER_IMAGE, rng) if shot.positive else []
    radiograph, drawn = draw(patient, names, LOOKS, HEART, rng)
    subset, number = shot.role.split("/")
    folder = root / f"{subset}_data"
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(develop(radiograph, SIZE, SIZE, rng)).save(folder / f"{number}.png", compress_level=1)
    outlined = []
    for name, finding, _ in drawn:
        density, level = (radiograph.scene.heart, 0.5) if finding is None else (finding.density, OUTLINE)
        outlined += [(name, polygon) for polygon in _polygons(density, level)]
    entry = {
        "file_name": f"{number}.png",
        "syms": [name for name, _ in outlined],
        "boxes": [[*polygon.min(axis=0).tolist(), *polygon.max(axis=0).tolist()] for _, polygon in outlined],
        "polygons": [polygon.tolist() for _, polygon in outlined],
    }
    return Written(shot, f"{number}.png", patient_id(plan, shot), radiograph.report, (), {"entry": entry})


def write_labels(plan: CorpusPlan, written: list[Written], root: Path) -> Listing:
    listed = {subset: [one for one in written if one.shot.role.startswith(subset)] for subset in ("train", "test")}
    counts = {"images": len(written), "patients": len({one.patient_id for one in written})}
    for subset, ones in listed.items():
        entries = [one.label["entry"] for one in ones]
        (root / f"ChestX_Det_{subset}.json").write_text(json.dumps(entries), encoding="utf-8", newline="\n")
        counts[f"{subset}_images"] = len(entries)
        counts[f"{subset}_positives"] = sum(bool(entry["syms"]) for entry in entries)
        counts[f"{subset}_boxes"] = sum(len(entry["syms"]) for entry in entries)
    return Listing(tuple(one.id for ones in listed.values() for one in ones), counts)


def _polygons(density: np.ndarray, level: float) -> list[np.ndarray]:
    """Outlines of all pieces, (k, 2) int64 of x and y in pixels of the picture, the longest first."""
    found = []
    for line in sorted(find_contours(np.pad(density, 1), level), key=len, reverse=True):
        corners = (approximate_polygon(line - 1, 0.3)[:, ::-1] + 0.5) * SIZE / GRID - 0.5
        polygon = np.rint(corners).astype(np.int64).clip(0, SIZE - 1)
        if len(polygon) >= 3 and (polygon.max(axis=0) - polygon.min(axis=0)).min() >= SMALLEST_SIDE:
            found.append(polygon)
    return found
