"""Where each file of the repository lies on the site, and links between pages led there.

Pages of `docs/` keep their path. The readme and its neighbours become pages as well. Any other file that a page links to is shown on a page
of its own below `source/`, so that the site needs no other host.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from pathlib import Path

from docsite.links import Link, links_in, with_targets

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs"
ROOT_PAGES = {  # file beside docs/ -> its page
    "README.md": "readme.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
_UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"  # a word is looked for in pages, not in code
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".sh": "bash", ".csv": "text", ".txt": "text"}


def page_of(path: str) -> str:
    """Where a file or folder of the repository lies on the site.

    Args:
        path: from the repository's root, with `/`.
    """
    if path in ROOT_PAGES:
        return ROOT_PAGES[path]
    if path.startswith(f"{DOCS}/"):
        inside = path.removeprefix(f"{DOCS}/")
        return inside.removesuffix(".ipynb") + ".md" if inside.endswith(".ipynb") else inside
    return f"source/{path}.md"


def target_of(link: Link, origin: str) -> str:
    """The file of the repository that a link leads to, from its root; empty for a heading of the page itself.

    Args:
        origin: the file that the link stands in, from the repository's root.
    """
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), link.path)) if link.path else ""


def for_site(markdown: str, origin: str) -> str:
    """The text of a page of the repository, its links leading to pages of the site."""
    here = posixpath.dirname(page_of(origin))

    def led(link: Link) -> str:
        anchor = f"#{link.anchor}" if link.anchor else ""
        target = target_of(link, origin)
        return posixpath.relpath(page_of(target), here or ".") + anchor if target else anchor

    return with_targets(markdown, led)


def shown_sources(pages: Iterable[tuple[str, str]]) -> list[str]:
    """Files and folders that pages link to and that are no pages themselves, sorted, each once.

    Args:
        pages: origin and text of each page.
    """
    targets = {target_of(link, origin) for origin, text in pages for link in links_in(text)}
    return sorted(target for target in targets if target and page_of(target).startswith("source/"))


def source_page(path: str) -> str:
    """A page that shows one file whole, or names what a folder holds."""
    there = ROOT / path
    if there.is_dir():
        names = sorted(f"{one.name}/" if one.is_dir() else one.name for one in there.iterdir() if not one.name.startswith(("_", ".")))
        return _UNSEARCHED + "\n".join([f"# `{path}/`", "", "This folder holds:", "", *(f"- `{name}`" for name in names), ""])
    text = there.read_text(encoding="utf-8")
    fence = "````" if "```" in text else "```"
    numbers = ' linenums="1"' if there.suffix == ".py" else ""
    return f"{_UNSEARCHED}# `{path}`\n\n{fence}{_LANGUAGES.get(there.suffix, 'text')}{numbers}\n{text.rstrip()}\n{fence}\n"
