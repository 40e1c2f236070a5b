"""YAML from disk that ends in one kind of error, however deep it is nested: composing it recurses in C, until the process dies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from benchmark.files import read_text

_DEEPEST = 100  # lists and mappings inside one another; no card comes near
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read(path: Path) -> Any:
    """The content of a file; objects of Python are not made.

    Raises:
        OSError: it cannot be opened.
        UnicodeDecodeError: it is no UTF-8 text.
        yaml.YAMLError: it is no YAML, or nested too deeply.
    """
    text = read_text(path)
    _require_shallow(text)
    return yaml.load(text, Loader=_Loader)


def _require_shallow(text: str) -> None:
    # Each level takes a bracket, or a column of the line where it begins: few of both need no second look.
    if text.count("[") + text.count("{") + max(map(len, text.splitlines()), default=0) < _DEEPEST:
        return
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise yaml.YAMLError("it is nested too deeply")
