"""The driver's side of tracking: notes go to the spool, a thread takes them to MLflow. Science never waits and never fails for it.

What cannot be written stays in `<out>/tracking` and is replayed by the next run on the same folder.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from benchmark import private
from benchmark.cards import Epoch, Job, Record
from benchmark.tracking.address import tracking_uri
from benchmark.tracking.runs import Rejected, Runs
from benchmark.tracking.spool import FOLDER, Spool

EVERY_S = 5.0  # live metrics of one job: at most one batch in this time
RETRY_S = (1.0, 2.0, 5.0, 15.0, 60.0)
CLOSING_S = 60.0  # how long the end of an evaluation waits for a server that answers

End = Literal["FINISHED", "FAILED", "KILLED"]


class Tracker:
    """Tells MLflow of one evaluation, or of one pretraining.

    Args:
        out: output folder; the default store is `<out>/mlflow.db` with artifacts in `<out>/mlartifacts`.
            MLFLOW_TRACKING_URI overrides it, as everywhere in MLflow.
        title: name of the evaluation's run.
        parameters: of the evaluation, as text.

    Attributes:
        problem: what kept MLflow from being complete when `close` returned, or None.
    """

    def __init__(self, out: Path, title: str, parameters: dict[str, str]):
        self.problem: str | None = None
        self.evaluation = uuid.uuid4().hex
        self.uri = tracking_uri(out)
        self._out = out
        self._spool = Spool(out / FOLDER)
        self._lost: str | None = None  # the last thing that went wrong with the server
        self._curves: dict[str, list[dict]] = {}  # epochs not noted yet, by key
        self._noted: dict[str, tuple[int, float]] = {}  # epochs noted, and when, by key
        self._values: list[dict] = []  # of the work as a whole, not noted yet
        self._valued = -EVERY_S  # when some were
        self._wake, self._closing = threading.Event(), threading.Event()
        for earlier in _unfinished(self._spool.folder):
            self._note("close", evaluation=earlier, status="KILLED")
            (self._spool.folder / f"{earlier}.open").unlink(missing_ok=True)
        self._note("open", title=title, parameters=parameters)
        with self._disk():
            private.file(self._spool.folder / f"{self.evaluation}.open")
        self._thread = threading.Thread(target=self._work, daemon=True, name="tracking")
        self._thread.start()

    def epoch(self, job: Job, epoch: Epoch) -> None:
        """Notes an epoch of a running job; batches of one job are at least `EVERY_S` apart."""
        key = job.key
        self._curves.setdefault(key, []).append({"at_ms": _now_ms(), **epoch.model_dump(mode="json")})
        if time.monotonic() - self._noted.get(key, (0, -EVERY_S))[1] >= EVERY_S:
            self._note("epochs", job=job.model_dump(mode="json"), epochs=self._curves.pop(key))
            n = epoch.epoch + 1
            self._noted[key] = (n, time.monotonic())

    def record(self, record: Record) -> None:
        """Notes a finished job: what is left of its curve, its metrics and artifacts."""
        told, _ = self._noted.pop(record.key, (0, 0.0))
        untold = self._curves.pop(record.key, None)
        if untold and not record.curve:  # a failed record has no curve of its own
            self._note("epochs", job=record.job.model_dump(mode="json"), epochs=untold)
        self._note("finished", record=record.model_dump(mode="json"), told=told)

    def value(self, step: int, metrics: dict[str, float]) -> None:
        """Notes what a step of the work as a whole gave; batches are at least `EVERY_S` apart."""
        self._values.append({"at_ms": _now_ms(), "step": step, "metrics": metrics})
        if time.monotonic() - self._valued >= EVERY_S:
            self._tell_values()

    def close(self, status: End) -> None:
        """Ends the evaluation and waits for the thread while the server answers; sets `problem`."""
        self._tell_values()
        self._note("close", status=status)
        with self._disk():
            (self._spool.folder / f"{self.evaluation}.open").unlink(missing_ok=True)
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSING_S)
        left = len(self._spool)
        if self.problem is None and left:
            why = self._lost or f"it did not answer within {CLOSING_S:.0f} s"
            self.problem = (
                f"Tracking is behind: {left} notes for {private.without_password(self.uri)} wait in {self._spool.folder} ({why}). "
                "Results are complete without them; the next run on this folder sends them."
            )

    def _tell_values(self) -> None:
        if self._values:
            self._note("values", values=self._values)
            self._values, self._valued = [], time.monotonic()

    def _note(self, kind: str, **content: Any) -> None:
        with self._disk():
            self._spool.add(kind, {"evaluation": self.evaluation, **content})
        self._wake.set()

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        """A full disk costs notes, never a result."""
        try:
            yield
        except OSError as error:
            self.problem = self.problem or f"Tracking lost notes: {self._spool.folder} cannot be written ({error.strerror})."

    def _work(self) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the spool is the retry
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        failures, runs = 0, None
        while True:
            closing = self._closing.is_set()
            self._wake.clear()
            try:
                runs = runs or Runs(self.uri, self._out)
                for note in self._spool.waiting():
                    try:
                        runs.write(note.kind, note.content)
                    except Rejected as error:
                        said = private.without_password(str(error))
                        self.problem = self.problem or f"MLflow refused a note, kept in {self._spool.folder / 'rejected'}: {said}"
                        self._spool.reject(note.path)
                        continue
                    self._spool.done(note)
                    failures, self._lost = 0, None
            except Exception as error:  # a lost server, database or disk: try again later
                failures, self._lost = failures + 1, _sentence(error)
            if closing:
                return
            # A new note wakes the thread at once while the server answers; after a failure only the time does, or the end.
            if failures:
                self._closing.wait(RETRY_S[min(failures, len(RETRY_S)) - 1])
            else:
                self._wake.wait()


def _unfinished(folder: Path) -> list[str]:
    """Evaluations whose driver never closed them: it was killed."""
    return sorted(path.stem for path in folder.glob("*.open"))


def _now_ms() -> int:
    return int(time.time() * 1000)


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {private.without_password((str(error).splitlines() or [''])[0])[:200]}"
