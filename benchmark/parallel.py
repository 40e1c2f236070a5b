"""One training run over several processes, as the same experiment: a step sees the protocol's whole batch, wherever its images lie.

Three things must cross processes, each by an operation that gradients pass: BatchNorm's statistics, sums that a loss takes over the batch,
and at the end of a step the gradients. Alone, everything here does nothing and costs nothing. Sums are taken in another order than in
one process, so results agree to rounding, not to the bit; a record says how many processes made it.

A process may also take its images in pieces, one after another (`training.micro_batches`): then `Sums` are what crosses the pieces.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from benchmark.errors import TrainingError

Result = TypeVar("Result")
_alone = False  # while the leader works for all
_sums: Sums | None = None  # while a loss is computed on a piece
TIMEOUT = timedelta(minutes=30)  # the others wait while one validates


@dataclass(frozen=True)
class Group:
    """Where this process stands in a job.

    Attributes:
        rank: 0 leads: it validates, tests, selects and tells.
        address: of the leader, `tcp://host:port`.
    """

    rank: int
    size: int
    address: str


@contextlib.contextmanager
def joined(group: Group | None, device_type: str) -> Iterator[None]:
    """Connects the processes of a job for as long as the block lasts."""
    if group is None or group.size == 1:
        yield
        return
    distributed.init_process_group(
        "nccl" if device_type == "cuda" else "gloo", init_method=group.address, rank=group.rank, world_size=group.size, timeout=TIMEOUT
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()


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


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """After backward: every process gets the gradient of the sum of all losses. One message for each dtype.

    A parameter without gradient on one process (frozen, or no image there) counts as zero; without gradient anywhere it keeps none.
    """
    if size() == 1:
        return
    trained = [p for p in parameters if p.requires_grad]
    present = torch.tensor([p.grad is not None for p in trained], dtype=torch.int32, device=trained[0].device)
    distributed.all_reduce(present, op=distributed.ReduceOp.MAX)
    used = [p for p, anywhere in zip(trained, present.tolist(), strict=True) if anywhere]
    for dtype in sorted({p.dtype for p in used}, key=str):
        alike = [p for p in used if p.dtype == dtype]
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in alike])
        distributed.all_reduce(flat)
        for p, piece in zip(alike, flat.split([p.numel() for p in alike]), strict=True):
            p.grad = piece.view_as(p).clone()


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
