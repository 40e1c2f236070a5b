"""What a run tells while it works: training and planning yield these events, executors pass them on, and whoever watches reads them.

They cross processes and machines, so they are plain frozen values. `Finished` is the only one that science needs; the others inform.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from benchmark.cards import Epoch, Record

Step = TypeVar("Step")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Hashing:
    """Content of a dataset's files is being read, before jobs can be planned."""

    dataset: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Started:
    """A worker took up the job; it does so again after its process was lost."""

    key: str


@dataclass(frozen=True)
class Decoded:
    """Images that jobs need are in the cache. Jobs that train side by side share their images, hence several keys."""

    keys: tuple[str, ...]
    done: int
    total: int


@dataclass(frozen=True)
class Encoded:
    """Features of the frozen encoder are there for so many of the images of a split: read, computed, or by another process."""

    keys: tuple[str, ...]
    done: int
    total: int


@dataclass(frozen=True)
class EpochEnded:
    """An epoch of the job was trained and validated."""

    key: str
    epoch: Epoch


@dataclass(frozen=True)
class Finished:
    """The job's record, failed ones included, and the files it made, by name: bytes, so that they travel from any node."""

    record: Record
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Noticed:
    """What a person should know of the machines; it concerns no job."""

    sentence: str


Event = Hashing | Started | Decoded | Encoded | EpochEnded | Finished | Noticed


class Steps(Generic[Step, Result]):
    """Iterates a generator and keeps what it returns, for a caller that turns its steps into events.

    Attributes:
        result: what the generator returned; set once the iteration has ended.
    """

    result: Result

    def __init__(self, generator: Generator[Step, None, Result]):
        self._generator = generator

    def __iter__(self) -> Iterator[Step]:
        self.result = yield from self._generator
