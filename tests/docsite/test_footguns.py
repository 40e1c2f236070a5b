"""Each of the twenty ways names a module that exists, and a test that is in the file it names."""

from __future__ import annotations

import re

import pytest

from docsite.addresses import ROOT

PAGE = (ROOT / "docs" / "footguns.md").read_text(encoding="utf-8")
WAYS = re.split(r"^## (?=\d)", PAGE, flags=re.MULTILINE)[1:]


def test_there_are_twenty_as_the_title_says() -> None:
    assert PAGE.startswith("# Twenty ways")
    assert [int(way.partition(".")[0]) for way in WAYS] == list(range(1, 21))


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.partition(".")[0])
def test_a_way_names_its_module_and_a_test_that_is_there(way: str) -> None:
    assert re.search(r"^Code: \[`(benchmark/[\w/]+\.py)`\]\(\.\./\1\)", way, re.MULTILINE)
    ((name, file),) = re.findall(r"Test:\s+`(test_\w+)`\s+in\s+\[`(tests/[\w/]+\.py)`\]\(\.\./\2\)", way)
    assert f"\ndef {name}(" in (ROOT / file).read_text(encoding="utf-8")
