"""MGCA's released code (docs/segmentation.md): where its YOLOv3 leaves LoVT's, and that it does so nowhere else."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from benchmark.cards import Switches
from benchmark.errors import ConformanceError, UsageError
from benchmark.heads.base import HeadRequest, Targets, seeded_init
from benchmark.heads.networks import yolov3, yolov3_mgca

CHANNELS = {8: 4, 16: 8, 32: 8}
TARGETS = Targets(
    boxes_xywh=torch.tensor([[[100.0, 60, 50, 80], [10, 20, 30, 12]], [[150, 150, 60, 60], [0, 0, 0, 0]]]),
    box_labels=torch.zeros(2, 2, dtype=torch.long),
    box_valid=torch.tensor([[True, True], [True, False]]),
)


def _request(frame_size=224, n_classes=1, channels=CHANNELS, **switches):
    return HeadRequest(channels=channels, n_classes=n_classes, frame_size=frame_size, switches=Switches(**switches))


def _maps(n_images=2, frame=224):
    draws = torch.Generator().manual_seed(0)
    return tuple(torch.randn(n_images, 18, frame // s, frame // s, generator=draws) for s in (32, 16, 8))


@pytest.fixture(scope="module")
def head():
    return seeded_init(lambda: yolov3_mgca.MgcaYoloV3(_request()), 1)


def test_anchors_are_cocos_in_the_frame(head) -> None:
    assert head.bbox_head.get_buffer("anchors_0")[2].tolist() == pytest.approx([373 * 224 / 416, 326 * 224 / 416])
    assert head.bbox_head.get_buffer("anchors_2")[0].tolist() == pytest.approx([10 * 224 / 416, 13 * 224 / 416])
    wide = yolov3_mgca.MgcaYoloV3(_request(frame_size=416))
    assert wide.bbox_head.get_buffer("anchors_1").flatten().tolist() == pytest.approx([30, 61, 62, 45, 59, 119])
    first = head.bbox_head._decode([torch.zeros(1, 18, grid, grid) for grid in (7, 14, 28)])[0][0, 2 * 49]  # third anchor, first cell
    assert (first[2:] - first[:2]).tolist() == pytest.approx([373 * 224 / 416, 326 * 224 / 416])


def test_same_network_and_start_as_lovts(head) -> None:
    lovts = seeded_init(lambda: yolov3.YoloV3(_request()), 1).state_dict()
    assert head.state_dict().keys() == lovts.keys()
    assert all(torch.equal(tensor, lovts[name]) for name, tensor in head.state_dict().items())
    with torch.device("meta"):
        full = yolov3_mgca.MgcaYoloV3(_request(channels={8: 512, 16: 1024, 32: 2048}))
    assert sum(p.numel() for p in full.parameters()) == 21_626_934


def _released_scale(raw, anchors, stride, targets):
    """The documented loss of one scale, box by box and cell by cell, with products in place of choices as in the reference's words."""
    n, (height, width) = len(raw), raw.shape[-2:]
    p = raw.view(n, 3, 6, height, width)
    positive, background = torch.zeros(n, 3, height, width), torch.ones(n, 3, height, width)
    wanted = torch.zeros(n, 3, 4, height, width)
    for b in range(n):
        for (x, y, w, h), valid in zip(targets.boxes_xywh[b].tolist(), targets.box_valid[b].tolist(), strict=True):
            if not valid:
                continue
            cx, cy, gw, gh = (x + w / 2) / stride, (y + h / 2) / stride, w / stride, h / stride
            ious = []
            for aw, ah in (anchors / stride).tolist():
                shared = (min(gw, aw) + 1) * (min(gh, ah) + 1)
                ious.append(shared / ((gw + 1) * (gh + 1) + (aw + 1) * (ah + 1) - shared))
            i, j, best = int(cx), int(cy), max(range(3), key=ious.__getitem__)
            for a in range(3):
                if ious[a] > 0.5:
                    background[b, a, j, i] = 0
            positive[b, best, j, i] = 1
            aw, ah = (anchors[best] / stride).tolist()
            wanted[b, best, :, j, i] = torch.tensor([cx - i, cy - j, torch.tensor(gw / aw).log(), torch.tensor(gh / ah).log()])
    xy = sum(F.binary_cross_entropy(p[:, :, k].sigmoid() * positive, wanted[:, :, k] * positive) for k in (0, 1))
    wh = sum(F.mse_loss(p[:, :, k] * positive, wanted[:, :, k] * positive) for k in (2, 3))
    confidence = p[:, :, 4].sigmoid()
    found = F.binary_cross_entropy(confidence * positive, positive)
    empty = F.binary_cross_entropy(confidence * background, torch.zeros_like(positive))
    label = F.binary_cross_entropy(p[:, :, 5].sigmoid() * positive, positive)
    return 2.5 * xy + 2.5 * wh + found + 0.5 * empty + label


def test_loss_is_the_documented_one_summed_over_scales(head) -> None:
    maps = _maps()
    anchors = [head.bbox_head.get_buffer(f"anchors_{k}") for k in range(3)]
    expected = sum(_released_scale(m, a, s, TARGETS) for m, a, s in zip(maps, anchors, (32, 16, 8), strict=True))
    assert float(head.loss(maps, TARGETS)) == pytest.approx(float(expected), rel=1e-5)


def test_the_class_is_trained_although_there_is_one(head) -> None:
    classes = head.sums(_maps(), TARGETS).view(3, 4)[:, 3]
    assert (classes > 0).all()
    lovts = yolov3.YoloV3(_request()).sums(_maps(), TARGETS).view(3, 4)[:, 3]
    assert (lovts == 0).all()


@pytest.mark.parametrize(("build", "survive"), [(yolov3_mgca.MgcaYoloV3, 2), (yolov3.YoloV3, 1)])
def test_boxes_that_overlap_by_less_than_half_survive_here_and_not_at_lovts(build, survive) -> None:
    boxes = torch.tensor([[0.0, 0, 99, 99], [38, 0, 137, 99]])  # with one pixel added, IoU 62 / 138 = 0.449
    made = build(_request()).bbox_head
    found = yolov3._survivors(boxes, torch.tensor([0.9, 0.8]), torch.zeros(2, dtype=torch.long), made.nms_threshold)
    assert len(found.confidence) == survive


def test_a_box_at_exactly_one_half_is_suppressed(head) -> None:
    boxes = torch.tensor([[0.0, 0, 99, 99], [0, 0, 99, 49]])
    found = yolov3._survivors(boxes, torch.tensor([0.9, 0.8]), torch.zeros(2, dtype=torch.long), head.bbox_head.nms_threshold)
    assert len(found.confidence) == 1


def test_errors_are_those_of_lovts_head() -> None:
    with pytest.raises(ConformanceError, match="lacks 8"):
        yolov3_mgca.MgcaYoloV3(_request(channels={16: 4, 32: 4}))
    with pytest.raises(UsageError, match="100 px is not"):
        yolov3_mgca.MgcaYoloV3(_request(frame_size=100))
