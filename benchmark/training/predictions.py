"""Predictions and per-image statistics as files, in the task's frame and unrounded, with what is needed to map them back.

Detections are COCO-style JSON, masks COCO RLE; string ids map to integers by the table `images` in the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pycocotools import mask as coco_mask

from benchmark import json_files
from benchmark.cards import SCHEMA_VERSION, Job
from benchmark.errors import FrameMismatch, UsageError
from benchmark.files import open_regular
from benchmark.metrics.boxes import Detections
from benchmark.training import coco_rle
from benchmark.training.data import Part
from benchmark.training.evaluate import Tested

DETECTIONS_FILE = "detections.json"
MASKS_FILE = "masks.json"
SCORES_FILE = "scores.parquet"
STATISTICS_FILE = "statistics.json"
EXAMPLES_FILE = "examples.npz"
N_EXAMPLES = 4
_WITHOUT_END = np.array([-np.inf, -np.inf, np.inf, np.inf])  # x, y, width, height of a box that overflowed


@dataclass(frozen=True)
class Example:
    """One image for the eye, with its truth in frame pixels.

    Attributes:
        index: position in the test split and in the predictions file.
        image: (S, S) uint8.
        boxes_xywh: (n, 4) float32, or None for masks.
        masks: (C, S, S) bool, or None for boxes.
        similarity: (h, w) float32 over the whole frame, how near each place is to what was asked for; None where nothing was asked.
        box_labels: (n,) int64 class of each box, an index into the card's classes; None for masks, phrases, and in older files.
    """

    index: int
    image: np.ndarray
    boxes_xywh: np.ndarray | None
    masks: np.ndarray | None
    similarity: np.ndarray | None = None
    box_labels: np.ndarray | None = None


def write(folder: Path, job: Job, part: Part, result: Tested, *, with_examples: bool) -> None:
    """Writes predictions and statistics of a tested part into `folder`, and a few images for overlays where the data agreement allows."""
    if result.detections is not None:
        _dump(folder / DETECTIONS_FILE, {**_header(job, part), "annotations": _detections(result.detections)})
    if result.masks is not None:
        _dump(folder / MASKS_FILE, {**_header(job, part), "annotations": _masks(result.masks)})
    if result.class_scores is not None:
        _write_scores(folder / SCORES_FILE, job, part, result.class_scores)
    _dump(
        folder / STATISTICS_FILE,
        {"schema_version": SCHEMA_VERSION, "ids": list(part.ids), "patients": list(part.patients), **result.statistics},
    )
    if with_examples and part.target in ("masks", "boxes"):
        _write_examples(folder / EXAMPLES_FILE, part)


def read_split(path: Path) -> tuple[str, str] | None:
    """Name and rule of the split that the predictions were made for; None where the file does not say.

    Raises:
        UsageError: not a file of predictions.
        FrameMismatch: boxes or masks without their frame.
    """
    content = _scores_header(path) if _is_parquet(path) else _load(path)
    return (str(content["split"]), str(content.get("split_rule", ""))) if "split" in content else None


def read_detections(path: Path, classes: Sequence[str] | None = None) -> tuple[Detections, tuple[str, ...]]:
    """The detections of a file and its image ids in order.

    Args:
        classes: names that the file's categories must have, whatever order it lists them in; labels follow these. None takes the file's.

    Raises:
        FrameMismatch: the file does not say in which frame it was measured.
        UsageError: the file is not one of detections, or one of its rows makes no sense; the row is named.
    """
    content = _load(path)
    names, index = _images(path, content)
    category = _categories(path, content, classes)
    rows = _rows(path, content)
    try:
        detections = Detections(
            image=np.array([index[r["image_id"]] for r in rows], np.int64),
            xywh=np.array([r["bbox"] for r in rows], np.float64).reshape(len(rows), 4),
            label=np.array([category[r["category_id"]] for r in rows], np.int64),
            n_images=len(index),
            frame=content["frame"],
            confidence=np.array([r["score"] for r in rows], np.float64).reshape(len(rows)),
        )
        marked = np.array([r.get("overflowed") is True for r in rows], bool)
        # NumPy reads null as not a number, and so does JSON's NaN. Only a row that says so has a box without end.
        if not (np.isfinite(detections.xywh[~marked]).all() and np.isfinite(detections.confidence).all()):
            raise ValueError("a number is missing or not finite")
        detections.xywh[marked] = np.where(np.isnan(detections.xywh[marked]), _WITHOUT_END, detections.xywh[marked])
    except (KeyError, TypeError, ValueError) as error:
        raise _first_fault(path, rows, index, category, _box_fault) or UsageError(f"{path}: {error}.") from None
    return detections, names


def read_masks(
    path: Path, wanted: Sequence[int] | None = None, classes: Sequence[str] | None = None
) -> tuple[np.ndarray, tuple[str, ...], str]:
    """Masks of a file. An image and class without a row has an empty mask.

    Args:
        wanted: positions of images to decode; None = all.
        classes: as for `read_detections`.

    Returns:
        (N, C, S, S) bool in the order of `wanted`, the ids of all images in order, and the frame.

    Raises:
        FrameMismatch: the file does not say in which square frame it was measured.
        UsageError: the file is not one of masks, or one of its rows makes no sense; the row is named.
    """
    content = _load(path)
    size = _side(path, content["frame"])
    names, index = _images(path, content)
    category = _categories(path, content, classes)
    place = {image: k for k, image in enumerate(range(len(names)) if wanted is None else wanted)}
    masks = np.zeros((len(place), len(category), size, size), bool)
    first: dict[tuple[int, int], int] = {}
    rows = _rows(path, content)
    for k, row in enumerate(rows, start=1):
        try:
            image, label = index[row["image_id"]], category[row["category_id"]]
        except (KeyError, TypeError):
            raise _first_fault(path, rows, index, category, _no_fault) from None
        where = f"{path}, annotation {k:,} ({names[image]})"
        if first.setdefault((image, label), k) != k:
            raise UsageError(
                f"{where}: a second mask of category {row['category_id']}, first in annotation {first[image, label]:,}. "
                "There is one mask an image and class: join them."
            )
        if image in place:
            masks[place[image], label] = coco_rle.decode(row.get("segmentation"), size, where)
    return masks, names, content["frame"]


def read_scores(path: Path) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """(N, C) float32 class probabilities of a file, its image ids and its classes, in order.

    Raises:
        UsageError: not such a file.
    """
    try:
        with open_regular(path) as stored:
            table = pq.read_table(stored)
        ids = tuple(table.column("id").to_pylist())
        classes = tuple(name for name in table.column_names if name != "id")
        found = np.stack([table.column(name).to_numpy() for name in classes], axis=1)
    except (OSError, KeyError, ValueError) as error:
        raise UsageError(f"Cannot read the class scores {path}: {error}.") from None
    return found, ids, classes


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


def _write_scores(path: Path, job: Job, part: Part, scores: np.ndarray) -> None:
    columns = {"id": pa.array(part.ids, pa.string())}
    columns |= {name: scores[:, k].astype(np.float32) for k, name in enumerate(job.experiment.dataset.classes)}
    dataset = job.experiment.dataset
    about = {"schema_version": str(SCHEMA_VERSION), "key": job.key, "task": job.labels.task}
    about |= {"split": dataset.split, "split_rule": dataset.split_rule.rule}
    pq.write_table(pa.table(columns).replace_schema_metadata(about), path)


def write_grounded_examples(path: Path, part: Part, owner: Sequence[int], boxes: Sequence[np.ndarray], maps: Sequence[np.ndarray]) -> None:
    """The first phrase of each of the first images that were asked for one.

    Args:
        owner: image of each phrase.
        boxes: (n, 4) of each phrase, xywh in original pixels.
        maps: (h, w) of each phrase over the padded frame.
    """
    chosen = [list(owner).index(image) for image in dict.fromkeys(owner)][:N_EXAMPLES]
    if not chosen:
        return
    index = np.array([owner[k] for k in chosen], np.int64)
    frames = part.cache.frames(part.rows[index])
    shown = [frame.to_frame(boxes[k]).astype(np.float32).reshape(-1, 4) for k, frame in zip(chosen, frames, strict=True)]
    truth = {"boxes_xywh": np.concatenate(shown), "box_owner": np.repeat(np.arange(len(index)), [len(b) for b in shown])}
    similarity = np.stack([maps[k] for k in chosen]).astype(np.float32)
    np.savez_compressed(path, index=index, images=part.images(index).numpy(), similarity=similarity, **truth)


def _write_examples(path: Path, part: Part) -> None:
    """The first positive images of the split, in its order."""
    positive = [i for i in range(len(part)) if (len(part.boxes[i]) if part.target == "boxes" else part.masks(np.array([i])).any())]
    index = np.array(positive[:N_EXAMPLES], np.int64)
    if not len(index):
        return
    truth = {"masks": part.masks(index)}
    if part.target == "boxes":
        boxes = [part.boxes[i] for i in index]
        truth = {"boxes_xywh": np.concatenate(boxes), "box_owner": np.repeat(np.arange(len(index)), [len(b) for b in boxes])}
        truth["box_labels"] = np.concatenate([part.labels[i] for i in index])
    np.savez_compressed(path, index=index, images=part.images(index).numpy(), **truth)


def _is_parquet(path: Path) -> bool:
    try:
        with open_regular(path) as handle:
            return handle.read(4) == b"PAR1"
    except OSError as error:
        raise UsageError(f"Cannot read the predictions {path}: {error.strerror}.") from None


def _scores_header(path: Path) -> dict[str, str]:
    try:
        with open_regular(path) as stored:
            about = pq.read_schema(stored).metadata or {}
    except (OSError, ValueError) as error:
        raise UsageError(f"Cannot read the class scores {path}: {error}.") from None
    return {key.decode(): value.decode() for key, value in about.items()}


def _header(job: Job, part: Part) -> dict[str, Any]:
    frames = part.cache.frames(part.rows)
    return {
        "schema_version": SCHEMA_VERSION,
        "key": job.key,
        "task": job.labels.task,
        "frame": part.frame_name,
        "split": job.experiment.dataset.split,
        "split_rule": job.experiment.dataset.split_rule.rule,
        "images": [
            {
                "id": i + 1,
                "name": name,
                "height": frame.height,
                "width": frame.width,
                "pad": [frame.pad_left, frame.pad_top],
                "scale": [frame.scale_x, frame.scale_y],
            }
            for i, (name, frame) in enumerate(zip(part.ids, frames, strict=True))
        ],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(job.experiment.dataset.classes)],
    }


def _detections(found: Detections) -> list[dict[str, Any]]:
    """JSON knows no infinity: a number that overflowed is null, in a row that says so."""
    rows = [
        {"image_id": int(i) + 1, "category_id": int(k) + 1, "bbox": [float(v) for v in box], "score": float(c)}
        for i, k, box, c in zip(found.image, found.label, found.xywh, found.confidence, strict=True)
    ]
    for index in np.flatnonzero(found.overflowed):
        box = [value if math.isfinite(value) else None for value in rows[index]["bbox"]]
        rows[index] |= {"bbox": box, "overflowed": True}
    return rows


def _masks(masks: np.ndarray) -> list[dict[str, Any]]:
    rows = []
    for i, image in enumerate(masks):
        encoded = coco_mask.encode(np.asfortranarray(image.transpose(1, 2, 0).astype(np.uint8)))
        for c, rle in enumerate(encoded):
            rows.append({"image_id": i + 1, "category_id": c + 1, "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}})
    return rows


def _dump(path: Path, content: dict[str, Any]) -> None:
    # In one piece: `json.dump` would encode in Python, which takes a minute for the detections of a whole test set.
    path.write_text(json.dumps(content, separators=(",", ":"), allow_nan=False), encoding="utf-8")


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json_files.read(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"Cannot read the predictions {path}: {error}.") from None
    if "frame" not in content:
        raise FrameMismatch(f'{path} does not say in which frame it was measured: a key `frame` such as "padded-224" is needed.')
    return content


def _side(path: Path, frame: str) -> int:
    """Pixels of a frame such as "padded-224"."""
    side = frame.rpartition("-")[2] if isinstance(frame, str) else ""
    if not side.isdecimal() or int(side) == 0:
        raise FrameMismatch(f'{path} was measured in frame {frame!r}; masks are in a square frame such as "padded-224". Map them first.')
    return int(side)


def _images(path: Path, content: dict[str, Any]) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Names of the images in order, and position by the file's own id."""
    names: list[str] = []
    index: dict[Any, int] = {}
    for k, image in enumerate(_table(path, content, "images"), start=1):
        if not isinstance(image, dict) or not isinstance(image.get("name"), str) or not isinstance(image.get("id"), int | str):
            raise UsageError(f'{path}: row {k:,} of its table `images` needs an "id" and the "name" of an image.')
        if image["id"] in index:
            raise UsageError(
                f"{path}: row {k:,} of its table `images` ({image['name']}) has id {image['id']}, which row {index[image['id']] + 1:,} "
                "has. Every image needs an id of its own."
            )
        index[image["id"]] = len(names)
        names.append(image["name"])
    return tuple(names), index


