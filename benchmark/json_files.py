"""JSON from disk: returns an object where an object belongs, else raises one kind of error with a clause that says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmark.files import read_text

_CALLED = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number", type(None): "null"}


def read(path: Path, shape: type = dict) -> Any:
    """The content of a file, with or without a byte order mark.

    Args:
        shape: `dict` for an object, `list` for a list.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no JSON, no UTF-8 text, nested without end, or something else than `shape`.
    """
    return parse(read_text(path, "utf-8-sig"), shape)


def parse(text: str | bytes, shape: type = dict) -> Any:
    """As `read`, of a text at hand.

    Raises:
        ValueError: see `read`.
    """
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(content, shape):
        raise ValueError(f"it holds {_CALLED[type(content)]} where {_CALLED[shape]} belongs")
    return content
