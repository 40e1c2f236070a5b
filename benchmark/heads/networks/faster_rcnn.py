"""Faster R-CNN with a feature pyramid: mmdet's neck, region proposals and box head, assigners, coders and losses, in mmdet's configuration.

LOBE's own are three things: the sizes of anchors and the cut on scores (constants below), and where random numbers come from. Both stages
train on a random sample of boxes; an image's is drawn from the run's seed, the epoch and the image's place in its list, never from a global
generator. So it is the same in any batch, on any process and after a restart, and validation losses of two epochs compare.
Sources: Ren et al., Faster R-CNN; Lin et al., Feature pyramid networks; mmdet 3.3.0, configuration `faster-rcnn_r50_fpn`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.errors import ConformanceError, TrainingError, UsageError
from benchmark.heads.base import Head, HeadRequest, ImageDetections, Targets, at_least_float32, count_images, require_numbers
from benchmark.heads.networks import mmcv_ops
from benchmark.heads.networks.parts_only import parts_only

mmcv_ops.install()  # before mmcv and mmdet look for operators

with parts_only():
    from mmcv.ops import RoIAlign
    from mmdet.models.dense_heads import RPNHead
    from mmdet.models.losses import CrossEntropyLoss, L1Loss
    from mmdet.models.necks import FPN
    from mmdet.models.roi_heads import StandardRoIHead
    from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead
    from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
    from mmdet.models.task_modules.assigners import BboxOverlaps2D, MaxIoUAssigner
    from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
    from mmdet.models.task_modules.prior_generators import AnchorGenerator
    from mmdet.models.task_modules.samplers import RandomSampler, SamplingResult
    from mmdet.structures import DetDataSample
    from mmengine.config import ConfigDict
    from mmengine.structures import InstanceData

STRIDES = (4, 8, 16, 32)  # read from the encoder
LEVELS = (*STRIDES, 64)  # of the neck: proposals come from all, boxes are pooled from the first four
WIDTH = 256
HIDDEN = 1024  # of the box head's two layers

# mmdet's anchors have 8 strides a side where the shorter side of an image has 800 pixels. Here they take the same share of the frame: at
# 224 pixels 9 to 143 pixels, not 32 to 512, the largest of which no box could fill.
ANCHOR_STRIDES = 8
ANCHOR_FRAME = 800

# mmdet's cut is at 0.05, below which most boxes of rare classes lie; this is where the other heads cut (`yolov3`).
LEAST_CONFIDENCE = 0.001
DETECTIONS = 100  # an image, mmdet's

EPSILON = torch.finfo(torch.float32).eps  # mmdet's losses are sums divided by so much more than the number of samples


class FasterRcnn(Head):
    """Outputs: five maps of the neck, five of objectness (B, 3, H, W) and five of deltas (B, 12, H, W), fine to coarse.

    Predicts a list of ImageDetections, one per image. The second stage depends on proposals, so it is computed with the loss or with the
    predictions, in float32 under any autocast. 17,840,149 parameters at ResNet-50's channels and one class.

    Raises:
        ConformanceError: the encoder lacks one of the strides 4, 8, 16, 32.
        UsageError: the frame is no multiple of 32.
    """

    strides = STRIDES

    def __init__(self, request: HeadRequest):
        super().__init__()
        _check(request)
        # As it was when initialisation began: the run's seed (`seeded_init`).
        self.seed = torch.initial_seed()
        self._about = {"img_shape": (request.frame_size,) * 2, "pad_shape": (request.frame_size,) * 2}
        with parts_only():
            self.neck = FPN(in_channels=[request.channels[s] for s in STRIDES], out_channels=WIDTH, num_outs=len(LEVELS))
            self.rpn_head = RPNHead(**_proposals(request.frame_size))
            self.roi_head = StandardRoIHead(**_boxes(request.n_classes))
            for part in (self.neck, self.rpn_head, self.roi_head):
                part.init_weights()

    def forward(self, pyramid: Mapping[int, Tensor], images: Tensor | None = None) -> tuple[Tensor, ...]:
        levels = self.neck([pyramid[stride] for stride in STRIDES])
        scores, deltas = self.rpn_head(levels)
        return (*levels, *scores, *deltas)

    def sums(self, outputs: Sequence[Tensor], targets: Targets) -> Tensor:
        """(4,): loss over sampled anchors and how many they are, and the same of sampled proposals.

        Raises:
            TrainingError: the targets do not say what to draw from.
        """
        n_given = count_images(outputs)
        if len(targets.draws) != n_given:
            raise TrainingError(f"Faster R-CNN samples boxes: its targets need `draws` of {n_given} images and have {len(targets.draws)}.")
        with torch.autocast(outputs[0].device.type, enabled=False):
            # mmdet takes no batch without an image.
            return self._sums(outputs, targets) if n_given else torch.stack([_nothing(outputs)] * 4)

    def loss_of(self, sums: Tensor, n_images: int) -> Tensor:
        """The mean over sampled anchors and the mean over sampled proposals, each over the whole batch."""
        of_anchors, n_anchors, of_proposals, n_proposals = sums.unbind()
        return of_anchors / n_anchors + of_proposals / n_proposals

    @torch.no_grad()
    def predict(self, outputs: Sequence[Tensor]) -> list[ImageDetections]:
        """
        Raises:
            TrainingError: a value is not finite; mmdet's cuts would drop such boxes without a word.
        """
        require_numbers("Maps of the neck, objectness and deltas", outputs, finite=True)
        with torch.autocast(outputs[0].device.type, enabled=False):
            # One by one: a thousand proposals of each image of a batch would not fit.
            return [self._predict_one([level[i : i + 1] for level in outputs]) for i in range(len(outputs[0]))]

    def _sums(self, outputs: Sequence[Tensor], targets: Targets) -> Tensor:
        levels, scores, deltas = _split(outputs)
        about = [self._about] * len(targets.draws)
        seeds = [np.random.SeedSequence((self.seed, *draw)).generate_state(2) for draw in targets.draws]
        anchors, proposals = self.rpn_head.sampler, self.roi_head.bbox_sampler
        anchors.start(first for first, _ in seeds)
        proposals.start(second for _, second in seeds)
        truth = _truth(targets)
        # To the first stage every box is of one class, its 0; any other label would count as background.
        boxes = [InstanceData(bboxes=t.bboxes, labels=torch.zeros_like(t.labels)) for t in truth]
        first = self.rpn_head.loss_by_feat(scores, deltas, boxes, about)
        found = self.rpn_head.predict_by_feat(scores, deltas, batch_img_metas=about, cfg=self.rpn_head.train_cfg.proposals)
        second = self.roi_head.loss(levels, found, [DetDataSample(gt_instances=t) for t in truth])
        n_anchors = sum(sampled.avg_factor for sampled in anchors.taken())
        n_proposals = max(sum(len(sampled.priors) for sampled in proposals.taken()), 1)
        of_anchors = torch.stack([*first["loss_rpn_cls"], *first["loss_rpn_bbox"]]).sum()
        of_proposals = sum(value for name, value in second.items() if name.startswith("loss"))
        counts = of_anchors.new_tensor([n_anchors, n_proposals])
        return torch.stack([of_anchors * (n_anchors + EPSILON), counts[0], of_proposals * (n_proposals + EPSILON), counts[1]])

    def _predict_one(self, outputs: Sequence[Tensor]) -> ImageDetections:
        levels, scores, deltas = _split(outputs)
        found = self.rpn_head.predict_by_feat(scores, deltas, batch_img_metas=[self._about])
        (image,) = self.roi_head.predict_bbox(levels, [self._about], found, rcnn_test_cfg=self.roi_head.test_cfg)
        corners = image.bboxes
        return ImageDetections(torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1), image.scores, image.labels)


class SampledByImage(RandomSampler):
    """mmdet's sampler, whose draws of an image come from a seed of that image. `start`, one `sample` per image in order, then `taken`."""

    def start(self, seeds: Iterable[int]) -> None:
        self._seeds = [int(seed) for seed in seeds][::-1]
        self._taken: list[SamplingResult] = []

    def sample(self, *args, **kwargs):
        # A pop that finds nothing must be an IndexError: mmdet's loops would take the end of an iterator for their own.
        self._generator = torch.Generator().manual_seed(self._seeds.pop())
        self._taken.append(super().sample(*args, **kwargs))
        return self._taken[-1]

    def random_choice(self, gallery: Tensor, num: int) -> Tensor:
        order = torch.randperm(len(gallery), generator=self._generator)  # on the CPU: the same on every device
        return gallery[order[:num].to(gallery.device)]

    def taken(self) -> list[SamplingResult]:
        """What was sampled of each image, once; tensors of a step are not kept beyond it."""
        taken, self._taken = self._taken, []
        return taken


