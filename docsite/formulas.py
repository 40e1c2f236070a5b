"""Formulas as the modules of metrics state them, as HTML: plain text with `_` and `^`, so that they can be read beside the code, too.

An entry of the section `Formulas:` of a module's docstring is `names: formula; words`. Names are those of its `METRICS`, `*` for any text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from html import escape

from docsite.tables import section

_ENTRY = re.compile(r"^    (?P<names>\S.*?): (?P<text>.*(?:\n {8}.*)*)", re.MULTILINE)
_SCRIPT = re.compile(r"(?P<mark>[_^])(?:\{(?P<long>[^}]*)\}|(?P<short>\w+))")
_TAGS = {"_": "sub", "^": "sup"}
_TAG = re.compile(r"(<[^>]+>)")
_HYPHEN = re.compile(r"(?<= )-(?= )|(?<![^({ ])-(?=\S)|(?<=\w)-(?=\d)")  # those that are minus signs
_VARIABLE = re.compile(r"(?<![\w&;])([A-Za-z]|[μσθτ])(?![\w;])")


@dataclass(frozen=True)
class Formula:
    """One entry.

    Attributes:
        names: of metrics, as `MetricSpec.name` has them; `*` stands for any text.
        formula, words: plain text; the words say what the letters are.
    """

    names: tuple[str, ...]
    formula: str
    words: str

    def covers(self, metric: str) -> bool:
        """Whether it is the formula of the metric of that name."""
        return any(fnmatchcase(metric, name) for name in self.names)


def formulas_of(docstring: str) -> list[Formula]:
    """Entries of the section `Formulas:`, in order."""
    return list(_entries(section(docstring, "Formulas")))


def as_html(formula: str) -> str:
    """Plain text with `_` and `^` as HTML: scripts lowered and raised, single letters in italics, hyphens as minus signs."""
    text = escape(_HYPHEN.sub("−", formula), quote=False)
    text = _SCRIPT.sub(lambda found: f"<{_TAGS[found['mark']]}>{found['long'] or found['short']}</{_TAGS[found['mark']]}>", text)
    # Only what stands between tags holds letters.
    return "".join(part if part.startswith("<") else _VARIABLE.sub(r"<var>\1</var>", part) for part in _TAG.split(text))


def listed(docstring: str) -> list[str]:
    """The entries as lines of one HTML list, without blank lines: Markdown leaves them as they are."""
    lines = ['<dl class="formulas">']
    for one in formulas_of(docstring):
        names = ", ".join(f"<code>{escape(name)}</code>" for name in one.names)
        words = f'<span class="words">{_words(one.words)}</span>' if one.words else ""
        lines.append(f'<dt>{names}</dt><dd><span class="formula">{as_html(one.formula)}</span>{words}</dd>')
    return [*lines, "</dl>"]


def _words(words: str) -> str:
    """Words in which a letter of a formula may stand: one with a script, or a single one that is no word."""
    return re.sub(r"\w+(?:[_^](?:\{[^}]*\}|\w+))+", lambda found: as_html(found[0]), escape(words, quote=False))


def _entries(text: str) -> Iterator[Formula]:
    for found in _ENTRY.finditer(text):
        formula, _, words = " ".join(found["text"].split()).partition("; ")
        yield Formula(tuple(found["names"].split(", ")), formula, words)
