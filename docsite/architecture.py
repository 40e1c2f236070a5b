"""The architecture in one picture: layers from the import contract, sentences from docstrings, a job's way from docs/architecture.md."""

from __future__ import annotations

import ast
import re
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from docsite.addresses import ROOT
from docsite.tables import first_sentence

WIDTH, MARGIN, GAP, LINE, CHIP, STEP = 860, 60, 8, 17, 30, 25  # pixels of the drawing
_LETTER = 7.4  # pixels of a letter of a chip, at most
_COLUMNS = 112  # letters of a sentence in one line
_STEP = re.compile(r"^(?P<number>\d+)\. .*?\]\(\.\./benchmark/(?P<path>[\w/]+\.py)\)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Room:
    """A module or package directly below `benchmark`.

    Attributes:
        about: the first sentence of its docstring.
        steps: of a job's way that begin in it.
    """

    name: str
    is_package: bool
    about: str
    steps: tuple[int, ...]


def layers() -> list[list[str]]:
    """Names of the rooms, layer by layer, the highest first: the contract that `make lint` checks."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (one for one in project["tool"]["importlinter"]["contracts"] if one.get("containers") == ["benchmark"])
    return [re.findall(r"\w+", layer) for layer in contract["layers"]]


def walk() -> dict[int, str]:
    """Step of a job's way -> the module that it begins in, as docs/architecture.md tells it."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return {int(step["number"]): step["path"] for step in _STEP.finditer(page)}


def rooms() -> list[list[Room]]:
    """The rooms, layer by layer."""
    steps: dict[str, list[int]] = {}
    for number, path in walk().items():
        steps.setdefault(path.partition("/")[0].removesuffix(".py"), []).append(number)
    return [[_room(name, tuple(steps.get(name, ()))) for name in layer] for layer in layers()]


def picture() -> str:
    """The picture as SVG. Packages are rows; single modules between two packages share a row, which is read from left to right."""
    drawn, top = [], GAP
    for row in _rows():
        lines, height = (_package if len(row) == 1 and row[0].is_package else _modules)(row, top)
        drawn += lines
        top += height + GAP
    title = "The layers of LOBE, and the steps of a job through them"
    style = f'viewBox="0 0 {WIDTH} {top}" class="architecture" role="img" aria-label="{title}"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {style}>', *drawn, "</svg>"])


def _rows() -> Iterator[list[Room]]:
    waiting: list[Room] = []
    for layer in rooms():
        waiting += [room for room in layer if not room.is_package]
        for room in layer:
            if room.is_package:
                if waiting:
                    yield waiting
                    waiting = []
                yield [room]
    if waiting:
        yield waiting


def _package(row: list[Room], top: int) -> tuple[list[str], int]:
    (room,) = row
    lines = textwrap.wrap(room.about.replace("`", ""), _COLUMNS)
    height = 2 * GAP + LINE * (1 + len(lines))
    drawn = [f'<rect class="package" x="{MARGIN}" y="{top}" width="{WIDTH - MARGIN}" height="{height}" rx="5"/>']
    drawn += [f'<text class="name" x="{MARGIN + 12}" y="{top + GAP + 13}">{room.name}</text>']
    for number, line in enumerate(lines, start=1):
        drawn.append(f'<text class="about" x="{MARGIN + 12}" y="{top + GAP + 13 + LINE * number}">{escape(line)}</text>')
    for place, number in enumerate(reversed(room.steps)):
        drawn += _step(number, MARGIN - STEP * (place + 0.7), top + height / 2)
    return drawn, height


def _modules(row: list[Room], top: int) -> tuple[list[str], int]:
    drawn, left, down = [], float(MARGIN), top
    for room in row:
        text = _LETTER * len(room.name) + 20
        width = text + STEP * len(room.steps)
        if left + width > WIDTH:
            left, down = float(MARGIN), down + CHIP + 4
        walked = " walked" if room.steps else ""
        box = f'x="{left:.0f}" y="{down}" width="{width:.0f}" height="{CHIP}" rx="5"'
        drawn += [
            f'<g><title>{escape(room.about.replace("`", ""))}</title><rect class="module{walked}" {box}/>',
            f'<text class="chip" x="{left + text / 2:.0f}" y="{down + 19}" text-anchor="middle">{room.name}</text></g>',
        ]
        for place, number in enumerate(room.steps):
            drawn += _step(number, left + text + STEP * (place + 0.5) - 6, down + CHIP / 2)
        left += width + 6
    return drawn, down + CHIP - top


def _step(number: int, x: float, y: float) -> list[str]:
    return [
        f'<circle class="step" cx="{x:.0f}" cy="{y:.0f}" r="11"/>',
        f'<text class="number" x="{x:.0f}" y="{y + 4:.0f}" text-anchor="middle">{number}</text>',
    ]


def _room(name: str, steps: tuple[int, ...]) -> Room:
    folder = ROOT / "benchmark" / name
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return Room(name, folder.is_dir(), first_sentence(docstring), steps)
