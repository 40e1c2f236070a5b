"""Papers are linked as soon as their pages are there, whichever verb wrote them."""

from __future__ import annotations

from pathlib import Path

from benchmark import registry
from benchmark.report import papers_page, reproduce, reproduce_pages
from benchmark.report.site import write_site


def test_a_page_that_was_written_is_linked_and_another_says_how_to_get_it(make, tmp_path: Path):
    write_site(make.runs([0.1, 0.2]), tmp_path, title="T")
    before = (tmp_path / "report" / papers_page.PAGE).read_text(encoding="utf-8")
    assert all(f"lobe reproduce {name} --out OUT" in before for name in registry.papers())
    page = reproduce_pages.write(reproduce.reproduce("lovt"), tmp_path)
    after = page.with_name(papers_page.PAGE).read_text(encoding="utf-8")
    assert f'href="{page.name}"' in after
    assert "lobe reproduce lovt " not in after
    assert "lobe reproduce g2d " in after
    assert 'href="index.html"' in after


def test_a_folder_with_a_reproduction_alone_links_no_leaderboard(tmp_path: Path):
    page = reproduce_pages.write(reproduce.reproduce("lovt"), tmp_path)
    assert "index.html" not in page.with_name(papers_page.PAGE).read_text(encoding="utf-8")