def _proposals(frame_size: int) -> ConfigDict:
    return ConfigDict(
        in_channels=WIDTH,
        feat_channels=WIDTH,
        anchor_generator={
            "type": AnchorGenerator,
            "scales": [ANCHOR_STRIDES * frame_size / ANCHOR_FRAME],
            "ratios": [0.5, 1.0, 2.0],
            "strides": list(LEVELS),
        },
        bbox_coder={"type": DeltaXYWHBBoxCoder, "target_means": [0.0] * 4, "target_stds": [1.0] * 4},
        loss_cls={"type": CrossEntropyLoss, "use_sigmoid": True, "loss_weight": 1.0},
        loss_bbox={"type": L1Loss, "loss_weight": 1.0},
        train_cfg={
            "assigner": _assigner(positive=0.7, negative=0.3, least=0.3, match_low_quality=True),
            "sampler": {"type": SampledByImage, "num": 256, "pos_fraction": 0.5, "neg_pos_ub": -1, "add_gt_as_proposals": False},
            "allowed_border": -1,
            "pos_weight": -1,
            "proposals": _kept_proposals(n_tried=2000),
        },
        test_cfg=_kept_proposals(n_tried=1000),
    )


def _boxes(n_classes: int) -> ConfigDict:
    return ConfigDict(
        bbox_roi_extractor={
            "type": SingleRoIExtractor,
            "roi_layer": {"type": RoIAlign, "output_size": 7, "sampling_ratio": 0},
            "out_channels": WIDTH,
            "featmap_strides": list(STRIDES),
        },
        bbox_head={
            "type": Shared2FCBBoxHead,
            "in_channels": WIDTH,
            "fc_out_channels": HIDDEN,
            "roi_feat_size": 7,
            "num_classes": n_classes,
            "bbox_coder": {"type": DeltaXYWHBBoxCoder, "target_means": [0.0] * 4, "target_stds": [0.1, 0.1, 0.2, 0.2]},
            "reg_class_agnostic": False,
            "cls_predictor_cfg": {"type": nn.Linear},
            "reg_predictor_cfg": {"type": nn.Linear},
            "loss_cls": {"type": CrossEntropyLoss, "use_sigmoid": False, "loss_weight": 1.0},
            "loss_bbox": {"type": L1Loss, "loss_weight": 1.0},
        },
        train_cfg={
            "assigner": _assigner(positive=0.5, negative=0.5, least=0.5, match_low_quality=False),
            "sampler": {"type": SampledByImage, "num": 512, "pos_fraction": 0.25, "neg_pos_ub": -1, "add_gt_as_proposals": True},
            "pos_weight": -1,
        },
        test_cfg={"score_thr": LEAST_CONFIDENCE, "nms": {"type": "nms", "iou_threshold": 0.5}, "max_per_img": DETECTIONS},
    )