def _categories(path: Path, content: dict[str, Any], classes: Sequence[str] | None) -> dict[Any, int]:
    """Class index by the file's own category id: by name where `classes` are given, never by place."""
    table = _table(path, content, "categories")
    if not all(isinstance(c, dict) and isinstance(c.get("id"), int | str) and isinstance(c.get("name"), str) for c in table):
        raise UsageError(f'{path}: a row of its table `categories` lacks "id" or "name".')
    ids, names = [c["id"] for c in table], [c["name"] for c in table]
    if len(set(ids)) != len(ids):
        raise UsageError(f"{path}: an id stands twice in its table `categories`.")
    if classes is None:
        return {c: i for i, c in enumerate(ids)}
    if sorted(names) != sorted(classes):
        raise UsageError(f"{path}: its categories are {', '.join(names) or '(none)'}; the task's classes are {', '.join(classes)}.")
    return {c: list(classes).index(name) for c, name in zip(ids, names, strict=True)}


def _rows(path: Path, content: dict[str, Any]) -> list[Any]:
    return _table(path, content, "annotations")


def _table(path: Path, content: dict[str, Any], name: str) -> list[Any]:
    table = content.get(name)
    if not isinstance(table, list):
        raise UsageError(f"{path}: no list `{name}`. Predictions are COCO-style JSON with images, categories and annotations.")
    return table


def _first_fault(path: Path, rows: Sequence[Any], index: Mapping, category: Mapping, fault_of: Callable[[dict], str]) -> UsageError | None:
    """The first row that cannot be read, and why; None when every row can."""
    for k, row in enumerate(rows, start=1):
        why = ""
        if not isinstance(row, dict):
            why = f"found {type(row).__name__}, expected an object"
        elif not _is_among(row.get("image_id"), index):
            why = f"image_id {row.get('image_id')!r} is not in its table `images`"
        elif not _is_among(row.get("category_id"), category):
            why = f"category_id {row.get('category_id')!r} is not in its table `categories`"
        if why := why or fault_of(row):
            return UsageError(f"{path}, annotation {k:,}: {why}.")
    return None


def _is_among(value: Any, table: Mapping) -> bool:
    return isinstance(value, int | str) and value in table


def _no_fault(row: dict) -> str:
    return ""


def _box_fault(row: dict) -> str:
    box, score = row.get("bbox"), row.get("score")
    overflowed = row.get("overflowed") is True
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) or (overflowed and value is None) for value in box):
        return f"bbox is {box!r}, expected four numbers x, y, width, height"
    return "" if _is_number(score) else f"score is {score!r}, expected a number in [0, 1]"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
