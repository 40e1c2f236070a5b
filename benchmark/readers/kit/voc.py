"""Annotations in Pascal VOC's XML: one file an image, boxes by their corners in the pixels of the size that the file names.

What an object's name means and which boxes count, the readers say. Document types and entities are refused.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import DataError
from benchmark.readers.kit.text import read_xml


@dataclass(frozen=True)
class VocObject:
    """One object: its name, (x min, y min, x max, y max) in the file's pixels, and whether it is marked as difficult."""

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool


@dataclass(frozen=True)
class VocFile:
    """The image's (width, height) in pixels, and its objects in file order."""

    size: tuple[int, int]
    objects: tuple[VocObject, ...]


def read_voc(path: Path, dataset: str) -> VocFile:
    """One annotation file.

    Raises:
        DataError: not such a file; it names another image than its own; a size or a corner is missing, no number or not positive.
    """
    where = f"{dataset}: {path.parent.name}/{path.name}"
    root = read_xml(path, dataset, "annotation")
    named = Path(root.findtext("filename", default=path.stem).strip())
    if path.stem not in (named.name, named.stem):
        raise DataError(f"{where} is of the image {named.name!r}, another one. Were files renamed?")
    try:
        width, height = (int(root.findtext(f"size/{side}", default="")) for side in ("width", "height"))
        objects = tuple(_object(element) for element in root.iter("object"))
    except ValueError as error:
        raise DataError(f"{where}: a size or a corner is no number ({error}). Fetch the file again.") from None
    if min(width, height) <= 0:
        raise DataError(f"{where}: an image of {width} x {height} pixels. Fetch the file again.")
    return VocFile((width, height), objects)


def _object(element: ElementTree.Element) -> VocObject:
    x_min, y_min, x_max, y_max = (float(element.findtext(f"bndbox/{corner}", default="")) for corner in ("xmin", "ymin", "xmax", "ymax"))
    difficult = element.findtext("difficult", default="0").strip() not in ("", "0")
    return VocObject(element.findtext("name", default="").strip(), (x_min, y_min, x_max, y_max), difficult)
