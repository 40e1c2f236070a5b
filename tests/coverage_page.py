"""The page docs/coverage.md: how much of each room the tests run, and why each block of lines that none of them runs is left.

`make coverage` calls it on the JSON that coverage writes. A block has its reason in `REASONS`, by file and function, or stands behind
`# pragma: no cover: <reason>` in the code. What has neither is listed as unexplained: test it, or say why not.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "coverage.md"
REASONS = ROOT / "tests" / "coverage_reasons.toml"
PRAGMA = re.compile(r"#\s*pragma:\s*no cover(?P<rest>.*)$")
REASON = re.compile(r":\s+(?P<reason>\S.{9,})$")  # ten characters say something

HEAD = """# Coverage

Written by `make coverage`: the tests of `make test`, counted line by line. A line that no test runs is a line that nothing holds; each one
left has a reason here, or is listed as unexplained. Lines marked in the code, abstract methods and what only the type checker reads are not
counted. Long checks (`make verify`) and the GPU check (`make gpu`) run more than is counted here.
"""


@dataclass(frozen=True)
class Block:
    """Lines of one function that no test runs, first to last, with nothing between them that runs."""

    file: str
    function: str
    first: int
    last: int

    @property
    def name(self) -> str:
        return f"{self.file}::{self.function}" if self.function else self.file


def functions_of(source: str) -> list[tuple[int, int, str]]:
    """(first line, last line, qualified name) of every function and class, outer ones first."""
    found: list[tuple[int, int, str]] = []

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{prefix}{child.name}"
                found.append((child.lineno, child.end_lineno or child.lineno, name))
                visit(child, f"{name}.")
            else:
                visit(child, prefix)

    visit(ast.parse(source), "")
    return found


def blocks_of(file: str, source: str, missing: Sequence[int], executed: Sequence[int]) -> Iterator[Block]:
    """The missing lines of a file as blocks: cut where a line runs in between, and where a function ends.

    Args:
        missing, executed: line numbers from 1, of statements.
    """
    functions, runs = functions_of(source), set(executed)

    def function(line: int) -> str:
        return max(((first, name) for first, last, name in functions if first <= line <= last), default=(0, ""))[1]

    block: Block | None = None
    for line in sorted(missing):
        inside = function(line)
        if block is not None and block.function == inside and runs.isdisjoint(range(block.last, line)):
            block = Block(file, inside, block.first, line)
            continue
        if block is not None:
            yield block
        block = Block(file, inside, line, line)
    if block is not None:
        yield block


def reason_of(block: Block, reasons: Mapping[str, str]) -> str | None:
    """That of the innermost function or class around the block, else of the file; None where nobody gave one."""
    key = _key_of(block, reasons)
    return None if key is None else reasons[key]


def _key_of(block: Block, reasons: Mapping[str, str]) -> str | None:
    names = block.function.split(".") if block.function else []
    keys = [f"{block.file}::{'.'.join(names[:n])}" for n in range(len(names), 0, -1)] + [block.file]
    return next((key for key in keys if key in reasons), None)


def read_reasons(path: Path = REASONS) -> dict[str, str]:
    """`file::function` -> why its lines are not run."""
    with path.open("rb") as handle:
        return tomllib.load(handle)["reasons"]


def pragmas(root: Path = ROOT) -> Iterator[tuple[str, int, str | None]]:
    """File, line and reason of every `pragma: no cover` of the package; the reason is None where there is none."""
    for path in sorted((root / "benchmark").rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if found := PRAGMA.search(line):
                reason = REASON.fullmatch(found["rest"].rstrip())
                yield path.relative_to(root).as_posix(), number, None if reason is None else reason["reason"]


def room_of(file: str) -> str:
    """`benchmark/heads/networks/yolov3.py` -> `heads/`; modules beside the rooms are `benchmark/*.py`."""
    parts = Path(file).parts
    return f"{parts[1]}/" if len(parts) > 2 else "benchmark/*.py"


def page(found: Mapping[str, Any] | None, reasons: Mapping[str, str], root: Path = ROOT) -> str:
    """The page of coverage's JSON; of None, one that says that nothing was measured."""
    lines = [HEAD]
    if found is None:
        lines += ["Not measured yet on this tree: run `make coverage`.", ""]
    else:
        lines += [*_table(found), *_blocks(found, reasons, root)]
    marked = [(f"{file}:{number}", reason) for file, number, reason in pragmas(root)]
    lines += ["## Marked in the code", "", "| where | why |", "|---|---|"]
    lines += [f"| `{where}` | {_cell(reason or 'no reason')} |" for where, reason in marked] + [""]
    return "\n".join(lines).rstrip() + "\n"


def _table(found: Mapping[str, Any]) -> list[str]:
    rooms: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for file, about in found["files"].items():
        rooms[room_of(file)].append(about["summary"])
    lines = ["| room | lines | not run | lines run | branches taken |", "|---|--:|--:|--:|--:|"]
    for room, summaries in [*sorted(rooms.items()), ("**all**", [found["totals"]])]:
        n_lines, n_missing, n_branches, n_taken = (
            sum(one.get(name, 0) for one in summaries) for name in ("num_statements", "missing_lines", "num_branches", "covered_branches")
        )
        name = room if room.startswith("*") else f"`{room}`"
        lines.append(f"| {name} | {n_lines:,} | {n_missing:,} | {_share(n_lines - n_missing, n_lines)} | {_share(n_taken, n_branches)} |")
    return [*lines, ""]


def _blocks(found: Mapping[str, Any], reasons: Mapping[str, str], root: Path) -> list[str]:
    explained: list[str] = []
    unexplained: list[str] = []
    needed: set[str] = set()
    for file, about in sorted(found["files"].items()):
        if not about["missing_lines"]:
            continue
        source = (root / file).read_text(encoding="utf-8")
        code = source.splitlines()
        for block in blocks_of(file, source, about["missing_lines"], about["executed_lines"]):
            place = f"`{block.file}:{block.first}" + (f"-{block.last}`" if block.last > block.first else "`")
            key = _key_of(block, reasons)
            if key is None:
                unexplained.append(f"| {place} | `{block.function or 'module'}` | `{_cell(code[block.first - 1].strip()[:80])}` |")
            else:
                explained.append(f"| {place} | `{block.function or 'module'}` | {_cell(reasons[key])} |")
                needed.add(key)
    lines = ["## Not run, with the reason", "", "| lines | in | why |", "|---|---|---|", *explained, ""] if explained else []
    if idle := sorted(reasons.keys() - needed):
        lines += ["## Reasons that nothing needs", "", *(f"- `{key}`" for key in idle), ""]
    lines += ["## Not run, unexplained", ""]
    if not unexplained:
        return [*lines, "None.", ""]
    heading = f"{len(unexplained):,} blocks: a test is missing, or a reason in `tests/coverage_reasons.toml`."
    return [*lines, heading, "", "| lines | in | begins |", "|---|---|---|", *unexplained, ""]


def _share(some: int, whole: int) -> str:
    """In per cent, cut and not rounded: 100.0 is said of all alone."""
    return "–" if whole == 0 else f"{1000 * some // whole / 10:.1f} %"


def _cell(text: str) -> str:
    """Text of a table's cell; a lone backtick would swallow what follows."""
    whole = text if text.count("`") % 2 == 0 else text.replace("`", "'")
    return whole.replace("|", "\\|")


def main(arguments: Sequence[str]) -> None:
    found = json.loads(Path(arguments[0]).read_text(encoding="utf-8")) if arguments else None
    PAGE.write_text(page(found, read_reasons()), encoding="utf-8")
    print(f"Written: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
