"""The site: self-contained, safe, marked for what it is."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from benchmark.cards import DISCLAIMER, Role
from benchmark.encoders import naming
from benchmark.errors import UsageError
from benchmark.kinds.detection import draw_detection
from benchmark.report import ranking_page
from benchmark.report.gallery import Picture
from benchmark.report.site import write_site

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"
TABLES = ("metrics.csv", "curves.csv", "label_curves.csv", "references.csv")
TRAINED = {"backbone": "mine", "digest": "a" * 64}


class Elements(HTMLParser):
    """Collects tags, their attributes and the page's visible text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text: list[str] = []
        self._inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside.append(tag)

    def handle_endtag(self, tag):
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data):
        if not self._inside:
            self.text.append(data)

    @property
    def visible(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


def pages_of(folder: Path) -> dict[str, str]:
    """Every HTML page of a site by its address."""
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.html"))}


def data_of(folder: Path, kind: str = "") -> dict[str, Any]:
    """Every value that a data file registers, by its name."""
    found = {}
    for path in sorted((folder / "data").rglob("*.js")):
        text = path.read_text(encoding="utf-8")
        name, value = json.loads(f"[{text.removeprefix('lobe.register(').removesuffix(');' + chr(10))}]")
        assert path == folder / "data" / f"{name}.js"
        if name.startswith(kind):
            found[name] = value
    return found


@pytest.fixture
def page(make, tmp_path) -> str:
    records = make.runs([0.10, 0.12, 0.14]) + make.runs([0.20, 0.25, 0.22], **TRAINED)
    records += make.runs([0.5, 0.6, 0.7], task="siim-unet-frozen-100")
    records += [
        make.record(0.15, backbone=EVIL, digest="c" * 64),
        make.record(failure=f"Broken: {EVIL}", backbone=EVIL, digest="c" * 64, run=1),
    ]
    return write_site(records, tmp_path, title=f"Title {EVIL}").read_text(encoding="utf-8")


@pytest.mark.usefixtures("page")
def test_text_from_records_is_never_markup(tmp_path):
    pages = pages_of(tmp_path / "report")
    assert len(pages) == 6 + 2 + 3  # six of the site, two tasks, three backbones
    for name, text in pages.items():
        tags = Elements(text).tags
        assert all(set(attrs) == {"src", "defer"} for tag, attrs in tags if tag == "script"), name
        assert not any(tag == "img" or any(attribute.startswith("on") for attribute in attrs) for tag, attrs in tags), name
    for name in ("index.html", "records.html", f"tasks/{'rsna-yolov3-frozen-10'}.html"):
        assert EVIL in "".join(Elements(pages[name]).text), name
    for path in (tmp_path / "report" / "data").rglob("*.js"):
        assert not set("<>&'") & set(path.read_text(encoding="utf-8")), path.name
    hover = json.dumps(data_of(tmp_path / "report", "figures/"))
    assert "<script" not in hover
    assert "&lt;script&gt;" in hover


def test_page_carries_disclaimer_scores_and_reasons(page):
    visible = Elements(page).visible
    assert visible.count(DISCLAIMER) == 2
    assert "12 ± 5" in visible
    assert "untrained baseline" in visible
    assert "1 of 3 runs, 1 failed, 1 missing" in visible


def test_untrained_backbone_is_named_random_wherever_its_name_stands(make, tmp_path):
    """In every file of the report: a bare `resnet18` would pass for a trained one. Runs of the tracker carry the same label."""
    records = make.runs([0.1, 0.2], backbone=naming.parse("torchvision:resnet18").label, model="resnet18") + make.runs(
        [0.3, 0.4], **TRAINED
    )
    folder = write_site(records, tmp_path, title="T").parent
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "assets"]
    texts = {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in files}
    shown = (
        "index.html",
        "leaderboard.csv",
        "leaderboard.md",
        "leaderboard.tex",
        "leaderboard.json",
        "metrics.csv",
        "curves.csv",
        "records.html",
    )
    assert all("resnet18 (random)" in texts[name] for name in shown)
    for name, text in texts.items():
        bare = re.findall(r"(?<!:)resnet18(?! \(random\)|-random-)[^\n]{0,20}", text)  # `torchvision:resnet18` is the architecture
        assert not bare, (name, bare)


