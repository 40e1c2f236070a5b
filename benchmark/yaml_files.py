"""YAML from disk that ends in one kind of error, however deep it is nested: composing it recurses in C, until the process dies."""

from __future__ import annotations

from collections.abc import Sequence
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
    return parse(read_text(path))


def parse(text: str) -> Any:
    """The content of a text; raises YAMLError as `read` does."""
    _require_shallow(text)
    return yaml.load(text, Loader=_Loader)


def line_of(path: Path, place: Sequence[str | int]) -> int:
    """Line of what stands at a place, a key or index a level; of as much of the place as there is. Raises as `read`."""
    text = read_text(path)
    _require_shallow(text)
    node = yaml.compose(text, Loader=_Loader)
    line = 0 if node is None else node.start_mark.line
    for step in place:
        found = _below(node, step)
        if found is None:
            break
        line, node = found
    return line + 1


def _below(node: yaml.Node | None, step: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step].start_mark.line, node.value[step]
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(step):
                return key.start_mark.line, value
        for key, value in node.value:
            if key.value == "<<":
                parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
                found = next((found for part in parts if (found := _below(part, step)) is not None), None)
                if found is not None:
                    return found
    return None


def _require_shallow(text: str) -> None:
    # Each level takes a bracket, or a column of the line where it begins: few of both need no second look.
    if text.count("[") + text.count("{") + max(map(len, text.splitlines()), default=0) < _DEEPEST:
        return
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise yaml.YAMLError("it is nested too deeply")
