"""The operators mmdet needs from `mmcv._ext`, backed by torchvision where mmcv was installed without its compiled extension.

Only the extension is replaced: mmcv's own Python (autograd functions, layers, `batched_nms`) stays in charge, so results follow mmcv.
Call `install` before anything imports `mmdet.models` or `mmcv.ops`, in every process; an operator not backed here fails only when called.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Literal, NoReturn

import mmcv
import torch
import torchvision  # noqa: F401  registers torch.ops.torchvision
from mmengine.logging import MMLogger
from torch import Tensor
from torch.nn import functional as F

NAME = "mmcv._ext"


def install() -> Literal["compiled", "torchvision"]:
    """Makes `mmcv.ops` importable and says which operators serve: mmcv's compiled ones if present, else torchvision's.

    May be called any number of times. Also sets mmengine's logger to errors only: it prints a line per initialised parameter otherwise.
    Gives `pkgutil` its `find_loader` back on Python 3.14, which no longer has it and where mmengine 0.10.7 and mmcv 2.1.0 still call it.
    """
    if not hasattr(pkgutil, "find_loader"):
        pkgutil.find_loader = _find_loader
    MMLogger.get_instance("mmengine").setLevel("ERROR")
    if isinstance(sys.modules.get(NAME), _TorchvisionOps):
        return "torchvision"
    try:
        importlib.import_module(NAME)
    except ImportError:
        module = _TorchvisionOps(NAME)
        module.__spec__ = ModuleSpec(NAME, loader=None)  # importlib.util.find_spec refuses a module whose spec is None
        sys.modules[NAME] = module
        mmcv._ext = module
        return "torchvision"
    return "compiled"  # pragma: no cover: needs mmcv with compiled operations; its light edition is installed


def _find_loader(fullname: str) -> Loader | None:
    """What `pkgutil.find_loader` gave up to Python 3.13: the loader of a module, None when there is none."""
    spec = importlib.util.find_spec(fullname)
    return None if spec is None else spec.loader


class _TorchvisionOps(ModuleType):
    """Stands in for `mmcv._ext`. mmcv checks about 110 names with hasattr at import, so every name must resolve to something."""

    def __getattr__(self, name: str) -> Callable:
        if name in _BACKED:
            return _BACKED[name]
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_args, **_kwargs) -> NoReturn:
            raise NotImplementedError(f"mmcv op {name!r} has no torchvision counterpart here: install mmcv with compiled ops to use it.")

        return missing


# Below, names, argument order and keywords are those of mmcv 2.1.0's extension; results are written into the tensors given, as there.


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices kept, best first; a box goes when its IoU with a kept one is > threshold. `offset` 1 counts pixels: (x2 - x1 + 1)."""
    if boxes.numel() == 0:
        return boxes.new_empty(0, dtype=torch.long)
    boxes = boxes.float()
    if offset:
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)
    return torch.ops.torchvision.nms(boxes, scores.float(), iou_threshold)


def _sampling(ratio: int) -> int:
    return ratio if ratio > 0 else -1  # mmcv spells "adaptive" 0, torchvision -1


def _only_average(pool_mode: int) -> None:
    if pool_mode == 0:
        raise NotImplementedError("mmcv op 'roi_align' with max pooling is not backed: install mmcv with compiled ops to use it.")


def _roi_align_forward(
    input, rois, output, argmax_y, argmax_x, aligned_height, aligned_width, spatial_scale, sampling_ratio, pool_mode, aligned
) -> None:
    _only_average(pool_mode)
    output.copy_(
        torch.ops.torchvision.roi_align(
            input, rois.to(input.dtype), spatial_scale, aligned_height, aligned_width, _sampling(sampling_ratio), aligned
        )
    )


def _roi_align_backward(
    grad_output, rois, argmax_y, argmax_x, grad_input, aligned_height, aligned_width, spatial_scale, sampling_ratio, pool_mode, aligned
) -> None:
    _only_average(pool_mode)
    size, ratio = grad_input.shape, _sampling(sampling_ratio)
    rois = rois.to(grad_output.dtype)
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(grad_output, rois, spatial_scale, aligned_height, aligned_width, *size, ratio, aligned)
    )


def _roi_pool_forward(input, rois, output, argmax, pooled_height, pooled_width, spatial_scale) -> None:
    pooled, where = torch.ops.torchvision.roi_pool(input, rois.to(input.dtype), spatial_scale, pooled_height, pooled_width)
    output.copy_(pooled)
    argmax.copy_(where)


def _roi_pool_backward(grad_output, rois, argmax, grad_input, pooled_height, pooled_width, spatial_scale) -> None:
    rois = rois.to(grad_output.dtype)
    grad_input.copy_(
        torch.ops.torchvision._roi_pool_backward(grad_output, rois, argmax, spatial_scale, pooled_height, pooled_width, *grad_input.shape)
    )


