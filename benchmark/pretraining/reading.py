"""What is read of a report: sections in an order, and sentences by a rule. Text only; nothing here is ever logged.

Rules of papers are those of their released code, beside one each that does what it means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from benchmark.cards.pretraining import PairsCard
from benchmark.encoders.text import sentences

WHOLE = "report"  # the one section of a report whose sections nobody tells apart
MISREAD = 5  # words after which GLoRIA's code stops: an option for captions, compared with the words so far
_NUMBERING, _POINT = re.compile(r"[0-9]+\."), re.compile(r"\.")
# Numbers that stand before a sentence, and points that end one: not those inside a number.
_NUMBERING_ALONE, _FULL_STOP = re.compile(r"(?:^|(?<=[.!?:]\s))[0-9]+\.(?=\s)"), re.compile(r"\.(?![0-9])")
_WORD, _WORD_OR_NUMBER = re.compile(r"\w+"), re.compile(r"[0-9]+(?:\.[0-9]+)+|\w+")
MISSPELT, HEADERS = ("FINDINGS:", "IMPRESSSION:"), ("FINDINGS:", "IMPRESSION:")


def said(sections: Mapping[str, str], card: PairsCard) -> tuple[str, ...]:
    """Sentences that a pair is made with; none where the report does not have what the recipe needs.

    Args:
        sections: name -> text of the report, as `benchmark.pretraining.sources.sections_of` gives them. One that is `WHOLE` is read by
            every recipe.
    """
    wanted = tuple(sections) if not card.sections or tuple(sections) == (WHOLE,) else card.sections
    texts = [sections[name] for name in wanted if sections.get(name)]
    if not texts or (card.needs_sections and len(texts) < len(wanted)):
        return ()
    return tuple(RULES[card.sentence_rule](texts))


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
