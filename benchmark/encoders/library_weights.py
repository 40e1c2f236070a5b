"""What a library's named weights are: a file on disk with the statistics it was trained with.

Getting the file is the family's part; here is the answer's shape, whether a library may ask the network for it, and the sentence for when
it cannot be had.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from benchmark.cards import Normalisation
from benchmark.errors import EnvironmentProblem


@dataclass(frozen=True)
class LibraryWeights:
    """A library's weights on this machine.

    Attributes:
        path: the file, to be loaded with the family's `DEFAULT_LAYOUT`; its SHA-256 is the backbone's digest.
        title: architecture and full name of the weights.
        normalisation: statistics the library documents for them; None where it does not.
        pretraining: names of the pretraining sets; None where the library does not say.
        as_built: statistics that the family gives the model whatever its weights; None where none, or only what lies beside the weights.
    """

    path: Path
    title: str
    normalisation: Normalisation | None
    pretraining: tuple[str, ...] | None
    as_built: Normalisation | None = None

    @property
    def own(self) -> Normalisation | None:
        """Statistics of these weights alone; None where the model is built with them, or nobody documents any."""
        return None if self.normalisation == self.as_built else self.normalisation


class NotHere(EnvironmentProblem):
    """The file is not on this machine, and nobody was asked for it."""


_asking: ContextVar[bool] = ContextVar("asking", default=True)


@contextlib.contextmanager
def without_asking() -> Iterator[None]:
    """Within it libraries look at this machine alone: a dry run neither waits for a network nor downloads."""
    token = _asking.set(False)
    try:
        yield
    finally:
        _asking.reset(token)


def may_ask() -> bool:
    """Whether a family may ask the network for a file."""
    return _asking.get()


def fetched(name: str, download: Callable[[], Path]) -> Path:
    """The downloaded file.

    Args:
        download: gives the file, from a cache of the library's where it is in one; asks the network only where `may_ask` allows it.

    Raises:
        NotHere: it is in no cache, within `without_asking`.
        EnvironmentProblem: the download failed (no network, a proxy, a full disk, a wrong digest).
    """
    try:
        return download()
    except Exception as error:
        if not may_ask():
            raise NotHere(f"The library weights {name} are not on this machine.") from None
        reason = str(error).split("\n")[0][:200] or type(error).__name__
        model = name.split("@")[0]
        raise EnvironmentProblem(
            f"The library weights {name} are not on this machine and could not be downloaded ({reason}). "
            f"Fetch the file where there is a network and give it as {model}@FILE, or drop the @ for random initialisation."
        ) from None
