"""Standard output and error as they may be: closed, full, a pipe whose reader left, or without the letters we use.

A reader who has seen enough stops nothing: what is computed goes on, and what would be printed is dropped. Letters that the encoding lacks
become question marks.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import IO, Any, TextIO

from benchmark.errors import EnvironmentProblem

PIPE_WIDTH = 160  # a pipe or a file has no width of its own; so many columns keep tables in one line each


class Enduring:
    """A text stream that outlives its reader. All but writing is the stream's own.

    Raises:
        EnvironmentProblem: what is written cannot be kept, on a full disk for example; not for `lossy` streams, which lose it.
    """

    def __init__(self, stream: TextIO, name: str, *, lossy: bool):
        self._stream, self._name, self._lossy = stream, name, lossy

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._stream, attribute)

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except BrokenPipeError:
            self._let_go()
        except OSError as error:
            self._cannot(error)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._let_go()
        except OSError as error:
            self._cannot(error)

    def _cannot(self, error: OSError) -> None:
        self._let_go()
        if not self._lossy:
            raise EnvironmentProblem(f"{self._name} cannot be written: {error.strerror}.") from None

    def _let_go(self) -> None:
        """From now on everything goes nowhere, what still waits in the buffer too."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def prepare() -> None:
    """Makes the standard streams of this process safe to write to: closed ones, pipes and terminals. Called again, it changes nothing."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file that is opened would take its place, and be printed into
            os.open(os.devnull, os.O_RDWR)
    for name, words in (("stdout", "Standard output"), ("stderr", "Standard error")):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # for the rest of the process
        if isinstance(stream, Enduring):
            continue
        with contextlib.suppress(AttributeError, ValueError, OSError):  # a test's stream has its own mind
            stream.reconfigure(errors="replace")
        setattr(sys, name, Enduring(stream, words, lossy=name == "stderr"))


def settle() -> None:
    """Flushes both streams before Python does at exit, where a failure would print a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def width_of(stream: TextIO | None) -> int | None:
    """Columns of what is no terminal; None asks the terminal."""
    return None if stream is not None and stream.isatty() else PIPE_WIDTH


def takes_every_letter(stream: IO[str] | None) -> bool:
    """Whether the stream's encoding has all letters, as JSON may be written in."""
    return (getattr(stream, "encoding", None) or "").lower().replace("-", "").startswith("utf")