def test_folder_needs_no_network_and_every_link_has_its_target(make, tmp_path):
    records = make.runs([0.1, 0.2]) + make.runs([0.2, 0.3], **TRAINED) + make.runs([0.3, 0.4], limit=8, task="siim-unet-frozen-100")
    front = write_site([*records, make.record(failure="No.", run=2)], tmp_path, title="T")
    folder = front.parent
    assert front == tmp_path / "report" / "index.html"
    assert {"leaderboard.csv", "leaderboard.json", "leaderboard.md", "leaderboard.tex", *TABLES} <= {path.name for path in folder.iterdir()}
    pages = pages_of(folder)
    ids = {name: {attrs["id"] for _, attrs in Elements(text).tags if "id" in attrs} for name, text in pages.items()}
    for name, text in pages.items():
        for tag, attrs in Elements(text).tags:
            for attribute in ("src", "href"):
                address, _, place = attrs.get(attribute, "#").partition("#")
                target = (folder / name).parent / address if address else folder / name
                assert target.is_file(), (name, tag, address)
                if place and "=" not in place:
                    assert place in ids[target.resolve().relative_to(folder).as_posix()], (name, tag, place)
                if place.startswith("job="):
                    (jobs,) = re.findall(r'data-jobs="([^"]*)"', target.read_text(encoding="utf-8"))
                    known = data_of(folder)[f"jobs/{jobs}"]
                    assert place.removeprefix("job=") in [row[known["columns"].index("Key")] for row in known["rows"]]
    assert front.stat().st_size < 40_000


def test_every_figure_and_every_list_of_jobs_has_its_data(make, tmp_path):
    folder = write_site(make.runs([0.1, 0.2]) + make.runs([0.2, 0.3], **TRAINED), tmp_path, title="T").parent
    asked = {name for text in pages_of(folder).values() for name in re.findall(r'data-figure="([^"]+)"', text)}
    asked |= {f"{kind}/{name}" for text in pages_of(folder).values() for kind, name in re.findall(r'data-(jobs|curves)="([^"]+)"', text)}
    assert asked == {name for name in data_of(folder) if not name.startswith("compare/")}


@pytest.mark.usefixtures("page")
def test_plots_are_valid_and_hold_the_tables_numbers(tmp_path):
    plots = data_of(tmp_path / "report", "figures/")
    for spec in plots.values():
        go.Figure(spec)
    means = [x for trace in plots["figures/scores-0"]["data"] if "error_x" in trace for x in trace["x"]]
    assert means == pytest.approx([12, 67 / 3, 60], abs=1e-3)
    (gains,) = [plot for name, plot in plots.items() if name.endswith("-gains")]
    assert [trace["x"] for trace in gains["data"] if trace["name"] == "pre-trained"] == [pytest.approx([31 / 3], abs=1e-3)]


def test_axes_never_mix_metrics(make, tmp_path):
    records = [make.record(0.1, task=task) for task in make.tasks]
    forest = data_of(write_site(records, tmp_path, title="T").parent)["figures/scores-0"]
    headings = [note["text"] for note in forest["layout"]["annotations"]]
    titles = ("opacity Dice", "FROC (LoVT)", "opacity box-mask Dice", "mAP (LoVT)", "pneumothorax Dice")
    assert headings == [f"<b>{title} (%)</b>" for title in titles]
    assert sum(len(trace["x"]) for trace in forest["data"] if trace.get("xaxis") == "x4" and "error_x" in trace) == 3


@pytest.mark.parametrize(("phantom", "limit"), [(False, None), (True, None), (False, 16), (True, 16)])
def test_phantom_and_limited_pages_are_marked(make, tmp_path, phantom, limit):
    page = write_site([make.record(0.1, phantom=phantom, limit=limit)], tmp_path, title="T").read_text(encoding="utf-8")
    assert ('class="watermark"' in page) == phantom
    assert ("<strong>Phantom data.</strong>" in page) == phantom
    assert ("<strong>Limited runs.</strong>" in page) == (limit is not None)


def _png(path):
    picture = draw_detection(np.zeros((32, 32), np.uint8), np.zeros((0, 4)), np.zeros((0, 4)), np.zeros(0))
    picture.save(path)
    return path


def test_overlays_are_copied_beside_the_page(make, tmp_path):
    picture = _png(tmp_path / "a.png")
    page = write_site([make.record(0.1)], tmp_path, title="T", overlays={"rsna-yolov3-frozen-10": {"../../x": [Picture(picture)]}})
    (image,) = [attrs for tag, attrs in Elements((page.parent / "gallery.html").read_text(encoding="utf-8")).tags if tag == "img"]
    copied = (page.parent / image["src"]).resolve()
    assert copied.is_relative_to((page.parent / "overlays").resolve())
    assert copied.read_bytes() == picture.read_bytes()
    assert image["alt"]


def test_no_picture_and_no_sentence_of_a_closed_dataset_reaches_the_site(make, tmp_path):
    secret = "patient 0bbb2222"
    task = "rsna-yolov3-frozen-10"
    records = [
        make.record(0.1, redistribution="none", warnings=(f"{secret} has no report",)),
        make.record(failure=f"box 2 of {secret}", run=1, redistribution="none"),
    ]
    page = write_site(records, tmp_path, title="T", overlays={task: {"mine": [Picture(_png(tmp_path / "a.png"))]}})
    for path in page.parent.rglob("*"):
        if path.is_file() and path.parent.name != "assets":
            assert b"0bbb2222" not in path.read_bytes(), path.name
            assert path.suffix != ".png"
    assert "No overlays for rsna" in (page.parent / "gallery.html").read_text(encoding="utf-8")


