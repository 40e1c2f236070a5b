"""What MkDocs calls while it builds the site: adds pages made from the code, and leads links between pages to where those lie on the site.

Pages made from the code are written as if they lay in `docs/reference/`, so that their links to files are those of any other page.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docsite import (
    addresses,
    architecture,
    card_fields,
    commands,
    head_pages,
    links,
    long_checks,
    metric_pages,
    path_steps,
    performance,
    python_pages,
)
from docsite.addresses import DOCS, ROOT, ROOT_PAGES
from docsite.notebooks import as_markdown

ASSETS = Path(__file__).resolve().parent / "theme"
MADE: dict[str, Callable[[], str]] = {  # page of docs/ that no file holds -> its text, made from the code
    "reference/cli.md": commands.page,
    "reference/python.md": python_pages.page,
    "reference/cards.md": card_fields.page,
    "reference/metrics.md": metric_pages.page,
    "reference/heads.md": head_pages.page,
}
REFERENCE = """The reference is made from the code: the [command line](reference/cli.md), the [Python interface](reference/python.md),
[every field of every card](reference/cards.md), [every metric](reference/metrics.md) and [every head](reference/heads.md)."""
MARKS: dict[str, Callable[[], str]] = {  # a comment on a page, `<!-- site: NAME -->` -> what stands in its place on the site
    "reference": lambda: REFERENCE,
    "long-checks": long_checks.view,
    "performance": performance.view,
    **path_steps.views(),
    "layers": lambda: f'<div class="architecture-frame">{architecture.picture()}</div>',
}

_MARK = re.compile(r"<!-- site: ([a-z-]+) -->")
_CODE_IN_ROW = re.compile(r"`[^`\n]*\\\|[^`\n]*`")


@cache
def pages() -> dict[str, str]:
    """Origin of every page -> its text: Markdown files, notebooks, and what is made from the code."""
    found = {name: (ROOT / name).read_text(encoding="utf-8") for name in ROOT_PAGES}
    for path in sorted((ROOT / DOCS).rglob("*.md")):
        found[path.relative_to(ROOT).as_posix()] = path.read_text(encoding="utf-8")
    for path in sorted((ROOT / DOCS / "notebooks").glob("*.ipynb")):
        found[path.relative_to(ROOT).as_posix()] = as_markdown(path)
    return found | {f"{DOCS}/{name}": made() for name, made in MADE.items()}


@cache
def origins() -> dict[str, str]:
    """Page of the site -> the file that it comes from."""
    return {addresses.page_of(origin): origin for origin in pages()}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Anchors as a repository host makes them, so that a link holds in both places."""
    pages.cache_clear()
    origins.cache_clear()
    config.mdx_configs.setdefault("toc", {})["slugify"] = links.anchor_of
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what lies outside `docs/`, or in no file at all."""
    there = {file.src_uri for file in files}
    for page, origin in origins().items():
        if page not in there:
            files.append(File.generated(config, page, content=pages()[origin]))
    for path in addresses.shown_sources(pages().items()):
        files.append(File.generated(config, addresses.page_of(path), content=addresses.source_page(path)))
    for asset in sorted(ASSETS.rglob("*.*")):
        files.append(File.generated(config, asset.relative_to(ASSETS).as_posix(), abs_src_path=str(asset)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page's text for the site."""
    origin = origins().get(page.file.src_uri)
    return markdown if origin is None else addresses.for_site(_code_in_tables(_marked(markdown)), origin)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page as HTML; one that is made from the code in a frame of its own, by which its tables are set."""
    return f'<div class="made">{html}</div>' if page.file.src_uri in MADE else html


def _marked(markdown: str) -> str:
    return _MARK.sub(lambda mark: MARKS[mark[1]](), markdown)


def _code_in_tables(markdown: str) -> str:
    """Bars in code in tables: a repository host wants them escaped, MkDocs shows the backslash."""
    rows = (_CODE_IN_ROW.sub(lambda code: code[0].replace("\\|", "|"), row) if row.startswith("|") else row for row in markdown.split("\n"))
    return "\n".join(rows)
