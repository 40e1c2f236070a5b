"""What a module of each room owes, and what can be known of it without running it: its names, and a head's facts.

Planning and listings read a head's facts, and a head may import torch: so `FACTS = HeadFacts(...)` of plain values is read as text.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmark.cards import HeadFacts
from benchmark.errors import CardError
from benchmark.files import read_bytes

OWED: Mapping[str, tuple[str, ...]] = {
    "readers": ("DatasetReader",),
    "heads": ("FACTS", "build"),
    "metrics": ("METRICS",),
    "encoders": ("build",),
}
PAGE = "docs/your-code.md says what a module owes."
_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}


def names_in(file: Path) -> dict[str, int]:
    """What a module defines or imports at its top level, with the line; nothing is run.

    Raises:
        CardError: it cannot be read, or is no Python.
    """
    found: dict[str, int] = {}
    for node in _tree(file).body:
        for name in _bound(node):
            found.setdefault(name, node.lineno)
    return found


def missing_in(room: str, file: Path) -> tuple[str, ...]:
    """What a module of the room owes and does not have. Raises as `names_in`."""
    there = names_in(file)
    return () if "*" in there else tuple(name for name in OWED[room] if name not in there)


def facts_in(file: Path) -> HeadFacts | None:
    """A head's facts as they stand in its module; None where they are not written out in plain values.

    Raises:
        CardError: they are written out and wrong, or the module is no Python.
    """
    for node in _tree(file).body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if value is not None and "FACTS" in _bound(node):
            return _facts(file, value)
    return None


def _facts(file: Path, value: ast.expr) -> HeadFacts | None:
    if not isinstance(value, ast.Call) or ast.unparse(value.func).rpartition(".")[2] != "HeadFacts" or value.args:
        return None
    try:
        given = {str(one.arg): _plain(one.value) for one in value.keywords}
    except ValueError:
        return None
    try:
        return HeadFacts(**given)
    except ValidationError as error:
        lines = {one.arg: one.value.lineno for one in value.keywords}
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise CardError(f"{file}:{lines.get(key, value.lineno)}: FACTS, key {key!r}: {first['msg']}.") from None


def _plain(node: ast.expr) -> Any:
    """The value of an expression of constants. Raises ValueError for any other."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(map(_plain, node.elts))
    if isinstance(node, ast.Set):
        return frozenset(map(_plain, node.elts))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_number(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_number(node.left), _number(node.right))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and isinstance(power := _number(node.right), int) and 0 <= power < 64:
        return _number(node.left) ** power
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "frozenset" and not node.keywords:
        return frozenset(_plain(node.args[0]) if node.args else ())
    raise ValueError


def _number(node: ast.expr) -> int | float:
    value = _plain(node)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    return value


def _bound(node: ast.stmt) -> list[str]:
    """Names that a statement of a module binds."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)]


def _tree(file: Path) -> ast.Module:
    try:
        stamp = file.stat()
        return _parsed(file, stamp.st_mtime_ns, stamp.st_size)
    except OSError as error:
        raise CardError(f"{file}: it cannot be read ({error.strerror or error}).") from None


@lru_cache(maxsize=256)
def _parsed(file: Path, _changed_ns: int, _n_bytes: int) -> ast.Module:
    """The file as parsed, again where it changed: a plan asks for a head's facts with every job."""
    try:
        return ast.parse(read_bytes(file))
    except SyntaxError as error:
        raise CardError(f"{file}:{error.lineno or 1}: it is no Python: {error.msg}.") from None
    except ValueError as error:  # null bytes
        raise CardError(f"{file}: it is no Python: {error}.") from None
