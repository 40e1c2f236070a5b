"""The steps of docs/path.md, from a clone to an accepted submission, and what each took when a check ran it last.

The lines of a step stand on that page; its times come from docs/data/verification.csv. What has no row there is not measured.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from docsite import long_checks
from docsite.addresses import DOCS, ROOT
from docsite.long_checks import Seen
from docsite.tables import cell, table

NOT_MEASURED = "not measured"
NOTED = "seconds of a core"  # what a check notes of the lines of a page, each by how it begins
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_OPTION = re.compile(r" --include \S+")


@dataclass(frozen=True)
class Step:
    """
    Attributes:
        name: of the comment on docs/path.md in whose place its times stand, `<!-- site: path-NAME -->`.
        page: of docs/, which explains it.
        check: which runs the page; None where none does.
    """

    name: str
    page: str
    check: str | None


CLONING = "test_installing.py::test_the_commands_of_the_page_lead_from_an_address_to_a_command"
SUBMITTING = "test_submitting.py::test_the_commands_of_the_page_lead_from_nothing_to_a_rank_and_a_forged_copy_is_refused"
STEPS = (
    Step("clone", "installing.md", CLONING),
    Step("install", "installing.md", CLONING),
    Step("demo", "first-steps.md", "test_installing.py::test_the_whole_demo_of_an_installed_wheel_has_three_rows_and_the_pretrained_ahead"),
    Step("backbone", "your-backbone.md", "test_your_backbone.py::test_the_commands_of_the_page_lead_from_weights_to_a_row"),
    Step("data", "your-data.md", "test_your_data.py::test_the_commands_of_the_page_lead_from_two_folders_to_two_rows"),
    Step("submit", "submitting.md", SUBMITTING),
    Step("validate", "submitting.md", SUBMITTING),
    Step("accept", "submitting.md", SUBMITTING),
)


def views() -> dict[str, Callable[[], str]]:
    """Comment on docs/path.md -> what stands in its place."""
    return {"path": summary, **{f"path-{step.name}": partial(times, step) for step in STEPS}}


def summary() -> str:
    """All steps in a table of Markdown."""
    rows = {row.check: row for row in long_checks.read()}
    head = ("step", "its lines, seconds of a core", "run last by", "the whole check, seconds", "result", "commit", "date (UTC)")
    return "\n".join(table(head, (_line(step, rows.get(step.check or "")) for step in STEPS)))


def times(step: Step) -> str:
    """What each line of a step took, in a paragraph of Markdown."""
    row = {row.check: row for row in long_checks.read()}.get(step.check or "")
    if row is None:
        return f"*Time: {NOT_MEASURED}; no check has run these lines.*"
    of_line = core_seconds(row.saw, lines_of_page(step.page))
    if not of_line:
        return f"*{NOTED.capitalize()}, line by line: {NOT_MEASURED}; the whole check took {row.seconds} s.*"
    told = [f"{of_line[line]} s" if line in of_line else NOT_MEASURED for line in lines_of(step)]
    return f"*{NOTED.capitalize()}, line by line: {', '.join(told)}.*"


def lines_of(step: Step) -> list[str]:
    """What is typed, as docs/path.md has it."""
    before, found, _ = _text("path.md").partition(f"<!-- site: path-{step.name} -->")
    return _BLOCK.findall(before)[-1].splitlines() if found else []


def lines_of_page(page: str) -> list[str]:
    """Every line that the check of a page runs, in order: those of its `sh` blocks."""
    return [line for block in _BLOCK.findall(_text(page)) for line in block.splitlines() if line.strip()]


def core_seconds(saw: str, lines: Sequence[str]) -> Mapping[str, str]:
    """Line -> the seconds that a check noted of it; empty where it noted none, or those of other lines.

    Args:
        saw: of the check's row; seconds stand last in it, in the order of the lines. Of a line that is there twice once or twice.
        lines: all lines that the check runs.
    """
    entries = [entry.rpartition(" ") for entry in saw.partition(f"{NOTED}: ")[2].split("; ")]
    for noted in (lines, list(dict.fromkeys(lines))):
        pairs = list(zip(noted, entries, strict=False))
        if len(noted) == len(entries) and all(_fits(line, name, seconds) for line, (name, _, seconds) in pairs):
            return {line: seconds for line, (_, _, seconds) in reversed(pairs)}  # of two equal lines those of the first
    return {}


def _fits(line: str, name: str, seconds: str) -> bool:
    return _OPTION.sub("", line).startswith(name) and seconds.isdecimal()


def _line(step: Step, row: Seen | None) -> tuple[str, ...]:
    title = re.findall(r"^## (.+)$", _text("path.md").partition(f"<!-- site: path-{step.name} -->")[0], re.MULTILINE)[-1]
    if row is None:
        return (title, NOT_MEASURED, "–", NOT_MEASURED, "–", "–", "–")
    of_line = core_seconds(row.saw, lines_of_page(step.page))
    lines = lines_of(step)
    together = f"{sum(float(of_line[line]) for line in lines):.0f}" if all(line in of_line for line in lines) else NOT_MEASURED
    return (title, together, cell(row.check.partition("::")[0]), row.seconds, row.result, f"`{row.commit}`", row.date)


def _text(page: str) -> str:
    return (ROOT / DOCS / page).read_text(encoding="utf-8")
