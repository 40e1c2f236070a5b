"""Every error LOBE raises on purpose. Each says what is wrong, where, and what to do next.

A `LobeError` is for the user: the command line prints its sentence without a traceback. Anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable

LISTED = ("task", "suite", "dataset", "backbone", "paper")  # kinds that `lobe list` has a command for
_NAMES_SHOWN = 8


class LobeError(Exception):
    """Base of all errors with a sentence for the user."""


class UsageError(LobeError):
    """The command or call makes no sense as given."""


class CardError(LobeError):
    """A card (YAML) is missing, malformed or contradicts itself."""


class UnknownName(UsageError):
    """A task, dataset, backbone, suite or other thing that does not exist; carries the nearest names, and how to see all."""

    def __init__(self, kind: str, name: str, known: Iterable[str]):
        known = list(dict.fromkeys(known))
        nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
        if kind in LISTED:
            shown = f" `lobe list {kind}s` shows all."
        else:
            names = sorted(known)
            more = f", and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
            shown = f" There are: {', '.join(names[:_NAMES_SHOWN])}{more}." if names else " There is none."
        super().__init__(f"There is no {kind} called {name!r}.{hint}{shown}")

    def __reduce__(self) -> tuple[Callable[..., UnknownName], tuple[type[UnknownName], str]]:
        return self.__new__, (type(self), str(self))  # its names are in the sentence


class ChangedSince(LobeError):
    """Mixed into the error of inputs that are not those a job was planned with: changed or gone meanwhile, or others on this machine.

    It says nothing of the job, so it is never kept as its result.
    """


class DataError(LobeError):
    """A dataset folder is not what its card says: missing, truncated, edited or inconsistent files."""


class NotRegular(DataError, OSError):
    """A pipe, device, socket or folder stands where a file belongs. Whoever handles what cannot be opened handles this too.

    Attributes:
        strerror: what it is, for sentences that name the file themselves.
    """

    def __init__(self, path: object, kind: str):
        super().__init__(path, kind)
        self._path, self.strerror = path, f"it is {kind}, not a file"

    def __str__(self) -> str:
        return f"{self._path} cannot be read: {self.strerror}. Put the file itself in its place."


class PartialRelease(DataError):
    """Files that the release has are not in the folder: it may serve a card that needs fewer of them."""


class DataChanged(DataError, ChangedSince):
    """Files of a dataset are not those that the job was planned with, or changed while it ran."""


class ImageError(DataError):
    """One image cannot be read. Names file and id."""


class ImageChanged(ImageError, ChangedSince):
    """An image is not the one that the job was planned with, or changed while it was decoded."""


class SplitError(DataError):
    """A split leaks ids, misses ids or does not match its digest."""


class SplitChanged(SplitError, ChangedSince):
    """Lists of a split are not those that the job was planned with."""


class TooFewImages(DataError):
    """Fewer training images than one batch. Names both numbers."""


class CheckpointError(LobeError):
    """A weights file cannot be read, or too little of the encoder was loaded from it."""


class CheckpointChanged(CheckpointError, ChangedSince):
    """Weights, code or a tokenizer are not those that the job was planned with."""


class ConformanceError(LobeError):
    """A backbone breaks its contract. Names the method at fault."""


class FrameMismatch(LobeError):
    """Predictions and ground truth were measured in different frames."""


class StoreError(LobeError):
    """The output folder cannot be used: read-only, full, locked by another driver, or holding a damaged record."""


class DamagedResult(StoreError):
    """A stored record, or a file of its predictions or statistics, is not what was stored.

    Attributes:
        key: of the record.
    """

    def __init__(self, key: str, sentence: str):
        super().__init__(sentence)
        self.key = key

    def __reduce__(self) -> tuple[type[DamagedResult], tuple[str, str]]:
        return type(self), (self.key, str(self))


class TrainingError(LobeError):
    """A job produced no trustworthy result: NaN loss, an encoder that never unfroze, a validation split without positives."""


class EnvironmentProblem(LobeError):
    """A package, a device or memory this job needs is missing. Says how to mend it; never kept as the job's result."""


class TooLittleMemory(EnvironmentProblem):
    """A batch does not fit into a device's memory and cannot pass in pieces."""


class NotSelected(EnvironmentProblem):
    """The learning rate was not selected: an environment's fault kept a selection run from its result."""


class DeviceMissing(EnvironmentProblem):
    """A process that was planned to have a GPU sees none. Nothing is computed: a CPU's numbers would be another experiment's."""
