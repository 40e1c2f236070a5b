"""Faster R-CNN from mmdet's parts: their configuration, their loss, torchvision's boxes, and draws that belong to an image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import mmdet
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData
from torch import nn
from torchvision.models import detection
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import box_iou

from benchmark.cards import Switches
from benchmark.errors import ConformanceError, TrainingError, UsageError
from benchmark.heads.base import HeadRequest, Targets, seeded_init
from benchmark.heads.networks import faster_rcnn
from benchmark.heads.networks.parts_only import parts_only

with parts_only():
    from mmdet.models.detectors.two_stage import TwoStageDetector

SIZE, CLASSES = 96, 3
CHANNELS = {4: 4, 8: 4, 16: 8, 32: 8}
TARGETS = Targets(
    boxes_xywh=torch.tensor([[[8.0, 54, 48, 20], [60, 5, 16, 30]], [[30, 30, 24, 44], [0, 0, 0, 0]], [[0, 0, 0, 0], [0, 0, 0, 0]]]),
    box_labels=torch.tensor([[1, 2], [0, 0], [0, 0]]),
    box_valid=torch.tensor([[True, True], [True, False], [False, False]]),
    draws=((0, 5), (0, 2), (0, 9)),
)


def _request(channels=CHANNELS, n_classes=CLASSES, frame_size=SIZE):
    return HeadRequest(channels=channels, n_classes=n_classes, frame_size=frame_size, switches=Switches())


def _narrow(request=None, seed=4, width=8, hidden=32):
    """A head of few channels."""
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(faster_rcnn, "WIDTH", width)
        patching.setattr(faster_rcnn, "HIDDEN", hidden)
        return seeded_init(lambda: faster_rcnn.FasterRcnn(request or _request()), seed)


def _features(n=3, seed=0, size=SIZE):
    draws = torch.Generator().manual_seed(seed)
    return {stride: torch.randn(n, width, size // stride, size // stride, generator=draws) for stride, width in CHANNELS.items()}


def _only(targets, *index):
    """Targets of these images of a batch, in this order."""
    i = list(index)
    return Targets(
        boxes_xywh=targets.boxes_xywh[i],
        box_labels=targets.box_labels[i],
        box_valid=targets.box_valid[i],
        draws=tuple(targets.draws[k] for k in i),
    )


@pytest.fixture(scope="module")
def head():
    return _narrow()


@pytest.fixture(scope="module")
def outputs(head):
    with torch.no_grad():
        return head(_features())


# ------------------------------------------------------------------------------------------------------------ what is built


def test_as_many_parameters_as_torchvisions() -> None:
    head = faster_rcnn.FasterRcnn(_request({4: 256, 8: 512, 16: 1024, 32: 2048}, n_classes=1, frame_size=224))
    with torch.device("meta"):
        other = detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2)
    without_resnet = sum(p.numel() for name, p in other.named_parameters() if not name.startswith("backbone.body"))
    background_boxes = 4 * (1024 + 1)  # torchvision regresses a box of the background, too
    assert sum(p.numel() for p in head.parameters()) == 17_840_149 == without_resnet - background_boxes


def _by_name(config):
    """A configuration whose classes are their names, as in mmdet's files."""
    if isinstance(config, dict):
        return ConfigDict({key: _by_name(value) for key, value in config.items()})
    return config.__name__ if isinstance(config, type) else config


