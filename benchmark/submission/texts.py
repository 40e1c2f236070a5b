"""Texts of strangers that will stand in tables, files and terminals: none that a program would run, none that is not what it seems."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Any

from benchmark.cards import Record

LONGEST, LONGEST_SENTENCE = 120, 4000
_FORMULA = ("=", "+", "-", "@")
_PLAIN = frozenset({"MICRO", "DEGREE"})  # first words of letters that belong to no script


def fault_of_name(text: str) -> str:
    """Why a name may stand in no table: a clause; empty where it may."""
    if len(text) > LONGEST:
        return f"is longer than {LONGEST} letters"
    if text.startswith(_FORMULA):
        return "a spreadsheet would run as a formula"
    if why := _fault_of_letters(text):
        return why
    if any(letter.isalnum() and unicodedata.normalize("NFKC", letter) != letter for letter in text):
        return "holds letters that look like others"
    if len({unicodedata.name(letter, "?").partition(" ")[0] for letter in text if letter.isalpha()} - _PLAIN) > 1:
        return "mixes letters of several scripts, some of which look alike"
    return ""


def fault_of_text(text: str) -> str:
    """Why a sentence may not be shown: a clause; empty where it may."""
    return _fault_of_letters(text) or (f"is longer than {LONGEST_SENTENCE} letters" if len(text) > LONGEST_SENTENCE else "")


def fault_in(record: Record) -> tuple[str, str] | None:
    """The first text of a record that may not be shown, and why; None where all may.

    Names that stand in tables are held to the rules of names, all others, such as warnings, to those of letters. A curve has numbers, under
    names of metrics.
    """
    labels, experiment = record.job.labels, record.job.experiment
    names = [text for text in labels.model_dump(mode="json").values() if isinstance(text, str)]
    names += [experiment.head, experiment.report, experiment.select, experiment.backbone.family, experiment.backbone.model]
    names += [*record.metrics, *record.validation, *record.anchors, *record.environment, *record.parameters, *record.timings_s]
    names += {name for epoch in record.curve for name in epoch.metrics}
    for text in names:
        if why := fault_of_name(text):
            return text, why
    for text in _texts_in(record.model_dump(mode="json", exclude={"curve"})):
        if why := fault_of_text(text):
            return text, why
    return None


def _fault_of_letters(text: str) -> str:
    if any(unicodedata.category(letter)[0] == "C" or letter in "\u2028\u2029" for letter in text):
        return "holds letters that cannot be seen, or turn the text round"
    return ""


def _texts_in(value: Any) -> Iterator[str]:
    """Every text, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _texts_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts_in(inner)
