"""What may be ranked together: the track of a task, and the geometry that its protocol gives every backbone."""

from __future__ import annotations

from typing import Literal

from benchmark import registry
from benchmark.cards import EncoderMode, Experiment, TaskCard

Track = Literal["linear-frozen", "head-frozen", "fine-tuned", "text"]
AS_TASK = "as-task"


def track_of(task: TaskCard | Experiment) -> Track:
    """Tracks order backbones differently, so that none is averaged with another.

    A linear head is one that the geometry of the map alone limits: no trained layer stands between the encoder and its 1 x 1 convolution.
    """
    if task.words is not None:
        return "text"
    if task.encoder is EncoderMode.FINETUNE:
        return "fine-tuned"
    return "linear-frozen" if task.head == "linear" else "head-frozen"


def geometry_of(protocol: str) -> str:
    """Input size and grid that a protocol imposes; those of the task where its card says nothing or is not known here."""
    return str(getattr(registry.protocols().get(protocol), "geometry", AS_TASK))
