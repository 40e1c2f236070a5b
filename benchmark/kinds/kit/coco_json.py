"""COCO-style JSON of predictions: boxes or masks in the task's frame, unrounded, with what maps them back to original pixels.

String ids map to integers by the table `images` in the file. A file may come from anywhere, so every row is checked and named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmark import json_files
from benchmark.cards import SCHEMA_VERSION, Job
from benchmark.errors import FrameMismatch, UsageError
from benchmark.kinds.base import Part
from benchmark.kinds.kit import heading
from benchmark.kinds.kit.heading import REAL, WHOLE, Heading, Placement


def made_for(path: Path) -> tuple[str, str] | None:
    """Name and rule of the split that the predictions were made for; None where the file does not say.

    Raises:
        UsageError: not a file of predictions.
        FrameMismatch: boxes or masks without their frame.
    """
    content = load(path)
    return (str(content["split"]), str(content.get("split_rule", ""))) if "split" in content else None


def names_in(path: Path) -> set[str]:
    """Texts that may name images, also of a file with faults. Raises OSError and ValueError where it cannot be read.

    A row may name an image where a number belongs, and one that is in no table: sentences repeat what they found.
    """
    content = json_files.read(path)
    tables = [content.get(name) for name in ("images", "annotations")]
    rows = [row for table in tables if isinstance(table, list) for row in table if isinstance(row, dict)]
    return {value for row in rows for value in row.values() if isinstance(value, str)}


def header(job: Job, part: Part) -> dict[str, Any]:
    """All of a file but its annotations; image ids and category ids count from 1, in the order of the part and of the classes."""
    return headed(heading.of(job, part))


def headed(about: Heading) -> dict[str, Any]:
    """As `header`, of what another file says."""
    placed, images = about.placement, []
    for i, name in enumerate(about.ids):
        image: dict[str, Any] = {"id": i + 1, "name": name}
        if placed is not None:
            image |= {"height": int(placed.height[i]), "width": int(placed.width[i])}
            image |= {
                "pad": [int(placed.pad_left[i]), int(placed.pad_top[i])],
                "scale": [float(placed.scale_x[i]), float(placed.scale_y[i])],
            }
        images.append(image)
    return {
        "schema_version": SCHEMA_VERSION,
        "key": about.key,
        "task": about.task,
        "frame": about.frame,
        **({} if about.split is None else {"split": about.split[0], "split_rule": about.split[1]}),
        "images": images,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(about.classes)],
    }


def heading_in(path: Path, content: dict[str, Any]) -> Heading:
    """What a file says beside its annotations.

    Raises:
        UsageError: a row of its tables makes no sense.
    """
    names, _ = images(path, content)
    categories(path, content, None)
    split = (str(content["split"]), str(content.get("split_rule", ""))) if "split" in content else None
    placement = None
    if content["images"] and all({"height", "width", "pad", "scale"} <= image.keys() for image in content["images"]):
        try:
            rows = [(i["height"], i["width"], *i["pad"], *i["scale"]) for i in content["images"]]
            if any(type(value) is not int for row in rows for value in row[:4]) or {len(row) for row in rows} != {6}:
                raise ValueError
            columns = np.array(rows, np.float64).T
            whole = np.array([row[:4] for row in rows], np.int64).T
        except (TypeError, ValueError, OverflowError):
            raise UsageError(f"{path}: an image of its table `images` has a size, padding or scale that is none.") from None
        placement = Placement(**dict(zip(WHOLE, whole, strict=True)), **dict(zip(REAL, columns[4:], strict=True)))
    classes = tuple(category["name"] for category in content["categories"])
    return Heading(str(content.get("key", "")), str(content.get("task", "")), content["frame"], split, classes, names, placement)


def as_of_today(content: dict[str, Any]) -> dict[str, Any]:
    """A stored content as today's release would have written it: the version of its form is the only difference."""
    return {**content, "schema_version": SCHEMA_VERSION}


def load(path: Path) -> dict[str, Any]:
    """The content of a file; raises as `made_for`."""
    try:
        content: dict[str, Any] = json_files.read(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"Cannot read the predictions {path}: {error}.") from None
    version = content.get("schema_version", 0)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UsageError(f"{path} was written by a newer LOBE (schema {version} > {SCHEMA_VERSION}); update LOBE to read it.")
    if "frame" not in content:
        raise FrameMismatch(f'{path} does not say in which frame it was measured: a key `frame` such as "padded-224" is needed.')
    return content


def images(path: Path, content: dict[str, Any]) -> tuple[tuple[str, ...], dict[Any, int]]:
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


def categories(path: Path, content: dict[str, Any], classes: Sequence[str] | None) -> dict[Any, int]:
    """Class index by the file's own category id: by name where `classes` are given, never by place."""
    table = _table(path, content, "categories")
    if not all(isinstance(c, dict) and isinstance(c.get("id"), int | str) and isinstance(c.get("name"), str) for c in table):
        raise UsageError(f'{path}: a row of its table `categories` lacks "id" or "name".')
    ids, names = [c["id"] for c in table], [c["name"] for c in table]
    if len(set(ids)) != len(ids):
        raise UsageError(f"{path}: an id stands twice in its table `categories`.")
    return dict(zip(ids, heading.class_places(path, names, classes, "categories"), strict=True))


def rows(path: Path, content: dict[str, Any]) -> list[Any]:
    """The annotations, not yet looked at."""
    return _table(path, content, "annotations")


def first_fault(
    path: Path, annotations: Sequence[Any], index: Mapping[Any, int], category: Mapping[Any, int], fault_of: Callable[[dict[str, Any]], str]
) -> UsageError | None:
    """The first row that cannot be read, and why; None when every row can.

    Args:
        fault_of: a row with a known image and category -> what else is wrong with it; empty for nothing.
    """
    for k, row in enumerate(annotations, start=1):
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


def _table(path: Path, content: dict[str, Any], name: str) -> list[Any]:
    table = content.get(name)
    if not isinstance(table, list):
        raise UsageError(f"{path}: no list `{name}`. Predictions are COCO-style JSON with images, categories and annotations.")
    return table


def _is_among(value: Any, table: Mapping[Any, int]) -> bool:
    return isinstance(value, int | str) and value in table
