"""The first page: who stands where and on what that rests, or why nobody stands anywhere; never more order than there is."""

from __future__ import annotations

import re
from pathlib import Path

from benchmark.cards import Contamination
from benchmark.report import ranking_page
from benchmark.report.site import write_site
from tests.report.conftest import TASKS
from tests.report.panel_suite import LEVELS, PhantomPanel, records_of, resampled
from tests.report.test_site import Elements, data_of, pages_of

LINEAR = "rsna-linear-frozen-10"


PANELS = (PhantomPanel(),)


def site(records, out: Path, panels=PANELS) -> Path:
    return write_site(records, out, title="T", resampled=resampled, panels=panels).parent


def rows_of_table(page: str, table: str = "ranking") -> list[list[str]]:
    body = re.search(rf'<table id="{table}".*?<tbody>(.*?)</tbody>', page, re.S).group(1)
    return [
        [re.sub(r"\s+", " ", Elements(cell).visible).strip() for cell in re.findall(r"<t[hd][ >].*?</t[hd]>", row, re.S)]
        for row in re.findall(r"<tr.*?</tr>", body, re.S)
    ]


def test_the_sentence_comes_first_and_rows_stand_by_band_then_alphabetically(tmp_path: Path):
    front = (site(records_of(), tmp_path) / "index.html").read_text(encoding="utf-8")
    visible = Elements(front).visible
    assert visible.index("Tied for best: BioViL-T, MGCA.") < visible.index("Headline")
    rows = rows_of_table(front)
    assert [row[0] for row in rows] == ["BioViL-T", "MGCA", "resnet50 (IMAGENET1K_V2)", "resnet50 (random) untrained baseline"]
    assert [row[2] for row in rows] == ["1-2", "1-2", "3", "–"]
    assert all("±" in row[1] for row in rows)


def test_nothing_inside_a_band_is_marked_as_better(tmp_path: Path):
    front = (site(records_of(), tmp_path) / "index.html").read_text(encoding="utf-8")
    (table,) = re.findall(r'<table id="ranking".*?</table>', front, re.S)
    assert not re.search(r"<(b|strong|mark)\b|medal|winner|🥇|class=\"best", table)


def test_each_track_has_a_table_of_its_own_that_leads_to_the_others(tmp_path: Path):
    pages = pages_of(site(records_of(), tmp_path))
    tables = {name: text for name, text in pages.items() if name == "index.html" or name.startswith("tables/")}
    assert len(tables) == 3
    tasks = [set(re.findall(r'href="[./]*tasks/([^"#]+)\.html"', text)) for text in tables.values()]
    assert sum(map(len, tasks)) == len(set().union(*tasks)) == len(TASKS)
    for text in tables.values():
        (choices,) = re.findall(r'<nav class="choices".*?</nav>', text, re.S)
        assert choices.count("<a ") == 3
        assert choices.count('aria-current="page"') == 1


def test_a_missing_task_takes_the_headline_away_and_is_named(tmp_path: Path):
    records = [r for r in records_of() if (r.job.labels.backbone, r.job.labels.task) != ("MGCA", LINEAR)]
    rows = {row[0]: row for row in rows_of_table((site(records, tmp_path) / "index.html").read_text(encoding="utf-8"))}
    assert "MGCA" not in rows or rows["MGCA"][1].startswith("–")
    backbone = next((tmp_path / "report" / "backbones").glob("mgca-*.html")).read_text(encoding="utf-8")
    assert "headline" in backbone


def test_images_that_pretraining_saw_take_the_headline_away(tmp_path: Path):
    records = records_of(seen={"MGCA": Contamination.IMAGES})
    rows = {row[0]: row for row in rows_of_table((site(records, tmp_path) / "index.html").read_text(encoding="utf-8"))}
    assert rows["MGCA"][1].startswith("–")
    assert LINEAR in rows["MGCA"][1]
    assert rows["MGCA"][4].startswith("these images")
    assert "±" in rows["BioViL-T"][1]


def test_without_a_panel_a_board_is_one_table_and_says_why_nothing_is_ranked(tmp_path: Path):
    folder = site(records_of(), tmp_path, panels=())
    front = (folder / "index.html").read_text(encoding="utf-8")
    assert "No ranking yet: no reference panel has been measured for these tasks." in Elements(front).visible
    assert "Headline" not in front
    assert not list((folder / "tables").glob("*")) if (folder / "tables").exists() else True
    assert len(set(re.findall(r'href="tasks/([^"#]+)\.html"', front))) == len(TASKS)


def test_a_phantom_panel_ranks_no_real_row(tmp_path: Path):
    front = (site(records_of(phantom=False), tmp_path) / "index.html").read_text(encoding="utf-8")
    assert "No ranking yet" in front


def test_headlines_are_drawn_and_compared_with_the_p_of_all_pairs(tmp_path: Path):
    data = data_of(site(records_of(), tmp_path))
    filled, hollow, _ = data["figures/headlines-0"]["data"]
    assert len(filled["x"]) == 3
    assert len(hollow["x"]) == 1
    (first, *_) = data["compare/index"]["tables"]
    assert [label for label, *_ in first["headlines"]] == ["BioViL-T", "MGCA", "resnet50 (IMAGENET1K_V2)"]
    pairs = data["compare/0/pairs"]
    assert pairs["p"][0][1] > 0.05
    assert pairs["p"][0][2] < 0.05
    assert pairs["half_widths"][0][2] > 0


def test_what_rows_are_chosen_by_stands_on_every_row(tmp_path: Path):
    front = (site(records_of(seen={"MGCA": Contamination.SOURCE}), tmp_path) / "index.html").read_text(encoding="utf-8")
    offered = {
        name: set(re.findall(r"<option>(.*?)</option>", block))
        for name, block in re.findall(r'data-filter="(\w+)"(.*?)</select>', front, re.S)
    }
    assert "seen" in offered
    for name, values in offered.items():
        assert set(re.findall(rf'<tr[^>]* data-{name}="([^"]*)"', front)) == values


def test_a_row_of_two_hundred_takes_under_a_kilobyte(tmp_path: Path, monkeypatch):
    levels = {f"method {i:03d} of a rather long name": 0.2 + i / 1000 for i in range(60)}
    folder = site(records_of(levels, n_runs=3, tasks=(LINEAR,)), tmp_path)
    assert (folder / "index.html").stat().st_size / 60 < 1500
    assert ranking_page.CELLS_ON_FIRST_PAGE * 200 < 300_000
    assert set(LEVELS)
