"""The page of first failures is what its program wrote: every situation once, ended as promised, in one sentence without a traceback."""

from __future__ import annotations

from tests.first_minutes import PAGE, SITUATIONS, page, read

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_page_is_made_of_what_was_printed_and_of_nothing_else():
    assert page(read(TEXT)) == TEXT


def test_every_failure_has_its_code_and_one_sentence_and_no_traceback():
    for one, found in zip(SITUATIONS, read(TEXT), strict=True):
        assert found.code == one.code, one.title
        assert "Traceback" not in found.text, one.title
        assert "secret" not in found.text, one.title
        if one.code == 2 and one.command.partition(" ")[0] != "make":
            (line,) = found.text.splitlines()
            assert line.startswith("error: "), one.title
