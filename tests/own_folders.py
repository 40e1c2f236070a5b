"""Folders of somebody's own data as people have them, generated: faults and litter included."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image

SIDE = 64


def picture(seed: int, side: int = SIDE, box: Sequence[int] = ()) -> np.ndarray:
    """(side, side) uint8: soft noise, and a bright disc in an xywh box."""
    random = np.random.default_rng(seed)
    coarse = random.integers(40, 120, (side // 8, side // 8)).astype(np.uint8)
    grey = np.asarray(PIL.Image.fromarray(coarse).resize((side, side), PIL.Image.Resampling.BILINEAR)).astype(np.int64)
    if box:
        grey = grey + 110 * disc(box, side)
    return (grey + random.integers(0, 12, grey.shape)).clip(0, 255).astype(np.uint8)


def disc(box: Sequence[int], side: int = SIDE) -> np.ndarray:
    """(side, side) bool: the ellipse in an xywh box."""
    x, y, width, height = box
    rows, columns = np.mgrid[:side, :side] + 0.5
    inside: np.ndarray = ((columns - x - width / 2) / (width / 2)) ** 2 + ((rows - y - height / 2) / (height / 2)) ** 2 <= 1
    return inside


def save(path: Path, pixels: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path, **options)


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def box_in(seed: int) -> list[int]:
    random = np.random.default_rng(1000 + seed)
    return [int(value) for value in (*random.integers(4, 30, 2), *random.integers(16, 26, 2))]


def litter(folder: Path) -> None:
    """What computers leave behind."""
    for name in ("._scan 000.png", "Thumbs.db", "__MACOSX/scan.png", ".DS_Store", "notes.docx"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\0")


def coco(folder: Path, n: int = 40, *, faults: bool = True) -> Path:
    """A COCO folder: two patients' images each, two classes, a third of the images without a finding."""
    images, annotations = [], []
    for k in range(n):
        box = box_in(k) if k % 3 else []
        name = f"p{k // 2:02d}/scan {k:03d}.png"
        save(folder / "images" / name, picture(k, box=box))
        images.append({"id": k + 1, "file_name": name, "width": SIDE, "height": SIDE})
        if box:
            x, y, width, height = box
            corners = [x, y, x + width, y, x + width, y + height, x, y + height]
            annotations.append({"image_id": k + 1, "category_id": 1 + k % 2, "bbox": box, "segmentation": [corners], "iscrowd": 0})
    categories = [{"id": 1, "name": "nodule"}, {"id": 2, "name": "mass"}]
    if faults:
        litter(folder)
        save(folder / "images" / "unlisted ü.png", picture(900))
        save(folder / "images" / "copy.png", picture(3, box=box_in(3) if 3 % 3 else []))
        images += [
            {"id": 901, "file_name": "nowhere.png", "width": SIDE, "height": SIDE},
            {"id": 902, "file_name": "copy.png", "width": SIDE, "height": SIDE},
            {"id": 903, "file_name": "turned.jpg", "width": 48, "height": SIDE},
        ]
        turned = PIL.Image.Exif()
        turned[0x0112] = 6
        save(folder / "images" / "turned.jpg", picture(901)[:48], exif=turned)
        annotations += [
            {"image_id": 2, "category_id": 1, "bbox": [50, 50, 20, 20]},  # leaves the image
            {"image_id": 2, "category_id": 1, "bbox": [70, 5, 10, 10]},  # outside
            {"image_id": 3, "category_id": 2, "bbox": [5, 5, 0, 10]},  # no area
            {"image_id": 5, "category_id": 7, "bbox": [5, 5, 10, 10]},  # no such category
            {"image_id": 999, "category_id": 1, "bbox": [5, 5, 10, 10]},  # no such image
            dict(annotations[0]),  # twice
            {
                "image_id": 6,
                "category_id": 1,
                "bbox": [4, 4, 40, 40],
                "iscrowd": 1,
                "segmentation": {"size": [SIDE, SIDE], "counts": [0, 4096]},
            },
        ]
    annotations = [{**entry, "id": number} for number, entry in enumerate(annotations, start=1)]
    write_json(folder / "annotations.json", {"images": images, "annotations": annotations, "categories": categories})
    return folder


def masks(folder: Path, n: int = 30, *, faults: bool = True) -> Path:
    """Images and masks of 0 and 255 in folders `images` and `masks`, of 16 bits each."""
    for k in range(n):
        box = box_in(k)
        save(folder / "images" / f"case{k:02d}.png", picture(k, box=box).astype(np.uint16) * 200)
        save(folder / "masks" / f"case{k:02d}.png", disc(box).astype(np.uint8) * 255)
    if faults:
        litter(folder)
        save(folder / "images" / "no mask.png", picture(700))
        save(folder / "masks" / "no image.png", disc(box_in(1)).astype(np.uint8) * 255)
        save(folder / "images" / "small.png", picture(701))
        save(folder / "masks" / "small.png", np.ones((32, 32), np.uint8))
        save(folder / "images" / "empty.png", picture(702))
        save(folder / "masks" / "empty.png", np.zeros((SIDE, SIDE), np.uint8))
    return folder


def table(path: Path, rows: Sequence[Sequence[object]], separator: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle, delimiter=separator).writerows(rows)
