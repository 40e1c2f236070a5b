"""The site in a real browser: everything a reader does with a mouse or a keyboard, from `file://`, and what axe finds on every page.

A phantom suite of four backbones is made by code; Debian's Chromium opens it through playwright. Without either, every test says so and is
skipped.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmark.cards import Failure
from benchmark.kinds.detection import draw_detection
from benchmark.report import reproduce, reproduce_pages
from benchmark.report.differences import compare
from benchmark.report.gallery import Picture
from benchmark.report.material import gathered
from benchmark.report.site import write_site
from benchmark.shelf import Refused
from tests.report.conftest import TASKS, make_job, make_record
from tests.report.panel_suite import LEVELS, N_PATIENTS, PhantomPanel, records_of, resampled
from tests.report.test_untrusted import PAYLOADS

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: `make install` brings it")
axe = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed: `make install` brings it")

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: `apt-get install chromium`")]

TASK = "rsna-yolov3-frozen-10"
N_UNET = sum(head == "unet" for _, head, *_ in TASKS.values())
FAILED = ("MGCA", "object-cxr-yolov3-frozen-100", 3)
AXE = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
MODES = [(1280, "light", "screen"), (1280, "dark", "screen"), (390, "light", "screen"), (390, "dark", "screen"), (1280, "light", "print")]


def records_of_the_suite() -> list:
    """The phantom suite, with one job that failed."""

    def named(record) -> tuple:
        return (record.job.labels.backbone, record.job.labels.task, record.job.labels.run)

    failed = Failure(kind="TrainingError", sentence="The loss is not finite in epoch 3.", traceback="")
    return [
        record.model_copy(update={"status": "failed", "metrics": {}, "failure": failed}) if named(record) == FAILED else record
        for record in records_of()
    ]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site")
    pictures = {}
    for name in LEVELS:
        picture = draw_detection(
            np.zeros((96, 96), np.uint8), np.array([[20.0, 20, 30, 30]]), np.array([[24.0, 22, 30, 30]]), np.array([0.8])
        )
        path = out / f"{len(pictures)}.png"
        picture.save(path)
        pictures[name] = [Picture(path, score=LEVELS[name])]
    refused = [Refused("0" * 32, "0000: its checksum is not that of its content.")]
    page = write_site(
        records_of_the_suite(), out, title="LOBE leaderboard", resampled=resampled, overlays={TASK: pictures}, refused=refused
    )
    reproduce_pages.write(reproduce.reproduce("lovt"), out)
    return page.parent


@pytest.fixture(scope="module")
def ranked(tmp_path_factory) -> Path:
    """The same suite as a panel ranks it."""
    page = write_site(records_of(), tmp_path_factory.mktemp("ranked"), title="Ranked", resampled=resampled, panels=[PhantomPanel()])
    return page.parent


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, site) -> Iterator[Callable]:
    """Opens a page of the site; whatever the page complains of fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True, reduced_motion="reduce")
    complaints: list[str] = []

    def open_page(name: str = "index.html", folder: Path = site, **options):
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on(
            "request", lambda request: complaints.append(request.url) if not request.url.startswith(("file:", "blob:", "data:")) else None
        )
        address, _, place = name.partition("#")
        page.goto((folder / address).as_uri() + (f"#{place}" if place else ""))
        return page

    yield open_page
    context.close()
    assert complaints == []


def names(page, table: str = "ranking") -> list[str]:
    return [text.strip() for text in page.locator(f"#{table} tbody tr:visible th a").all_inner_texts()]


def downloaded(page, button) -> list[list[str]]:
    with page.expect_download() as waiting:
        button.click()
    return list(csv.reader(io.StringIO(Path(waiting.value.path()).read_text(encoding="utf-8"))))


def test_a_head_sorts_with_mouse_and_keyboard_and_the_address_keeps_it(visit):
    page = visit()
    assert names(page, "scores") == list(LEVELS)
    head = page.locator("#scores thead th[data-labels]").first
    head.locator(".dt-column-order").click()
    rising = names(page, "scores")
    assert rising[:2] == ["resnet50 (random)", "resnet50 (IMAGENET1K_V2)"]
    assert set(rising) == set(LEVELS)
    assert head.get_attribute("aria-sort") == "ascending"
    again = visit(f"index.html#{page.url.partition('#')[2]}")
    assert names(again, "scores") == rising
    page.locator("#ranking thead [tabindex='0']").first.focus()
    page.keyboard.press("Enter")
    wanted = sorted(LEVELS, key=str.lower)
    deadline = time.monotonic() + 10  # a key is answered when the page gets to it
    while names(page) != wanted and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    assert names(page) == wanted


