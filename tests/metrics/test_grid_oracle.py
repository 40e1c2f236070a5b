from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmark.errors import UsageError
from benchmark.metrics.grid_oracle import grid_oracle, pooling_matrix, upsampling_matrix

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"


@pytest.mark.parametrize(("side", "grid"), [(32, 4), (32, 8), (30, 7), (16, 16), (12, 1)])
def test_pooling_and_upsampling_are_those_of_torch(side, grid):
    maps = torch.from_numpy(np.random.default_rng(0).random((2, 3, side, side), np.float32))
    down, up = (torch.from_numpy(m) for m in (pooling_matrix(side, grid), upsampling_matrix(grid, side)))
    pooled = down @ maps @ down.T
    if side % grid == 0:
        torch.testing.assert_close(pooled, F.avg_pool2d(maps, side // grid))
    torch.testing.assert_close(pooled.mean((2, 3)), maps.mean((2, 3)))
    torch.testing.assert_close(up @ pooled @ up.T, F.interpolate(pooled, size=side, mode="bilinear", align_corners=False))


def test_oracle_equals_trying_every_threshold():
    masks = _boxes(np.random.default_rng(1), n_images=12, side=32)
    expected = []
    for label in range(2):
        mask = torch.from_numpy(masks[:, label : label + 1]).float()
        share = F.interpolate(F.avg_pool2d(mask, 8), size=32, mode="bilinear", align_corners=False).numpy()
        true = masks[:, label : label + 1]
        chosen = [share >= t for t in np.arange(1, 4096) / 4096]
        expected.append(max(2 * np.sum(c & true) / (np.sum(c) + np.sum(true)) for c in chosen))
    np.testing.assert_allclose(grid_oracle(masks, 4, chunk=5), expected, atol=1e-3)


@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_masks_looked_at_at_once_change_no_digit(chunk):
    masks = _boxes(np.random.default_rng(1), n_images=40, side=30)
    assert grid_oracle(masks, 7, chunk).tolist() == grid_oracle(masks, 7).tolist()


def test_finer_grids_lift_the_ceiling_to_one():
    masks = _boxes(np.random.default_rng(2), n_images=20, side=28)
    ceilings = [grid_oracle(masks, grid)[0] for grid in (2, 4, 7, 14, 28)]
    assert ceilings == sorted(ceilings)
    assert ceilings[-1] == 1.0
    assert ceilings[0] < 0.8


def test_class_without_pixels_has_no_ceiling_above_zero():
    assert grid_oracle(np.zeros((2, 1, 8, 8), bool), 4).tolist() == [0.0]


def test_oblong_masks_and_too_fine_grids_are_refused():
    with pytest.raises(UsageError, match="8 x 10"):
        grid_oracle(np.zeros((1, 1, 8, 10), bool), 4)
    with pytest.raises(UsageError, match="9 x 9"):
        grid_oracle(np.zeros((1, 1, 8, 8), bool), 9)


def test_ceilings_of_real_rsna_boxes_are_those_of_the_science_notes():
    """87, 96 and 98 per cent at 7, 14 and 28 (approximate); every tenth positive image of the release."""
    labels = SHARED / "data" / "labels" / "rsna_stage_2_train_labels_semicolon.csv"
    if not labels.is_file():
        pytest.skip("the reference data are not beside this checkout")
    boxes = defaultdict(list)
    with labels.open(newline="") as handle:
        for row in csv.DictReader(handle, delimiter=";"):
            if row["x"] not in ("", "NaN", "nan"):
                boxes[row["patientId"]].append([float(row[k]) for k in ("x", "y", "width", "height")])
    chosen = sorted(boxes)[::10]
    assert _ceilings([boxes[name] for name in chosen]) == pytest.approx([87, 96, 98], abs=1.0)


def test_ceilings_of_real_nih_nodules_are_those_of_the_science_notes():
    """44, 73 and 90 per cent at 7, 14 and 28 (approximate); all nodule boxes of the three splits."""
    folder = SHARED / "data" / "lovt_splits" / "nih-cxr"
    if not folder.is_dir():
        pytest.skip("the reference data are not beside this checkout")
    nodules = []
    for split in ("train", "validation", "test"):
        with (folder / f"{split}.csv").open(newline="") as handle:
            for row in csv.DictReader(handle):
                pairs = zip(row["boxes"].split("|"), row["classes"].split("|"), strict=True)
                found = [[float(v) for v in box.split(";")] for box, name in pairs if name == "5"]
                nodules += [found] if found else []
    assert _ceilings(nodules) == pytest.approx([44, 73, 90], abs=1.0)


def _ceilings(images):
    """Per cent at 7, 14 and 28 of boxes (x, y, width, height) in images of 1,024 px, drawn in a frame of 224 px."""
    masks = np.zeros((len(images), 1, 224, 224), bool)
    for mask, boxes in zip(masks[:, 0], images, strict=True):
        for x, y, w, h in np.round(np.array(boxes) * 224 / 1024).astype(int):
            mask[y : y + h, x : x + w] = True
    return [100 * grid_oracle(masks, grid)[0] for grid in (7, 14, 28)]


def _boxes(rng, n_images, side):
    masks = np.zeros((n_images, 2, side, side), bool)
    for image in range(n_images):
        for label, largest in ((0, side // 2), (1, side // 6)):
            if rng.random() < 0.7:
                x, y, w, h = *rng.integers(0, side // 2, 2), *rng.integers(2, largest + 1, 2)
                masks[image, label, y : y + h, x : x + w] = True
    return masks
