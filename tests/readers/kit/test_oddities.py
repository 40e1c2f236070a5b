from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmark import registry
from benchmark.readers.kit.oddities import RULES, USUAL, Oddities

PAGE = Path(__file__).resolve().parents[3] / "docs" / "your-data.md"


def test_the_page_gives_every_rule_as_the_code_does() -> None:
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(encoding="utf-8").partition("## 5.")[2], flags=re.M))
    rows = {what: rule for what, rule in rows.items() if what not in ("found", "---")}
    assert rows == RULES


@pytest.mark.parametrize("name", ["coco", "masks", "csv", "yolo", "pairs"])
def test_a_reader_looks_for_nothing_without_a_rule(name: str) -> None:
    looked_for = registry.plugin("readers", name).DatasetReader.looked_for
    assert looked_for
    assert set(looked_for) <= RULES.keys()


def test_what_is_usual_is_counted_and_no_warning() -> None:
    odd = Oddities(["rows twice"])
    for place in ("a", "b", "c", "d"):
        odd.add("images without an annotation", place)
    assert [(check.what, check.found, check.verdict) for check in odd.checks()] == [
        ("rows twice", "0", "ok"),
        ("images without an annotation", "4: a; b; c; and 1 more", "ok"),
    ]
    assert odd.warnings("mine") == []
    assert RULES.keys() > USUAL
