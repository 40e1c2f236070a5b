"""What a library's named weights are: a file on disk with the statistics it was trained with.

Getting the file is the family's part; here is only the answer's shape and the sentence for when it cannot be had.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """

    path: Path
    title: str
    normalisation: Normalisation | None
    pretraining: tuple[str, ...] | None


def fetched(name: str, download: Callable[[], Path]) -> Path:
    """The downloaded file.

    Raises:
        EnvironmentProblem: the download failed (no network, a proxy, a full disk, a wrong digest).
    """
    try:
        return download()
    except Exception as error:
        reason = str(error).split("\n")[0][:200] or type(error).__name__
        model = name.split("@")[0]
        raise EnvironmentProblem(
            f"The library weights {name} are not on this machine and could not be downloaded ({reason}). "
            f"Fetch the file where there is a network and give it as {model}@FILE, or drop the @ for random initialisation."
        ) from None
