"""Every family of metrics on the reference page has its formulas and a drawn example, whose numbers are those of the formulas."""

from __future__ import annotations

import importlib
import re
from functools import cache
from html import escape

import numpy as np
import pytest

from benchmark.metrics.spec import specs
from docsite import formulas, metric_pages
from docsite.examples import EXAMPLES, lists

FAMILIES = sorted({spec.family for spec in specs()})
PAGE = cache(metric_pages.page)
_SIMILARITY = np.round([[0.7 * np.exp(-((r - 3) ** 2 + (c - 4) ** 2) / 6) for c in range(8)] for r in range(8)], 2)
_INSIDE = np.zeros((8, 8), bool)
_INSIDE[2:6, 3:7] = True

# By hand, from the formulas and what the pictures show.
BY_HAND = {
    "dice": {
        "avg_dice": 18 / (18 + 9 + 7),
        "pos_dice": 18 / 32,
        "image_dice_all": (18 / 32 + 0) / 2,
        "iou": 9 / 25,
        "precision": 9 / 18,
        "recall": 9 / 16,
    },
    "lesions": {"lesion_sensitivity_small": 1, "lesion_sensitivity_medium": 0, "lesion_sensitivity_large": 1},
    "surface": {"nsd": 0.75, "avg_dice": 2 * 28 / (35 + 63)},
    "pixels": {"pixel_ap": (1 + 1 + 1 + 4 / 5 + 5 / 6) / 5},
    # Hits by falling confidence: yes, no, no, yes, yes. IoUs of the hits: over 0.80, between 0.70 and 0.75, and below that.
    "detection": {"mAP@0.5": (34 * 1 + 67 * 3 / 5) / 101, "lost_at_0.2": 0},
    "coco": {"coco_AP50": (34 * 1 + 67 * 3 / 5) / 101, "coco_AP75": 34 / 101},
    "mgca": {"mAP_mgca": (7 * (34 + 33 * 2 / 3) + 34) / 8 / 101, "mAP_mgca_all": (7 * (34 + 33 * 2 / 4) + 34) / 8 / 101},
    "froc": {"froc_full": (1 / 3 + 1 / 3 + 2 / 3 + 4) / 7, "froc": (1 / 3 + 1 / 3 + 5 * 2 / 3) / 7},
    "classification": {
        "auroc": 39 / 42,
        "ap": (1 + 1 + 1 + 1 + 5 / 6 + 6 / 8) / 6,
        "f1": 10 / 12,
        "mcc": (5 * 6 - 1 * 1) / 42,
        "accuracy": 11 / 13,
        "brier": sum((p - y) ** 2 for p, y in zip(lists.PROBABILITIES, lists.LABELS, strict=True)) / 13,
    },
    "grounding": {
        "cnr": (_SIMILARITY[_INSIDE].mean() - _SIMILARITY[~_INSIDE].mean())
        / np.sqrt(_SIMILARITY[_INSIDE].var() + _SIMILARITY[~_INSIDE].var()),
        "miou": np.mean(
            [(above & _INSIDE).sum() / (above | _INSIDE).sum() for above in (np.greater(_SIMILARITY, t / 10) for t in range(1, 6))]
        ),
        "pointing": 1,
    },
    "retrieval": {"image_to_text_mrr": (1 + 1 / 3 + 1 / 1.5) / 3, "image_to_text_hit@1": (1 + 0 + 1 / 2) / 3, "image_to_text_hit@5": 1},
    "class_maps": {"mask_iou": 6 / (9 + 9 - 6), "pointing": 1},  # the peak with its eight neighbours, one column beside the mask
    "scores": {"negative_loss": -min(lists.LOSSES)},
}


def section_of(family: str) -> str:
    return PAGE().split(f"\n### Family `{family}`, ")[1].split("\n### ")[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_stands_with_formulas_and_an_example(family: str) -> None:
    section = section_of(family)
    assert section.count('<dl class="formulas">') == 1
    assert section.count('<figure class="example">') == 1
    assert "<svg" in section


@pytest.mark.parametrize("family", FAMILIES)
def test_every_metric_has_exactly_one_formula_and_every_formula_a_metric(family: str) -> None:
    entries = formulas.formulas_of(importlib.import_module(f"benchmark.metrics.{family}").__doc__ or "")
    names = {spec.name for spec in specs() if spec.family == family}
    assert {name: sum(one.covers(name) for one in entries) for name in names} == dict.fromkeys(names, 1)
    assert [one.names for one in entries if not any(one.covers(name) for name in names)] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_numbers_under_a_picture_are_those_of_the_formula_by_hand(family: str) -> None:
    shown = dict(re.findall(r'<code>([^<]+)</code> = <data value="([^"]+)">', section_of(family)))
    found = {name: float(value) for name, value in shown.items() if name in BY_HAND[family]}
    assert found == pytest.approx(BY_HAND[family], abs=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_number_is_read_as_it_was_computed(family: str) -> None:
    example = EXAMPLES[family]()
    read = dict(re.findall(r'<code>([^<]+)</code> = <data value="[^"]+">([^<]+)</data>', section_of(family)))
    assert {name: float(text.replace("−", "-")) for name, text in read.items()} == pytest.approx(dict(example.values), abs=0.0005)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_picture_says_in_words_what_it_shows_and_fits_a_telephone(family: str) -> None:
    pictures = EXAMPLES[family]().pictures
    assert pictures
    assert all(len(picture.about) > 20 and f'aria-label="{escape(picture.about)}"' in picture.svg() for picture in pictures)
    assert all(picture.width <= 300 for picture in pictures)


def test_no_blank_line_and_no_colour_of_its_own_stands_in_an_example() -> None:
    for example in EXAMPLES.values():
        text = "\n".join(example().lines())
        assert "\n\n" not in text
        assert re.search(r"#[0-9a-f]{3,6}\b|style=|rgb\(", text) is None


def test_scripts_letters_and_minus_signs_of_a_formula_are_set() -> None:
    assert formulas.as_html("D_c - x^2 / TP_{k-1}") == (
        "<var>D</var><sub><var>c</var></sub> − <var>x</var><sup>2</sup> / TP<sub><var>k</var>−1</sub>"
    )
    assert formulas.as_html("a < b") == "<var>a</var> &lt; <var>b</var>"
    assert formulas.as_html("-L") == "−<var>L</var>"


def test_an_entry_may_go_on_in_the_next_line_and_name_several_metrics() -> None:
    (one,) = formulas.formulas_of("About.\n\nFormulas:\n    a, *_b: x / y; x counts\n        and y too\n")
    assert (one.names, one.formula, one.words) == (("a", "*_b"), "x / y", "x counts and y too")
    assert one.covers("of_b")
    assert not one.covers("c")