def test_search_and_filters_narrow_rows_and_columns_and_can_be_sent(visit):
    page = visit()
    page.locator("[data-tools-for=scores] input").fill("mgca")
    assert names(page, "scores") == ["MGCA"]
    assert "1 of 4 backbones" in page.locator("[data-tools-for=scores] .count").inner_text()
    page.locator("[data-tools-for=scores] [data-column-filter=head]").select_option("U-Net")
    heads = page.locator("#scores thead th[data-labels]:visible")
    assert heads.count() == N_UNET
    sent = visit(f"index.html#{page.url.partition('#')[2]}")
    assert names(sent, "scores") == ["MGCA"]
    assert sent.locator("#scores thead th[data-labels]:visible").count() == N_UNET
    page.locator("[data-tools-for=scores] [data-clear]").click()
    assert names(page, "scores") == list(LEVELS)
    assert page.locator("#scores thead th[data-labels]:visible").count() == len(TASKS)
    page.locator("[data-tools-for=ranking] [data-filter=pretraining]").select_option("imagenet-1k, mimic-cxr")
    assert names(page) == ["BioViL-T"]


def test_tables_and_figures_download_what_is_shown_unrounded(visit):
    page = visit()
    page.locator("[data-tools-for=scores] input").fill("mgca")
    heads, line = downloaded(page, page.locator("[data-csv=scores]").first)
    assert heads[0] == "Backbone"
    assert line[0] == "MGCA"
    place = heads.index("rsna-yolov3-frozen-10, mAP (LoVT)")
    assert heads[place + 1].endswith("half width 95 %")
    assert len(line[place].replace(".", "")) >= 5
    assert line[heads.index("object-cxr-yolov3-frozen-100, FROC (LoVT)")] == ""
    figure = page.locator("figure[data-figure]").first
    figure.scroll_into_view_if_needed()
    figure.locator(".main-svg").first.wait_for()
    assert downloaded(page, figure.locator("[data-csv]"))[0] == heads


def test_a_score_leads_to_the_backbone_its_jobs_and_their_command(visit, site):
    page = visit()
    page.locator("#scores tbody tr", has_text="MGCA").locator("td a").first.click()
    page.wait_for_url("**/backbones/mgca-*.html#row-*")
    assert page.locator("tr:target").count() == 1
    page.locator("tr:target .jobs a").nth(1).click()
    dialog = page.locator("dialog[open]")
    dialog.wait_for()
    said = dialog.inner_text()
    assert "lobe run --backbone" in said
    assert "--seeds 2" in said
    key = page.url.partition("job=")[2]
    assert f"records/{key}.json" in said
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    page.locator("details[data-jobs] summary").click()
    page.locator("#job-table tbody tr").first.wait_for()
    assert page.locator("#job-table tbody tr").count() == 5 * len(TASKS)
    curves = page.locator("[data-curves]")
    curves.scroll_into_view_if_needed()
    curves.locator(".main-svg").first.wait_for()
    lines = downloaded(page, curves.locator("[data-curves-csv]"))
    assert len(lines) == 1 + 5 * 3


def test_a_task_shows_every_backbone_and_what_pretraining_adds(visit):
    page = visit("tasks.html")
    page.locator("[data-tools-for=tasks] [data-filter=head]").select_option("U-Net")
    assert page.locator("#tasks tbody tr:visible").count() == N_UNET
    page.locator("#tasks tbody tr:visible a").last.click()
    page.wait_for_url("**/tasks/*unet*.html")
    assert page.locator("section[id^=at-] > div.scroll table tbody tr").count() >= 4
    assert page.get_by_role("heading", name="What pretraining adds").count() == 1
    curves = page.locator("[data-curves]")
    curves.scroll_into_view_if_needed()
    curves.locator(".main-svg").first.wait_for()


