"""The commands of docs/submitting.md, as they stand there, and the files that they work on."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "submitting.md"


def commands() -> list[str]:
    """Every line of every block that is run, in order."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def files() -> dict[str, str]:
    """Path -> content of every file that the page shows: the last name before a block of Python or YAML is its path."""
    shown = re.findall(r"`([\w/.]+)`[^`]*```(?:python|yaml)\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)
    return dict(shown)


def tampering() -> str:
    """The program that makes the forged copy."""
    return files()["tamper.py"]
