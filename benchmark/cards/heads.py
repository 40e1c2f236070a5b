"""Heads: what a head says of itself, beside its code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmark.cards.base import Card, Target

POOLED = 0  # stands among strides for the embedding of the whole image


class HeadFacts(Card):
    """What planning and tables need to know of a head: the constant `FACTS` of its module.

    Defaults fit a small head on features that are already there, so that a new head says no more than it must.

    Attributes:
        title: in tables and in titles of tasks.
        target: ground truth that it learns from, or is scored against.
        trains: False of a rule over similarities of images and words.
        exclusive: of a classifier: each image has exactly one class.
        smoke_steps: training steps of a smoke run.
        step_s: rough seconds of a training step for one image on one CPU core, on features of a frozen encoder, until it was measured.
        memory_bytes: rough memory of a process that trains it, until it was measured; of a head whose module says no `size`.
        library_bytes: memory of libraries that its code imports, beside those of every process.
        reads: levels of a frozen encoder that it reads: its deepest one, its pooled embedding, every one above stride 1, or these strides.
            None = not said: its features are computed when its own jobs start, and not with those of other heads.
        linear: False of a head that is more than one linear layer on the one level that it reads (`task_rules.track_of`).
        at_once: keeps its training examples in one pass instead of taking steps: no learning rate, no epochs, and nothing that it draws.
        later_switches: those of `Switches.came_later` that it reads. Jobs of other heads keep such a switch at its default.
    """

    title: str
    target: Target
    trains: bool = True
    exclusive: bool = False
    smoke_steps: int = 100
    step_s: float = 0.1
    memory_bytes: int = 2 * 2**30
    library_bytes: int = 0
    reads: Literal["deepest", "pooled", "every"] | tuple[int, ...] | None = None
    linear: bool = True
    at_once: bool = False
    later_switches: frozenset[str] = frozenset()


@dataclass(frozen=True)
class HeadSize:
    """How much a head holds on given features: what its module's `size` gives, for a forecast of memory.

    Attributes:
        strides: levels of features that it reads, as `Head.strides`.
        parameters: numbers that are trained.
        kept: numbers that the forward pass of one image keeps for the backward pass, its inputs included.
        reads_image: the normalised image is one of its inputs.
        multiplications: of the forward pass of one image, in its convolutions; 0 where nobody counted them.
    """

    strides: tuple[int, ...]
    parameters: int
    kept: int
    reads_image: bool = False
    multiplications: int = 0