def test_configuration_is_mmdets_but_for_what_is_named() -> None:
    file = Path(mmdet.__file__).parent / ".mim/configs/_base_/models/faster-rcnn_r50_fpn.py"
    if not file.is_file():
        pytest.skip("mmdet was installed without its configurations")
    theirs = Config.fromfile(file).model
    rpn, roi = faster_rcnn._proposals(faster_rcnn.ANCHOR_FRAME), faster_rcnn._boxes(80)
    for predictor in ("cls_predictor_cfg", "reg_predictor_cfg"):
        assert roi.bbox_head.pop(predictor) == {"type": nn.Linear}  # what mmdet takes where a configuration is silent
    for stage in (rpn, roi):
        assert stage.train_cfg.assigner.pop("iou_calculator") == {"type": faster_rcnn.BboxOverlaps2D}
    rpn, roi = _by_name({"type": faster_rcnn.RPNHead, **rpn}), _by_name({"type": faster_rcnn.StandardRoIHead, **roi})
    for sampler in (rpn.train_cfg.sampler, roi.train_cfg.sampler):
        assert sampler.type == "SampledByImage"
        sampler.type = "RandomSampler"
    assert rpn.train_cfg.pop("proposals") == theirs.train_cfg.rpn_proposal
    assert rpn.pop("test_cfg") == theirs.test_cfg.rpn
    theirs.train_cfg.rpn.pop("debug")
    theirs.train_cfg.rcnn.pop("debug")
    assert rpn.pop("train_cfg") == theirs.train_cfg.rpn
    assert rpn == theirs.rpn_head
    assert roi.test_cfg.score_thr == faster_rcnn.LEAST_CONFIDENCE
    assert roi.pop("test_cfg") == theirs.test_cfg.rcnn | {"score_thr": faster_rcnn.LEAST_CONFIDENCE}
    assert roi.pop("train_cfg") == theirs.train_cfg.rcnn
    assert roi == theirs.roi_head
    assert (theirs.neck.out_channels, theirs.neck.num_outs) == (faster_rcnn.WIDTH, len(faster_rcnn.LEVELS))


def test_outputs_are_neck_objectness_and_deltas_fine_to_coarse(outputs) -> None:
    grids = (24, 12, 6, 3, 2)
    expected = [(3, 8, g, g) for g in grids] + [(3, 3, g, g) for g in grids] + [(3, 12, g, g) for g in grids]
    assert [tuple(o.shape) for o in outputs] == expected


@pytest.mark.parametrize(("frame_size", "smallest", "largest"), [(800, 32, 512), (224, 8.96, 143.36)])
def test_anchors_take_the_same_share_of_any_frame(frame_size, smallest, largest) -> None:
    made = _narrow(_request(frame_size=frame_size)).rpn_head.prior_generator
    squares = [level[1] for level in made.base_anchors]
    assert [float(squares[k][2] - squares[k][0]) for k in (0, -1)] == pytest.approx([smallest, largest])


def test_start_is_mmdets_initialisation_from_the_runs_seed(head) -> None:
    assert head.seed == 4
    assert float(head.rpn_head.rpn_cls.weight.detach().std()) == pytest.approx(0.01, rel=0.3)
    assert float(head.roi_head.bbox_head.fc_reg.weight.detach().std()) == pytest.approx(0.001, rel=0.3)
    assert head.rpn_head.rpn_cls.bias.eq(0).all()
    again, other = _narrow().state_dict(), _narrow(seed=5).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in head.state_dict().items())
    assert not torch.equal(again["rpn_head.rpn_cls.weight"], other["rpn_head.rpn_cls.weight"])


def test_encoder_without_a_level_and_frame_that_does_not_fit_are_refused() -> None:
    with pytest.raises(ConformanceError, match="offers 8, 16, 32 and lacks 4"):
        faster_rcnn.FasterRcnn(_request({8: 8, 16: 8, 32: 8}))
    with pytest.raises(UsageError, match="100 px is not"):
        faster_rcnn.FasterRcnn(_request(frame_size=100))


# -------------------------------------------------------------------------------------------------------------------- loss


def _mmdets_loss(head, features, targets):
    """`TwoStageDetector.loss` on the head's own parts and seeds."""
    import numpy as np

    seeds = [np.random.SeedSequence((head.seed, *draw)).generate_state(2) for draw in targets.draws]
    head.rpn_head.sampler.start([a for a, _ in seeds])
    head.roi_head.bbox_sampler.start([b for _, b in seeds])
    about = {"img_shape": (SIZE, SIZE), "pad_shape": (SIZE, SIZE)}
    samples = []
    for boxes, labels, valid in zip(targets.boxes_xywh, targets.box_labels, targets.box_valid, strict=True):
        x, y, w, h = boxes[valid].unbind(1)
        truth = InstanceData(bboxes=torch.stack([x, y, x + w, y + h], 1), labels=labels[valid])
        samples.append(DetDataSample(metainfo=about, gt_instances=truth))
    detector = SimpleNamespace(
        extract_feat=lambda images: head.neck([images[s] for s in faster_rcnn.STRIDES]),
        with_rpn=True,
        rpn_head=head.rpn_head,
        roi_head=head.roi_head,
        train_cfg=ConfigDict(rpn_proposal=head.rpn_head.train_cfg.proposals),
        test_cfg=ConfigDict(rpn=None),
    )
    terms = TwoStageDetector.loss(detector, features, samples)
    return sum(torch.stack(v).sum() if isinstance(v, list) else v.sum() for name, v in terms.items() if "loss" in name)


