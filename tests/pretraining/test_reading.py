"""What is read of a report: sections as a recipe orders them, sentences by the rule of a method's code or by what it means."""

from __future__ import annotations

import pytest

from benchmark.cards.pretraining import PairsCard
from benchmark.encoders.sentence_rules import RULES
from benchmark.pretraining.reading import said

REPORT = {"findings": "1. Opacity of 2.5 cm in the LEFT lung. 2. Effusion.", "impression": "Mild edema of the left lung"}
CARD = PairsCard(dataset="mimic-cxr")


@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        # The reference's own two cases: 1.3 of GLoRIA's.
        ("gloria", "1. No pneumothorax. 2. Mild edema.", ["no pneumothorax", "mild edema"]),
        ("gloria", "effusion", []),
        ("gloria", "Nodule of 2.5 cm.", ["nodule of", "5 cm"]),
        ("gloria-kept", "1. No pneumothorax. 2. Mild edema.", ["No pneumothorax", "Mild edema"]),
        ("gloria-kept", "Nodule of 2.5 cm. Edema of grade 2. Clear lungs.", ["Nodule of 2.5 cm", "Edema of grade 2", "Clear lungs"]),
        ("mgca", "1. No pneumothorax. 2. Mild edema.", ["no pneumothorax mild edema"]),
        ("mgca-kept", "Nodule of 2.5 cm. Clear lungs.", ["Nodule of 2.5 cm Clear lungs"]),
    ],
)
def test_sentences_by_gloria_lose_case_and_numbers_and_corrected_keep_them(rule, text, expected):
    assert RULES[rule]([text]) == expected


def test_gloria_stops_once_it_has_read_exactly_five_words():
    five, six = "No acute process is seen. Clear lungs.", "No acute process is seen here. Clear lungs."
    assert RULES["gloria"]([five]) == ["no acute process is seen"]
    assert RULES["gloria"]([six]) == ["no acute process is seen here", "clear lungs"]
    assert len(RULES["gloria-kept"]([five])) == 2
    assert RULES["mgca"]([five]) == ["no acute process is seen clear lungs"]


def test_g2d_glues_findings_to_the_impression_and_its_misspelt_header_matches_nothing():
    texts = ["IMPRESSION: Mild edema", "FINDINGS: Clear lungs. 3. No effusion."]
    assert RULES["g2d"](texts) == ["IMPRESSION: Mild edema Clear lungs. No effusion"]
    assert RULES["g2d"](["Mild edema", "Clear lungs."]) == ["Mild edemaClear lungs"]
    assert RULES["g2d-spaced"](["Mild edema", "Clear lungs."]) == ["Mild edema Clear lungs"]
    assert RULES["g2d-spaced"](["IMPRESSION: Mild edema", "Clear lungs."]) == ["Mild edema Clear lungs"]


def test_sections_come_in_the_order_of_the_recipe_and_a_report_without_one_may_be_left_out():
    impression_first = CARD.model_copy(update={"sections": ("impression", "findings"), "sentence_rule": "g2d-spaced"})
    assert said(REPORT, impression_first)[0].startswith("Mild edema of the left lung 1. Opacity")
    assert said(REPORT, CARD.model_copy(update={"sections": ("impression",)})) == ("Mild edema of the left lung",)
    strict = impression_first.model_copy(update={"needs_sections": True})
    assert said({"findings": "Clear lungs."}, strict) == ()
    assert said({"findings": "Clear lungs."}, impression_first) == ("Clear lungs",)
    assert said({"report": ""}, CARD) == ()
    assert said({"report": "Clear lungs."}, strict) == ("Clear lungs",)  # nobody told its sections apart


def test_a_recipe_that_says_nothing_reads_all_sections_as_one_text():
    assert said(REPORT, CARD) == ("Opacity of 2.5 cm in the LEFT lung.", "2.", "Effusion.", "Mild edema of the left lung")
