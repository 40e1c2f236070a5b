"""What one image passes through: the side it enters with, the grids that the head reads, and multiply-adds of encoder and head.

Tables print it beside a score, so that size and geometry do not pass for quality. Nothing in it changes a result.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmark.cards import POOLED
from benchmark.encoders.sealed import SealedEncoder
from benchmark.heads.base import Head

FLOPS_PER_MAC = 2  # torch counts a multiplication and an addition as two


@dataclass(frozen=True)
class Passage:
    """
    Attributes:
        input_size: side in pixels of the square that the encoder is given: the frame, or the multiple of its patch next to it.
        grids: cells per side of each map that the head reads, coarse ones first; none of a head that reads the pooled embedding.
        macs: multiply-adds of "encoder" and "head" for one image in evaluation; empty where an author's network cannot be counted.
    """

    input_size: int
    grids: tuple[int, ...] = ()
    macs: dict[str, int] = field(default_factory=dict)


def passage_of_head(encoder: SealedEncoder, head: Head, frame_size: int) -> Passage:
    """Of a head on its encoder; both are left in the mode they were in."""
    image = _image(encoder, frame_size)
    maps: dict[int, Tensor] = {}

    def encode() -> None:
        maps.update(encoder.pyramid_of(image, head.strides))

    training = head.training
    head.eval()
    macs = _counted({"encoder": encode, "head": lambda: head(maps, image if head.reads_image else None)})
    head.train(training)
    own = sorted({frame_size // stride for stride in head.strides if stride != POOLED})
    return Passage(encoder.fit_to_patches(image).shape[-1], tuple(own) if head.grid is None else (head.grid,), macs)


def passage_of_embedding(encoder: SealedEncoder, frame_size: int) -> Passage:
    """Of an image's embedding in the joint space of a backbone with a text side; texts are not counted."""
    image = _image(encoder, frame_size)
    macs = _counted({"encoder": lambda: encoder.backbone.embed_images(encoder.fit_to_patches(image))})  # type: ignore[operator]
    return Passage(encoder.fit_to_patches(image).shape[-1], (), macs)


def _image(encoder: SealedEncoder, frame_size: int) -> Tensor:
    return encoder.normalise(torch.zeros((1, frame_size, frame_size), dtype=torch.uint8, device=encoder.mean.device))


def _counted(steps: dict[str, Callable[[], Any]]) -> dict[str, int]:
    """Multiply-adds of each step, taken in this order; nothing where one of them fails."""
    found = {}
    try:
        with torch.no_grad(), _plain_attention():
            for name, step in steps.items():
                with FlopCounterMode(display=False) as counter:
                    step()
                found[name] = counter.get_total_flops() // FLOPS_PER_MAC
    except Exception:  # what an author's network does here may be anything, and no result depends on it
        return {}
    return found


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention layers as products that are counted, and not as one fused operation that no formula knows."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
