"""Promises of section extraction: the shared rule, on made-up reports in the release's style."""

from __future__ import annotations

import pytest

from benchmark.readers.kit.sections import FINDINGS, IMPRESSION, LAST, WHOLE, read_sections, report_text, section_name, sections

REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___ year old with cough.

 FINDINGS:

 The lungs are clear.  NOTE: this colon heads nothing.

 IMPRESSION:

 No acute process.
"""


def test_sections_come_in_order_with_what_stands_before_the_first() -> None:
    assert [name for name, _ in sections(REPORT)] == ["preamble", "examination", "indication", FINDINGS, IMPRESSION]
    assert report_text(REPORT) == "The lungs are clear. NOTE: this colon heads nothing. No acute process."


def test_of_two_sections_of_one_name_the_last_is_read() -> None:
    assert report_text(REPORT + "\n IMPRESSION:  Revised.\n") == "The lungs are clear. NOTE: this colon heads nothing. Revised."


def test_empty_findings_are_dropped_and_do_not_hide_earlier_ones() -> None:
    assert read_sections(REPORT + "\n FINDINGS:  \n")[FINDINGS].startswith("The lungs are clear.")


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("CONCLUSION", IMPRESSION),
        ("FINDINGS/IMPRESSION", IMPRESSION),
        ("FINAL IMPRESSION", IMPRESSION),
        ("CHEST, TWO VIEWS", FINDINGS),
        ("PA AND LATERAL VIEWS OF THE CHEST", FINDINGS),
        ("CLINICAL HISTORY", "history"),
        ("EXAMINATION", "examination"),
        ("TECHNIQUE", "technique"),
    ],
)
def test_headers_get_one_name(header: str, name: str) -> None:
    assert section_name(header) == name


def test_a_report_without_findings_gives_no_text_and_its_last_paragraph() -> None:
    report = " FINAL REPORT\n HISTORY:  Cough.\n\n The heart is large.\n"
    assert report_text(report) == ""
    assert read_sections(report)[LAST] == "The heart is large."


@pytest.mark.parametrize("report", ["", "Nothing but words", "Ünïcödé ✓\n\n"])
def test_text_without_headers_is_the_full_report(report: str) -> None:
    assert sections(report) == [(WHOLE, report.strip())]
    assert report_text(report) == ""


def test_ten_thousand_words_are_read_whole() -> None:
    assert len(report_text("\n FINDINGS: " + "word " * 10_000).split()) == 10_000
