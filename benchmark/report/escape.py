"""Text from records and cards, made safe for the format it goes into.

Backbone labels and failure sentences come from users and files, so every writer passes them through here. HTML is escaped by jinja2 itself.
"""

from __future__ import annotations

import html
import re
import unicodedata

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
    "·": r"$\cdot$",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "§": r"\S{}",
    "¶": r"\P{}",
    "‖": r"$\|$",
    "≥": r"$\geq$",
    "−": "$-$",
}


def one_line(text: str) -> str:
    """Control characters and line breaks become single spaces."""
    text = str(text)
    if text.isascii() and text.isprintable() and "  " not in text and text[:1] != " " != text[-1:]:
        return text  # as nearly all are: a site has hundreds of thousands
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", text).strip()


def csv_cell(value: object) -> object:
    """Text that a spreadsheet would run as a formula gets a leading apostrophe; numbers stay numbers."""
    if not isinstance(value, str):
        return value
    text = one_line(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def markdown(text: str) -> str:
    """Plain text inside a Markdown table: no HTML, no column breaks, no links or emphasis."""
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", html.escape(one_line(text), quote=False))


def latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in one_line(text))


def slug(text: str) -> str:
    """Lower-case ASCII letters, digits and dashes: safe as file name and HTML id. Different texts may give the same slug."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_text.lower()).strip("-")[:60] or "unnamed"
