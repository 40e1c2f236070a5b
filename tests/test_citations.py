"""What is cited can be read: papers and releases by their line of docs/sources.md, pages of this repository, never a document elsewhere."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLACES = ("benchmark", "tests", "tasks", "datasets", "backbones", "results", "docker", "docs", "docsite")
SUFFIXES = {".py", ".yaml", ".csv", ".md", ".j2", ".sh"}

# A number of a section, and notes that lie in no repository. DICOM's parts are cited by theirs ("PS3.3, C.11.1").
OUTSIDE = re.compile(
    r"\b(?:sections?|chapter) \d|§ ?\d|\bscience,? (?:section )?\d|science notes|`science`|\bquirk \d+\.\d"
    r"|\breference (?:of|on) [A-Z]|\breference[:,]? \(?(?:lovt|gloria|prior|g2d|datasets|benchx)\b"
    r"|\b(?:lovt|gloria|prior|g2d|datasets|benchx_mgca) reference\b"
    r"|\b(?:science|design|style|house|gloria|prior|g2d|datasets|benchx_mgca|peers|environment)\.md\b",
    re.IGNORECASE,
)
PAGE = re.compile(r"(?<![\w/])docs/[\w/-]+\.md\b")
SOURCE = re.compile(r"docs/sources\.md,\s+(?:#\s+)?([A-Z][\w-]+(?: Rural)?)")
QUIRK = re.compile(r"docs/protocols/lovt\.md, quirk (\d+)")


@cache
def texts() -> dict[str, str]:
    """Name of each file under version control -> its text."""
    listed = subprocess.run(["git", "ls-files", "-z", *PLACES], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\0")
    names = listed if listed != [""] else [str(path.relative_to(ROOT)) for place in PLACES for path in (ROOT / place).rglob("*.*")]
    found = [name for name in names if Path(name).suffix in SUFFIXES and (ROOT / name).is_file() and name != "tests/test_citations.py"]
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in found}


def lines_of(page: str) -> set[str]:
    """First cells of the page's tables."""
    return set(re.findall(r"^\| ([^|]+?) \|", (ROOT / page).read_text(encoding="utf-8"), flags=re.M))


def test_nothing_cites_a_section_of_a_document_elsewhere() -> None:
    found = [f"{name}: {m[0]}" for name, text in texts().items() for m in OUTSIDE.finditer(text)]
    assert found == []


def test_pages_that_are_named_exist() -> None:
    # Tables of printed numbers name pages of other repositories.
    found = {f"{name}: {m[0]}" for name, text in texts().items() if not name.endswith(".csv") for m in PAGE.finditer(text)}
    assert {line for line in found if not (ROOT / line.split(": ")[1]).is_file()} == set()


def test_sources_that_are_cited_have_a_line() -> None:
    cited = {m[1] for text in texts().values() for m in SOURCE.finditer(text)}
    assert len(cited) > 15
    assert cited - lines_of("docs/sources.md") == set()


def test_quirks_that_are_cited_have_a_line() -> None:
    cited = {m[1] for text in texts().values() for m in QUIRK.finditer(text)}
    assert cited
    assert cited - lines_of("docs/protocols/lovt.md") == set()


@pytest.mark.parametrize(
    "line",
    [
        "Source: datasets reference, section 11.",
        "paired (science 8)",
        "from section 9 of the notes",
        "(reference: lovt, table 1.1)",
        "Reference of PRIOR, 2: the full file.",
        "LoVT reference, 8.24",
        "LoVT's quirk 8.8",
    ],
)
def test_watch_on_citations_would_notice(line: str) -> None:
    assert OUTSIDE.search(line)


@pytest.mark.parametrize(
    "line", ["DICOM PS3.3, C.11.1", "a reference panel", "Science never waits", "the section *All metrics*", "quirk 24"]
)
def test_watch_on_citations_lets_the_rest_pass(line: str) -> None:
    assert not OUTSIDE.search(line)
