"""What may be kept of a person beside the image: sex, and age by decade. Names, birthdays and exact ages never leave their table."""

from __future__ import annotations

import re

OLDEST_DECADE = 90
OLDEST_CREDIBLE_AGE = 110  # RSNA holds five ages above it, up to 155 (docs/sources.md, RSNA): unknown, not very old


def age_decade(text: str) -> int | None:
    """The decade of an age as DICOM and tables write it, top-coded: '062Y' -> 60, '62' -> 60 (RSNA has no unit), '018M' -> 0, '95' -> 90,
    '155' -> None."""
    match = re.fullmatch(r"\s*(\d{1,4})\s*([YMWD]?)\s*", text)
    if match is None:
        return None
    number, unit = int(match[1]), match[2] or "Y"
    years = number // {"Y": 1, "M": 12, "W": 52, "D": 365}[unit]
    if years > OLDEST_CREDIBLE_AGE:
        return None
    return min(years // 10 * 10, OLDEST_DECADE)


def sex_of(text: str) -> str | None:
    """`M` or `F`; None for anything else that a table says."""
    return {"M": "M", "F": "F", "MALE": "M", "FEMALE": "F"}.get(text.strip().upper())
