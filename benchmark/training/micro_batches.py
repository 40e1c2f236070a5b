"""A step on a batch that is too large for its device: the batch passes in micro-batches, and their gradients add up to the batch's.

Exact, up to rounding, where images meet nowhere but in the loss. A mean over images is then a weighted sum of the micro-batches' means. A
loss of sums over the batch (Dice) takes two passes: the sums first, then the gradients with the whole batch's sums (`parallel.Sums`).
Where images meet in a layer (BatchNorm while it trains), or random numbers are drawn, there is no such step, and a sentence says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from benchmark import parallel
from benchmark.errors import TooLittleMemory
from benchmark.kinds.base import Part
from benchmark.training.model import Model

APART = 0.05  # of the largest output: other kernels and float16 stay below, a layer that mixes two images does not


def parts_of_loss(model: Model, part: Part, index: np.ndarray, autocast: Callable[[], AbstractContextManager]) -> Iterator[Tensor]:
    """Scalars that add up, over all processes, to the batch's loss; each is made when the graph of the last may be gone.

    Args:
        index: the whole batch, in every process.
    """
    mine, head = parallel.own(index), model.head
    pieces = [mine] if model.most is None else model.pieces(mine)
    sums = None if model.most is None else parallel.Sums(len(pieces))

    def of(piece: np.ndarray, last: bool) -> Tensor:
        targets = part.targets(piece, model.device)

        def compute() -> Tensor:
            with autocast():
                outputs = model.outputs(part, piece)
            return parallel.part_of_loss(head.loss, outputs, targets, len(piece), len(index), head.mean_over_images, sums)

        return model.replica.loss(model.trained_modules(finetune=True), compute, last)

    if sums is not None and not head.mean_over_images:
        with torch.no_grad():
            for piece in pieces:
                of(piece, last=False)
        sums.gathered()
    for n_left, piece in zip(reversed(range(len(pieces))), pieces, strict=True):
        yield of(piece, last=n_left == 0)


def require_same_result(model: Model, part: Part, batch_size: int, finetune: bool, autocast: Callable[[], AbstractContextManager]) -> None:
    """Asks the modules as they train, then two images: what one image gives must depend on no other image and on no draw.

    Raises:
        TooLittleMemory: micro-batches would train another model.
    """
    model.start_epoch()
    if not finetune:
        model.freeze_encoder()
    trained = {"head": model.head} | ({"encoder": model.encoder} if finetune else {})
    for top, module in trained.items():
        for name, layer in module.named_modules(prefix=top):
            batchnorm = isinstance(layer, nn.modules.batchnorm._BatchNorm | parallel.GlobalBatchNorm)
            if batchnorm and (layer.training or layer.running_mean is None):
                _refuse(batch_size, f"{name} is a BatchNorm, whose statistics are taken over the whole batch", divisible=finetune)
    buffers = {f"{top}.{name}": buffer for top, module in trained.items() for name, buffer in module.named_buffers()}
    before, draws = {name: buffer.clone() for name, buffer in buffers.items()}, _generators(model.device)
    two = np.arange(min(2, len(part)))
    with torch.no_grad(), autocast():
        together, alone = (_tensors(model.outputs_at_once(part, index)) for index in (two, two[:1]))
    if any(not torch.equal(one, other) for one, other in zip(draws, _generators(model.device), strict=True)):
        _refuse(batch_size, "random numbers are drawn while it trains (dropout, or dropped paths), and micro-batches would draw others")
    moved = [name for name, buffer in buffers.items() if not torch.equal(buffer, before[name])]
    if moved:
        _refuse(batch_size, f"{moved[0]} is kept from batch to batch, and micro-batches would leave other values there")
    if any((a[:1].float() - b.float()).abs().max() > APART * b.float().abs().max() for a, b in zip(together, alone, strict=True)):
        _refuse(batch_size, "a layer gives an image another output beside other images than alone")


def _refuse(batch_size: int, why: str, divisible: bool = False) -> NoReturn:
    also = ", or --workers-per-job N: N GPUs share each batch, and its statistics stay the whole batch's" if divisible else ""
    raise TooLittleMemory(
        f"A batch of {batch_size} images does not fit into memory, and micro-batches would train another model: {why}. "
        f"Use a device with more memory{also}."
    )


def _generators(device: torch.device) -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _tensors(outputs: Any) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)
