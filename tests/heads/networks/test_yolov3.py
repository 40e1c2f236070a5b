"""LoVT's YOLOv3 (docs/sources.md, LoVT): the head built from mmdet's parts."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import ConfigDict
from torch import nn

from benchmark.cards import Switches
from benchmark.errors import ConformanceError, TrainingError, UsageError
from benchmark.heads.base import HeadRequest, Targets, seeded_init
from benchmark.heads.networks import yolov3

GRIDS = (7, 14, 28)
ONE_BOX = Targets(
    boxes_xywh=torch.tensor([[[100.0, 60, 50, 80]]]),
    box_labels=torch.zeros(1, 1, dtype=torch.long),
    box_valid=torch.ones(1, 1, dtype=torch.bool),
)


def _request(channels, n_classes=1, frame_size=224, **switches):
    return HeadRequest(channels=channels, n_classes=n_classes, frame_size=frame_size, switches=Switches(**switches))


@pytest.fixture(scope="module")
def head():
    return seeded_init(lambda: yolov3.YoloV3(_request({8: 8, 16: 8, 32: 8})), 0).eval()


def _maps(fill=0.0, n=1, n_classes=1):
    return [torch.full((n, 3 * (5 + n_classes), grid, grid), fill) for grid in GRIDS]


def _boxes_as_maps(head, boxes, n_classes=1, background=-12.0):
    """Raw maps whose decoding gives the boxes (cx, cy, w, h, confidence, label) at stride 8, one per cell."""
    maps = _maps(n_classes=n_classes)
    for pred_map in maps:
        pred_map.view(1, 3, 5 + n_classes, *pred_map.shape[-2:])[:, :, 4] = background
    fine = maps[2].view(1, 3, 5 + n_classes, 28, 28)
    for cx, cy, width, height, confidence, label in boxes:
        column, row = int(cx // 8), int(cy // 8)
        anchor_w, anchor_h = yolov3.ANCHORS_224[2][0]
        offset = torch.tensor([cx / 8 - column, cy / 8 - row]).clamp(1e-6, 1 - 1e-6).logit()
        size = torch.tensor([width / anchor_w, height / anchor_h]).log()
        fine[0, 0, :4, row, column] = torch.cat([offset, size])
        fine[0, 0, 4, row, column] = torch.tensor(confidence).logit()
        fine[0, 0, 5 + label, row, column] = 9.0
    return maps


def test_parameter_count_on_resnet50_is_the_papers():
    head = yolov3.YoloV3(_request({8: 512, 16: 1024, 32: 2048}))
    assert sum(p.numel() for p in head.parameters()) == 21_626_934


def test_outputs_are_three_maps_deepest_first(head):
    features = {stride: torch.randn(2, 8, 224 // stride, 224 // stride) for stride in head.strides}
    assert [tuple(m.shape) for m in head(features)] == [(2, 18, grid, grid) for grid in GRIDS]


def test_initialisation_is_pytorchs_default(head):
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d):
            bound = layer.weight[0].numel() ** -0.5
            assert 0.9 * bound < layer.weight.abs().max() <= bound
            assert layer.bias is None or layer.bias.abs().max() <= bound
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.eps, layer.momentum) == (1e-5, 0.1)
            assert layer.weight.eq(1).all()
            assert layer.bias.eq(0).all()


def test_total_loss_of_zero_logits_is_the_references(head):
    assert head.loss(_maps(), ONE_BOX).item() == pytest.approx(1.082782, abs=5e-7)


def test_loss_is_float32_inside_autocast_and_from_half_maps(head):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head.loss([m.bfloat16() for m in _maps()], ONE_BOX)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(1.082782, abs=5e-7)


def test_switch_takes_positives_out_of_the_background(head):
    cleared = yolov3.YoloV3(_request({8: 8, 16: 8, 32: 8}, background_at_positives="cleared"))
    assert cleared.loss(_maps(), ONE_BOX) < head.loss(_maps(), ONE_BOX)


def test_switch_decides_what_a_saturated_confidence_costs(head):
    """docs/protocols/lovt.md, quirk 24; the default is what jobs did before there was the switch."""
    maps = _maps()
    for pred_map in maps:
        pred_map.view(1, 3, 6, *pred_map.shape[-2:])[:, :, 4] = -50.0
    maps[0].view(1, 3, 6, 7, 7)[0, 1, 4, 2, 3] = 20.0
    empty = torch.zeros(1, 0)
    nothing = Targets(boxes_xywh=torch.zeros(1, 0, 4), box_labels=empty.long(), box_valid=empty.bool())
    released = yolov3.YoloV3(_request({8: 8, 16: 8, 32: 8}, loss_at_extremes="from-probabilities"))
    assert released.loss(maps, nothing).item() == pytest.approx(0.3401, abs=5e-5)
    assert head.loss(maps, nothing).item() == pytest.approx(0.0680, abs=5e-5)


def test_zero_logits_decode_to_the_anchor_in_the_middle_of_its_cell(head):
    boxes, confidence, _ = head.bbox_head._decode(_maps())
    x1, y1, x2, y2 = boxes[0, 0].tolist()
    assert boxes.shape == (1, 3087, 4)
    assert ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1) == pytest.approx((16, 16, 64.64, 48.6), abs=1e-5)
    assert confidence.eq(0.5).all()


def test_anchors_scale_with_the_frame():
    head = yolov3.YoloV3(_request({8: 8, 16: 8, 32: 8}, frame_size=448))
    boxes, _, _ = head.bbox_head._decode([torch.zeros(1, 18, grid, grid) for grid in (14, 28, 56)])
    assert (boxes[0, 0, 2:] - boxes[0, 0, :2]).tolist() == pytest.approx([2 * 64.64, 2 * 48.6], abs=1e-4)


def test_what_is_assigned_is_what_is_decoded(head):
    """Predictions set to their targets decode to the box, on every scale: assignment and mmdet's coder speak one language."""
    maps = _maps()
    for level, (pred_map, stride) in enumerate(zip(maps, (32, 16, 8), strict=True)):
        anchors = torch.tensor(yolov3.ANCHORS_224[level])
        found = yolov3.assign(ONE_BOX, anchors, stride, pred_map.shape[-2:], "kept")
        (anchor, row, column) = found.positive[0].nonzero()[0].tolist()
        values = found.txywh[0, anchor, row, column]
        view = pred_map.view(3, 6, *pred_map.shape[-2:])
        view[:, 4] = -12
        view[anchor, :5, row, column] = torch.cat([values[:2].logit(), values[2:], torch.tensor([5.0 - level])])
    boxes, confidence, _ = head.bbox_head._decode(maps)
    for index in confidence[0].topk(3).indices:
        assert boxes[0, index].tolist() == pytest.approx([100, 60, 150, 140], abs=1e-3)
    (image,) = head.predict(maps)
    assert len(image.confidence) == 1  # the two copies are suppressed
    assert image.boxes_xywh[0].tolist() == pytest.approx([100, 60, 50, 80], abs=1e-3)


