"""docs/path.md is true: its lines are those of the pages that it points to, in their order, and its times those of the long checks."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from docsite import hook, links, long_checks, path_steps
from docsite.addresses import DOCS, ROOT
from docsite.path_steps import NOT_MEASURED, NOTED, STEPS, Step
from tests import verification
from tests.page_commands import noted

PATH = (ROOT / DOCS / "path.md").read_text(encoding="utf-8")
SECTIONS = re.split(r"^## (?=\d)", PATH, flags=re.MULTILINE)[1:]
by_name = pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)


def test_every_step_has_its_section_and_each_of_its_lines_is_in_one() -> None:
    assert re.findall(r"<!-- site: path-([a-z]+) -->", PATH) == [step.name for step in STEPS]
    assert len(SECTIONS) == len(STEPS)
    assert sum(len(path_steps.lines_of(step)) for step in STEPS) == len(path_steps.lines_of_page("path.md"))


@pytest.mark.parametrize(("step", "section"), list(zip(STEPS, SECTIONS, strict=True)), ids=[step.name for step in STEPS])
def test_the_lines_of_a_step_stand_in_their_order_on_the_page_that_it_points_to(step: Step, section: str) -> None:
    assert step.page in {link.path for link in links.links_in(section)}
    page = iter([line.strip() for line in (ROOT / DOCS / step.page).read_text(encoding="utf-8").splitlines()])
    lines = path_steps.lines_of(step)
    assert lines
    assert [line for line in lines if line not in page] == []  # an iterator: each is looked for behind the one before


@by_name
def test_the_check_of_a_step_is_there_and_its_page_has_every_line_in_a_block_that_is_run(step: Step) -> None:
    if step.check is None:
        return
    assert verification._exists(*step.check.split("::"))
    assert set(path_steps.lines_of(step)) <= set(path_steps.lines_of_page(step.page))


def test_times_are_those_of_the_last_run_of_each_check() -> None:
    rows = {row.check: row for row in long_checks.read()}
    _, _, *lines = path_steps.summary().splitlines()
    for step, line in zip(STEPS, lines, strict=True):
        row = rows.get(step.check or "")
        shown = [text.strip() for text in line.strip("|").split("|")]
        expected = [row.seconds, row.result, f"`{row.commit}`", row.date] if row else [NOT_MEASURED, "–", "–", "–"]
        assert shown[3:] == expected


def test_a_line_has_the_seconds_that_its_check_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    step = next(one for one in STEPS if one.name == "validate")
    lines = path_steps.lines_of_page(step.page)
    row = replace(next(one for one in long_checks.read() if one.check == step.check), seconds="77")
    seconds = {line: float(n) for n, line in enumerate(dict.fromkeys(lines), start=100)}
    saw = f"ranks: mine 3-9; other 1-2; {NOTED}: {noted(seconds.items())}"
    monkeypatch.setattr(long_checks, "read", lambda: [replace(row, saw=saw)])
    first, second = (f"{seconds[line]:.0f} s" for line in path_steps.lines_of(step))
    assert f": {first}, {second}." in path_steps.times(step)
    monkeypatch.setattr(long_checks, "read", lambda: [replace(row, saw=saw + "; lobe 3")])  # of a page with another line
    assert path_steps.times(step).endswith(f"{NOT_MEASURED}; the whole check took 77 s.*")
    monkeypatch.setattr(long_checks, "read", lambda: [])
    assert NOT_MEASURED in path_steps.times(step)
    assert path_steps.summary().count(NOT_MEASURED) == 2 * len(STEPS)


def test_of_a_line_that_is_run_twice_the_first_time_counts() -> None:
    lines = ["lobe run --out a", "lobe --include b report", "lobe run --out c", "lobe --include b report"]
    saw = f"{NOTED}: lobe run 1; lobe report 2; lobe run 3; lobe report 4"
    assert path_steps.core_seconds(saw, lines) == {lines[0]: "1", lines[1]: "2", lines[2]: "3"}
    assert path_steps.core_seconds(saw.removesuffix("; lobe report 4"), lines) == {lines[0]: "1", lines[1]: "2", lines[2]: "3"}
    assert path_steps.core_seconds(saw.replace("report", "list"), lines) == {}
    assert path_steps.core_seconds("", lines[:1]) == {}


def test_the_site_puts_something_in_place_of_every_comment() -> None:
    pages = (ROOT / DOCS).rglob("*.md")
    marks = {mark for page in pages for mark in hook._MARK.findall(page.read_text(encoding="utf-8"))}
    assert marks == set(hook.MARKS)
