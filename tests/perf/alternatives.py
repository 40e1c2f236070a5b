"""Other ways to run the same step, against the one the harness takes: another memory format, and `torch.compile`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np

from benchmark.training.compiled import compile_network
from tests.perf.ingredients import Ingredients
from tests.perf.measure import Row, alternate
from tests.perf.stepping import Ours, bare_loop


def channels_last(task: str, given: Ingredients, repeats: int, tolerance: float) -> Row:
    """A bare training step in torch's default memory format and with channels last."""
    index = np.arange(given.data.batch_size)
    sides = []
    for last in (False, True):
        loop = bare_loop(replace(given, channels_last=last))
        batch = loop.in_memory(given.data.train, index)
        sides.append(lambda loop=loop, batch=batch: float(loop.step(*batch)))
    return _row(f"{task}, training step, channels_last against the default format", sides, repeats, tolerance, {})


def compiled(task: str, given: Ingredients, repeats: int, tolerance: float, cache: Path) -> list[Row]:
    """The harness's training step and validation forward as `lobe run --compile` makes them, against as they are.

    Args:
        cache: empty folder for what compiling leaves behind, so that it is not found ready-made.
    """
    plain_side, fast_side = Ours(given), Ours(given)
    began = time.monotonic()
    with mock.patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=str(cache)):
        compile_network(fast_side.model, given.data.train, given.data.batch_size, given.finetune, fast_side.precision.autocast)
    took = {"seconds to compile, and to compare one step": round(time.monotonic() - began, 1)}
    index, held_out = np.arange(given.data.batch_size), np.arange(min(given.data.batch_size, len(given.data.validation)))
    forwards = [lambda side=side: side.validate(held_out) for side in (plain_side, fast_side)]
    steps = [lambda side=side: side.step(index) for side in (plain_side, fast_side)]
    return [
        _row(f"{task}, {what}, compiled against plain", sides, repeats, tolerance, took)
        for what, sides in (("validation forward", forwards), ("training step", steps))
    ]


def _row(what: str, sides: list[Callable[[], float]], repeats: int, tolerance: float, details: dict[str, float]) -> Row:
    first = [side() for side in sides]  # from the same weights; later ones drift apart with the rounding of every step
    plain, fast, _, _ = alternate(*sides, repeats)
    return Row(
        what=what,
        plain=plain,
        fast=fast,
        compared="loss of the first one",
        difference=abs(first[0] - first[1]),
        tolerance=tolerance,
        details=details,
    )
