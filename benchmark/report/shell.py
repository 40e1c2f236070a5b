"""What every page of the site shares: its frame, its way around, and how it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmark.report import addresses, tables
from benchmark.report.pages import environment, write_page

PAGES = (
    ("index.html", "Leaderboard"),
    ("tasks.html", "Tasks"),
    ("compare.html", "Compare"),
    ("gallery.html", "Predictions"),
    ("papers.html", "Papers"),
    ("records.html", "Records"),
    ("index.html#reading", "How to read this"),
)


class Shell:
    """Renders pages into a folder, and remembers which, so that pages of an earlier report can be taken away.

    Args:
        report: the folder.
        title: of the site.
    """

    def __init__(self, report: Path, title: str):
        self.report = report
        self.title = title
        self.written: set[Path] = set()

    def render(self, page: str, template: str, *, heading: str, phantom: bool, limited: bool, **shown: Any) -> Path:
        """Writes one page.

        Args:
            page: its address in the folder.
            template: of this package.
            heading: of the page; the site's own title for the first.
            phantom, limited: it shows such results.
        """
        text = (
            environment()
            .get_template(template)
            .render(
                root="../" * page.count("/"),
                page=page,
                pages=PAGES,
                site=self.title,
                title=heading,
                phantom=phantom,
                limited=limited,
                addresses=addresses,
                head_text=tables.head_text,
                **shown,
            )
        )
        return self.add(write_page(self.report / page, text))

    def add(self, path: Path) -> Path:
        self.written.add(path)
        return path

    def prune(self) -> None:
        """Removes what an earlier report wrote into the site's own folders and this one did not."""
        for folder in addresses.FOLDERS:
            for path in sorted((self.report / folder).rglob("*"), reverse=True):
                if path.is_file() and path not in self.written:
                    path.unlink()
                elif path.is_dir() and not any(path.iterdir()):
                    path.rmdir()
