"""The list of papers: a link where a paper's page lies in the folder, the command that makes it where not.

Written by the report and again by every reproduction, so that a page is linked as soon as it is there. It stands without the site's assets:
a reproduction may be all that the folder holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmark import registry
from benchmark.report import escape
from benchmark.report.pages import environment, write_page

PAGE = "papers.html"


@dataclass(frozen=True)
class PaperLine:
    """A paper with its page; empty where there is none yet."""

    name: str
    title: str
    citation: str
    page: str


def write(report: Path) -> Path:
    """Writes `papers.html` into the folder of the site."""
    lines = []
    for name, card in registry.papers().items():
        page = page_of(name)
        lines.append(PaperLine(name, card.title, card.citation, page if (report / page).is_file() else ""))
    site = "index.html" if (report / "index.html").is_file() else ""
    text = environment().get_template("papers.html.j2").render(title="Papers", phantom=False, limited=False, papers=lines, site=site)
    return write_page(report / PAGE, text)


def page_of(paper: str) -> str:
    return f"reproduce-{escape.slug(paper)}.html"