def _assigner(*, positive: float, negative: float, least: float, match_low_quality: bool) -> dict:
    return {
        "type": MaxIoUAssigner,
        "iou_calculator": {"type": BboxOverlaps2D},
        "pos_iou_thr": positive,
        "neg_iou_thr": negative,
        "min_pos_iou": least,
        "match_low_quality": match_low_quality,
        "ignore_iof_thr": -1,
    }


def _kept_proposals(n_tried: int) -> dict:
    return {"nms_pre": n_tried, "max_per_img": 1000, "nms": {"type": "nms", "iou_threshold": 0.7}, "min_bbox_size": 0}


def _split(outputs: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], ...]:
    """Maps of the neck, objectness and deltas, in float32 or more."""
    maps, n = tuple(at_least_float32(level) for level in outputs), len(LEVELS)
    return maps[:n], maps[n : 2 * n], maps[2 * n :]


def _truth(targets: Targets) -> list[InstanceData]:
    """mmdet's boxes xyxy and labels of each image, without padding; none where an image has none."""
    true = targets.true_boxes
    corners = torch.cat([true.xywh[..., :2], true.xywh[..., :2] + true.xywh[..., 2:]], dim=-1)
    return [InstanceData(bboxes=b[v], labels=k[v]) for b, k, v in zip(corners, true.labels, true.valid, strict=True)]


def _nothing(outputs: Sequence[Tensor]) -> Tensor:
    """Zero, with the gradient zero to every map."""
    return torch.stack([at_least_float32(level).sum() for level in outputs]).sum() * 0.0


def _check(request: HeadRequest) -> None:
    missing = [stride for stride in STRIDES if stride not in request.channels]
    if missing:
        offered = ", ".join(map(str, sorted(request.channels)))
        raise ConformanceError(f"The Faster R-CNN head reads strides 4, 8, 16 and 32; the encoder offers {offered} and lacks {missing[0]}.")
    if request.frame_size % max(STRIDES):
        raise UsageError(f"The Faster R-CNN head needs a frame that is a multiple of 32; {request.frame_size} px is not.")
