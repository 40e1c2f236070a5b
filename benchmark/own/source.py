"""Which files a module of a user's own is made of: its own, and what it imports from its folder, and so on from those.

They are found by reading `import` statements; nothing is run. What is imported in another way is refused when it happens (`modules`): it
would change a result and no key. Where a name leads is decided as `modules` decides it.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmark.errors import CardError
from benchmark.files import open_regular
from benchmark.own.modules import NEVER, is_installed


@dataclass(frozen=True)
class Code:
    """
    Attributes:
        files: (path below the folder with slashes, SHA-256 of its content), sorted.
    """

    files: tuple[tuple[str, str], ...]

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of names and contents: a folder that is copied elsewhere is the same code."""
        return hashlib.sha256("".join(f"{name}\0{digest}\n" for name, digest in self.files).encode()).hexdigest()


def code_of(file: Path, base: Path, package: str = "") -> Code:
    """The code of a module.

    Args:
        file: the module's.
        base: the folder in whose sub-folder it lies; of an installed module, where its top-level package lies.
        package: name of that top-level package; empty for a module of a folder.

    Raises:
        CardError: a file cannot be read.
    """

    def owns(top: str) -> bool:
        return top == package if package else top not in NEVER and not is_installed(top)

    waiting, found = [file], dict[Path, str]()
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        content = _content(one)
        found[one] = hashlib.sha256(content).hexdigest()
        roots = (base,) if package else tuple(dict.fromkeys((file.parent, base)))
        waiting += [path for path in _imported(one, content, roots, owns) if path.is_relative_to(base)]
    return Code(tuple(sorted((path.relative_to(base).as_posix(), digest) for path, digest in found.items())))


def changed_in(code: Code, base: Path) -> str:
    """The first of the files that is another one below this folder, or is not there; empty where all are as they were."""
    for name, digest in code.files:
        path = base / name
        if not path.is_file() or hashlib.sha256(_content(path)).hexdigest() != digest:
            return name
    return ""


def _imported(file: Path, content: bytes, roots: tuple[Path, ...], owns: Callable[[str], bool]) -> Iterator[Path]:
    """Files of the user's own that a file's `import` statements lead to, wherever in it they stand."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return  # running it says so
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if owns(alias.name.partition(".")[0]):
                    yield from _files_of(alias.name.split("."), roots)
        elif isinstance(node, ast.ImportFrom):
            parts = node.module.split(".") if node.module else []
            if node.level:
                above = file.parents[node.level - 1] if node.level <= len(file.parents) else file.parent
                where = (above, *roots)
            elif parts and owns(parts[0]):
                where = roots
            else:
                continue
            yield from _files_of(parts, where)
            for alias in node.names:
                yield from _files_of([*parts, alias.name], where)


def _files_of(parts: list[str], roots: tuple[Path, ...]) -> Iterator[Path]:
    """What importing a dotted name runs: the packages on the way, and the module."""
    for root in roots:
        at, files = root, list[Path]()
        for part in parts:
            at = at / part
            module, package = at.with_suffix(".py"), at / "__init__.py"
            if package.is_file():
                files.append(package)
            elif module.is_file():
                files.append(module)
                break
            elif not at.is_dir():
                break
        if files:
            yield from files
            return


def _content(path: Path) -> bytes:
    try:
        with open_regular(path) as handle:
            content: bytes = handle.read()
    except OSError as error:
        raise CardError(f"{path}: it cannot be read ({error.strerror or error}).") from None
    return content
