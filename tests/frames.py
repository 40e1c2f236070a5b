"""Small frames: what a run does, for a fraction of what it computes at the protocols' 224 pixels."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from benchmark import registry

SIDE = 64  # pixels; the smallest at which every head works


def small_frames(**recipe: Any) -> AbstractContextManager:
    """While it lasts, the frame of every task is `SIDE` pixels wide. Jobs then have keys of their own.

    Args:
        recipe: overwrites every task's as well.
    """
    cards = {
        name: card.model_copy(update={"frame_size": SIDE, "recipe": card.recipe.model_copy(update=recipe)})
        for name, card in registry.tasks().items()
    }
    return mock.patch.object(registry, "tasks", functools.cache(lambda: cards))
