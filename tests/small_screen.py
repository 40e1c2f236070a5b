"""A terminal of so many columns, made by the operating system: what a command prints on it, with its escape sequences."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_screen(words: Sequence[str], columns: int, environment: Mapping[str, str], folder: Path | None = None) -> tuple[int, str]:
    """Exit code and text of both streams."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (25, columns))
    with subprocess.Popen(words, cwd=folder, env=environment, stdin=its, stdout=its, stderr=its) as process:
        os.close(its)
        pieces = []
        try:
            while piece := os.read(ours, 65536):
                pieces.append(piece)
        except OSError:  # so Linux ends what is read of a terminal that nobody writes to
            pass
    os.close(ours)
    return process.returncode, b"".join(pieces).decode()
