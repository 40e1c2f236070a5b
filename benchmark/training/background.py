"""Scores and stores a tested job in a thread while the process trains the next one. Where no core is idle it is not used (`execute.work`).

The device's work stays with the main thread: it makes the predictions and hands them over batch by batch. One job is behind at a time, and
nothing of it is told before all of it is done, so that a kill loses what was never promised.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from benchmark.cards import Job
from benchmark.errors import LobeError
from benchmark.events import Finished
from benchmark.kinds.base import Predicted

_LOOK_S = 0.2  # between two looks at whether the thread still takes what it is given


class Background:
    """A thread with room for one job. Its methods belong to the main thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="score")
        self._jobs: list[tuple[Job, Future[Finished]]] = []

    def score(self, job: Job, predicted: Predicted, scored: Callable[[Predicted], Finished]) -> None:
        """Waits until the job before is done, then makes the predictions of this one; returns when the last is handed over.

        Args:
            predicted: batches, made here as the thread takes them.
            scored: reads them all in the thread; what it gives or raises is told by `ended`.

        Raises:
            Exception: of `predicted`. The job is then as if it had never been handed over.
        """
        for _, before in self._jobs:
            before.exception()  # waits
        batches: queue.Queue[Any] = queue.Queue(maxsize=1)
        future = self._thread.submit(lambda: scored(_taken(batches)))

        def give(one: Any) -> bool:
            while not future.done():  # it may have failed half-way
                try:
                    batches.put(one, timeout=_LOOK_S)
                    return True
                except queue.Full:
                    continue
            return False

        try:
            for batch in predicted:
                if not give(batch):
                    break
        except BaseException:
            give(_Broken())
            future.exception()
            raise
        give(None)
        self._jobs.append((job, future))

    def ended(self, *, wait: bool = False) -> list[tuple[Job, Finished | Exception]]:
        """Jobs that are done, each told once, in order; with what failed them.

        Args:
            wait: for all that were handed over.
        """
        told: list[tuple[Job, Finished | Exception]] = []
        while self._jobs and (wait or self._jobs[0][1].done()):
            job, future = self._jobs.pop(0)
            error = future.exception()
            if error is not None and not isinstance(error, Exception):
                raise error
            told.append((job, future.result() if error is None else error))
        return told

    def close(self) -> None:
        """Waits for what is running; nothing is told any more."""
        self._thread.shutdown(wait=True)


class _Broken(LobeError):
    """No further predictions come: making them failed."""


def _taken(batches: queue.Queue[Any]) -> Iterator[Any]:
    while (one := batches.get()) is not None:
        if isinstance(one, _Broken):
            raise one
        yield one
