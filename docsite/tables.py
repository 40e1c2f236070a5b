"""Tables of Markdown, and what docstrings say in their sections."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_SECTION = re.compile(r"^(?:Args|Attributes|Formulas|Returns|Raises|Example|Source|Yields):", re.MULTILINE)
_ENTRY = re.compile(r"^    (?P<names>\w+(?:, \w+)*): (?P<text>.*(?:\n {8}.*)*)", re.MULTILINE)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table; cells are Markdown in one line (`cell`)."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def cell(text: str) -> str:
    """Text for a cell: in one line, its bars escaped."""
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))


def summary(docstring: str) -> str:
    """What stands before the first section of a docstring, paragraphs kept."""
    return _SECTION.split(_dedented(docstring), maxsplit=1)[0].strip()


def attributes(docstring: str) -> dict[str, str]:
    """Name -> its sentence, of the section `Attributes:`; several names may share an entry."""
    # An entry may hold a second one behind a semicolon: "image: (n,) int64; confidence: (n,) float64".
    found = _ENTRY.finditer(section(docstring, "Attributes"))
    return {name: " ".join(one["text"].split()) for one in found for name in one["names"].split(", ")}


def section(docstring: str, title: str) -> str:
    """The indented lines below `title:`; empty where there is no such section."""
    _, _, text = _dedented(docstring).partition(f"{title}:\n")
    end = re.search(r"^\S", text, re.MULTILINE)
    return text[: end.start()] if end else text


def first_sentence(docstring: str) -> str:
    """The first sentence, in one line."""
    text = " ".join(summary(docstring).split())
    found = re.match(r".+?[.!?](?=\s|$)", text)
    return found[0] if found else text


def _dedented(docstring: str) -> str:
    first, _, rest = docstring.partition("\n")
    lines = rest.split("\n")
    widths = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
    width = min(widths, default=0)
    return "\n".join([first.strip(), *(line[width:] for line in lines)])
