"""The site: self-contained, safe, marked for what it is."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser

import numpy as np
import plotly.graph_objects as go
import pytest

from benchmark import registry
from benchmark.cards import DISCLAIMER, Role
from benchmark.encoders import naming
from benchmark.errors import UsageError
from benchmark.kinds.detection import draw_detection
from benchmark.report.site import write_site

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"
TRAINED = {"backbone": "mine", "digest": "a" * 64}


@pytest.fixture(autouse=True)
def no_cards(monkeypatch):
    monkeypatch.setattr(registry, "datasets", dict)


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


def _plots(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="plots">(.*?)</script>', page, re.S).group(1))


@pytest.fixture
def page(make, tmp_path) -> str:
    records = make.runs([0.10, 0.12, 0.14]) + make.runs([0.20, 0.25, 0.22], **TRAINED)
    records += make.runs([0.5, 0.6, 0.7], task="siim-unet-frozen-100")
    records += [
        make.record(0.15, backbone=EVIL, digest="c" * 64),
        make.record(failure=f"Broken: {EVIL}", backbone=EVIL, digest="c" * 64, run=1),
    ]
    return write_site(records, tmp_path, title=f"Title {EVIL}").read_text(encoding="utf-8")


def test_text_from_records_is_never_markup(page):
    tags = Elements(page).tags
    assert [attrs for tag, attrs in tags if tag == "script"] == [{"src": "plotly.min.js"}, {"type": "application/json", "id": "plots"}, {}]
    assert not any(tag == "img" or any(name.startswith("on") for name in attrs) for tag, attrs in tags)
    assert EVIL in "".join(Elements(page).text)
    hover = json.dumps(_plots(page))
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
    texts = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.name != "plotly.min.js"}
    for name, text in texts.items():
        assert "resnet18 (random)" in text, name
        bare = re.findall(r"(?<!:)resnet18(?! \(random\))[^\n]{0,20}", text)  # `torchvision:resnet18` is the architecture
        assert not bare, (name, bare)


def test_folder_needs_no_network_and_holds_plotly_once(make, tmp_path):
    page = write_site(make.runs([0.1, 0.2]), tmp_path, title="T")
    assert page == tmp_path / "report" / "index.html"
    names = {p.name for p in page.parent.iterdir()}
    assert names == {
        "index.html",
        "plotly.min.js",
        "leaderboard.csv",
        "leaderboard.json",
        "leaderboard.md",
        "leaderboard.tex",
        "metrics.csv",
        "curves.csv",
    }
    for tag, attrs in Elements(page.read_text(encoding="utf-8")).tags:
        for name in ("src", "href"):
            target = attrs.get(name, "#")
            assert target.startswith("#") or (page.parent / target).is_file(), (tag, target)
    assert page.stat().st_size < 300_000


def test_every_link_inside_the_page_has_its_target(page):
    tags = Elements(page).tags
    ids = {attrs["id"] for _, attrs in tags if "id" in attrs}
    assert {attrs["href"][1:] for tag, attrs in tags if tag == "a" and attrs["href"].startswith("#")} <= ids
    assert set(_plots(page)) <= ids


def test_plots_are_valid_and_hold_the_tables_numbers(page):
    plots = _plots(page)
    for spec in plots.values():
        go.Figure(spec)
    means = [x for trace in plots["forest-0"]["data"] if "error_x" in trace for x in trace["x"]]
    assert means == pytest.approx([12, 67 / 3, 60], abs=1e-3)
    assert {name.split("-")[0] for name in plots} == {"forest", "gains", "curves"}


def test_axes_never_mix_metrics(make, tmp_path):
    records = [make.record(0.1, task=task) for task in make.tasks]
    forest = _plots(write_site(records, tmp_path, title="T").read_text(encoding="utf-8"))["forest-0"]
    headings = [note["text"] for note in forest["layout"]["annotations"]]
    assert headings == [f"<b>{m} (%)</b>" for m in ("opacity Dice", "FROC (LoVT)", "mAP (LoVT)", "pneumothorax Dice")]
    assert sum(len(trace["x"]) for trace in forest["data"] if trace.get("xaxis") == "x3" and "error_x" in trace) == 3


@pytest.mark.parametrize(("phantom", "limit"), [(False, None), (True, None), (False, 16), (True, 16)])
def test_phantom_and_limited_pages_are_marked(make, tmp_path, phantom, limit):
    page = write_site([make.record(0.1, phantom=phantom, limit=limit)], tmp_path, title="T").read_text(encoding="utf-8")
    assert (page.count("<span>PHANTOM DATA</span>") > 4) == phantom
    assert ("<strong>Phantom data.</strong>" in page) == phantom
    assert ("<strong>Limited runs.</strong>" in page) == (limit is not None)


def _png(path):
    picture = draw_detection(np.zeros((32, 32), np.uint8), np.zeros((0, 4)), np.zeros((0, 4)), np.zeros(0))
    picture.save(path)
    return path


def test_overlays_are_copied_beside_the_page(make, tmp_path):
    picture = _png(tmp_path / "a.png")
    page = write_site([make.record(0.1)], tmp_path, title="T", overlays={"rsna-yolov3-frozen-10": {"../../x": [picture]}})
    (image,) = [attrs for tag, attrs in Elements(page.read_text(encoding="utf-8")).tags if tag == "img"]
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
    page = write_site(records, tmp_path, title="T", overlays={task: {"mine": [_png(tmp_path / "a.png")]}})
    for path in page.parent.rglob("*"):
        if path.is_file() and path.name != "plotly.min.js":
            assert b"0bbb2222" not in path.read_bytes(), path.name
            assert path.suffix != ".png"
    assert "No overlays for rsna" in page.read_text(encoding="utf-8")


def test_a_closed_dataset_says_why_it_shows_no_pictures_even_when_none_were_drawn(make, tmp_path):
    page = write_site([make.record(0.1, redistribution="none")], tmp_path, title="T")
    assert "its data agreement lets no image leave" in page.read_text(encoding="utf-8")


def test_overlays_of_a_task_without_records_are_refused(make, tmp_path):
    page = write_site([make.record(0.1)], tmp_path, title="T", overlays={"elsewhere": {"mine": [_png(tmp_path / "a.png")]}})
    assert "no record says what its dataset allows" in page.read_text(encoding="utf-8")
    assert not list((tmp_path / "report").rglob("*.png"))


def test_an_overlay_that_is_no_png_is_refused(make, tmp_path):
    (tmp_path / "a.png").write_text("<svg onload=alert(1)>")
    with pytest.raises(UsageError, match="PNG"):
        write_site([make.record(0.1)], tmp_path, title="T", overlays={"rsna-yolov3-frozen-10": {"mine": [tmp_path / "a.png"]}})


def test_old_overlays_do_not_survive_a_new_report(make, tmp_path):
    task = "rsna-yolov3-frozen-10"
    write_site([make.record(0.1)], tmp_path, title="T", overlays={task: {"mine": [_png(tmp_path / "a.png")]}})
    write_site([make.record(0.1)], tmp_path, title="T")
    assert not list((tmp_path / "report").rglob("*.png"))


def test_provenance_names_every_job_with_its_key(make, tmp_path):
    search = make.record(0.3, job=make.job(role=Role.SELECTION, learning_rate=0.01))
    records = [*make.runs([0.1, 0.2]), search]
    visible = Elements(write_site(records, tmp_path, title="T").read_text(encoding="utf-8")).visible
    for record in records:
        assert record.key in visible
    assert "search 0.01" in visible
    assert "torch 2.15.0" in visible


def test_curves_csv_holds_every_epoch(make, tmp_path):
    write_site(make.runs([0.1, 0.2]), tmp_path, title="T")
    lines = list(csv.DictReader((tmp_path / "report" / "curves.csv").open(encoding="utf-8")))
    assert len(lines) == 2 * 3
    assert float(lines[2]["value"]) == pytest.approx(0.2)


def test_an_empty_output_folder_gives_a_page_that_says_so(tmp_path):
    assert "holds no record" in write_site([], tmp_path, title="T").read_text(encoding="utf-8")
