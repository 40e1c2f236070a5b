"""The page on the format names every field of every file that is stored or sent, and every version that there was."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmark.cards import SCHEMA_VERSION, BackboneRef, DatasetRef, Epoch, Experiment, Failure, Job, Labels, Record
from benchmark.cards.base import Card
from benchmark.kinds.kit.stored import STATISTICS_JSON
from benchmark.submission import history, manifest
from benchmark.submission.history import Entry
from benchmark.submission.manifest import Manifest, PackedFile

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "results-format.md").read_text(encoding="utf-8")
# Cards that pages of their own describe: docs/tasks.md and docs/protocols.
ELSEWHERE = {"recipe", "switches", "words", "asked"}
SECTIONS = {
    "A record": (Record, Job, Experiment, Labels, BackboneRef, DatasetRef, Epoch, Failure),
    "An archive of a submission": (Manifest, PackedFile),
    "The history of submissions": (Entry,),
}


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", PAGE, flags=re.M | re.S)
    assert found is not None, f"the page has no section {title!r}"
    return found[1]


@pytest.mark.parametrize(("title", "card"), [(title, card) for title, cards in SECTIONS.items() for card in cards])
def test_every_field_of_every_file_is_on_the_page(title: str, card: type[Card]) -> None:
    named = set(re.findall(r"`(\w+)`", section(title)))
    assert set(card.model_fields) - named == set(), f"{card.__name__}: a new field needs a word in docs/results-format.md, {title!r}"


@pytest.mark.parametrize(("title", "card"), [(title, card) for title, cards in SECTIONS.items() for card in cards])
def test_a_field_that_came_later_has_its_star(title: str, card: type[Card]) -> None:
    starred = set(re.findall(r"`(\w+)`\*", section(title)))
    assert set(card._later) - starred == set(), f"{card.__name__}: a field that is left out at its default carries a star on the page"


def test_every_version_of_every_file_is_on_the_page_and_says_how_it_is_read_today() -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| `schema_version` | records"))
    assert f"| {SCHEMA_VERSION} |" in row
    assert all(f"{version}:" in row for version in range(1, SCHEMA_VERSION)), "each earlier version says how it is converted"
    assert "lobe convert" in row
    assert f"| `format` | the manifest of an archive | {manifest.FORMAT} |" in PAGE
    assert f"`{STATISTICS_JSON}`" in section(f"Results of an earlier LOBE: schema version {SCHEMA_VERSION - 1}")


def test_names_of_files_and_folders_on_the_page_are_those_of_the_code() -> None:
    from benchmark import planned, record_index
    from benchmark.report import site, stored
    from benchmark.submission import pseudonyms

    for name in (
        planned.PLANNED,
        record_index.INDEX,
        f"{stored.FOLDER}/",
        f"{site.REPORT}/",
        pseudonyms.SECRET,
        history.HISTORY,
        manifest.NAME,
    ):
        assert f"`{name}`" in PAGE or f"/{name}`" in PAGE, name
