"""The same work on many things, by as many processes as this one may use cores: for work that threads of one interpreter cannot share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from benchmark import registry
from benchmark.machine import usable_cores

Given = TypeVar("Given")
Found = TypeVar("Found")

LEAST = 500  # things for each process: it takes a second or two to start


def number_for(n_things: int) -> int:
    """Processes that so many things are worth; 1 is this one."""
    return max(1, min(usable_cores(), n_things // LEAST))


def each(work: Callable[[Given], Found], things: Sequence[Given]) -> Iterator[Found]:
    """`work` of each thing, in order.

    Args:
        work: a function of a module, or a partial of one, that gives the same in every process. What it raises is raised here.
    """
    n = number_for(len(things))
    if n == 1:
        yield from map(work, things)
        return
    from joblib import Parallel, delayed

    included = registry.included()
    # Not multiprocessing: it would run a script that calls this once more in each process, unless the script guards against it.
    pool = Parallel(n_jobs=n, return_as="generator", batch_size=16, pre_dispatch="4*n_jobs")
    yield from pool(delayed(_with_folders)(work, included, one) for one in things)


def _with_folders(work: Callable[[Given], Found], included: tuple[Path, ...], thing: Given) -> Found:
    """In a process of the pool: with the user's own cards and code that the asking process has."""
    if registry.included() != included:
        for folder in included:
            registry.include(folder)
    return work(thing)