def test_a_closed_dataset_says_why_it_shows_no_pictures_even_when_none_were_drawn(make, tmp_path):
    page = write_site([make.record(0.1, redistribution="none")], tmp_path, title="T")
    for name in ("gallery.html", "tasks/rsna-yolov3-frozen-10.html"):
        assert "its data agreement lets no image leave" in (page.parent / name).read_text(encoding="utf-8")


def test_overlays_of_a_task_without_records_are_refused(make, tmp_path):
    page = write_site([make.record(0.1)], tmp_path, title="T", overlays={"elsewhere": {"mine": [Picture(_png(tmp_path / "a.png"))]}})
    assert "no record says what its dataset allows" in (page.parent / "gallery.html").read_text(encoding="utf-8")
    assert not list((tmp_path / "report").rglob("*.png"))


def test_an_overlay_that_is_no_png_is_refused(make, tmp_path):
    (tmp_path / "a.png").write_text("<svg onload=alert(1)>")
    with pytest.raises(UsageError, match="PNG"):
        write_site([make.record(0.1)], tmp_path, title="T", overlays={"rsna-yolov3-frozen-10": {"mine": [Picture(tmp_path / "a.png")]}})


def test_old_overlays_do_not_survive_a_new_report(make, tmp_path):
    task = "rsna-yolov3-frozen-10"
    write_site([make.record(0.1)], tmp_path, title="T", overlays={task: {"mine": [Picture(_png(tmp_path / "a.png"))]}})
    write_site([make.record(0.1)], tmp_path, title="T")
    assert not list((tmp_path / "report").rglob("*.png"))


def test_pages_and_data_of_an_earlier_report_are_taken_away(make, tmp_path):
    folder = write_site(make.runs([0.1, 0.2], **TRAINED), tmp_path, title="T").parent
    (folder / "reproduce-lovt.html").write_text("another verb's page")
    before = {path.name for path in folder.rglob("*")}
    write_site(make.runs([0.1, 0.2], task="siim-unet-frozen-100"), tmp_path, title="T")
    after = {path.name for path in folder.rglob("*")}
    assert {"mine.html", "mine.js", "rsna-yolov3-frozen-10.html"} <= before - after
    assert "reproduce-lovt.html" in after


def test_provenance_names_every_job_with_its_key_and_its_command(make, tmp_path):
    search = make.record(0.3, job=make.job(role=Role.SELECTION, learning_rate=0.01))
    records = [*make.runs([0.1, 0.2]), search]
    (jobs,) = data_of(write_site(records, tmp_path, title="T").parent, "jobs/").values()
    lines = [dict(zip(jobs["columns"], row, strict=True)) | jobs["common"] for row in jobs["rows"]]
    assert {line["Key"] for line in lines} == {record.key for record in records}
    assert "search 0.01" in {line["Run"] for line in lines}
    assert all("torch 2.15.0" in line["Versions"] for line in lines)
    said = "lobe run --backbone torchvision:resnet50 --task rsna-yolov3-frozen-10 --protocol published --seeds 2 --data DATA --out OUT"
    assert said in {line["Command"] for line in lines}


def test_front_page_stays_small_and_scores_of_many_have_a_page_of_their_own(make, tmp_path, monkeypatch):
    monkeypatch.setattr(ranking_page, "CELLS_ON_FIRST_PAGE", 3)
    folder = write_site([make.record(0.1, task=task) for task in make.tasks], tmp_path, title="T").parent
    front = (folder / "index.html").read_text(encoding="utf-8")
    assert 'id="scores"' not in front
    assert 'href="tables/scores-0.html"' in front
    assert 'id="scores"' in (folder / "tables" / "scores-0.html").read_text(encoding="utf-8")


def test_each_kind_of_result_has_a_table_of_its_own(make, tmp_path):
    records = [*make.runs([0.1, 0.2]), make.record(0.9, limit=8), make.record(0.8, phantom=True, run=3)]
    folder = write_site(records, tmp_path, title="T").parent
    pages = {name: Elements(text).visible for name, text in pages_of(folder).items() if name.startswith(("index", "tables/"))}
    assert len(pages) == 3
    assert "15 ± 64" in pages["index.html"]
    assert not any(text in pages["index.html"] for text in ("90.0", "80.0"))


def test_curves_csv_holds_every_epoch(make, tmp_path):
    write_site(make.runs([0.1, 0.2]), tmp_path, title="T")
    lines = list(csv.DictReader((tmp_path / "report" / "curves.csv").open(encoding="utf-8")))
    assert len(lines) == 2 * 3
    assert float(lines[2]["value"]) == pytest.approx(0.2)


def test_an_empty_output_folder_gives_a_page_that_says_so(tmp_path):
    assert "holds no record" in write_site([], tmp_path, title="T").read_text(encoding="utf-8")