def _xyxy(*boxes):
    cx, cy, w, h = torch.tensor(boxes, dtype=torch.float32).unbind(1)
    return torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1)


def test_suppression_vector_of_the_reference():
    boxes = _xyxy((50, 50, 40, 40), (55, 50, 40, 40), (75, 50, 40, 40), (100, 100, 20, 20))
    kept = yolov3._survivors(boxes, torch.tensor([0.9, 0.8, 0.7, 0.19]), torch.zeros(4, dtype=torch.long))
    lovt = kept.confidence >= yolov3.LOVT_CONFIDENCE
    assert kept.boxes_xywh[lovt].tolist() == [[30, 30, 40, 40], [55, 30, 40, 40]]
    assert kept.confidence[lovt].tolist() == pytest.approx([0.9, 0.7])


def test_box_at_exactly_the_threshold_is_removed():
    # +1 convention: widths 4 and 3 pixels, 2 shared of 5, IoU 0.4.
    boxes = torch.tensor([[0.0, 0, 3, 0], [2, 0, 4, 0], [3, 0, 5, 0]])
    kept = yolov3._survivors(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.long))
    assert kept.boxes_xywh[:, 0].tolist() == [0, 3]


def test_classes_are_suppressed_apart():
    head = yolov3.YoloV3(_request({8: 8, 16: 8, 32: 8}, n_classes=2)).eval()
    boxes = [(50, 50, 40, 40, 0.9, 0), (57, 50, 40, 40, 0.8, 1), (50, 57, 40, 40, 0.7, 0)]
    (image,) = head.predict(_boxes_as_maps(head, boxes, n_classes=2))
    assert image.labels.tolist() == [0, 1]
    assert image.confidence.tolist() == pytest.approx([0.9, 0.8], abs=1e-5)


