"""`make docs`: the whole site is built without a warning, asks no other host, and finds a word when it is opened from a folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docsite import addresses, hook, performance
from docsite.addresses import ROOT

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LOADED = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    (recipe,) = re.findall(r"^docs:.*\n\t.*\$\(BIN\)/python (-m mkdocs .+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    command = [sys.executable, *recipe.split(), "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Documentation built" in done.stderr  # a quiet build counts no warning
    assert "WARNING" not in done.stderr
    return folder


def test_every_page_is_on_the_site(site: Path) -> None:
    expected = {Path(page).with_suffix(".html") for page in hook.origins()}
    assert {page for page in expected if not (site / page).is_file()} == set()
    shown = addresses.shown_sources(hook.pages().items())
    assert {path for path in shown if not (site / addresses.page_of(path)).with_suffix(".html").is_file()} == set()


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 50
    assert {
        page.name: LOADED.findall(page.read_text(encoding="utf-8")) for page in pages if LOADED.search(page.read_text(encoding="utf-8"))
    } == {}


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: `apt-get install chromium`")
@pytest.mark.parametrize("width", [390, 1280])
def test_search_finds_a_page_and_no_page_is_wider_than_the_window(site: Path, width: int) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = opened.new_page(viewport={"width": width, "height": 900})
        failed: list[str] = []
        page.on("pageerror", lambda error: failed.append(str(error)))
        # The icon of a page that was left meanwhile is none that is missing.
        page.on("requestfailed", lambda request: None if "ERR_ABORTED" in str(request.failure) else failed.append(request.url))
        page.on("request", lambda request: None if request.url.startswith(("file:", "data:", "about:")) else failed.append(request.url))
        for name in sorted(hook.origins()):
            page.goto((site / name).with_suffix(".html").as_uri())
            over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if over > 0:
                failed.append(f"{name} is {over} px wider than {width}")
        page.goto((site / "index.html").as_uri())
        if width < 1000:
            page.locator("label[for=__search].md-header__button").click()
        page.locator("input.md-search__input").click()
        page.keyboard.type("rank bands")
        page.wait_for_selector(".md-search-result__link", timeout=60_000)
        hits = page.locator(".md-search-result__link").evaluate_all("links => links.map(link => link.getAttribute('href'))")
        opened.close()
    assert failed == []
    assert [hit for hit in hits if "ranking.html" in hit or "leaderboard-study.html" in hit]
    assert [hit for hit in hits if "source/" in hit] == []


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: `apt-get install chromium`")
def test_measurements_are_sorted_by_size_and_narrowed_by_words_and_choices(site: Path) -> None:
    from playwright.sync_api import sync_playwright

    rows = performance.read().rows
    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = opened.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        page.goto((site / "performance.html").as_uri())

        def column(title: str) -> list[str]:
            n = 1 + ["bench", *performance.COLUMNS].index(title)
            return page.locator(f".sortable tbody tr:not([hidden]) td:nth-child({n})").all_inner_texts()

        def count() -> str:
            return str(page.locator(".sortable output").evaluate("output => output.value"))

        assert column("what") == [row.what.replace("`", "") for row in rows]
        page.get_by_role("button", name="plain", exact=True).click()
        by_size = sorted(rows, key=lambda row: float(row.plain_s))
        assert column("plain") == [performance.cells(row)[1] for row in by_size]
        page.get_by_role("button", name="plain", exact=True).click()
        assert column("plain") == [performance.cells(row)[1] for row in reversed(by_size)]
        page.get_by_role("button", name="target", exact=True).click()
        assert column("target")[-1] == "–"  # what has none stands last, either way
        page.get_by_role("button", name="target", exact=True).click()
        assert column("target")[-1] == "–"
        page.get_by_label("verdict").select_option("not reached")
        missed = [row for row in rows if row.reached == "no"]
        assert sorted(column("what")) == sorted(row.what for row in missed)
        assert count() == f"{len(missed)} of {len(rows)} measurements"
        page.get_by_label("Words in a row of measurements").fill("Whole siim")
        assert (column("what"), count()) == ([], f"0 of {len(rows)} measurements")
        page.get_by_label("verdict").select_option("verdict: all")
        assert set(column("bench")) == {"step"}
        opened.close()
