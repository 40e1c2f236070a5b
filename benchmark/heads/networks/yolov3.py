"""LoVT's YOLOv3: mmdet's neck, head and anchors, with LoVT's targets, loss, initialisation, decoding, scoring and suppression.

Neck, layers and anchors are mmdet's classes; the subclass of its head below overrides where LoVT's code differs (docs/protocols/lovt.md).
Target assignment and loss are in `yolov3_targets`; scores of detections belong to the metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.errors import ConformanceError, UsageError
from benchmark.heads._sizes import YOLO_STRIDES as STRIDES
from benchmark.heads._sizes import YOLO_WIDTHS as WIDTHS
from benchmark.heads.base import Head, HeadRequest, ImageDetections, Targets, at_least_float32, require_numbers
from benchmark.heads.networks import mmcv_ops
from benchmark.heads.networks.parts_only import parts_only
from benchmark.heads.networks.recomputed import convolved, keep_less
from benchmark.heads.networks.yolov3_targets import LossAtExtremes, assign, scale_loss, scale_sums

mmcv_ops.install()  # before mmcv and mmdet look for operators

with parts_only():
    from mmcv.ops import nms
    from mmdet.models.dense_heads import YOLOV3Head
    from mmdet.models.losses import CrossEntropyLoss, MSELoss
    from mmdet.models.necks import YOLOV3Neck
    from mmdet.models.task_modules.coders import YOLOBBoxCoder
    from mmdet.models.task_modules.prior_generators import YOLOAnchorGenerator

# (width, height) at 224 px: 0.54 times the COCO anchors, except the first width, 64.64 in the released code where 62.64 was meant.
ANCHORS_224 = (
    ((64.64, 48.6), (84.24, 106.92), (201.42, 176.04)),
    ((16.2, 32.94), (33.48, 24.3), (31.86, 64.26)),
    ((5.4, 7.02), (8.64, 16.2), (17.82, 12.42)),
)
ANCHOR_FRAME = 224

# Detections kept: all that LoVT's metrics read (confidence >= 0.2, no cap), and for the full metrics those down to 0.001 while an image
# has fewer than 100. One suppression serves both: greedy suppression goes by falling confidence, so what happens below 0.2 never changes
# which boxes above it survive.
LOVT_CONFIDENCE = 0.2
LEAST_CONFIDENCE = 0.001
FULL_DETECTIONS = 100
SUPPRESSED_AT = 0.4  # and above
PIXEL_OFFSET = 1  # mmcv's name for the +1 convention
FIRST_TRIED = 512  # candidates looked at first; suppressing all 3,087 takes ten times as long and seldom changes the first 100


class YoloV3(Head):
    """Outputs: three raw maps (B, 3 (5 + C), H, W), deepest first. Predicts a list of ImageDetections, one per image.

    21,626,934 parameters at (512, 1024, 2048) channels and one class. Anchors scale with the frame. `switches.background_at_positives`
    decides whether a positive of poor shape is background too, `switches.loss_at_extremes` how the cross-entropy is computed.

    Raises:
        ConformanceError: the encoder lacks one of the strides 8, 16, 32.
        UsageError: the frame is no multiple of 32.
    """

    strides = STRIDES
    anchors_224: ClassVar[tuple] = ANCHORS_224
    suppressed_at: ClassVar[float] = SUPPRESSED_AT
    class_of_one: ClassVar[bool] = False

    def __init__(self, request: HeadRequest):
        super().__init__()
        _check(request)
        deepest_first = [request.channels[stride] for stride in reversed(STRIDES)]
        scale = request.frame_size / ANCHOR_FRAME
        with parts_only():
            self.neck = YOLOV3Neck(num_scales=len(STRIDES), in_channels=deepest_first, out_channels=WIDTHS)
            self.bbox_head = LovtYOLOV3Head(
                num_classes=request.n_classes,
                in_channels=WIDTHS,
                out_channels=[2 * width for width in WIDTHS],
                anchor_generator={
                    "type": YOLOAnchorGenerator,
                    "base_sizes": [[(w * scale, h * scale) for w, h in level] for level in self.anchors_224],
                    "strides": list(reversed(STRIDES)),
                },
                bbox_coder={"type": YOLOBBoxCoder},
                featmap_strides=list(reversed(STRIDES)),
                # mmdet's defaults, by class; LoVT's loss takes their place (`sums_by_feat`).
                loss_cls={"type": CrossEntropyLoss, "use_sigmoid": True, "loss_weight": 1.0},
                loss_conf={"type": CrossEntropyLoss, "use_sigmoid": True, "loss_weight": 1.0},
                loss_xy={"type": CrossEntropyLoss, "use_sigmoid": True, "loss_weight": 1.0},
                loss_wh={"type": MSELoss, "loss_weight": 1.0},
                background_at_positives=request.switches.background_at_positives,
                loss_at_extremes=request.switches.loss_at_extremes,
                suppressed_at=self.suppressed_at,
                class_of_one=self.class_of_one,
            )
        self.n_predictions = [
            anchors * (request.frame_size // stride) ** 2
            for anchors, stride in zip(self.bbox_head.prior_generator.num_base_priors, reversed(STRIDES), strict=True)
        ]
        _default_init(self)
        keep_less(self)

    def forward(self, pyramid: Mapping[int, Tensor], images: Tensor | None = None) -> tuple[Tensor, ...]:
        features = self.neck([pyramid[stride] for stride in STRIDES])
        (maps,) = self.bbox_head(features)
        return maps

    def sums(self, outputs: Sequence[Tensor], targets: Targets) -> Tensor:
        """(12,): four of each scale (`scale_sums`), deepest first."""
        return self.bbox_head.sums_by_feat(outputs, targets)

    def loss_of(self, sums: Tensor, n_images: int) -> Tensor:
        terms = [
            scale_loss(of_scale, n_images * n_predictions, self.bbox_head.num_classes)
            for of_scale, n_predictions in zip(sums.chunk(len(STRIDES)), self.n_predictions, strict=True)
        ]
        return torch.stack([value for scale in terms for value in scale.values()]).sum()

    @torch.no_grad()
    def predict(self, outputs: Sequence[Tensor]) -> list[ImageDetections]:
        return self.bbox_head.predict_by_feat(outputs)


class LovtYOLOV3Head(YOLOV3Head):
    """mmdet's head with LoVT's loss, initialisation, decoding, scoring and suppression.

    The two `_by_feat` methods take and give the project's own types where mmdet's have per-image structures: that is what keeps target
    assignment free of loops.
    """

    def __init__(
        self,
        *args,
        background_at_positives: Literal["kept", "cleared"],
        loss_at_extremes: LossAtExtremes,
        suppressed_at: float = SUPPRESSED_AT,
        class_of_one: bool = False,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.background_at_positives, self.class_of_one = background_at_positives, class_of_one
        self.loss_at_extremes = loss_at_extremes
        self.nms_threshold = nms_threshold(suppressed_at)
        for level, sizes in enumerate(self.prior_generator.base_sizes):
            # On the head's device from the start: a step copies nothing from the host.
            self.register_buffer(f"anchors_{level}", torch.tensor(sizes, dtype=torch.float32), persistent=False)

    def init_weights(self) -> None:
        _default_init(self)

    def forward(self, x: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...]]:
        return (tuple(convolved(last, bridge(level)) for level, bridge, last in zip(x, self.convs_bridge, self.convs_pred, strict=True)),)

    def sums_by_feat(self, pred_maps: Sequence[Tensor], targets: Targets) -> Tensor:
        """(12,): `scale_sums` of each scale, deepest first, in float32 outside autocast."""
        sums = []
        with torch.autocast(pred_maps[0].device.type, enabled=False):
            for level, (pred_map, stride) in enumerate(zip(pred_maps, self.featmap_strides, strict=True)):
                anchors = self.get_buffer(f"anchors_{level}")
                grid = (pred_map.shape[-2], pred_map.shape[-1])
                assigned = assign(targets, anchors, stride, grid, self.background_at_positives, self.num_classes)
                sums.append(scale_sums(self._by_anchor(pred_map), assigned, self.class_of_one, self.loss_at_extremes))
            return torch.cat(sums)

    def predict_by_feat(self, pred_maps: Sequence[Tensor]) -> list[ImageDetections]:
        """Detections per image: scored by confidence alone, suppressed per predicted class, sorted by falling confidence (stable).

        Raises:
            TrainingError: a value is no number. Sides may overflow where they are decoded, as released.
        """
        require_numbers("Predicted maps", pred_maps)
        with torch.autocast(pred_maps[0].device.type, enabled=False):
            survivors = partial(_survivors, threshold=self.nms_threshold)
            decoded = self._decode(pred_maps)
            # On a CPU the operator keeps to one thread, and takes 20 ms for the boxes that a barely trained head leaves in an image.
            at_once = torch.get_num_threads() if pred_maps[0].device.type == "cpu" else 1
            if at_once == 1:
                return list(map(survivors, *decoded))
            with ThreadPoolExecutor(at_once, thread_name_prefix="suppress") as pool:
                return list(pool.map(survivors, *decoded))

    def _decode(self, pred_maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes xyxy (B, N, 4) in frame pixels, confidence (B, N), labels (B, N); scale, then anchor, row, column.

        That order decides among equal confidences, and operations are in the released order: the same boxes overflow, and boxes on a
        threshold fall on the same side.
        """
        decoded, confidence, labels = [], [], []
        for level, (pred_map, stride) in enumerate(zip(pred_maps, self.featmap_strides, strict=True)):
            predictions = self._by_anchor(pred_map)
            height, width = pred_map.shape[-2:]
            row, column = (torch.arange(n, device=pred_map.device, dtype=predictions.dtype) for n in (height, width))
            cells = torch.stack(torch.meshgrid(column, row, indexing="xy"), dim=-1)
            centres = (predictions[..., :2].sigmoid() + cells) * stride
            sizes = predictions[..., 2:4].exp() * (self.get_buffer(f"anchors_{level}") / stride)[:, None, None] * stride
            decoded.append(torch.cat([centres - sizes / 2, centres + sizes / 2], dim=-1).flatten(1, 3))
            confidence.append(predictions[..., 4].sigmoid().flatten(1))
            labels.append(predictions[..., 5:].sigmoid().argmax(dim=-1).flatten(1))
        return torch.cat(decoded, dim=1), torch.cat(confidence, dim=1), torch.cat(labels, dim=1)

    def _by_anchor(self, pred_map: Tensor) -> Tensor:
        """(B, A (5 + C), H, W) to float32 (or more) (B, A, H, W, 5 + C): channels are anchor-major."""
        n_images, _, height, width = pred_map.shape
        return at_least_float32(pred_map).reshape(n_images, self.num_base_priors, self.num_attrib, height, width).permute(0, 1, 3, 4, 2)


