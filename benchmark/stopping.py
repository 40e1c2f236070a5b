"""Ctrl-C and SIGTERM end the command with one sentence and one exit code, from its first line to its last.

A signal arrives as a KeyboardInterrupt, which Python may lose: in a destructor it is printed and dropped, and C code may put another error
in its place, or none. So what was asked is remembered too.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

SENTENCE = "Stopped. What is stored stays; the same command goes on from there."
EXIT_CODE = 1
_AGAIN_S = 0.02

_asked = False


def hear() -> None:
    """From now on, in the main thread; called again, it changes nothing. A shell that has Ctrl-C ignored is obeyed."""
    global _asked
    if signal.getsignal(signal.SIGTERM) is not _stop:  # a batch system's polite end
        _asked = False
        signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)


@contextlib.contextmanager
def none_lost() -> Iterator[None]:
    """For a whole process: inside, an interrupt that a destructor swallows is raised again. Behind it, no SIGTERM changes the exit code."""
    hear()
    signal.signal(signal.SIGALRM, _stop)
    before, sys.unraisablehook = sys.unraisablehook, _raise_again(sys.unraisablehook)
    try:
        yield
    finally:
        sys.unraisablehook = before
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def was_asked() -> bool:
    """Whether a signal has arrived, also where nobody saw its KeyboardInterrupt."""
    return _asked


def end() -> NoReturn:
    """Says the sentence and leaves."""
    global _asked
    _asked = False
    with contextlib.suppress(OSError, ValueError):  # nobody reads it
        print(SENTENCE, file=sys.stderr, flush=True)
    sys.exit(EXIT_CODE)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    global _asked
    _asked = True
    raise KeyboardInterrupt


def _raise_again(otherwise: Callable[[Any], object]) -> Callable[[Any], None]:
    def hook(lost: Any) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)  # raised at once it would be lost in here
        else:
            otherwise(lost)

    return hook
