"""One training run over several processes, as the same experiment: every step uses the whole batch of the protocol.

Three things cross processes: BatchNorm's statistics, by a sum that gradients pass; the sums that a loss is made of
(`training.micro_batches`); and the gradients, by torch's DistributedDataParallel (`Replica`). Only training exchanges anything: evaluation
is one process's own. Ray Train starts and connects the processes (`execute.gang`). In one process everything here does nothing and costs
nothing. Sums are taken in another order than in one process, so results agree to rounding, not to the bit; a record says how many processes
made it.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from benchmark.errors import TrainingError

Result = TypeVar("Result")
TIMEOUT_S = 1800  # the others wait while one validates


def size() -> int:
    """Number of processes that share each batch."""
    return distributed.get_world_size() if _connected() else 1


def rank() -> int:
    return distributed.get_rank() if _connected() else 0


def led(work: Callable[[], Result]) -> Result:
    """Runs `work` in the first process alone (validation, say) and gives its result to every process; a failure fails all.

    Args:
        work: exchanges nothing, because the others wait.
    """
    if size() == 1:
        return work()
    box: list[Any] = [None, None]
    try:
        if rank() == 0:
            box[0] = work()
    except Exception as error:
        box[1] = f"{type(error).__name__}: {error}"
        raise
    finally:
        distributed.broadcast_object_list(box, src=0)
        if rank() != 0 and box[1] is not None:
            raise TrainingError(f"The leading process of the job failed: {box[1]}")
    return box[0]


def gathered(value: Result) -> list[Result]:
    """What each process holds, by rank; all have to ask."""
    if size() == 1:
        return [value]
    found: list[Any] = [None] * size()
    distributed.all_gather_object(found, value)
    return found


def own(index: np.ndarray) -> np.ndarray:
    """This process's images of a batch: consecutive, as even as can be; the ragged last batch may leave some processes fewer, or none."""
    return np.array_split(index, size())[rank()] if size() > 1 else index


def total(values: Tensor) -> Tensor:
    """Sum over processes. Gradients pass: all processes use the sum, so its gradient is the sum of their gradients."""
    return _Total.apply(values) if size() > 1 else values


class Replica:
    """Wraps the trained modules in torch's DistributedDataParallel; wraps them anew when other parameters train.

    DDP by itself takes the mean of the processes' gradients, even where their shares of the batch differ. Here every process backpropagates
    its part of the batch's loss (`training.micro_batches`), so gradients are summed instead: shares may be uneven, and one may be empty. A
    parameter without gradient on one process (no image there) counts as zero; without gradient anywhere it keeps none, as in one process.
    """

    def __init__(self) -> None:
        self._wrapped: nn.parallel.DistributedDataParallel | None = None
        self._trained: list[nn.Parameter] = []

    def loss(self, modules: nn.Module, compute: Callable[[], Tensor], last: bool) -> Tensor:
        """`compute()`, whose backward pass exchanges gradients if it is the step's last.

        Args:
            modules: hold every trained parameter.
            compute: runs them up to the loss, for which a head may have trained layers as well: DDP must see every use.
            last: no further piece of this process's images follows in this step.
        """
        if size() == 1 or not torch.is_grad_enabled():
            return compute()
        trained = [p for p in modules.parameters() if p.requires_grad]
        if self._wrapped is None or list(map(id, trained)) != list(map(id, self._trained)):  # the first step, or the encoder thaws
            self._wrapped, self._trained = _wrapped(modules), trained
        with contextlib.nullcontext() if last else self._wrapped.no_sync():
            return self._wrapped(compute)


def _wrapped(modules: nn.Module) -> nn.parallel.DistributedDataParallel:
    # Buffers need no broadcast: `GlobalBatchNorm` has the same on every process. Backbones differ in which parameters stay unused.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch 2.13 on, which calls the first one otherwise
        made = nn.parallel.DistributedDataParallel(_Calling(modules), broadcast_buffers=False, find_unused_parameters=True)
    made.register_comm_hook(None, _summed)
    return made


class _Calling(nn.Module):
    """Wraps modules so that DDP sees one forward() whichever function runs them."""

    def __init__(self, modules: nn.Module):
        super().__init__()
        self.inner = modules

    def forward(self, compute: Callable[[], Tensor]) -> Tensor:
        return compute()


def _summed(_, bucket):  # DDP refuses annotations that are text, as all are here
    return distributed.all_reduce(bucket.buffer(), async_op=True).get_future().then(lambda done: done.value()[0])


def with_global_batchnorm(module: nn.Module) -> nn.Module:
    """Replaces every BatchNorm of a module by one that sees the whole batch; parameters, buffers and their names stay."""
    if size() == 1:
        return module
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            setattr(module, name, GlobalBatchNorm(child))
        else:
            with_global_batchnorm(child)
    return module


@torch.no_grad()
def share_running_statistics(module: nn.Module) -> None:
    """Makes BatchNorm's running statistics the mean over processes, where each saw images of its own; nothing in one process.

    They move linearly with what a step shows, so their mean does not depend on how often it is taken.
    """
    found = [buffer for name, buffer in module.named_buffers() if name.endswith(("running_mean", "running_var"))]
    if size() == 1 or not found:
        return
    means = total(torch.cat([buffer.flatten() for buffer in found])) / size()
    for buffer, mean in zip(found, means.split([buffer.numel() for buffer in found]), strict=True):
        buffer.copy_(mean.view_as(buffer))


class GlobalBatchNorm(nn.Module):
    """BatchNorm over the images of all processes, on any device (torch's SyncBatchNorm needs CUDA). Two passes, as exact as one process.

    In evaluation mode it exchanges nothing, like any BatchNorm of one process.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(self, replaced: nn.modules.batchnorm._BatchNorm):
        super().__init__()
        for name in ("weight", "bias"):
            self.register_parameter(name, getattr(replaced, name))
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(replaced, name))
        self.eps, self.momentum, self.training = replaced.eps, replaced.momentum, replaced.training

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            of_batch = self.running_mean is None
            return F.batch_norm(images, self.running_mean, self.running_var, self.weight, self.bias, of_batch, 0.0, self.eps)
        others = [0, *range(2, images.dim())]
        wide = images.float() if images.dtype in (torch.float16, torch.bfloat16) else images
        n = torch.tensor(float(wide.numel() / wide.shape[1]), dtype=wide.dtype, device=wide.device)
        n = total(n)
        mean = total(wide.sum(others)) / n
        shape = [1, -1] + [1] * (images.dim() - 2)
        centred = wide - mean.view(shape)
        variance = total(centred.square().sum(others)) / n
        self._remember(mean.detach(), variance.detach() * n / (n - 1).clamp(min=1))
        normalised = centred * (variance + self.eps).rsqrt().view(shape)
        if self.weight is not None:
            normalised = normalised * self.weight.view(shape)
        if self.bias is not None:
            normalised = normalised + self.bias.view(shape)
        return normalised.to(images.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return  # it keeps no statistics, and normalises by the batch's in evaluation too
        self.num_batches_tracked += 1
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.mul_(1 - share).add_(mean.to(self.running_mean.dtype), alpha=share)
        self.running_var.mul_(1 - share).add_(variance.to(self.running_var.dtype), alpha=share)


def _connected() -> bool:
    return distributed.is_available() and distributed.is_initialized()


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(context, values: Tensor) -> Tensor:
        summed = values.detach().clone()
        distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        summed = gradient.contiguous().clone()
        distributed.all_reduce(summed)
        return summed
