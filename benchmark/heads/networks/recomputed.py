"""mmcv's convolution block, of which half as much is kept for the backward pass: activations are computed again, with the same bits.

A block of convolution, BatchNorm and leaky ReLU keeps what BatchNorm sees and, for the next convolution, what the activation leaves. The
second follows from the first by two cheap steps over a map: here it is made again when the backward pass asks for it, and goes with it.
Every operation is the one that autograd would call, on the same values: outputs, gradients and running statistics are equal to the bit.
On a GPU, under autocast, while compiling, and where a BatchNorm is not torch's own or does not train, a block is mmcv's as it stands.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from benchmark.heads.networks import mmcv_ops
from benchmark.heads.networks.parts_only import parts_only

mmcv_ops.install()

with parts_only():
    from mmcv.cnn import ConvModule

_MARK = "made_again_by"  # attribute of an activation: how to make it


def keep_less(module: nn.Module) -> None:
    """Turns the convolution blocks below `module` into `Recomputed`; parameters, buffers and their names stay."""
    for block in module.modules():
        if (
            type(block) is ConvModule
            and isinstance(getattr(block, "activate", None), nn.LeakyReLU)
            and block.order == ("conv", "norm", "act")
        ):
            block.__class__ = Recomputed


class Recomputed(ConvModule):
    """A block whose activation is not kept. Its convolution, and others called by `convolved`, take such activations."""

    def forward(self, x: Tensor, activate: bool = True, norm: bool = True) -> Tensor:
        if not (activate and norm and _applies(self.norm, x)):
            return super().forward(x, activate, norm)
        seen = convolved(self.conv, x)
        batchnorm = self.norm
        batchnorm.num_batches_tracked.add_(1)
        again = _Activation(seen.detach(), batchnorm, self.activate.negative_slope)
        found = _BatchNormAndActivation.apply(seen, batchnorm.weight, batchnorm.bias, again)
        setattr(found, _MARK, again)
        return found


def convolved(convolution: nn.Module, x: Tensor) -> Tensor:
    """The convolution of `x`, which is made again for its backward pass where it came out of `Recomputed`."""
    again = getattr(x, _MARK, None)
    if again is None:
        return convolution(x)
    storage = x.untyped_storage()._cdata

    def pack(tensor: Tensor) -> Any:
        return again if tensor.untyped_storage()._cdata == storage else tensor

    def unpack(packed: Any) -> Tensor:
        return packed.tensor() if isinstance(packed, _Activation) else packed

    with saved_tensors_hooks(pack, unpack):
        return convolution(x)


class _Activation:
    """An activation that is not there.

    Args:
        seen: (B, C, H, W), what BatchNorm sees.
    """

    def __init__(self, seen: Tensor, batchnorm: nn.BatchNorm2d, slope: float):
        self.seen, self.batchnorm, self.slope = seen, batchnorm, slope
        self._made: Tensor | None = None

    def first(self) -> tuple[Tensor, Tensor, Tensor]:
        """The activation, and mean and inverse deviation of what BatchNorm sees; its running statistics move on."""
        norm = self.batchnorm
        assert norm.momentum is not None
        return self._of(norm.running_mean, norm.running_var, norm.momentum)

    def tensor(self) -> Tensor:
        """The activation once more, until `forget`."""
        if self._made is None:
            self._made = self._of(None, None, 0.0)[0]
        return self._made

    def forget(self) -> None:
        self._made = None

    @torch.no_grad()
    def _of(self, running_mean: Tensor | None, running_var: Tensor | None, momentum: float) -> tuple[Tensor, Tensor, Tensor]:
        norm = self.batchnorm
        found, mean, deviation = torch.native_batch_norm(
            self.seen, norm.weight, norm.bias, running_mean, running_var, True, momentum, norm.eps
        )
        return F.leaky_relu_(found, self.slope), mean, deviation


class _BatchNormAndActivation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, seen: Tensor, weight: Tensor, bias: Tensor, again: _Activation) -> Tensor:
        found, mean, deviation = again.first()
        ctx.save_for_backward(seen, weight, mean, deviation)
        ctx.again = again
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        seen, weight, mean, deviation = ctx.saved_tensors
        (gradient,) = gradients
        gradient = torch.ops.aten.leaky_relu_backward(gradient, ctx.again.tensor(), ctx.again.slope, True)
        ctx.again.forget()
        found = torch.ops.aten.native_batch_norm_backward(
            gradient, seen, weight, None, None, mean, deviation, True, ctx.again.batchnorm.eps, list(ctx.needs_input_grad[:3])
        )
        return (*found, None)


def _applies(norm: nn.Module | None, x: Tensor) -> bool:
    return (
        type(norm) is nn.BatchNorm2d
        and norm.training
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        and torch.is_grad_enabled()
        and x.device.type in ("cpu", "meta")
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )
