"""Runs the training network through torch.compile: the same arithmetic in fewer kernels, after minutes of compiling when a job begins.

Equal to the plain network up to rounding: one batch is validated and trained on both ways before a job begins, and its record says that it
was compiled. The modes of a warm-up are compiled as they come, without that comparison.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from benchmark.errors import TrainingError
from benchmark.generators import seed_all
from benchmark.kinds.base import Part
from benchmark.training.micro_batches import losses_of_pieces
from benchmark.training.model import Model

APART = 0.05  # of the loss, and of the length of all gradients: rounding in float16 stays below, another network does not

Autocast = Callable[[], AbstractContextManager]


class CompiledNetwork:
    """
    Args:
        network: from normalised images or kept features to the head's outputs.
        n_images: of the passes that are compiled. Others, such as an epoch's last, go through `network`: each size would be compiled anew.
    """

    def __init__(self, network: Callable[..., Any], n_images: int):
        torch.compiler.reset()  # else a process keeps the graphs of its earlier jobs, and after eight compiles no more
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # a machine without CUDA is no news
        self.plain, self.n_images = network, n_images
        # Dropout must draw what it draws uncompiled.
        self.compiled = torch.compile(network, dynamic=False, options={"fallback_random": True})

    def __call__(self, images: torch.Tensor | None, pyramid: Mapping[int, torch.Tensor] | None) -> Any:
        one = images if pyramid is None else next(iter(pyramid.values()))
        if one is None:
            raise TypeError("The network needs images, or the features kept of them.")
        n = len(one)
        return (self.compiled if n == self.n_images else self.plain)(images, pyramid)


def compile_network(model: Model, part: Part, batch_size: int, finetune: bool, autocast: Autocast) -> None:
    """Compiles the network that the model runs for every batch, and compares its loss and gradients with the plain network's.

    Args:
        part: one step is taken on its first batch both ways; weights and statistics are left as they were.

    Raises:
        TrainingError: it cannot be compiled here, or gives other numbers.
    """
    from torch._dynamo.exc import TorchDynamoException  # seconds of imports, which nobody else needs

    index = np.arange(min(batch_size, len(part)))
    plain = _numbers(model, part, index, finetune, autocast)
    model.network = CompiledNetwork(model.network, len(model.pieces(index)[0]))
    try:
        mine = _numbers(model, part, index, finetune, autocast)
    except TorchDynamoException as error:
        reason = next(filter(None, str(error).splitlines()), type(error).__name__)
        raise TrainingError(
            f"torch.compile cannot compile this network here: {reason} It needs a C++ compiler, and Triton for a GPU. "
            "Install them, or run without --compile: the numbers are the same."
        ) from error
    for what, one, other in zip(("validation loss", "training loss", "gradients"), plain, mine, strict=True):
        apart = torch.linalg.vector_norm(one - other) / torch.linalg.vector_norm(one)
        if not apart <= APART:
            raise TrainingError(
                f"The compiled network is another one: its {what} differ by {float(apart):.2g} of their size, more than {APART:g}. "
                "Run without --compile."
            )


def _numbers(model: Model, part: Part, index: np.ndarray, finetune: bool, autocast: Autocast) -> tuple[torch.Tensor, ...]:
    """Validation loss, training loss and all gradients of one batch; leaves the model as it was."""
    trained = model.trained_modules(finetune)
    before = {name: buffer.clone() for name, buffer in trained.named_buffers()}
    seed_all(0)
    model.start_evaluation()
    with torch.no_grad():
        validation = torch.stack([loss.detach() for loss in losses_of_pieces(model, part, index, autocast)]).sum()
    model.start_epoch()
    if not finetune:
        model.freeze_encoder()
    losses = []
    for loss in losses_of_pieces(model, part, index, autocast):
        loss.backward()
        losses.append(loss.detach())
    gradients = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trained.parameters()])
    for parameter in trained.parameters():
        parameter.grad = None
    for name, buffer in trained.named_buffers():
        buffer.copy_(before[name])
    return validation, torch.stack(losses).sum(), gradients
