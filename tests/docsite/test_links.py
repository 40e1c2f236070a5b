"""Links of all pages lead to files and headings that exist, and the check of that notices those that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from docsite import links
from docsite.addresses import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert links.broken_in(page) == []


def test_pages_have_links_to_files_and_to_headings() -> None:
    found = [link for page in PAGES for link in links.links_in(page.read_text(encoding="utf-8"))]
    assert len(found) > 150
    assert sum(bool(link.anchor) for link in found) > 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("see [a](gone.md)", "page.md, line 2: gone.md does not exist."),
        ("see [a](other.md#no-such)", "page.md, line 2: other.md has no heading with the anchor no-such."),
        ("see [a](#no-such)", "page.md, line 2: page.md has no heading with the anchor no-such."),
        ("![a](gone.png)", "page.md, line 2: gone.png does not exist."),
        ('[a](gone.md "its title")', "page.md, line 2: gone.md does not exist."),
    ],
)
def test_link_to_nowhere_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "other.md").write_text("# There\n")
    (tmp_path / "page.md").write_text(f"# Here\n{text}\n")
    assert links.broken_in(tmp_path / "page.md") == [said]


@pytest.mark.parametrize(
    "text", ["`[a](gone.md)`", "```\n[a](gone.md)\n```", "[a](https://x.org/gone.md)", "[a](mailto:a@b.org)", "[a](#here)"]
)
def test_code_and_other_hosts_are_no_links_to_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "page.md").write_text(f"# Here\n{text}\n")
    assert links.broken_in(tmp_path / "page.md") == []


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("Which bytes a result belongs to", "which-bytes-a-result-belongs-to"),
        ("`lobe run`: a job, a task", "lobe-run-a-job-a-task"),
        ("Two [links](a.md) there", "two-links-there"),
        ("Grün & blau", "grün--blau"),
        ("snake_case stays", "snake_case-stays"),
    ],
)
def test_anchor_is_that_of_a_repository_host(heading: str, anchor: str) -> None:
    assert links.anchors_in(f"## {heading}\n") == {anchor}


def test_equal_headings_are_numbered_and_comments_in_code_are_no_headings() -> None:
    assert links.anchors_in("# A\n\n```sh\n# B\n```\n\n## A\n") == {"a", "a-1"}


def test_targets_are_replaced_in_place() -> None:
    text = "[a](x.md#b), `[a](x.md)`, [c](y.md)."
    assert links.with_targets(text, lambda link: f"{link.path}!{link.anchor}") == "[a](x.md!b), `[a](x.md)`, [c](y.md!)."
