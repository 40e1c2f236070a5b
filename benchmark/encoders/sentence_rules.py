"""How texts become sentences: LOBE's rule, and papers' as their released code has them, each beside one that does what it means.

Text only; nothing here is ever logged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

from benchmark.encoders.text import sentences

MISREAD = 5  # words after which GLoRIA's code stops: an option for captions, compared with the words so far
_NUMBERING, _POINT = re.compile(r"[0-9]+\."), re.compile(r"\.")
# Numbers that stand before a sentence, and points that end one: not those inside a number.
_NUMBERING_ALONE, _FULL_STOP = re.compile(r"(?:^|(?<=[.!?:]\s))[0-9]+\.(?=\s)"), re.compile(r"\.(?![0-9])")
_WORD, _WORD_OR_NUMBER = re.compile(r"\w+"), re.compile(r"[0-9]+(?:\.[0-9]+)+|\w+")
MISSPELT, HEADERS = ("FINDINGS:", "IMPRESSSION:"), ("FINDINGS:", "IMPRESSION:")


def gloria(text: str, *, released: bool, stops: bool = False) -> list[str]:
    """Sentences of two words or more, of words alone.

    Args:
        released: in small letters, and of a number only what stands behind its point.
        stops: no more is read once the words so far are `MISREAD`.
    """
    numbering, end, word = (_NUMBERING, _POINT, _WORD) if released else (_NUMBERING_ALONE, _FULL_STOP, _WORD_OR_NUMBER)
    found: list[str] = []
    n_words = 0
    for part in (part for piece in numbering.split(text.replace("\n", " ")) for part in end.split(piece)):
        spaced = part.replace("\ufffd\ufffd", " ")
        words = word.findall(spaced.lower() if released else spaced)
        kept = [one for one in (one.encode("ascii", "ignore").decode() for one in words) if one]
        if len(words) < 2 or not kept:
            continue
        found.append(" ".join(kept))
        n_words += len(kept)
        if stops and n_words == MISREAD:
            break
    return found


def g2d(texts: Sequence[str], between: str, headers: Sequence[str]) -> list[str]:
    """The whole report as one text: sections put together, headers and bare numbers taken out."""
    whole = between.join(texts)
    for header in headers:
        whole = whole.replace(header, "")
    parts = [part.strip() for part in whole.split(".")]
    joined = ". ".join(part for part in parts if part and not part.isdigit())
    return [joined] if joined else []


def _of_gloria(texts: Sequence[str], *, released: bool) -> list[str]:
    return gloria(" ".join(texts), released=released, stops=released)


def _of_mgca(texts: Sequence[str], *, released: bool) -> list[str]:
    """GLoRIA's sentences put together as one."""
    joined = " ".join(gloria(" ".join(texts), released=released))
    return [joined] if joined else []


RULES: dict[str, Callable[[Sequence[str]], list[str]]] = {
    "lobe": lambda texts: sentences(" ".join(texts)),
    "gloria": partial(_of_gloria, released=True),
    "gloria-kept": partial(_of_gloria, released=False),
    "mgca": partial(_of_mgca, released=True),
    "mgca-kept": partial(_of_mgca, released=False),
    "g2d": partial(g2d, between="", headers=MISSPELT),
    "g2d-spaced": partial(g2d, between=" ", headers=HEADERS),
}
