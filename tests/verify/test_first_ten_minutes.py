"""docs/first-ten-minutes.md holds what the program prints today in each of its situations, to the letter; only seconds may differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import first_minutes
from tests.first_minutes import PAGE, SITUATIONS, play, read

pytestmark = pytest.mark.slow


def test_every_failure_of_a_bare_machine_is_the_sentence_on_the_page(tmp_path: Path, record_property) -> None:
    printed = play(SITUATIONS, tmp_path)
    for one, now, before in zip(SITUATIONS, printed, read(PAGE.read_text(encoding="utf-8")), strict=True):
        assert (now.code, now.text) == (before.code, before.text), f"{one.title}: write the page anew, python -m {first_minutes.__name__}"
        assert now.code == one.code, one.title
    record_property("seconds of a core", "; ".join(f"{one.title} {now.core_s:.1f}" for one, now in zip(SITUATIONS, printed, strict=True)))