def nms_threshold(suppressed_at: float) -> float:
    """The released codes remove a box at IoU >= x, mmcv at IoU > threshold: the float32 below x makes the two the same."""
    return float(np.nextafter(np.float32(suppressed_at), np.float32(0)))


NMS_THRESHOLD = nms_threshold(SUPPRESSED_AT)


def _survivors(boxes_xyxy: Tensor, confidence: Tensor, labels: Tensor, threshold: float = NMS_THRESHOLD) -> ImageDetections:
    """Threshold, suppression per class, and the cap on detections below LoVT's threshold, for one image."""
    candidates = confidence >= LEAST_CONFIDENCE
    confidence, order = confidence[candidates].sort(descending=True, stable=True)
    boxes_xyxy, labels = boxes_xyxy[candidates][order], labels[candidates][order]
    n_lovt = int((confidence >= LOVT_CONFIDENCE).sum())
    n_tried = max(n_lovt, FIRST_TRIED)
    while True:
        # What survives among the first n is what survives of them among all: more are looked at only while too few are left.
        keep = _suppress(boxes_xyxy[:n_tried], labels[:n_tried], threshold)
        limit = max(int((keep < n_lovt).sum()), FULL_DETECTIONS)
        if len(keep) >= limit or n_tried >= len(order):
            break
        n_tried *= 4
    keep = keep[:limit]
    corners = boxes_xyxy[keep]
    boxes_xywh = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1)
    return ImageDetections(boxes_xywh, confidence[keep], labels[keep])