def test_loss_is_mmdets(head) -> None:
    ours = head.loss(head(_features()), TARGETS)
    theirs = _mmdets_loss(head, _features(), TARGETS)
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)
    assert ours.dtype == torch.float32


def test_loss_is_float32_inside_autocast_and_from_half_maps(head, outputs) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head.loss([o.bfloat16() for o in outputs], TARGETS)
        assert head.predict([o.bfloat16() for o in outputs])[0].boxes_xywh.dtype == torch.float32
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(head.loss(outputs, TARGETS).detach()), rel=0.05)


def test_to_the_first_stage_all_classes_are_one(head, outputs) -> None:
    """A label of 1 or more would be background to it, and no error would tell."""
    first, n, *_ = head.sums(outputs, TARGETS)
    same, m, *_ = head.sums(outputs, replace(TARGETS, box_labels=torch.zeros_like(TARGETS.box_labels)))
    assert torch.equal(first, same)
    assert torch.equal(n, m)


def test_padding_is_never_a_box(head, outputs) -> None:
    wild = torch.where(TARGETS.box_valid[..., None], TARGETS.boxes_xywh, torch.tensor([20.0, 20, 40, 40]))
    assert torch.equal(head.loss(outputs, TARGETS), head.loss(outputs, replace(TARGETS, boxes_xywh=wild)))


def test_images_without_boxes_train_every_parameter() -> None:
    head = _narrow()
    loss = head.loss(head(_features(1)), _only(TARGETS, 2))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    assert head.rpn_head.rpn_cls.weight.grad.abs().max() > 0
    assert head.rpn_head.rpn_reg.weight.grad.abs().max() == 0  # no box to regress


def test_a_process_without_images_has_no_part_in_the_sums(head) -> None:
    empty = {stride: level[:0] for stride, level in _features().items()}
    sums = head.sums(head(empty), _only(TARGETS))
    assert sums.tolist() == [0, 0, 0, 0]
    assert sums.requires_grad


# ------------------------------------------------------------------------------------------------------------------- draws


@pytest.fixture
def few_samples(head):
    """Samples small enough that much is left out by chance."""
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(head.rpn_head.sampler, "num", 16)
        patching.setattr(head.roi_head.bbox_sampler, "num", 8)
        yield


def test_other_draws_do_not_change_the_sample_of_an_image(head, outputs, few_samples) -> None:
    one = head.loss(outputs, TARGETS)
    before = torch.get_rng_state()
    torch.rand(7)
    torch.manual_seed(99)
    other = head.loss(outputs, TARGETS)
    assert torch.equal(one, other)
    torch.set_rng_state(before)
    head.loss(outputs, TARGETS)
    assert torch.equal(torch.get_rng_state(), before)  # and takes nothing from what dropout draws from


def test_epoch_image_and_run_each_draw_another_sample(head, outputs, few_samples, monkeypatch) -> None:
    losses = {float(head.loss(outputs, TARGETS).detach())}
    losses.add(float(head.loss(outputs, replace(TARGETS, draws=tuple((1, i) for _, i in TARGETS.draws)))))
    losses.add(float(head.loss(outputs, replace(TARGETS, draws=tuple((0, i + 1) for _, i in TARGETS.draws)))))
    monkeypatch.setattr(head, "seed", 5)
    losses.add(float(head.loss(outputs, TARGETS)))
    assert len(losses) == 4


def test_an_image_takes_its_sample_along_to_any_place_and_batch(head, outputs, few_samples) -> None:
    backwards = [o.flip(0) for o in outputs]
    assert float(head.loss(backwards, _only(TARGETS, 2, 1, 0))) == pytest.approx(float(head.loss(outputs, TARGETS)), rel=1e-5)
    whole = head.sums(outputs, TARGETS)
    parts = sum(head.sums([o[i : i + 1] for o in outputs], _only(TARGETS, i)) for i in range(3))
    torch.testing.assert_close(parts, whole)


