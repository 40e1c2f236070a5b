"""A pretraining by several processes on Ray: each trains its share of every batch, the first one tells and writes what is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmark import parallel
from benchmark.cards.pretraining import PretrainingCard
from benchmark.errors import EnvironmentProblem
from benchmark.execute import connected
from benchmark.execute.connecting import Connection
from benchmark.pretraining import run
from benchmark.pretraining.run import Pretrained, Telling

GOES_ON = "The same command goes on from the last checkpoint."


@dataclass(frozen=True)
class Call:
    """The arguments of `pretraining.run.pretrain`, as they travel. Folders are those of every node."""

    card: PretrainingCard
    data: Path
    out: Path
    seed: int = 0
    threads: int = 1
    device_type: str = "cpu"
    cache: Path | None = None

    @property
    def arguments(self) -> tuple[PretrainingCard, Path, Path, int]:
        return self.card, self.data, self.out, self.seed

    @property
    def options(self) -> dict[str, Any]:
        return {"threads": self.threads, "device_type": self.device_type, "cache": self.cache}


def start(call: Call, workers: int, tell: Telling, address: str | None = None) -> Pretrained:
    """Makes the backbone in this process, or by several on Ray.

    Args:
        address: of the Ray cluster; None starts Ray on this machine where it is needed.

    Raises:
        LobeError: of `pretraining.run.pretrain`, of `together`, or no Ray.
    """
    if workers == 1:
        return run.pretrain(*call.arguments, **call.options, tell=tell)
    connection = Connection(address)
    connection.open()
    try:
        return together(call, workers, tell)
    finally:
        connection.close()


def together(call: Call, workers: int, tell: Telling) -> Pretrained:
    """As `pretraining.run.pretrain`, by so many processes of the Ray that this process is connected to.

    Raises:
        EnvironmentProblem: a process died.
        Exception: what a process failed with.
    """
    made: list[Pretrained] = []
    hears: dict[str, Callable[..., None]] = {"decoded": tell.decoded, "step": tell.step, "validated": tell.validated, "made": made.append}
    places = connected.room_for(workers, call.threads, call.device_type == "cuda")
    try:
        for what, given in connected.run(f"{call.card.name}-{call.seed}", _share, call, places):
            hears[what](*given)
    except connected.ProcessLost as error:
        raise EnvironmentProblem(f"A process of the pretraining was lost ({error}). {GOES_ON}") from None
    if not made:
        raise EnvironmentProblem(f"The processes of the pretraining ended without a word. {GOES_ON}")
    return made[0]


def _share(call: Call, tell: connected.Tell) -> None:
    """What each process does."""
    telling = Telling()
    if parallel.rank() == 0:
        telling = Telling(*(partial(_told, tell, what) for what in ("decoded", "step", "validated")))
    found = run.pretrain(*call.arguments, **call.options, tell=telling)
    if parallel.rank() == 0:
        tell(("made", (found,)))


def _told(tell: connected.Tell, what: str, *given: object) -> None:
    tell((what, given))