def _suppress(boxes_xyxy: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Rising indices of the boxes that survive, given boxes by falling confidence."""
    survivors = [labels.new_empty(0)]
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        survivors.append(members[_greedy(boxes_xyxy[members], threshold)])
    return torch.cat(survivors).sort().values


def _greedy(boxes_xyxy: Tensor, threshold: float) -> Tensor:
    """Indices of the surviving boxes of one class, given by falling confidence, in any order."""
    if not torch.isfinite(_area(boxes_xyxy)).all():
        return _greedy_with_overflow(boxes_xyxy, threshold)
    # Ranks in place of scores: equal confidences then fall the same way with every implementation of the operator.
    ranks = torch.arange(len(boxes_xyxy), 0, -1, device=boxes_xyxy.device, dtype=torch.float32)
    return nms(boxes_xyxy, ranks, iou_threshold=threshold, offset=PIXEL_OFFSET)[1]


def _greedy_with_overflow(boxes_xyxy: Tensor, threshold: float) -> Tensor:
    """The released loop, for boxes whose area is infinite or no number: mmcv's operator says nothing about them.

    An infinite box overlaps finite ones by 0. Two infinite ones overlap by no number, which is not below the threshold: the second goes.
    """
    boxes = boxes_xyxy.cpu()
    area, survives = _area(boxes), torch.ones(len(boxes), dtype=torch.bool)
    for index in range(len(boxes)):
        if not survives[index]:
            continue
        box, others = boxes[index], boxes[index + 1 :]
        sides = torch.minimum(box[2:], others[:, 2:]) - torch.maximum(box[:2], others[:, :2]) + PIXEL_OFFSET
        shared = sides.clamp(min=0).prod(dim=1)
        iou = shared / (area[index] + area[index + 1 :] - shared + 1e-16)
        survives[index + 1 :] &= iou <= threshold
    return survives.nonzero()[:, 0].to(boxes_xyxy.device)


def _area(boxes_xyxy: Tensor) -> Tensor:
    return (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2] + PIXEL_OFFSET).prod(dim=1)


def _default_init(module: nn.Module) -> None:
    """PyTorch's own initialisation, as LoVT's code has it: mmcv's layers draw theirs anew when built."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
            layer.reset_parameters()


def _check(request: HeadRequest) -> None:
    missing = [stride for stride in STRIDES if stride not in request.channels]
    if missing:
        offered = ", ".join(map(str, sorted(request.channels)))
        raise ConformanceError(f"The YOLOv3 head reads strides 8, 16 and 32; the encoder offers {offered} and lacks {missing[0]}.")
    if request.frame_size % max(STRIDES):
        raise UsageError(f"The YOLOv3 head needs a frame that is a multiple of 32; {request.frame_size} px is not.")