def test_targets_that_do_not_say_what_to_draw_from_are_refused(head, outputs) -> None:
    with pytest.raises(TrainingError, match="`draws` of 3 images and have 0"):
        head.loss(outputs, replace(TARGETS, draws=()))


def test_a_sampler_with_too_few_seeds_fails_loudly(head) -> None:
    sampler = head.rpn_head.sampler
    sampler.start([])
    with pytest.raises(IndexError):
        tuple(map(sampler.sample, [None]))  # as mmdet calls it: the end of an iterator would be silent


# ------------------------------------------------------------------------------------------------------------- predictions


def _answer(head, monkeypatch, proposals_xyxy, logits, deltas):
    """The head's detections if its stages gave these."""
    found = InstanceData(bboxes=proposals_xyxy, scores=torch.ones(len(proposals_xyxy)), labels=torch.zeros(len(proposals_xyxy)).long())
    monkeypatch.setattr(head.rpn_head, "predict_by_feat", lambda *_, **__: [found])
    monkeypatch.setattr(head.roi_head, "_bbox_forward", lambda *_: {"cls_score": logits, "bbox_pred": deltas})
    (image,) = head.predict([o[:1] for o in head(_features(1))])
    return image


def test_detections_are_torchvisions(head, monkeypatch) -> None:
    """Decoding, classes, cut, suppression by class and cap, against another library, for which class 0 is the background."""
    torch.manual_seed(2)
    corner, size = torch.rand(150, 2) * 70, torch.rand(150, 2) * 40 + 5
    proposals = torch.cat([corner, (corner + size).clamp(max=SIZE)], 1)
    logits, deltas = torch.randn(150, CLASSES + 1) * 2, torch.randn(150, CLASSES * 4)
    ours = _answer(head, monkeypatch, proposals, logits, deltas)
    settings = SimpleNamespace(
        box_coder=BoxCoder((10.0, 10.0, 5.0, 5.0)), score_thresh=faster_rcnn.LEAST_CONFIDENCE, nms_thresh=0.5, detections_per_img=100
    )
    shifted = torch.cat([logits[:, -1:], logits[:, :-1]], 1)
    with_background = torch.cat([torch.zeros(150, 4), deltas], 1)
    (boxes,), (scores,), (labels,) = RoIHeads.postprocess_detections(settings, shifted, with_background, [proposals], [(SIZE, SIZE)])
    assert len(ours.confidence) == 100
    torch.testing.assert_close(ours.confidence, scores)
    torch.testing.assert_close(ours.boxes_xywh, torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1), atol=1e-3, rtol=1e-4)
    assert torch.equal(ours.labels, labels - 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("level", [0, 6, 11])
def test_an_image_whose_maps_are_not_finite_is_refused_and_not_an_image_without_boxes(head, outputs, level, value) -> None:
    given = [one.clone() for one in outputs]
    given[level][1, 0, 0, 0] = value
    with pytest.raises(TrainingError, match=r"deltas of 1 of 3 images are not finite numbers"):
        head.predict(given)


def test_proposals_like_the_truth_give_the_truth(head, monkeypatch) -> None:
    proposals = torch.tensor([[10.0, 40, 60, 60], [60, 5, 76, 35], [0, 0, 90, 9]])
    logits = torch.full((3, CLASSES + 1), -9.0)
    logits[[0, 1, 2], [1, 2, 3]] = torch.tensor([9.0, 8.0, 9.0])  # the last is background
    image = _answer(head, monkeypatch, proposals, logits, torch.zeros(3, CLASSES * 4))
    assert image.boxes_xywh.tolist() == [[10, 40, 50, 20], [60, 5, 16, 30]]
    assert image.labels.tolist() == [1, 2]
    assert image.confidence.min() > 0.99


def test_classes_are_suppressed_apart(head, monkeypatch) -> None:
    proposals = torch.tensor([[10.0, 10, 50, 50], [11, 10, 51, 50], [12, 10, 52, 50]])
    logits = torch.full((3, CLASSES + 1), -9.0)
    logits[[0, 1, 2], [0, 0, 2]] = torch.tensor([9.0, 8.0, 7.0])
    image = _answer(head, monkeypatch, proposals, logits, torch.zeros(3, CLASSES * 4))
    assert image.boxes_xywh[:, 0].tolist() == [10, 12]
    assert image.labels.tolist() == [0, 2]


def test_an_image_without_proposals_gives_no_detection(head, monkeypatch) -> None:
    none = InstanceData(bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0).long())
    monkeypatch.setattr(head.rpn_head, "predict_by_feat", lambda *_, **__: [none])
    (image,) = head.predict(head(_features(1)))
    assert (image.boxes_xywh.shape, image.confidence.shape, image.labels.shape) == ((0, 4), (0,), (0,))
    assert image.labels.dtype == torch.long