def _apart(n):
    corner = torch.arange(n, dtype=torch.float32)[:, None] * 50
    return torch.cat([corner, corner, corner + 20, corner + 20], 1)


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [
        (torch.linspace(0.9, 0.3, 250), 250),  # all that LoVT's metrics read, without a cap
        (torch.linspace(0.19, 0.01, 250), 100),
        (torch.cat([torch.full((30,), 0.5), torch.full((220,), 0.1)]), 100),
        (torch.cat([torch.full((130,), 0.2), torch.full((120,), 0.1)]), 130),
        (torch.cat([torch.full((5,), 0.1), torch.full((245,), 0.0009)]), 5),
    ],
)
def test_cap_of_a_hundred_spares_detections_that_lovts_metrics_read(confidence, expected):
    kept = yolov3._survivors(_apart(250), confidence, torch.zeros(250, dtype=torch.long))
    assert len(kept.confidence) == expected
    assert torch.equal(kept.confidence, confidence.sort(descending=True).values[:expected])


def test_an_initialisation_that_mmdet_asks_for_is_lovts():
    """mmdet's own gives objectness a bias of about minus eight."""
    bbox_head = yolov3.YoloV3(_request({8: 8, 16: 8, 32: 8})).bbox_head
    bbox_head.init_weights()
    for convolution in bbox_head.convs_pred:
        assert convolution.bias.abs().max() <= convolution.weight[0].numel() ** -0.5
        assert convolution.weight.std() > 0.3 * convolution.weight[0].numel() ** -0.5


def test_equal_confidences_keep_their_order():
    kept = yolov3._survivors(_apart(40), torch.full((40,), 0.5), torch.zeros(40, dtype=torch.long))
    assert torch.equal(kept.boxes_xywh[:, 0], torch.arange(40) * 50.0)


@pytest.mark.parametrize(("first", "highest"), [(512, 0.25), (4, 0.19)])
def test_looking_at_few_candidates_first_changes_nothing(monkeypatch, first, highest):
    torch.manual_seed(0)
    corner = torch.rand(1500, 2) * 200
    boxes, confidence, labels = torch.cat([corner, corner + 30], 1), torch.rand(1500) * highest, torch.randint(2, (1500,))
    monkeypatch.setattr(yolov3, "FIRST_TRIED", first)
    few = yolov3._survivors(boxes, confidence, labels)
    monkeypatch.setattr(yolov3, "FIRST_TRIED", 10_000)
    everything = yolov3._survivors(boxes, confidence, labels)
    assert torch.equal(few.boxes_xywh, everything.boxes_xywh)
    assert torch.equal(few.confidence, everything.confidence)


def test_a_lower_floor_leaves_the_detections_above_it_alone():
    torch.manual_seed(0)
    corner = torch.rand(400, 2) * 200
    boxes, confidence, labels = torch.cat([corner, corner + 40], 1), torch.rand(400), torch.zeros(400, dtype=torch.long)
    everything = yolov3._survivors(boxes, confidence, labels)
    above = confidence >= 0.2
    alone = yolov3._survivors(boxes[above], confidence[above], labels[above])
    n = int((everything.confidence >= 0.2).sum())
    assert torch.equal(everything.boxes_xywh[:n], alone.boxes_xywh)


