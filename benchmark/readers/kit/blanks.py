"""What somebody's table or JSON writes where it says nothing, and the one spelling of a patient."""

from __future__ import annotations

import re

EMPTY = ("", "nan", "na", "n/a", "<na>", "nat", "none", "null")  # in small letters: what tools write for a missing cell
_WHOLE = re.compile(r"(\d+)\.0+")


def is_empty(said: object) -> bool:
    """Whether a cell or a value of JSON says nothing, blanks around it aside."""
    return str(said).strip().lower() in EMPTY


def patient_named(said: object) -> str:
    """A patient as every file names it; empty of nothing.

    A column with a missing cell turns whole numbers into 12.0, in one file of two: that is patient 12.
    """
    if is_empty(said):
        return ""
    text = str(int(said)) if isinstance(said, float) and said.is_integer() else str(said).strip()
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole is not None else text