def test_first_stage_proposes_the_box_its_deltas_stand_for(head) -> None:
    """In torchvision's coding: (x, y) is not (row, column), and a box is in pixels of the frame."""
    _, scores, deltas = faster_rcnn._split(head(_features(1)))
    scores = [torch.full_like(level, -9.0) for level in scores]
    priors = head.rpn_head.prior_generator.grid_priors([level.shape[-2:] for level in scores], device="cpu")
    grid, (row, column), anchor, wanted = scores[1].shape[-1], (7, 3), 2, torch.tensor([[12.0, 44, 52, 60]])
    scores[1][0, anchor, row, column] = 5.0
    prior = priors[1][(row * grid + column) * 3 + anchor]
    assert (prior[:2] + prior[2:]).tolist() == [2 * 8 * column, 2 * 8 * row]
    deltas[1].data[0, 4 * anchor : 4 * anchor + 4, row, column] = BoxCoder((1.0,) * 4).encode_single(wanted, prior[None])[0]
    (found,) = head.rpn_head.predict_by_feat(scores, deltas, batch_img_metas=[head._about])
    assert found.bboxes[0].tolist() == pytest.approx(wanted[0].tolist(), abs=1e-3)


def test_an_image_is_detected_in_a_batch_as_alone_and_inside_the_frame(head, outputs) -> None:
    together = head.predict(outputs)
    for i, image in enumerate(together):
        (alone,) = head.predict([o[i : i + 1] for o in outputs])
        torch.testing.assert_close(image.boxes_xywh, alone.boxes_xywh)
        assert len(image.confidence) <= faster_rcnn.DETECTIONS
        assert (image.confidence.diff() <= 0).all()
        assert image.boxes_xywh.min() >= 0
        assert (image.boxes_xywh[:, :2] + image.boxes_xywh[:, 2:]).max() <= SIZE + 1e-3
    assert not torch.equal(together[0].confidence, together[1].confidence)


def test_predict_and_loss_leave_the_maps_alone(head, outputs) -> None:
    copies = [o.clone() for o in outputs]
    head.loss(outputs, TARGETS)
    head.predict(outputs)
    assert all(torch.equal(one, other) for one, other in zip(outputs, copies, strict=True))


def test_head_learns_boxes_with_their_classes(monkeypatch) -> None:
    """Long boxes of three classes: swapped axes, corners for sizes or classes moved by one would not be learnt."""
    head, features = _narrow(width=16, hidden=128), _features()
    monkeypatch.setattr(head.rpn_head.sampler, "num", 32)  # background is nearly everything in so small a frame
    monkeypatch.setattr(head.roi_head.bbox_sampler, "num", 16)
    optimiser = torch.optim.Adam(head.parameters(), lr=2e-3)
    losses = []
    for epoch in range(100):
        optimiser.zero_grad()
        loss = head.loss(head(features), replace(TARGETS, draws=tuple((epoch, i) for _, i in TARGETS.draws)))
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    first, second, _ = head.predict(head(features))
    assert losses[-1] < 0.3 * losses[0]
    for image, label, box in ((first, 1, [8, 54, 48, 20]), (first, 2, [60, 5, 16, 30]), (second, 0, [30, 30, 24, 44])):
        assert float(image.confidence[image.labels == label][0]) > 0.5
        x, y, w, h = torch.stack([image.boxes_xywh[image.labels == label][0], torch.tensor(box, dtype=torch.float32)]).unbind(1)
        corners = torch.stack([x, y, x + w, y + h], 1)
        assert float(box_iou(corners[:1], corners[1:])) > 0.6