def test_predictions_equal_mmdets_own_where_the_two_agree(head):
    """mmdet multiplies confidence by the class score, which a logit of 50 makes 1; the rest can be configured."""
    torch.manual_seed(3)
    maps = [torch.randn(2, 18, grid, grid) for grid in GRIDS]
    distinct = torch.linspace(-3, 3, 2 * 3087)[torch.randperm(2 * 3087)]  # mmdet sorts ties in any order
    for pred_map, confidence in zip(maps, distinct.split([2 * 3 * grid * grid for grid in GRIDS]), strict=True):
        view = pred_map.view(2, 3, 6, *pred_map.shape[-2:])
        view[:, :, 4] = confidence.view_as(view[:, :, 4])
        view[:, :, 5] = 50
    ours = head.predict([m.clone() for m in maps])
    test_cfg = ConfigDict(
        conf_thr=0.2,
        score_thr=0.0,
        nms_pre=4000,
        max_per_img=4000,
        min_bbox_size=-1,
        nms={"type": "nms", "iou_threshold": 0.4, "offset": 1},
    )
    theirs = yolov3.YOLOV3Head.predict_by_feat(head.bbox_head, maps, [{}, {}], cfg=test_cfg)
    for one, other in zip(ours, theirs, strict=True):
        lovt = one.confidence >= yolov3.LOVT_CONFIDENCE
        assert int(lovt.sum()) == len(other.scores) > 100
        torch.testing.assert_close(one.confidence[lovt], other.scores)
        torch.testing.assert_close(one.boxes_xywh[lovt][:, :2], other.bboxes[:, :2], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(one.boxes_xywh[lovt][:, 2:], other.bboxes[:, 2:] - other.bboxes[:, :2], rtol=1e-4, atol=1e-3)


def _released_survivors(boxes, confidence):
    """The released suppression, one box at a time, over one class in the order of decoding; indices by falling confidence."""
    order = [i for i in confidence.sort(descending=True, stable=True).indices.tolist() if confidence[i] >= 0.2]
    kept = []
    while order:
        first, order = order[0], order[1:]
        kept.append(first)
        a, b = boxes[first], boxes[order]
        shared = (torch.minimum(a[2], b[:, 2]) - torch.maximum(a[0], b[:, 0]) + 1).clamp(min=0) * (
            torch.minimum(a[3], b[:, 3]) - torch.maximum(a[1], b[:, 1]) + 1
        ).clamp(min=0)
        areas = ((box[..., 2] - box[..., 0] + 1) * (box[..., 3] - box[..., 1] + 1) for box in (a, b))
        iou = shared / (sum(areas) - shared + 1e-16)
        order = [i for i, value in zip(order, iou.tolist(), strict=True) if value < 0.4]
    return kept


def _released_boxes(maps):
    """Boxes xyxy and confidences of one image, decoded anchor by anchor, row by row, as released."""
    boxes, confidence = [], []
    for level, (pred_map, stride) in enumerate(zip(maps, (32, 16, 8), strict=True)):
        p = pred_map[0].view(3, 6, *pred_map.shape[-2:])
        for anchor, sizes in enumerate(yolov3.ANCHORS_224[level]):
            scaled = torch.tensor(sizes) / stride
            for row in range(p.shape[2]):
                for column in range(p.shape[3]):
                    x, y, w, h, c, _ = p[anchor, :, row, column]
                    centre = torch.stack([x.sigmoid() + column, y.sigmoid() + row]) * stride
                    size = torch.stack([w.exp(), h.exp()]) * scaled * stride
                    boxes.append(torch.cat([centre - size / 2, centre + size / 2]))
                    confidence.append(c.sigmoid())
    return torch.stack(boxes), torch.stack(confidence)


def test_decoding_is_the_released_one_in_the_released_order(head):
    maps = [torch.randn(1, 18, grid, grid, generator=torch.Generator().manual_seed(grid)) for grid in GRIDS]
    boxes, confidence, _ = head.bbox_head._decode(maps)
    released, of_released = _released_boxes(maps)
    torch.testing.assert_close(boxes[0], released, rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(confidence[0], of_released, rtol=1e-6, atol=0)


@pytest.mark.parametrize("seed", range(6))
def test_equal_confidences_are_decided_in_the_released_order(head, seed):
    """docs/protocols/lovt.md, quirk 26: with two confidences for 1,200 candidates, order decides nearly everything."""
    draws = torch.Generator().manual_seed(seed)
    maps = [torch.randn(1, 18, grid, grid, generator=draws) for grid in GRIDS]
    for pred_map in maps:
        shape = (1, 3, *pred_map.shape[-2:])
        logits = torch.tensor([-9.0, -9.0, -9.0, 0.5, 1.0])[torch.randint(5, shape, generator=draws)]
        pred_map.view(1, 3, 6, *pred_map.shape[-2:])[:, :, 4] = logits
    boxes, confidence, _ = head.bbox_head._decode(maps)
    kept = _released_survivors(boxes[0], confidence[0])
    (found,) = head.predict(maps)
    lovt = found.confidence >= yolov3.LOVT_CONFIDENCE
    assert torch.equal(found.boxes_xywh[lovt][:, :2], boxes[0][kept][:, :2])
    assert torch.equal(found.confidence[lovt], confidence[0][kept])


def test_a_box_that_overflows_goes_on_as_released(head):
    """docs/protocols/lovt.md, quirk 23: a width logit of 95 is an infinite width, which suppresses infinite boxes only, and always."""
    maps = _boxes_as_maps(head, [(60, 60, 30, 30, 0.9, 0), (150, 60, 30, 30, 0.8, 0)])
    fine = maps[2].view(1, 3, 6, 28, 28)
    for row, column, logit in ((20, 3, 0.5), (2, 25, 0.0)):  # far apart: their overlap is infinity by nothing
        fine[0, 1, 2, row, column], fine[0, 1, 4, row, column] = 95.0, logit
    boxes, confidence, _ = head.bbox_head._decode(maps)
    kept = _released_survivors(boxes[0], confidence[0])
    (found,) = head.predict(maps)
    lovt = found.confidence >= yolov3.LOVT_CONFIDENCE
    assert int(lovt.sum()) == len(kept) == 3
    assert torch.equal(found.confidence[lovt], confidence[0][kept])
    assert found.boxes_xywh[lovt][2, [0, 2]].tolist() == [-float("inf"), float("inf")]
    assert found.boxes_xywh[lovt][:2].isfinite().all()


@pytest.mark.parametrize("seed", range(5))
def test_suppression_with_overflowing_areas_is_the_released_loop(seed):
    draws = torch.Generator().manual_seed(seed)
    centre, size = 224 * torch.rand(200, 2, generator=draws), (torch.randn(200, 2, generator=draws) + 3).exp()
    size[::7] *= 1e20  # areas beyond float32, sides within
    size[::11, 0] = float("inf")
    boxes, confidence = torch.cat([centre - size / 2, centre + size / 2], 1), torch.rand(200, generator=draws)
    kept = _released_survivors(boxes, confidence)
    found = yolov3._survivors(boxes, confidence, torch.zeros(200, dtype=torch.long))
    lovt = found.confidence >= yolov3.LOVT_CONFIDENCE
    assert torch.equal(found.confidence[lovt], confidence[kept])
    assert torch.equal(found.boxes_xywh[lovt][:, 0], boxes[kept][:, 0])


def test_images_suppressed_side_by_side_are_those_suppressed_one_by_one(head, monkeypatch):
    maps = [torch.randn(5, 18, grid, grid, generator=torch.Generator().manual_seed(grid)) for grid in GRIDS]
    alone = [head.predict([level[i : i + 1] for level in maps])[0] for i in range(5)]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    together = head.predict(maps)
    assert len({len(image.confidence) for image in together}) > 1
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.boxes_xywh, other.boxes_xywh)
        assert torch.equal(one.confidence, other.confidence)
        assert torch.equal(one.labels, other.labels)


def test_predict_leaves_the_maps_alone(head):
    maps = [torch.randn(1, 18, grid, grid) for grid in GRIDS]
    copies = [m.clone() for m in maps]
    head.predict(maps)
    assert all(torch.equal(one, other) for one, other in zip(maps, copies, strict=True))


def test_image_without_candidates_gives_no_detection(head):
    (image,) = head.predict(_maps(-20.0))
    assert image.boxes_xywh.shape == (0, 4)
    assert image.labels.dtype == torch.long


@pytest.mark.parametrize("channel", [0, 3, 4, 5])
def test_an_image_whose_maps_are_no_numbers_is_refused_and_not_an_image_without_boxes(head, channel):
    maps = _maps(n=3)
    maps[1][2, channel, 4, 4] = float("nan")
    with pytest.raises(TrainingError, match="Predicted maps of 1 of 3 images are not finite numbers"):
        head.predict(maps)


def test_head_learns_one_box(monkeypatch):
    monkeypatch.setattr(yolov3, "WIDTHS", (64, 32, 16))  # a sixtieth of the weights
    torch.manual_seed(0)
    head = seeded_init(lambda: yolov3.YoloV3(_request({8: 8, 16: 8, 32: 8}, frame_size=64)), 0).train()
    features = {stride: torch.randn(2, 8, 64 // stride, 64 // stride) for stride in head.strides}
    targets = Targets(
        boxes_xywh=torch.tensor([[[10.0, 20, 30, 25]], [[0, 0, 0, 0]]]),
        box_labels=torch.zeros(2, 1, dtype=torch.long),
        box_valid=torch.tensor([[True], [False]]),
    )
    optimiser = torch.optim.Adam(head.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = head.loss(head(features), targets)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    first, empty = head.predict(head(features))
    assert losses[-1] < 0.5 * losses[0]
    assert first.boxes_xywh[0].tolist() == pytest.approx([10, 20, 30, 25], abs=4)
    assert first.confidence[0] > 2 * (empty.confidence[0] if len(empty.confidence) else 0)


def test_encoder_without_stride_8_is_refused():
    with pytest.raises(ConformanceError, match="lacks 8"):
        yolov3.YoloV3(_request({16: 8, 32: 8}))


def test_frame_that_is_no_multiple_of_32_is_refused():
    with pytest.raises(UsageError, match="100"):
        yolov3.YoloV3(_request({8: 8, 16: 8, 32: 8}, frame_size=100))
