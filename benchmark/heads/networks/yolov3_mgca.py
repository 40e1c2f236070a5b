"""MGCA's YOLOv3: the network, assignment and coordinates of `yolov3`, with other anchors, a trained class and a later suppression.

Both descend from one public implementation. What differs was read in MGCA's code: its anchors are COCO's times 224 / 416 (LoVT's are 0.54
times), the class of a box is trained although there is only one, and boxes are suppressed at IoU 0.5 instead of 0.4.
Source: MGCA's released code (docs/segmentation.md). The cut at objectness 0.5 belongs to the metric (`metrics.mgca`).
"""

from __future__ import annotations

from benchmark.heads.networks.yolov3 import YoloV3

COCO_ANCHORS = (
    ((116, 90), (156, 198), (373, 326)),
    ((30, 61), (62, 45), (59, 119)),
    ((10, 13), (16, 30), (33, 23)),
)
COCO_FRAME = 416


class MgcaYoloV3(YoloV3):
    """Outputs: three raw maps (B, 3 (5 + C), H, W), deepest first. Predicts a list of ImageDetections, one per image."""

    anchors_224 = tuple(tuple((w * 224 / COCO_FRAME, h * 224 / COCO_FRAME) for w, h in level) for level in COCO_ANCHORS)
    suppressed_at = 0.5
    class_of_one = True
