"""Other ways to run the same step, against the one the harness takes: another memory format, and `torch.compile`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmark.training.compiled import compile_network
from tests.perf.bare import BareLoop
from tests.perf.ingredients import Ingredients
from tests.perf.measure import Measurement, alternate
from tests.perf.stepping import Ours, bare_loop


def channels_last(task: str, given: Ingredients, repeats: int, tolerance: float) -> Measurement:
    """A bare training step in torch's default memory format and with channels last."""
    index = np.arange(given.data.batch_size)
    sides: list[Callable[[], float]] = []
    for last in (False, True):
        loop = bare_loop(replace(given, channels_last=last))
        batch = loop.in_memory(given.data.train, index)
        sides.append(partial(_loss_of_step, loop, *batch))
    return _row(f"{task}, training step, channels_last against the default format", sides, repeats, tolerance, {})


def compiled(task: str, given: Ingredients, repeats: int, tolerance: float, cache: Path, *, traced_only: bool = False) -> list[Measurement]:
    """The harness's training step and validation forward as `lobe run --compile` makes them, against as they are.

    Args:
        cache: empty folder for what compiling leaves behind, so that it is not found ready-made.
        traced_only: see `tracing`.
    """
    plain_side, fast_side = Ours(given), Ours(given)
    began = time.monotonic()
    with mock.patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=str(cache)), tracing() if traced_only else nullcontext():
        compile_network(fast_side.model, given.data.train, given.data.batch_size, given.finetune, fast_side.precision.autocast)
    took = {"seconds to compile, and to compare one step": round(time.monotonic() - began, 1)}
    index, held_out = np.arange(given.data.batch_size), np.arange(min(given.data.batch_size, len(given.data.validation)))
    forwards = [partial(side.validate, held_out) for side in (plain_side, fast_side)]
    steps = [partial(side.step, index) for side in (plain_side, fast_side)]
    return [
        _row(f"{task}, {what}, compiled against plain", sides, repeats, tolerance, took)
        for what, sides in (("validation forward", forwards), ("training step", steps))
    ]


def tracing() -> AbstractContextManager:
    """Networks are traced in place of compiled, which takes seconds to minutes on a CPU; the graphs then run as they were traced."""
    return mock.patch.object(torch, "compile", partial(_traced, torch.compile))


def _traced(compile_with: Any, network: Any, **_: Any) -> Any:
    return compile_with(network, dynamic=False, backend="aot_eager")


def _loss_of_step(loop: BareLoop, forward: Callable[[], Any], truth: Any) -> float:
    return float(loop.step(forward, truth))


def _row(what: str, sides: Sequence[Callable[[], float]], repeats: int, tolerance: float, details: dict[str, float]) -> Measurement:
    first = [side() for side in sides]  # from the same weights; later ones drift apart with the rounding of every step
    plain, fast, _, _ = alternate(sides[0], sides[1], repeats)
    return Measurement(
        what=what,
        plain=plain,
        fast=fast,
        compared="loss of the first one",
        difference=abs(first[0] - first[1]),
        tolerance=tolerance,
        details=details,
    )
