"""Links and headings of a Markdown page, as a repository host reads them. The site and the link check both ask here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_CODE = re.compile(r"^(?P<fence>```+|~~~+).*?^(?P=fence)`*~*[ ]*$|(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()<?(?P<target>[^)\s>]+)>?(?=(?:\s+\"[^\"]*\")?\))")
_HEADING = re.compile(r"^#{1,6}[ ]+(?P<text>.+?)[ ]*#*$", re.MULTILINE)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


@dataclass(frozen=True)
class Link:
    """A link that leads to a file of the repository or to a heading of its own page.

    Attributes:
        start, end: where its target stands in the text of the page.
        path: as written, relative to the page; empty for a heading of the page itself.
        anchor: behind `#`; empty without one.
    """

    start: int
    end: int
    path: str
    anchor: str


def links_in(markdown: str) -> Iterator[Link]:
    """Links of a page to files and headings, in their order. What stands in code, or leads to another host, is none."""
    for found in _LINK.finditer(_without_code(markdown)):
        target = found["target"]
        if not _ELSEWHERE.match(target):
            path, _, anchor = target.partition("#")
            yield Link(found.start("target"), found.end("target"), path, anchor)


def with_targets(markdown: str, target_of: Callable[[Link], str]) -> str:
    """The page with every link leading where `target_of` says."""
    parts, done = [], 0
    for link in links_in(markdown):
        parts += [markdown[done : link.start], target_of(link)]
        done = link.end
    return "".join([*parts, markdown[done:]])


def anchor_of(heading: str, _separator: str = "-") -> str:
    """The anchor of a heading: small letters, dashes for spaces, no punctuation.

    Args:
        heading: its text, with or without marks of Markdown.
    """
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def anchors_in(markdown: str) -> frozenset[str]:
    """Anchors of all headings of a page; of equal headings the second has `-1` behind it, and so on."""
    plain = _without_code(markdown, spans=False)
    found: dict[str, int] = {}
    anchors = set()
    for heading in _HEADING.finditer(plain):
        anchor = anchor_of(heading["text"])
        n_before = found.get(anchor, 0)
        found[anchor] = n_before + 1
        anchors.add(f"{anchor}-{n_before}" if n_before else anchor)
    return frozenset(anchors)


def broken_in(page: Path) -> list[str]:
    """What is wrong with the links of a Markdown file, a sentence each: no such file, or no such heading in a Markdown file."""
    wrong = []
    text = page.read_text(encoding="utf-8")
    for link in links_in(text):
        line = text.count("\n", 0, link.start) + 1
        target = page.parent / link.path if link.path else page
        if not target.exists():
            wrong.append(f"{page.name}, line {line}: {link.path} does not exist.")
        elif link.anchor and target.suffix == ".md" and link.anchor not in anchors_in(target.read_text(encoding="utf-8")):
            wrong.append(f"{page.name}, line {line}: {target.name} has no heading with the anchor {link.anchor}.")
    return wrong


def _without_code(markdown: str, *, spans: bool = True) -> str:
    """The text with code blanked out, every other character at its place."""

    def blank(code: re.Match[str]) -> str:
        return code[0] if code["ticks"] and not spans else re.sub(r"[^\n]", " ", code[0])

    return _CODE.sub(blank, markdown)
