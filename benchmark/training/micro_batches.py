"""The loss of a batch, and of its pieces where it is cut: over processes, or over micro-batches on a device that it is too large for.

A head's loss is made of sums over images (`heads.base.Head.sums`). Each piece adds its own to those of the others, has the loss of the
whole batch from them, and the gradient of its own images: the gradients of all pieces add up to the batch's. Micro-batches take two
passes, the sums first, then the gradients.
Micro-batches are exact, up to rounding, where images meet nowhere but in these sums. Where they meet in a layer (BatchNorm while it
trains), or random numbers are drawn, there is no such step, and an error says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from benchmark import parallel
from benchmark.errors import TooLittleMemory
from benchmark.generators import fingerprint
from benchmark.kinds.base import Part
from benchmark.training.model import Model

APART = 0.05  # of the largest output: other kernels and float16 stay below, a layer that mixes two images does not


def losses_of_pieces(model: Model, part: Part, index: np.ndarray, autocast: Callable[[], AbstractContextManager]) -> Iterator[Tensor]:
    """Scalars that add up, over all processes, to the batch's loss; computed lazily, so that the previous piece's graph can be freed first.

    Args:
        index: the whole batch, in every process.
    """
    pieces, modules = model.pieces(parallel.own(index)), model.trained_modules(finetune=True)
    n_pieces = len(pieces) * parallel.size()

    def sums(piece: np.ndarray) -> Tensor:
        targets = part.targets(piece, model.device)
        with autocast():
            outputs = model.outputs(part, piece)
        return model.head.sums(outputs, targets)

    whole = None  # sums of the batch, where one piece must know them before it sees the next
    if model.most is not None and n_pieces > 1:
        with torch.no_grad():
            whole = parallel.total(torch.stack([sums(piece) for piece in pieces]).sum(dim=0))

    def loss(piece: np.ndarray) -> Tensor:
        own = sums(piece)
        if n_pieces == 1:
            return model.head.loss_of(own, len(index))
        known = parallel.total(own.detach()) if whole is None else whole
        # The value of the whole batch, and the gradient of the piece alone, which the division must leave as it is.
        return model.head.loss_of(known + (own - own.detach()) * n_pieces, len(index)) / n_pieces

    for n_left, piece in zip(reversed(range(len(pieces))), pieces, strict=True):
        yield model.replica.loss(modules, partial(loss, piece), last=n_left == 0)


def require_same_result(model: Model, part: Part, batch_size: int, finetune: bool, autocast: Callable[[], AbstractContextManager]) -> None:
    """Checks the modules in training mode, then two images: outputs must depend on no other image and on no draw, and sums must add up.

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
    before, draws = {name: buffer.clone() for name, buffer in buffers.items()}, fingerprint()
    two = np.arange(min(2, len(part)))
    with torch.no_grad(), autocast():
        outputs = model.outputs_at_once(part, two)
        together, alone = _tensors(outputs), _tensors(model.outputs_at_once(part, two[:1]))
    if fingerprint() != draws:
        _refuse(batch_size, "random numbers are drawn while it trains (dropout, or dropped paths), and micro-batches would draw others")
    moved = [name for name, buffer in buffers.items() if not _is_same(buffer, before[name])]
    if moved:
        _refuse(batch_size, f"{moved[0]} is kept from batch to batch, and micro-batches would leave other values there")
    if any((a[:1].float() - b.float()).abs().max() > APART * b.float().abs().max() for a, b in zip(together, alone, strict=True)):
        _refuse(batch_size, "a layer gives an image another output beside other images than alone")
    if not _adds_up(model, part, two, outputs):
        _refuse(batch_size, "the head's `sums` of two images are not those of each added")


def _adds_up(model: Model, part: Part, index: np.ndarray, outputs: Any) -> bool:
    """Whether the head's sums of some images are those of each image added, from the same outputs."""
    with torch.no_grad():
        whole = model.head.sums(outputs, part.targets(index, model.device))
        each = [
            model.head.sums(_image(outputs, place), part.targets(index[place : place + 1], model.device)) for place in range(len(index))
        ]
    added = torch.stack(each).sum(dim=0)
    return torch.allclose(whole, added, rtol=APART, atol=1e-6 * float(whole.abs().max()))


def _is_same(one: Tensor, other: Tensor) -> bool:
    """Equal everywhere. What is no number is the same as itself: a head may keep what nobody chose yet, as where maps are cut."""
    return one.shape == other.shape and bool(((one == other) | (one.isnan() & other.isnan())).all())


def _refuse(batch_size: int, why: str, divisible: bool = False) -> NoReturn:
    also = ", or --workers-per-job N: N GPUs share each batch, and its statistics stay the whole batch's" if divisible else ""
    raise TooLittleMemory(
        f"A batch of {batch_size} images does not fit into memory, and micro-batches would train another model: {why}. "
        f"Use a device with more memory{also}."
    )


def _image(outputs: Any, place: int) -> Any:
    """One image of a head's outputs."""
    if isinstance(outputs, Tensor):
        return outputs[place : place + 1]
    return tuple(tensor[place : place + 1] for tensor in outputs)


def _tensors(outputs: Any) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)
