"""The same work on many things, by as many processes as this one may use cores: for work that threads of one interpreter cannot share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

from benchmark import registry
from benchmark.machine import usable_cores

Given = TypeVar("Given")
Found = TypeVar("Found")

LEAST = 500  # things for each process: it takes a second or two to start
Step = Callable[[int, int], None]
Show = Callable[[str], AbstractContextManager[Step]]
"""Title -> something that is told how many of how many things are done, as `progress.bar` makes it."""


@contextmanager
def unseen(title: str) -> Iterator[Step]:
    """Tells nobody."""
    yield lambda done, of: None


def number_for(n_things: int) -> int:
    """Processes that so many things are worth; 1 is this one."""
    return max(1, min(usable_cores(), n_things // LEAST))


def each(work: Callable[[Given], Found], things: Sequence[Given], title: str = "", show: Show = unseen) -> Iterator[Found]:
    """`work` of each thing, in order.

    Args:
        work: a function of a module, or a partial of one, that gives the same in every process. What it raises is raised here.
        title: what is being done, for `show`, where there are things enough to wait for.
    """
    with (show if len(things) >= LEAST else unseen)(title) as step:
        for done, found in enumerate(_each(work, things), 1):
            step(done, len(things))
            yield found


def _each(work: Callable[[Given], Found], things: Sequence[Given]) -> Iterator[Found]:
    n = number_for(len(things))
    if n == 1:
        yield from map(work, things)
        return
    from joblib import Parallel, delayed

    included = registry.included()
    # Not multiprocessing: it would run a script that calls this once more in each process, unless the script guards against it.
    pool = Parallel(n_jobs=n, return_as="generator", batch_size=16, pre_dispatch="4*n_jobs")
    done = 0
    try:
        for found in pool(delayed(_with_folders)(work, included, one) for one in things):
            done += 1
            yield found
    except BrokenProcessPool:  # one was lost, as happens when memory runs out: the rest is done here
        yield from map(work, things[done:])


def _with_folders(work: Callable[[Given], Found], included: tuple[Path, ...], thing: Given) -> Found:
    """In a process of the pool: with the user's own cards and code that the asking process has."""
    if registry.included() != included:
        for folder in included:
            registry.include(folder)
    return work(thing)
