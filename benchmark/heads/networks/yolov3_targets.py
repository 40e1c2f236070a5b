"""LoVT's target assignment and loss for one YOLOv3 scale, as tensor operations on the whole batch.

No loop over boxes or images and no read-back to the host, so a training step never waits. Each box gets one positive anchor *per scale*.
Source: LoVT's released code; the quirks that docs/protocols/lovt.md lists are kept, two of them behind switches.
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
LossAtExtremes = Literal["from-logits", "from-probabilities"]


@dataclass(frozen=True)
class ScaleTargets:
    """Targets of one scale; B images, A anchors, grid H x W.

    Attributes:
        positive: (B, A, H, W) bool, predictions responsible for a box.
        background: (B, A, H, W) bool, predictions trained to confidence 0.
        txywh: (B, A, H, W, 4) float32, offsets in the cell and log size ratios; 0 where not positive.
        classes: (B, A, H, W, C) bool, every class that has a box with this cell and anchor; False where not positive.
    """

    positive: Tensor
    background: Tensor
    txywh: Tensor
    classes: Tensor


def assign(
    targets: Targets,
    anchors_wh: Tensor,
    stride: int,
    grid: tuple[int, int],
    background_at_positives: Literal["kept", "cleared"],
    n_classes: int = 1,
) -> ScaleTargets:
    """Assigns every box to the anchor of best shape in the cell that holds its centre.

    Shapes are compared in grid units with the +1 convention (not negligible there); equal shapes take the lower anchor. In the centre cell
    every anchor with shape IoU > 0.5 is exempt from background. When boxes share cell and anchor, the last one in the list gives the
    place and size, and all of them their classes, as in the released code.

    Args:
        targets: `boxes_xywh` (B, M, 4) in frame pixels with `box_labels` and `box_valid`; padding is ignored, M may be 0.
        anchors_wh: (A, 2) float32 anchor sizes in frame pixels.
        stride: frame pixels per cell.
        grid: (H, W) cells.
        background_at_positives: "kept" leaves a positive prediction of shape IoU <= 0.5 in the background too (released code);
            "cleared" takes it out.
        n_classes: classes of the task; `box_labels` are below it.
    """
    true = targets.true_boxes
    (n_images, n_boxes), (height, width), n_anchors = true.valid.shape, grid, len(anchors_wh)
    boxes = true.xywh.float() / stride
    sizes = boxes[..., 2:]
    centres = boxes[..., :2] + sizes / 2
    anchors = anchors_wh.to(boxes) / stride
    column = centres[..., 0].long().clamp(0, width - 1)
    row = centres[..., 1].long().clamp(0, height - 1)

    iou = _shape_iou(sizes, anchors)  # (B, M, A)
    best = iou.argmax(dim=-1) if n_boxes else row
    cell = row * width + column

    # scatter with "amax" gives the same result for any order of writes: the owner of a prediction is its last box.
    flat = n_anchors * height * width
    box_index = torch.arange(n_boxes, device=boxes.device).expand(n_images, n_boxes)
    owner = torch.full((n_images, flat), -1, dtype=torch.long, device=boxes.device)
    owner.scatter_reduce_(1, best * height * width + cell, box_index.masked_fill(~true.valid, -1), "amax")
    positive = owner >= 0

    exempt = torch.zeros((n_images, flat), dtype=torch.long, device=boxes.device)
    alike = (iou > IGNORE_IOU) & true.valid[..., None]
    everywhere = torch.arange(n_anchors, device=boxes.device) * height * width + cell[..., None]  # (B, M, A)
    exempt.scatter_reduce_(1, everywhere.flatten(1), alike.flatten(1).long(), "amax")
    background = exempt == 0
    if background_at_positives == "cleared":
        background &= ~positive

    shape = (n_images, n_anchors, height, width)
    if not n_boxes:
        empty = torch.zeros((*shape, 4), device=boxes.device)
        none = torch.zeros((*shape, n_classes), dtype=torch.bool, device=boxes.device)
        return ScaleTargets(positive.view(shape), background.view(shape), empty, none)

    offsets = centres - torch.stack([column, row], dim=-1)
    ratios = torch.log(sizes / anchors[best] + 1e-16)
    per_box = torch.cat([offsets, ratios], dim=-1)
    source = owner.clamp(min=0)
    txywh = per_box.gather(1, source[..., None].expand(-1, -1, 4)).masked_fill(~positive[..., None], 0)
    one_hot = F.one_hot(true.labels, n_classes) * true.valid[..., None]
    place = (best * height * width + cell)[..., None].expand_as(one_hot)
    classes = torch.zeros((n_images, flat, n_classes), dtype=torch.long, device=boxes.device).scatter_reduce_(1, place, one_hot, "amax") > 0
    return ScaleTargets(positive.view(shape), background.view(shape), txywh.view(*shape, 4), classes.view(*shape, n_classes))


def scale_sums(
    predictions: Tensor, targets: ScaleTargets, class_of_one: bool = False, loss_at_extremes: LossAtExtremes = "from-logits"
) -> Tensor:
    """(4,) float32 (or more): L_x + L_y, L_w + L_h, confidence and class of one scale, summed over predictions; see `scale_loss`.

    Args:
        predictions: (B, A, H, W, 5 + C) float32 raw outputs x, y, w, h, confidence, classes.
        class_of_one: the class is trained even where there is only one: MGCA's code does, LoVT's does not.
        loss_at_extremes: "from-probabilities" is the released cross-entropy, "from-logits" its exact value (see `_bce_from_logits`).
    """
    bce = _bce_from_logits if loss_at_extremes == "from-logits" else _bce_from_probabilities
    positive = targets.positive.float()
    xy = bce(predictions[..., :2], targets.txywh[..., :2]) * positive[..., None]
    wh = (predictions[..., 2:4] - targets.txywh[..., 2:]).square() * positive[..., None]
    confidence = predictions[..., 4]
    objectness = positive * bce(confidence, torch.ones_like(confidence))
    background = targets.background * bce(confidence, torch.zeros_like(confidence))
    logits = predictions[..., 5:]
    trained = logits.shape[-1] > 1 or class_of_one
    classes = (bce(logits, targets.classes.to(logits.dtype)) * positive[..., None]).sum() if trained else logits.new_zeros(())
    return torch.stack([xy.sum(), wh.sum(), objectness.sum() + BACKGROUND_WEIGHT * background.sum(), classes])


def scale_loss(sums: Tensor, n_predictions: int, n_classes: int) -> dict[str, Tensor]:
    """Weighted loss terms of one scale, each a mean over *all* B A H W predictions, so large cells weigh more per object.

    Args:
        sums: (4,), `scale_sums` of the whole batch.
        n_predictions: B A H W.

    Returns:
        Scalars "xy" (2.5 (L_x + L_y)), "wh" (2.5 (L_w + L_h)), "confidence" and "class" (0 for one class, unless `class_of_one`).
    """
    xy, wh, confidence, classes = sums.unbind()
    return {
        "xy": COORDINATE_WEIGHT * xy / n_predictions,
        "wh": COORDINATE_WEIGHT * wh / n_predictions,
        "confidence": confidence / n_predictions,
        "class": classes / (n_predictions * n_classes),
    }


def _bce_from_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy with its logarithms floored at -100, without the rounding of the released form.

    The released code takes log(sigmoid(z)) and log(1 - sigmoid(z)) in float32, where 1 - sigmoid(z) loses its digits beyond |z| = 10 and
    is 0 beyond 17. From logits, -log(sigmoid(z)) = softplus(-z) is exact: it equals the released value to 1e-6 wherever that is not
    itself rounding (shown against float64), keeps a gradient where the released code has none, and meets the same floor at |z| = 100.
    """
    return targets * F.softplus(-logits).clamp(max=LOG_FLOOR) + (1 - targets) * F.softplus(logits).clamp(max=LOG_FLOOR)


def _bce_from_probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy as released: the probability is formed in float32 first, and its logarithms are floored at -100.

    Beyond |z| of about 17 a wrong probability is exactly 1: it costs 100 at any logit, and gives no gradient. Written as a mixture
    of both outcomes, since a centre outside the frame (swapped Object-CXR boxes) has a target beyond 1.
    """
    p = logits.sigmoid()
    yes = F.binary_cross_entropy(p, torch.ones_like(p), reduction="none")
    no = F.binary_cross_entropy(p, torch.zeros_like(p), reduction="none")
    return targets * yes + (1 - targets) * no


def _shape_iou(sizes: Tensor, anchors: Tensor) -> Tensor:
    """IoU of boxes and anchors laid on one corner, (B, M, A), with areas (w + 1)(h + 1)."""
    shared = (torch.minimum(sizes[..., None, :], anchors) + 1).prod(dim=-1)
    return shared / ((sizes + 1).prod(dim=-1)[..., None] + (anchors + 1).prod(dim=-1) - shared + 1e-16)
