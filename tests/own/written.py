"""A folder of one's own as `lobe new` writes it, and data for its reader: a table of boxes with PNG files."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.scaffold import head, metric, reader

SIDE = 96
TASK = """
tasks:
  - id: clinic-mine
    version: 1
    title: Clinic, mine
    dataset: clinic
    split: official
    head: mine
    encoder: frozen
    fraction: 1.0
    frame_size: 64
    target: masks
    recipe: {batch_size: 4, learning_rate: 0.01, max_epochs: 2, patience: 2, max_steps: 3}
    select: opacity_dice
    report: boldness
    protocols: [corrected]
    runs: 1
"""
FAMILY = """
from torch import nn

from benchmark.cards import IMAGENET, BackboneSpec
from benchmark.encoders.base import Backbone


class Cut(Backbone):
    def __init__(self, width):
        super().__init__()
        self.spec = BackboneSpec(name=f"cut {width}", strides={32: width}, embed_dim=width, normalisation=IMAGENET)
        self.cut = nn.Conv2d(3, width, 32, stride=32)

    def pyramid(self, images, strides=None):
        return {32: self.cut(images)}

    def pooled(self, images):
        return self.cut(images).mean(dim=(2, 3))


def build(model):
    return Cut(int(model))
"""
CARD = "backbones:\n  - {name: cut-8, title: Cut, family: cut, model: '8', pretraining: []}\n"


def write_folder(folder: Path) -> Path:
    """Reader and dataset `clinic`, head `mine`, metric `boldness`, family `cut`, and the task `clinic-mine` that uses them."""
    for made in (reader.new("clinic", folder), head.new("mine", folder), metric.new("boldness", folder)):
        assert all(path.is_file() for path in made.files)
    for name, text in {"tasks/mine.yaml": TASK, "encoders/cut.py": FAMILY, "backbones/cut.yaml": CARD}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def write_data(root: Path, n_images: int = 16) -> Path:
    """A folder `clinic` with bright squares on noise, every second image without one; the last quarter is the test set."""
    (root / "clinic").mkdir(parents=True)
    random, rows = np.random.default_rng(0), []
    for k in range(n_images):
        image = random.integers(0, 60, (SIDE, SIDE), dtype=np.uint8)
        cells: tuple[object, ...] = ("", "", "", "")
        if k % 2:
            x, y = map(int, random.integers(4, 50, 2))
            image[y : y + 30, x : x + 40] += 150
            cells = (x, y, 40, 30)
        Image.fromarray(image).save(root / "clinic" / f"i{k:02}.png")
        rows.append((f"i{k:02}", f"p{k:02}", "test" if k >= n_images * 3 // 4 else "train", *cells))
    with (root / "clinic" / "boxes.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([("image", "patient", "part", "x", "y", "width", "height"), *rows])
    return root