def _unmodulated(input: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mask and bias torchvision expects where a deformable convolution has neither."""
    return input.new_zeros(input.shape[0], 1), input.new_zeros(weight.shape[0])


# mmcv gives all numbers of a deformable convolution by keyword; kernel sizes (kW, kH), `im2col_step` and `scale` are not torchvision's.
def _geometry(dW, dH, padW, padH, dilationW, dilationH, group, deformable_group, **_further) -> tuple[int, ...]:
    return dH, dW, padH, padW, dilationH, dilationW, group, deformable_group


def _modulated_geometry(stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group, **_further) -> tuple[int, ...]:
    return stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group


def _deform_conv_forward(input, weight, offset, output, columns, ones, **numbers) -> None:
    mask, bias = _unmodulated(input, weight)
    output.copy_(torch.ops.torchvision.deform_conv2d(input, weight, offset, mask, bias, *_geometry(**numbers), False))


def _deform_conv_backward_input(input, offset, grad_output, grad_input, grad_offset, weight, columns, **numbers) -> None:
    gradients = _deform_conv_gradients(grad_output, input, weight, offset, numbers)
    grad_input.copy_(gradients[0])
    grad_offset.copy_(gradients[2])


def _deform_conv_backward_parameters(input, offset, grad_output, grad_weight, columns, ones, *, scale, **numbers) -> None:
    # A convolution's weight gradient does not depend on the weight.
    gradients = _deform_conv_gradients(grad_output, input, torch.zeros_like(grad_weight), offset, numbers)
    grad_weight.add_(gradients[1], alpha=scale)


def _deform_conv_gradients(
    grad_output: Tensor, input: Tensor, weight: Tensor, offset: Tensor, numbers: dict[str, int]
) -> tuple[Tensor, ...]:
    """Gradients of input, weight, offset, mask and bias."""
    mask, bias = _unmodulated(input, weight)
    return torch.ops.torchvision._deform_conv2d_backward(grad_output, input, weight, offset, mask, bias, *_geometry(**numbers), False)


def _modulated_deform_conv_forward(input, weight, bias, ones, offset, mask, output, columns, *, with_bias, **numbers) -> None:
    bias = bias if with_bias else input.new_zeros(weight.shape[0])
    output.copy_(torch.ops.torchvision.deform_conv2d(input, weight, offset, mask, bias, *_modulated_geometry(**numbers), True))


def _modulated_deform_conv_backward(
    input,
    weight,
    bias,
    ones,
    offset,
    mask,
    columns,
    grad_input,
    grad_weight,
    grad_bias,
    grad_offset,
    grad_mask,
    grad_output,
    *,
    with_bias,
    **numbers,
) -> None:
    zero_bias = input.new_zeros(weight.shape[0])
    gradients = torch.ops.torchvision._deform_conv2d_backward(
        grad_output, input, weight, offset, mask, zero_bias, *_modulated_geometry(**numbers), True
    )
    for target, gradient in zip((grad_input, grad_weight, grad_offset, grad_mask), gradients, strict=False):
        target.copy_(gradient)
    if with_bias:
        grad_bias.copy_(gradients[4])


def _focal_loss(logits: Tensor, target: Tensor, gamma: float, alpha: float) -> Tensor:
    """Per-element sigmoid focal loss (n, C); a target equal to C means background."""
    one_hot = F.one_hot(target, logits.shape[1] + 1)[:, :-1].to(logits.dtype)
    probability = logits.sigmoid()
    missed = (1 - probability) * one_hot + probability * (1 - one_hot)
    balance = alpha * one_hot + (1 - alpha) * (1 - one_hot)
    return balance * missed.pow(gamma) * F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none")


def _no_class_weights(weight: Tensor) -> None:
    if weight.numel():
        raise NotImplementedError("mmcv op 'sigmoid_focal_loss' with class weights is not backed: install mmcv with compiled ops.")


def _sigmoid_focal_loss_forward(input, target, weight, output, gamma, alpha) -> None:
    _no_class_weights(weight)
    output.copy_(_focal_loss(input, target, gamma, alpha))


def _sigmoid_focal_loss_backward(input, target, weight, grad_input, gamma, alpha) -> None:
    _no_class_weights(weight)
    with torch.enable_grad():
        logits = input.detach().requires_grad_()
        loss = _focal_loss(logits, target, gamma, alpha).sum()
    grad_input.copy_(torch.autograd.grad(loss, logits)[0])


_BACKED: dict[str, Callable] = {
    "nms": _nms,
    "roi_align_forward": _roi_align_forward,
    "roi_align_backward": _roi_align_backward,
    "roi_pool_forward": _roi_pool_forward,
    "roi_pool_backward": _roi_pool_backward,
    "deform_conv_forward": _deform_conv_forward,
    "deform_conv_backward_input": _deform_conv_backward_input,
    "deform_conv_backward_parameters": _deform_conv_backward_parameters,
    "modulated_deform_conv_forward": _modulated_deform_conv_forward,
    "modulated_deform_conv_backward": _modulated_deform_conv_backward,
    "sigmoid_focal_loss_forward": _sigmoid_focal_loss_forward,
    "sigmoid_focal_loss_backward": _sigmoid_focal_loss_backward,
    "get_compiler_version": lambda: "none: operators by torchvision",
    "get_compiling_cuda_version": lambda: "none: operators by torchvision",
}