def test_any_two_are_compared_as_the_statistics_compare_them(visit, site):
    page = visit("compare.html")
    page.locator("#compared tbody tr").first.wait_for()
    page.locator("[data-first]").select_option(label="MGCA")
    page.locator("[data-second]").select_option(label="resnet50 (IMAGENET1K_V2)")
    page.get_by_role("heading", name="MGCA minus resnet50 (IMAGENET1K_V2)").wait_for()
    lines = downloaded(page, page.locator("[data-csv=compared]").first)
    assert lines[0][2:4] == ["MGCA", "resnet50 (IMAGENET1K_V2)"]
    found = gathered(records_of_the_suite(), title="", planned=[], resampled=resampled, refused=[])
    (ranked,) = found.tables
    shown = {line[0]: line for line in lines[1:]}
    assert len(shown) == len(TASKS)
    for column in ranked.board.columns:
        first, second = (ranked.board.cell(name, column) for name in lines[0][2:4])
        line = shown[column.title]
        if first.mean is None:
            assert line[4] == ""
            continue
        expected = compare(first, second).difference
        assert float(line[4]) == pytest.approx(100 * expected.value, abs=2e-3)
        assert float(line[5]) == pytest.approx(100 * expected.half_width, rel=3e-3)
        assert line[6] == f"runs paired by seed, {N_PATIENTS} test patients"
    page.locator("[data-swap]").click()
    page.get_by_role("heading", name="resnet50 (IMAGENET1K_V2) minus MGCA").wait_for()
    sent = visit(f"compare.html#{page.url.partition('#')[2]}")
    sent.get_by_role("heading", name="resnet50 (IMAGENET1K_V2) minus MGCA").wait_for()


def test_ranks_come_first_and_headlines_are_compared_by_all_pairs(visit, ranked):
    page = visit("index.html", ranked)
    assert page.locator(".verdict").inner_text() == "Tied for best: BioViL-T, MGCA."
    assert page.locator(".verdict").bounding_box()["y"] < 300
    assert names(page) == ["BioViL-T", "MGCA", "resnet50 (IMAGENET1K_V2)", "resnet50 (random)"]
    page.locator(".choices a").nth(1).click()
    page.wait_for_url("**/tables/*.html")
    page.get_by_role("link", name="Compare").click()
    page.locator("#compared tbody tr").first.wait_for()
    page.locator("[data-second]").select_option(label="resnet50 (IMAGENET1K_V2)")
    page.get_by_text("after Holm's correction over all pairs: higher. Ranks 1-2 and 3.").wait_for()
    heads, *pairs = csv.reader((ranked / "pairs.csv").open(encoding="utf-8", newline=""))
    shown = page.locator("[data-headline]").inner_text()
    value = next(pair for pair in pairs if pair[heads.index("second")] == "resnet50 (IMAGENET1K_V2)")[heads.index("difference")]
    assert f"Headline +{float(value):.2f} ±" in shown


def test_pictures_and_papers_open(visit):
    page = visit("gallery.html")
    page.locator("img").first.scroll_into_view_if_needed()
    assert page.locator("img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 90
    page.get_by_role("link", name="Papers").click()
    page.locator("a[href='reproduce-lovt.html']").click()
    page.wait_for_url("**/reproduce-lovt.html")
    assert "LoVT" in page.locator("h1").inner_text()


def test_a_narrow_screen_shows_numbers_first_and_never_scrolls_sideways(visit, site):
    page = visit()
    page.set_viewport_size({"width": 390, "height": 844})
    for name in pages_of(site):
        page.goto((site / name).as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == 390, name
    page.goto((site / "index.html").as_uri())
    cell = page.locator("#scores tbody td").first.bounding_box()
    assert cell["x"] + cell["width"] <= 390
    assert cell["y"] + cell["height"] <= 844


def test_folded_sections_are_printed(visit, site):
    page = visit(next(name for name in pages_of(site) if name.startswith("backbones/")))
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = false; })")
    assert not page.locator("details li").first.is_visible()
    page.emulate_media(media="print")
    assert page.locator("details li").first.is_visible()
    assert not page.locator("nav").first.is_visible()
    assert page.locator(".watermark").is_visible()


