"""Sex and decade of life, however a header or a table writes them."""

from __future__ import annotations

import pytest

from benchmark.imaging.person import age_decade, sex_of


@pytest.mark.parametrize(
    ("text", "decade"),
    [("062Y", 60), ("62", 60), ("018M", 0), ("013M", 0), ("95", 90), ("100Y", 90), ("155", None), ("", None), ("abc", None), ("003W", 0)],
)
def test_ages_become_decades_top_coded_at_90(text: str, decade: int | None) -> None:
    assert age_decade(text) == decade


@pytest.mark.parametrize(
    ("text", "sex"), [("M", "M"), (" f ", "F"), ("Male", "M"), ("Female", "F"), ("Unknown", None), ("O", None), ("", None)]
)
def test_sex_is_one_of_two_letters_or_unknown(text: str, sex: str | None) -> None:
    assert sex_of(text) == sex
