"""The site holds every page once, each at its place, and nothing of it comes from another host. Built whole: tests/verify/test_docs.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import yaml

from docsite import addresses, hook
from docsite.addresses import ROOT

CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def in_nav(entries: list[Any]) -> Iterator[str]:
    """Pages of a navigation, in its order."""
    for entry in entries:
        for inside in entry.values() if isinstance(entry, dict) else [entry]:
            if isinstance(inside, list):
                yield from in_nav(inside)
            else:
                yield inside


def test_navigation_names_every_page_exactly_once() -> None:
    listed = Counter(in_nav(CONFIG["nav"]))
    assert {page: n for page, n in listed.items() if n > 1} == {}
    assert set(listed) == set(hook.origins())
    in_docs = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert in_docs <= set(listed)


def test_a_site_with_a_fault_is_not_built() -> None:
    assert CONFIG["strict"] is True
    validation = CONFIG["validation"]
    assert {*validation["nav"].values(), *(level for name, level in validation.items() if name != "nav")} == {"warn"}


def test_site_asks_no_other_host() -> None:
    assert CONFIG["theme"]["font"] is False
    assert "offline" in CONFIG["plugins"]
    loaded = CONFIG["extra"]["polyfills"] + CONFIG["extra_css"] + CONFIG["extra_javascript"]
    assert [url for url in loaded if "://" in url] == []
    assert all((hook.ASSETS / name).is_file() for name in loaded)


def test_built_pages_are_not_committed() -> None:
    assert CONFIG["site_dir"] == "build/site"
    assert "build/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_links_lead_to_where_pages_lie_on_the_site() -> None:
    text = "[a](../README.md) [b](tasks.md#x) [c](../tasks/grid.yaml) [d](#here) [e](notebooks/own-data.ipynb)"
    assert addresses.for_site(text, "docs/index.md") == (
        "[a](readme.md) [b](tasks.md#x) [c](source/tasks/grid.yaml.md) [d](#here) [e](notebooks/own-data.md)"
    )
    assert addresses.for_site("[a](docs/tasks.md) [b](docs/adr/0006-ray.md)", "README.md") == "[a](tasks.md) [b](adr/0006-ray.md)"
    assert addresses.for_site("[a](../../docker) [b](../score.md)", "docs/protocols/lobe.md") == "[a](../source/docker.md) [b](../score.md)"


def test_files_that_pages_link_to_are_shown_whole() -> None:
    shown = addresses.shown_sources(
        [("docs/index.md", "[a](../tasks/grid.yaml), [b](../README.md), [c](tasks.md)"), ("b.md", "[a](tasks/grid.yaml)")]
    )
    assert shown == ["tasks/grid.yaml"]
    assert (ROOT / "tasks" / "grid.yaml").read_text(encoding="utf-8").strip() in addresses.source_page("tasks/grid.yaml")
    assert "- `releases.yaml`" in addresses.source_page("datasets")


def test_notebook_page_has_its_title_text_and_code() -> None:
    page = hook.pages()["docs/notebooks/own-data.ipynb"]
    assert page.startswith("# Data of your own\n\nThis page is the notebook")
    assert page.count("```python") == page.count("\n```\n") > 3


def test_bars_in_code_lose_their_backslash_in_tables_alone() -> None:
    assert hook._code_in_tables("| `a\\|b` | c \\| d |\n`a\\|b`") == "| `a|b` | c \\| d |\n`a\\|b`"
