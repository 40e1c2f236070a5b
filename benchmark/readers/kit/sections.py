"""Sections of a MIMIC-CXR report, by the rule all users of the reports share. Text only; nothing here is ever logged.

Source: the rule of MIT-LCP's mimic-cxr code (docs/sources.md, MIMIC-CXR). Its two tables of exceptions, 54 studies by number, were not
at hand: these studies are read by the rule like all others.
"""

from __future__ import annotations

import re

PREAMBLE, WHOLE, LAST = "preamble", "full report", "last_paragraph"
FINDINGS, IMPRESSION = "findings", "impression"

# A header: at the start of a line after one blank, capitals and a few signs, then a colon and a blank of any kind.
_HEADER = re.compile(r"\n ([A-Z ()/,-]+):\s")
_SAME = {
    "conclusion": IMPRESSION,
    "conclusions": IMPRESSION,
    "findings/impression": IMPRESSION,
    "findings and impression": IMPRESSION,
    "impession": IMPRESSION,
    "impresson": IMPRESSION,
    "finding": FINDINGS,
    "findngs": FINDINGS,
    "chest, two views": FINDINGS,
}
_CONTAINED = (IMPRESSION, FINDINGS, "history", "comparison", "addendum")
_VIEW = re.compile(r"\b(chest|views?|pa|ap|lateral|portable|radiographs?|upright|frontal)\b")


def sections(report: str) -> list[tuple[str, str]]:
    """(name, text) in order, names normalised; text before the first header is the preamble, a report without headers the full report."""
    header = _HEADER.search(report)
    if header is None:
        return [(WHOLE, report.strip())]
    found = [(PREAMBLE, report[: header.start(1)].strip())]
    while header is not None:
        # A header's own line may look like another header: the next one is looked for after it.
        newline = report.find("\n", header.end())
        following = _HEADER.search(report, newline) if newline >= 0 else None
        text = report[header.end() : following.start() if following else len(report)]
        found.append((section_name(header[1]), text.strip()))
        header = following
    return [(name, text) for name, text in found if text or name not in (FINDINGS, IMPRESSION)]


def section_name(header: str) -> str:
    """A header in small letters; typos, synonyms and headers that describe the views get the name of what follows."""
    name = " ".join(header.lower().split())
    if name in _SAME:
        return _SAME[name]
    for known in _CONTAINED:
        if known in name:
            return known
    words = re.findall(r"[a-z]+", name)
    if words and words[0] != "examination" and all(_VIEW.fullmatch(word) or word in _OF_VIEWS for word in words):
        return FINDINGS
    return name


def read_sections(report: str) -> dict[str, str]:
    """The last section of each name. Without findings and impression, what follows the last blank line is `last_paragraph`."""
    listed = sections(report)
    found = dict(listed)
    if FINDINGS not in found and IMPRESSION not in found and listed:
        paragraphs = re.split(r"\n\s*\n", listed[-1][1])
        if len(paragraphs) > 1:
            found[LAST] = paragraphs[-1].strip()
    return found


def report_text(report: str) -> str:
    """Findings, then impression, blanks collapsed; empty for a report that has neither."""
    found = read_sections(report)
    return " ".join(" ".join(found.get(name, "") for name in (FINDINGS, IMPRESSION)).split())


_OF_VIEWS = frozenset({"and", "of", "the", "two", "single", "one", "three", "view", "with", "at", "x", "ray"})
