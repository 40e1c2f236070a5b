"""Each operator behind mmcv's own functions, against an independent computation."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
import torchvision
from torch.nn import functional as F

from benchmark.heads.networks import mmcv_ops

BACKED_BY_TORCHVISION = mmcv_ops.install() == "torchvision"

import mmcv.ops  # noqa: E402  after the operators are installed


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def _slow_nms(boxes, scores, threshold, offset):
    kept = []
    for candidate in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        ax1, ay1, ax2, ay2 = boxes[candidate]
        for other in kept:
            bx1, by1, bx2, by2 = boxes[other]
            width = max(0.0, min(ax2, bx2) - max(ax1, bx1) + offset)
            height = max(0.0, min(ay2, by2) - max(ay1, by1) + offset)
            areas = (ax2 - ax1 + offset) * (ay2 - ay1 + offset) + (bx2 - bx1 + offset) * (by2 - by1 + offset)
            if width * height / (areas - width * height) > threshold:
                break
        else:
            kept.append(candidate)
    return kept


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_nms_keeps_what_a_plain_loop_keeps(offset, threshold):
    corner, size = torch.rand(200, 2) * 60, torch.rand(200, 2) * 30
    boxes, scores = torch.cat([corner, corner + size], 1), torch.randperm(200).float()
    _, kept = mmcv.ops.nms(boxes, scores, iou_threshold=threshold, offset=offset)
    assert kept.tolist() == _slow_nms(boxes.double().tolist(), scores.tolist(), threshold, offset)


def test_nms_removes_at_the_ious_that_the_reference_gives_by_hand():
    # LoVT 3.3: +1 IoUs 0.7826 and 0.2424 between the first box and the next two.
    boxes = torch.tensor([[30.0, 30, 70, 70], [35, 30, 75, 70], [55, 30, 95, 70]])
    for threshold, kept in ((0.7827, [0, 1, 2]), (0.7825, [0, 2]), (0.2425, [0, 2]), (0.2423, [0])):
        assert mmcv.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), iou_threshold=threshold, offset=1)[1].tolist() == kept


def test_nms_of_no_box_gives_no_box():
    assert len(mmcv.ops.nms(torch.empty(0, 4), torch.empty(0), iou_threshold=0.5)[1]) == 0


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_roi_align_and_its_gradient_equal_torchvisions(aligned, sampling_ratio):
    rois = torch.tensor([[0, 2.0, 3.0, 20.0, 17.0], [1, -5.0, 0.0, 4.0, 40.0]])
    ours, theirs = (torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    pooled = mmcv.ops.roi_align(ours, rois, (4, 5), 0.5, sampling_ratio, "avg", aligned)
    expected = torchvision.ops.roi_align(theirs, rois, (4, 5), 0.5, sampling_ratio or -1, aligned)
    assert torch.equal(pooled, expected)
    pooled.square().sum().backward()
    expected.square().sum().backward()
    assert torch.allclose(ours.grad, theirs.grad)


def test_roi_pool_and_its_gradient_equal_torchvisions():
    rois = torch.tensor([[0, 2.0, 3.0, 20.0, 17.0], [1, 0.0, 0.0, 14.0, 30.0]])
    ours, theirs = (torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    pooled = mmcv.ops.roi_pool(ours, rois, (4, 4), 0.5)
    expected = torchvision.ops.roi_pool(theirs, rois, (4, 4), 0.5)
    assert torch.equal(pooled, expected)
    pooled.square().sum().backward()
    expected.square().sum().backward()
    assert torch.allclose(ours.grad, theirs.grad)


def test_deformable_convolution_without_offsets_is_a_convolution():
    features, weight = torch.randn(2, 4, 9, 9, requires_grad=True), torch.randn(6, 4, 3, 3, requires_grad=True)
    offsets = torch.zeros(2, 18, 5, 5, requires_grad=True)
    deformed = mmcv.ops.deform_conv2d(features, offsets, weight, 2, 1)
    plain = F.conv2d(features, weight, stride=2, padding=1)
    assert torch.allclose(deformed, plain, atol=1e-5)
    gradients = torch.autograd.grad(deformed.square().sum(), (features, weight, offsets))
    expected = torch.autograd.grad(plain.square().sum(), (features, weight))
    assert torch.allclose(gradients[0], expected[0], rtol=1e-4, atol=1e-3)
    assert torch.allclose(gradients[1], expected[1], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("modulated", [False, True])
def test_deformable_convolution_and_gradients_equal_torchvisions(modulated):
    features, weight, bias = torch.randn(2, 4, 8, 7), torch.randn(6, 2, 3, 3), torch.randn(6)
    offsets, mask = torch.randn(2, 36, 8, 7), torch.rand(2, 18, 8, 7)
    inputs = [t.requires_grad_() for t in ((features, offsets, mask, weight, bias) if modulated else (features, offsets, weight))]
    if modulated:
        deformed = mmcv.ops.modulated_deform_conv2d(*inputs, 1, 1, 1, 2, 2)
        expected = torchvision.ops.deform_conv2d(features, offsets, weight, bias, padding=1, mask=mask)
    else:
        deformed = mmcv.ops.deform_conv2d(*inputs, 1, 1, 1, 2, 2)
        expected = torchvision.ops.deform_conv2d(features, offsets, weight, padding=1)
    assert torch.allclose(deformed, expected, atol=1e-5)
    ours, theirs = (torch.autograd.grad(output.square().sum(), inputs) for output in (deformed, expected))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-3)


@pytest.mark.skipif(not BACKED_BY_TORCHVISION, reason="mmcv's compiled focal loss exists on CUDA only")
def test_focal_loss_and_gradient_equal_torchvisions_with_the_last_index_as_background():
    logits, target = torch.randn(6, 3), torch.tensor([0, 2, 3, 1, 3, 0])
    one_hot = F.one_hot(target, 4)[:, :3].float()
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = mmcv.ops.sigmoid_focal_loss(ours, target, 2.0, 0.25, None, "none")
    expected = torchvision.ops.sigmoid_focal_loss(theirs, one_hot, 0.25, 2.0, "none")
    assert torch.allclose(loss, expected, atol=1e-6)
    loss.sum().backward()
    expected.sum().backward()
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)


@pytest.mark.skipif(not BACKED_BY_TORCHVISION, reason="a compiled mmcv has them all")
def test_unbacked_operator_fails_only_when_called_and_names_itself():
    extension = sys.modules["mmcv._ext"]
    operator = extension.softnms
    with pytest.raises(NotImplementedError, match="softnms"):
        operator()
    with pytest.raises(AttributeError):
        extension.__wrapped__  # noqa: B018


@pytest.mark.skipif(not BACKED_BY_TORCHVISION, reason="a compiled mmcv has them all")
def test_ways_of_an_operator_that_torchvision_has_not_are_refused():
    from mmcv.ops import roi_align, sigmoid_focal_loss

    images, rois = torch.zeros(1, 1, 8, 8), torch.tensor([[0.0, 0, 0, 4, 4]])
    assert roi_align(images, rois, 2, 1.0, 0, "avg", True).shape == (1, 1, 2, 2)
    with pytest.raises(NotImplementedError, match="'roi_align' with max pooling"):
        roi_align(images, rois, 2, 1.0, 0, "max", True)
    with pytest.raises(NotImplementedError, match="'sigmoid_focal_loss' with class weights"):
        sigmoid_focal_loss(torch.zeros(2, 3), torch.tensor([0, 1]), 2.0, 0.25, torch.ones(3), "none")


def test_installing_again_changes_nothing():
    before = sys.modules["mmcv._ext"]
    assert (mmcv_ops.install() == "torchvision") == BACKED_BY_TORCHVISION
    assert sys.modules["mmcv._ext"] is before


def test_compiled_extension_is_left_alone(monkeypatch):
    compiled = ModuleType("mmcv._ext")
    monkeypatch.setitem(sys.modules, "mmcv._ext", compiled)
    assert mmcv_ops.install() == "compiled"
    assert sys.modules["mmcv._ext"] is compiled
