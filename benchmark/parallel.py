"""One training run over several processes, as the same experiment: a step sees the protocol's whole batch, wherever its images lie.

Three things must cross processes: BatchNorm's statistics and sums that a loss takes over the batch, by operations that gradients pass, and
the gradients, by torch's DistributedDataParallel (`Replica`). Ray Train starts and connects the processes (`execute.gang`). Alone,
everything here does nothing and costs nothing. Sums are taken in another order than in one process, so results agree to rounding, not to
the bit; a record says how many processes made it.

A process may also take its images in pieces, one after another (`training.micro_batches`): then `Sums` are what crosses the pieces.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from benchmark.errors import TrainingError

Result = TypeVar("Result")
_alone = False  # while the leader works for all
_sums: Sums | None = None  # while a loss is computed on a piece
TIMEOUT_S = 1800  # the others wait while one validates


def size() -> int:
    """Processes that share each batch now."""
    return distributed.get_world_size() if _connected() and not _alone else 1


def rank() -> int:
    return distributed.get_rank() if _connected() else 0


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """For what one process does by itself: inside, batches are whole and nothing is exchanged."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def led(work: Callable[[], Result]) -> Result:
    """What the leader alone works out (validation, say), given to every process; its failure is everybody's.

    Inside, this page does nothing: the leader sees whole batches.
    """
    if size() == 1:
        return work()
    box: list[Any] = [None, None]
    try:
        if rank() == 0:
            with alone():
                box[0] = work()
    except Exception as error:
        box[1] = f"{type(error).__name__}: {error}"
        raise
    finally:
        distributed.broadcast_object_list(box, src=0)
        if rank() != 0 and box[1] is not None:
            raise TrainingError(f"The leading process of the job failed: {box[1]}")
    return box[0]


def own(index: np.ndarray) -> np.ndarray:
    """This process's images of a batch: consecutive, as even as can be; the ragged last batch may leave some processes fewer, or none."""
    return np.array_split(index, size())[rank()] if size() > 1 else index


def total(values: Tensor) -> Tensor:
    """Sum over processes, through which gradients pass: the gradient of a sum that everybody uses is the sum of everybody's gradients."""
    if _sums is not None:
        return _sums.of(values)
    return _Total.apply(values) if size() > 1 else values


class Sums:
    """The sum that a loss takes over its batch, for a process whose images come in pieces.

    Gathered in a first pass over the pieces, without gradients. In the second pass `total` has the value of the whole batch and the
    gradient of the piece, so that the gradients of all pieces add up to the batch's.

    Args:
        n_pieces: of this process.
    """

    def __init__(self, n_pieces: int):
        self.n_parts = n_pieces * size()
        self._n_pieces, self._pieces, self._whole = n_pieces, [], None

    def of(self, values: Tensor) -> Tensor:
        if self._whole is None:
            self._pieces.append(values.detach())
            return values
        # Every part of the loss is divided by their number (`part_of_loss`), the gradient of a piece is not.
        return self._whole + (values - values.detach()) * self.n_parts

    def gathered(self) -> None:
        """The first pass is over, on every process.

        Raises:
            TrainingError: the loss did not take exactly one sum, so that its pieces would not add up.
        """
        if len(self._pieces) != self._n_pieces:
            raise TrainingError(
                f"The head's loss called `parallel.total` {len(self._pieces)} times for {self._n_pieces} micro-batches. "
                "It must stack its sums over the batch into one call, or be a mean over images (docs: benchmark/heads/base.py)."
            )
        self._whole = torch.stack(self._pieces).sum(dim=0)
        if size() > 1:
            distributed.all_reduce(self._whole)

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Inside, `total` asks this object."""
        global _sums
        _sums = self
        try:
            yield
        finally:
            _sums = None


def part_of_loss(
    head_loss: Callable[[Any, Any], Tensor],
    outputs: Any,
    targets: Any,
    n_own: int,
    n_batch: int,
    mean_over_images: bool,
    sums: Sums | None = None,
) -> Tensor:
    """One part of a batch's loss, of this process or of a piece of its images; all parts sum to the loss one process would have.

    Args:
        head_loss: from outputs and targets of the part's images.
        mean_over_images: the loss is a mean in which each image counts alike; otherwise it uses `total` and every part has it whole.
        sums: where this process's images come in pieces.
    """
    n_parts = size() if sums is None else sums.n_parts
    if sums is None and n_parts == 1:
        return head_loss(outputs, targets)
    if not mean_over_images:
        with contextlib.nullcontext() if sums is None else sums.taken():
            return head_loss(outputs, targets) / n_parts
    if n_own == 0:  # still part of every exchange that backward makes
        return torch.stack([o.sum() for o in ([outputs] if isinstance(outputs, Tensor) else outputs)]).sum() * 0.0
    return head_loss(outputs, targets) * (n_own / n_batch)


class Replica:
    """This process's copy of what all processes train, in torch's DistributedDataParallel; wrapped anew when other parameters train.

    DDP by itself takes the mean of the processes' gradients, whatever the share of each in the batch. Here every process backpropagates its
    part of the batch's loss (`part_of_loss`), so gradients are summed instead: shares may be uneven, and one may be empty. A parameter
    without gradient on one process (no image there) counts as zero; without gradient anywhere it keeps none, as in one process.
    """

    def __init__(self) -> None:
        self._wrapped: nn.parallel.DistributedDataParallel | None = None
        self._trained: list[nn.Parameter] = []

    def loss(self, modules: nn.Module, compute: Callable[[], Tensor], last: bool) -> Tensor:
        """`compute()`, whose backward pass exchanges gradients if it is the step's last.

        Args:
            modules: whatever is trained lies in these.
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
    # Buffers need no broadcast: `GlobalBatchNorm` has the same on every process. What is unused differs between backbones.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch 2.13 on, which calls the first one otherwise
        made = nn.parallel.DistributedDataParallel(_Calling(modules), broadcast_buffers=False, find_unused_parameters=True)
    made.register_comm_hook(None, _summed)
    return made


class _Calling(nn.Module):
    """Modules behind whatever way they are called."""

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


class GlobalBatchNorm(nn.Module):
    """BatchNorm over the images of all processes, on any device (torch's SyncBatchNorm needs CUDA). Two passes, as exact as one process."""

    def __init__(self, replaced: nn.modules.batchnorm._BatchNorm):
        super().__init__()
        for name in ("weight", "bias"):
            self.register_parameter(name, getattr(replaced, name))
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(replaced, name))
        self.eps, self.momentum, self.training = replaced.eps, replaced.momentum, replaced.training

    def forward(self, images: Tensor) -> Tensor:
        if not self.training and self.running_mean is not None:
            return F.batch_norm(images, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        others = [0, *range(2, images.dim())]
        wide = images.float() if images.dtype in (torch.float16, torch.bfloat16) else images
        n = torch.tensor(float(wide.numel() / wide.shape[1]), dtype=wide.dtype, device=wide.device)
        n = total(n)
        mean = total(wide.sum(others)) / n
        shape = [1, -1] + [1] * (images.dim() - 2)
        centred = wide - mean.view(shape)
        variance = total(centred.square().sum(others)) / n
        if self.running_mean is not None:
            self._remember(mean.detach(), variance.detach() * n / (n - 1).clamp(min=1))
        normalised = centred * (variance + self.eps).rsqrt().view(shape)
        if self.weight is not None:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(images.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
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
