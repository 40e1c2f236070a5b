"""Everything that changes while a job trains, saved between epochs and put back to the bit. What a checkpoint holds is never executed.

Several processes of a job save one file, by the leader, with where the generators of each stand; they go on from it together or not at all.

For jobs of hours: losing the machine costs at most one interval and the epoch that ran. Short jobs simply run again. Only the user may open
a checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmark import generators, parallel, private
from benchmark.cards import Epoch
from benchmark.files import open_regular

EVERY_S = 600.0


@dataclass
class TrainingState:
    """What a checkpoint keeps of one training run.

    Attributes:
        modules: what is trained.
        stateful: optimiser, schedule and gradient scaler by name: `state_dict` and `load_state_dict`.
        order: generator of the training order.
    """

    modules: torch.nn.Module
    stateful: dict[str, Any]
    order: torch.Generator


class Checkpoint:
    """One file, replaced as training goes on.

    Args:
        folder: on a disk that outlives the machine; shared between nodes.
        key: of the job.
        learning_rate: the job's, fixed or selected; a checkpoint of another rate is not used.
        every_s: least time between two saves.
    """

    def __init__(self, folder: Path, key: str, learning_rate: float, every_s: float = EVERY_S):
        self.path, self.every_s = path_of(folder, key), every_s
        self.identity = {"format": 2, "key": key, "learning_rate": learning_rate, "torch": str(torch.__version__)}
        self.problem: str | None = None
        self._last = time.monotonic()

    def save_if_due(self, state: TrainingState, progress: dict[str, Any], drawn: Sequence[dict[str, Any]]) -> None:
        """Saves when the interval is over, as the leader's clock has it; other processes save nothing.

        A disk that is full or gone is remembered in `problem`; training goes on.

        Args:
            drawn: `generators.state()` of each process, by rank; none where each step seeds them anew.
        """
        if parallel.rank() != 0 or time.monotonic() - self._last < self.every_s:
            return
        self._last = time.monotonic()
        content = {
            "identity": self.identity,
            "modules": state.modules.state_dict(),
            "stateful": {name: thing.state_dict() for name, thing in state.stateful.items()},
            "order": state.order.get_state(),
            "generators": list(drawn),
            "progress": progress,
        }
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            private.root(self.path.parent)
            with open(temporary, "wb", opener=private.opener) as handle:
                torch.save(content, handle)
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, self.path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            self.problem = f"No checkpoint could be written to {self.path.parent}: {str(error).splitlines()[0]}"
            with contextlib.suppress(OSError):
                temporary.unlink()

    def load(self, state: TrainingState, device: torch.device) -> dict[str, Any] | None:
        """Puts everything back and returns the progress; None when there is nothing usable: training then starts at the beginning.

        Every process has to call it. Where fewer processes saved it, those that are more keep the generators that they have.
        """
        saved = self._read(device)
        seen = parallel.gathered(None if saved is None else saved["progress"])
        if saved is None or any(progress != saved["progress"] for progress in seen):
            if any(progress is not None for progress in seen):
                self.problem = f"Not every process of the job sees the same checkpoint {self.path}: it was not used. Share its folder."
            return None
        state.modules.load_state_dict(saved["modules"])
        for name, thing in state.stateful.items():
            thing.load_state_dict(saved["stateful"][name])
        state.order.set_state(saved["order"].cpu())
        if parallel.rank() < len(saved["generators"]):
            generators.set_state(saved["generators"][parallel.rank()])
        return saved["progress"]

    def _read(self, device: torch.device) -> dict[str, Any] | None:
        """What the file holds, if it is of this training; None otherwise."""
        try:
            with open_regular(self.path) as stored:
                saved = torch.load(stored, map_location=device, weights_only=True)
        except FileNotFoundError:
            return None
        except Exception as error:  # a torn or foreign file is no reason to fail
            self.problem = f"The checkpoint {self.path} could not be read and was not used: {str(error).splitlines()[0]}"
            return None
        if not isinstance(saved, dict) or saved.get("identity") != self.identity:
            return None
        return saved


def discard(folder: Path, key: str) -> None:
    """The job is over: its checkpoint is of no more use."""
    with contextlib.suppress(OSError):
        path_of(folder, key).unlink()


def path_of(folder: Path, key: str) -> Path:
    return folder / f"{key}.pt"


def selected_to_plain(selected) -> dict[str, Any]:
    """A `loop.Selected` as tensors and plain values."""
    curve = [line.model_dump(mode="json") for line in selected.curve]
    metrics = {name: float(value) for name, value in selected.metrics.items()}
    return {**vars(selected), "curve": curve, "metrics": metrics, "best": float(selected.best)}


def selected_from_plain(selected, plain: dict[str, Any]) -> None:
    """Fills a `loop.Selected` with what `selected_to_plain` gave."""
    vars(selected).update(plain)
    selected.curve = [Epoch.model_validate(line) for line in plain["curve"]]
