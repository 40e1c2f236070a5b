from __future__ import annotations

import itertools
import re

import pytest

from benchmark.phantom.reports import Seen, hard_negatives, write_report
from benchmark.phantom.seeds import stream

SIDES, ZONES = ("right", "left"), ("upper", "mid", "lower")
# Text describes appearances: no report may name a disease or a cause.
DIAGNOSES = ("pneumonia", "covid", "infection", "cancer", "tumour", "tumor", "tuberculosis", "failure", "malignan")


def report(seen, heart=False, devices=(), seed=0):
    return write_report(list(seen), heart, list(devices), stream("report", seed))


@pytest.mark.parametrize(("side", "zone"), list(itertools.product(SIDES, ZONES)))
def test_report_names_side_and_zone_of_an_opacity_in_both_sections(side, zone):
    for seed in range(12):
        findings, impression = report([Seen("opacity", side, zone)], seed=seed).lower().split("\n")
        for section in (findings, impression):
            words = re.findall(r"[a-z]+", section)
            assert set(words) & (set(SIDES) | set(ZONES)) == {side, zone}


def test_report_without_finding_says_so_and_names_no_side():
    for seed in range(20):
        text = report([], seed=seed).lower()
        assert re.match(r"findings: .+\nimpression: .+", text)
        assert not set(re.findall(r"[a-z]+", text)) & (set(SIDES) | set(ZONES) | {"patchy"})
        assert re.search(r"\bno\b|\bclear\b", text)


def test_wording_varies():
    assert len({report([Seen("opacity", "left", "mid")], seed=seed) for seed in range(30)}) > 15


def test_devices_and_heart_are_mentioned():
    text = report([], heart=True, devices=["pacemaker", "central line"]).lower()
    assert all(words in text for words in ("pacemaker", "central line", "heart size is enlarged"))
    assert "heart size is normal" in report([]).lower()


def test_look_alike_is_described_and_never_part_of_the_impression():
    for seed in range(10):
        findings, impression = report([Seen("shadow", "right", "upper")], seed=seed).lower().split("\n")
        assert "soft tissue" in findings
        assert not any(words in impression for words in ("soft tissue", "right"))


@pytest.mark.parametrize(
    "kind", ["opacity", "ground glass", "consolidation", "pneumothorax", "effusion", "atelectasis", "infiltrate", "nodule", "mass"]
)
def test_no_report_names_a_disease(kind):
    for seed in range(8):
        text = report([Seen(kind, "left", "lower")], heart=True, seed=seed).lower()
        assert not any(word in text for word in DIAGNOSES)


def test_hard_negatives_differ_in_exactly_one_word():
    text = report([Seen("opacity", "right", "lower")])
    negatives = hard_negatives(text)
    assert len(negatives) == len(set(negatives)) >= 8
    for other in negatives:
        assert sum(a != b for a, b in zip(text.split(), other.split(), strict=True)) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Right lower zone opacity.", ["Left lower zone opacity.", "Right upper zone opacity.", "Right mid zone opacity."]),
        ("The heart size is normal.", ["The heart size is enlarged."]),
        ("The heart size is enlarged.", ["The heart size is normal."]),
        ("No airspace opacity.", ["Patchy airspace opacity."]),
        ("There is patchy opacity.", ["There is no opacity."]),
        ("No lines or tubes are seen.", []),
        ("The lungs are clear.", []),
    ],
)
def test_hard_negatives_change_side_zone_presence_or_heart_size(text, expected):
    assert hard_negatives(text) == expected