def test_figures_and_pictures_that_nobody_scrolled_to_are_printed(visit, site):
    figures = "[...document.querySelectorAll('figure[data-figure] .plot, [data-curves] .plot')].map(one => one.dataset.drawn ?? 'no')"
    page = visit(f"tasks/{TASK}.html")
    page.set_viewport_size({"width": 390, "height": 300})
    page.reload()
    assert "no" in page.evaluate(figures)
    page.evaluate(f"() => {{ window.print = () => {{ window.printed = {figures}; }}; }}")  # a bare function would be called at once
    page.keyboard.press("Control+p")
    page.wait_for_function("window.printed")
    assert set(page.evaluate("window.printed")) == {"yes"}
    page.reload()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function(f"!{figures}.includes('no')")

    page = visit("gallery.html")
    assert page.locator("img[loading=lazy]").count()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not page.locator("img[loading=lazy]").count()


def test_the_keys_of_printing_wait_for_figures_that_are_being_drawn(visit):
    page = visit(f"tasks/{TASK}.html")
    page.add_init_script("""addEventListener('DOMContentLoaded', () => {
        const now = lobe.asset;
        lobe.asset = async name => { await new Promise(resolve => { (window.held ??= []).push(resolve); }); return now(name); };
        window.print = () => { window.printed = [...document.querySelectorAll('.plot')].map(one => one.dataset.drawn ?? 'no'); };
    })""")
    page.reload()
    for figure in page.locator("figure[data-figure], [data-curves]").all():
        figure.scroll_into_view_if_needed()
        page.evaluate("new Promise(requestAnimationFrame)")
    page.wait_for_function("window.held?.length === document.querySelectorAll('.plot').length")  # each was looked at and has begun
    page.keyboard.press("Control+p")
    page.evaluate("new Promise(requestAnimationFrame)")
    assert page.evaluate("window.printed") is None
    page.evaluate("held.forEach(resolve => resolve())")
    page.wait_for_function("window.printed")
    assert set(page.evaluate("window.printed")) == {"yes"}


def test_a_hostile_record_runs_nothing_in_a_browser(visit, tmp_path):
    records = []
    for number, payload in enumerate(PAYLOADS):
        job = make_job(TASK, payload, digest=f"{number:064x}")
        labels = job.labels.model_copy(update={"task_title": payload, "fraction_text": payload})
        records.append(make_record(0.1 + number / 100, job=job.model_copy(update={"labels": labels}), warnings=(payload,)))
    folder = write_site(records, tmp_path, title=PAYLOADS[0]).parent
    ran: list[str] = []
    for name in [*pages_of(folder)[:8], "compare.html", "tasks.html", f"tasks/{TASK}.html"]:
        page = visit(name, folder)
        page.on("dialog", lambda dialog: (ran.append(dialog.message), dialog.dismiss()))
        for search in page.locator("input[type=search]:visible").all():
            search.fill(PAYLOADS[3])
            search.fill("")
        for head in page.locator("thead .dt-column-order:visible").all()[:6]:
            head.click()
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; }); scrollTo(0, 9e6)")
        page.wait_for_timeout(400)
        assert page.evaluate("document.querySelectorAll('img, iframe, object, script:not([src])').length") == 0, name
        page.close()
    assert ran == []


@pytest.mark.parametrize(("width", "scheme", "media"), MODES, ids=[f"{w}-{s}-{m}" for w, s, m in MODES])
def test_axe_finds_nothing_on_any_page(browser, site, ranked, width: int, scheme: str, media: str):
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme, reduced_motion="reduce")
    page, found = context.new_page(), {}
    page.emulate_media(media=media)
    of_ranks = [(ranked, name) for name in pages_of(ranked) if name in ("index.html", "compare.html") or name.startswith("tables/")]
    for folder, name in [*((site, name) for name in pages_of(site)), (site, job_address(site)), *of_ranks]:
        address, _, place = name.partition("#")
        page.goto((folder / address).as_uri() + (f"#{place}" if place else ""))
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        page.wait_for_timeout(300)
        page.evaluate(AXE)
        result = page.evaluate("axe.run(document, { resultTypes: ['violations'], preload: false })")
        if result["violations"]:
            found[name] = [(one["id"], one["nodes"][0]["html"][:200]) for one in result["violations"]]
    context.close()
    assert found == {}, json.dumps(found, indent=1)


def pages_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.html"))


def job_address(folder: Path) -> str:
    """A page with the facts of a job open."""
    data = next((folder / "data" / "jobs").iterdir())
    _, jobs = json.loads(f"[{data.read_text().removeprefix('lobe.register(').removesuffix(');' + chr(10))}]")
    return f"backbones/{data.stem}.html#job={jobs['rows'][0][jobs['columns'].index('Key')]}"
