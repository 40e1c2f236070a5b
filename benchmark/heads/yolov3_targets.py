"""LoVT's target assignment and loss for one YOLOv3 scale, as tensor operations on the whole batch.

No loop over boxes or images and no read-back to the host, so a training step never waits. Each box gets one positive anchor *per scale*.
Source: LoVT reference 3.3 (docs/protocols/lovt.md); the quirks it lists there are kept, one of them behind a switch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.heads.base import Targets

IGNORE_IOU = 0.5
COORDINATE_WEIGHT = 2.5
BACKGROUND_WEIGHT = 0.5
LOG_FLOOR = 100.0


@dataclass(frozen=True)
class ScaleTargets:
    """Targets of one scale; B images, A anchors, grid H x W.

    Attributes:
        positive: (B, A, H, W) bool, predictions responsible for a box.
        background: (B, A, H, W) bool, predictions trained to confidence 0.
        txywh: (B, A, H, W, 4) float32, offsets in the cell and log size ratios; 0 where not positive.
        label: (B, A, H, W) int64, class of the box; 0 where not positive.
    """

    positive: Tensor
    background: Tensor
    txywh: Tensor
    label: Tensor


def assign(
    targets: Targets,
    anchors_wh: Tensor,
    stride: int,
    grid: tuple[int, int],
    background_at_positives: Literal["kept", "cleared"],
) -> ScaleTargets:
    """Assigns every box to the anchor of best shape in the cell that holds its centre.

    Shapes are compared in grid units with the +1 convention (not negligible there); equal shapes take the lower anchor. In the centre cell
    every anchor with shape IoU > 0.5 is exempt from background; when boxes share cell and anchor, the last one in the list wins.

    Args:
        targets: `boxes_xywh` (B, M, 4) in frame pixels with `box_labels` and `box_valid`; padding is ignored, M may be 0.
        anchors_wh: (A, 2) float32 anchor sizes in frame pixels.
        stride: frame pixels per cell.
        grid: (H, W) cells.
        background_at_positives: "kept" leaves a positive prediction of shape IoU <= 0.5 in the background too (released code);
            "cleared" takes it out.
    """
    (n_images, n_boxes), (height, width), n_anchors = targets.box_valid.shape, grid, len(anchors_wh)
    boxes = targets.boxes_xywh.float() / stride
    sizes = boxes[..., 2:]
    centres = boxes[..., :2] + sizes / 2
    anchors = anchors_wh.to(boxes) / stride
    column = centres[..., 0].long().clamp(0, width - 1)
    row = centres[..., 1].long().clamp(0, height - 1)

    iou = _shape_iou(sizes, anchors)  # (B, M, A)
    best = iou.argmax(dim=-1) if n_boxes else row
    cell = row * width + column

    # scatter with "amax" gives one result whatever the order of writes: the owner of a prediction is its last box.
    flat = n_anchors * height * width
    box_index = torch.arange(n_boxes, device=boxes.device).expand(n_images, n_boxes)
    owner = torch.full((n_images, flat), -1, dtype=torch.long, device=boxes.device)
    owner.scatter_reduce_(1, best * height * width + cell, box_index.masked_fill(~targets.box_valid, -1), "amax")
    positive = owner >= 0

    exempt = torch.zeros((n_images, flat), dtype=torch.long, device=boxes.device)
    alike = (iou > IGNORE_IOU) & targets.box_valid[..., None]
    everywhere = torch.arange(n_anchors, device=boxes.device) * height * width + cell[..., None]  # (B, M, A)
    exempt.scatter_reduce_(1, everywhere.flatten(1), alike.flatten(1).long(), "amax")
    background = exempt == 0
    if background_at_positives == "cleared":
        background &= ~positive

    shape = (n_images, n_anchors, height, width)
    if not n_boxes:
        empty = torch.zeros((*shape, 4), device=boxes.device)
        return ScaleTargets(positive.view(shape), background.view(shape), empty, owner.new_zeros(shape))

    offsets = centres - torch.stack([column, row], dim=-1)
    ratios = torch.log(sizes / anchors[best] + 1e-16)
    per_box = torch.cat([offsets, ratios], dim=-1)
    source = owner.clamp(min=0)
    txywh = per_box.gather(1, source[..., None].expand(-1, -1, 4)).masked_fill(~positive[..., None], 0)
    label = targets.box_labels.gather(1, source).masked_fill(~positive, 0)
    return ScaleTargets(positive.view(shape), background.view(shape), txywh.view(*shape, 4), label.view(shape))


def scale_loss(predictions: Tensor, targets: ScaleTargets, class_of_one: bool = False) -> dict[str, Tensor]:
    """Weighted loss terms of one scale, each a mean over *all* B A H W predictions, so large cells weigh more per object.

    Args:
        predictions: (B, A, H, W, 5 + C) float32 raw outputs x, y, w, h, confidence, classes.
        class_of_one: the class is trained even where there is only one: MGCA's code does, LoVT's does not.

    Returns:
        Scalars "xy" (2.5 (L_x + L_y)), "wh" (2.5 (L_w + L_h)), "confidence" and "class" (0 for one class, unless `class_of_one`).
    """
    positive = targets.positive.float()
    xy = _bce(predictions[..., :2], targets.txywh[..., :2]) * positive[..., None]
    wh = (predictions[..., 2:4] - targets.txywh[..., 2:]).square() * positive[..., None]
    confidence = predictions[..., 4]
    objectness = positive * _bce(confidence, torch.ones_like(confidence))
    background = targets.background * _bce(confidence, torch.zeros_like(confidence))
    n = positive.numel()
    return {
        "xy": COORDINATE_WEIGHT * xy.sum() / n,
        "wh": COORDINATE_WEIGHT * wh.sum() / n,
        "confidence": (objectness.sum() + BACKGROUND_WEIGHT * background.sum()) / n,
        "class": _class_loss(predictions[..., 5:], targets.label, positive, class_of_one),
    }


def _class_loss(logits: Tensor, label: Tensor, positive: Tensor, class_of_one: bool) -> Tensor:
    n_classes = logits.shape[-1]
    if n_classes == 1 and not class_of_one:
        return logits.new_zeros(())
    one_hot = F.one_hot(label, n_classes).to(logits.dtype)
    return (_bce(logits, one_hot) * positive[..., None]).mean()


def _bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy with its logarithms floored at -100, as the released code has it on probabilities.

    The released code takes log(sigmoid(z)) and log(1 - sigmoid(z)) in float32, where 1 - sigmoid(z) loses its digits beyond |z| = 10 and
    is 0 beyond 17. From logits, -log(sigmoid(z)) = softplus(-z) is exact: it equals the released value to 1e-6 wherever that is not
    itself rounding (shown against float64), keeps a gradient where the released code has none, and meets the same floor at |z| = 100.
    """
    return targets * F.softplus(-logits).clamp(max=LOG_FLOOR) + (1 - targets) * F.softplus(logits).clamp(max=LOG_FLOOR)


def _shape_iou(sizes: Tensor, anchors: Tensor) -> Tensor:
    """IoU of boxes and anchors laid on one corner, (B, M, A), with areas (w + 1)(h + 1)."""
    shared = (torch.minimum(sizes[..., None, :], anchors) + 1).prod(dim=-1)
    return shared / ((sizes + 1).prod(dim=-1)[..., None] + (anchors + 1).prod(dim=-1) - shared + 1e-16)
