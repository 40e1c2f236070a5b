"""A page per task: every backbone's score on it, what pretraining adds, all metrics, and what the numbers rest on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from benchmark import registry
from benchmark.report import addresses, anchor_rows, beside, data_files, figures, numbers, tables
from benchmark.report.anchor_rows import AnchorRow
from benchmark.report.backbone_facts import BackboneFacts
from benchmark.report.beside import Sheet, Value
from benchmark.report.differences import TESTED, Compared, Gain, Leak
from benchmark.report.escape import one_line
from benchmark.report.figures import Dot, Panel
from benchmark.report.gallery_page import Gallery
from benchmark.report.material import Material
from benchmark.report.provenance import audits
from benchmark.report.ranking_page import SEEN, choices_of, row_filters
from benchmark.report.rows import Row
from benchmark.report.shell import Shell
from benchmark.report.subgroups import Subgroup
from benchmark.report.tables import Board, Column

AnyCompared = TypeVar("AnyCompared", bound=Compared)


@dataclass(frozen=True)
class BackboneLine:
    """One row of a task, as its page prints it."""

    row: Row
    facts: BackboneFacts | None

    @property
    def trust(self) -> str:
        return self.row.trust.value

    @property
    def seen(self) -> str:
        return SEEN[self.row.contamination]

    @property
    def filters(self) -> dict[str, str]:
        return {**row_filters(self.facts), "trust": self.trust, "seen": self.seen}


@dataclass(frozen=True)
class AnchorLine:
    """What scores are read against, as the page prints it.

    Attributes:
        text: the score; empty without one.
        missing: why there is none.
    """

    role: str
    name: str
    text: str
    missing: str


@dataclass(frozen=True)
class Section:
    """What stands together on a task's page: one split under one protocol, scale and kind of data."""

    id: str
    title: str
    column: Column
    lines: tuple[BackboneLine, ...]
    anchors: tuple[AnchorLine, ...]
    groups: tuple[Subgroup, ...]
    gains: tuple[Gain, ...]
    leaks: tuple[Leak, ...]
    sheet: Sheet | None
    figure: str
    gain_figure: str

    @property
    def rows(self) -> list[Row]:
        return [line.row for line in self.lines]

    @property
    def filters(self) -> dict[str, list[str]]:
        return choices_of(self.lines)

    @property
    def warnings(self) -> dict[str, list[str]]:
        """Each warning with the backbones that it is about."""
        found: dict[str, list[str]] = {}
        for row in self.rows:
            for warning in row.warnings:
                found.setdefault(warning, []).append(row.label)
        return {text: ["all rows"] if len(labels) == len(self.rows) > 1 else labels for text, labels in found.items()}


@dataclass(frozen=True)
class TaskLine:
    """A task in the list of tasks."""

    row: Row
    page: str
    n_backbones: int
    places: tuple[str, ...]

    @property
    def filters(self) -> dict[str, str]:
        encoder = tables.encoder_text(self.row.encoder)
        return {"dataset": self.row.dataset, "head": tables.head_text(self.row.head), "encoder": encoder, "labels": self.row.fraction_text}


def write(shell: Shell, material: Material, galleries: dict[str, Gallery], groups: Iterable[Subgroup] = ()) -> None:
    """Writes the page of every task, and the list of them.

    Args:
        groups: scores on parts of the test images, of any rows.
    """
    groups_of: dict[tuple, list[Subgroup]] = {}
    for group in groups:
        groups_of.setdefault(_place(group.row), []).append(group)
    sections: dict[str, list[Section]] = {}
    values = _by_place(material.values)
    for ranked in material.tables:
        gains, leaks = _by_place_of(ranked.gains, lambda gain: gain.trained), _by_place_of(ranked.leaks, lambda leak: leak.leaky)
        for column in ranked.board.columns:
            place = (column.task, column.split)
            section = _section(shell, material, ranked.board, column, gains.get(place, ()), leaks.get(place, ()), values, groups_of)
            sections.setdefault(column.task, []).append(section)
    for task, members in sections.items():
        first = members[0].rows[0]
        shell.render(
            addresses.task_page(task),
            "task.html.j2",
            heading=first.task_title,
            phantom=any(row.phantom for section in members for row in section.rows),
            limited=any(row.scale == "limited" for section in members for row in section.rows),
            task=task,
            facts=_facts(task, first),
            sections=members,
            curves=[(name, addresses.name_of(name)) for name in _with_curves(material, task)],
            gallery=galleries.get(task),
            audits=audits(material.by_task[task]),
            interval=tables.INTERVAL,
            about_anchors=tables.ANCHORS,
            tested=TESTED,
        )
    lines = [_line(task, members) for task, members in sections.items()]
    filters = {name: sorted({line.filters[name] for line in lines}) for name in (lines[0].filters if lines else ())}
    shell.render(
        "tasks.html",
        "tasks.html.j2",
        heading="Tasks",
        phantom=any(row.phantom for row in material.rows),
        limited=any(row.scale == "limited" for row in material.rows),
        lines=lines,
        filters={name: values for name, values in filters.items() if len(values) > 1},
    )


def _section(
    shell: Shell,
    material: Material,
    board: Board,
    column: Column,
    gains: Sequence[Gain],
    leaks: Sequence[Leak],
    values: dict[tuple, list[Value]],
    groups: dict[tuple, list[Subgroup]],
) -> Section:
    rows = tuple(row for backbone in board.backbones if (row := board.cell(backbone, column)) is not None)
    id = addresses.section_id(rows[0])
    return Section(
        id=id,
        title=" · ".join(filter(None, (board.title, tables.split_text(column.split)))),
        column=column,
        lines=tuple(BackboneLine(row, material.facts.get(row.backbone)) for row in rows),
        anchors=tuple(_anchor_line(anchor, column.task) for anchor in anchor_rows.anchor_rows(rows)),
        groups=tuple(groups.get(_place(rows[0]), ())),
        gains=tuple(gains),
        leaks=tuple(leaks),
        sheet=next(iter(beside.sheets(values.get(_place(rows[0]), ()))), None),
        figure=_figure(shell, f"figures/{id}", f"{column.metric_title} (%)", [figures.dot_of(row, row.label) for row in rows]),
        gain_figure=_figure(shell, f"figures/{id}-gains", "percentage points over the untrained network", list(map(_dot, gains)), True),
    )


def _anchor_line(anchor: AnchorRow, task: str) -> AnchorLine:
    score = anchor.scores.get(task)
    text = "" if score is None else numbers.percent(score.value, score.half_width)
    return AnchorLine(anchor.role, anchor.name, text, anchor.missing.get(task, ""))


def _figure(shell: Shell, name: str, title: str, dots: list[Dot], around_zero: bool = False) -> str:
    if not dots:
        return ""
    shell.add(data_files.write(shell.report, name, figures.dots([Panel(title, tuple(dots), around_zero)])))
    return name


def _dot(gain: Gain) -> Dot:
    half = gain.difference.half_width
    return Dot(gain.trained.label, 100 * gain.difference.value, None if half is None else 100 * half, f"{gain.text} ({gain.reading})")


def _facts(task: str, row: Row) -> list[tuple[str, str]]:
    dataset = registry.datasets().get(row.dataset)
    facts = [
        ("Task", task),
        ("Dataset", row.dataset if dataset is None else dataset.title or row.dataset),
        ("Licence of the data", "" if dataset is None else dataset.licence),
        ("Head", tables.head_text(row.head)),
        ("Encoder", tables.encoder_text(row.encoder)),
        ("Labels", row.fraction_text),
        ("Reported metric", row.metric_title),
        ("Test images with the finding", "" if row.n_with_finding is None else f"{row.n_with_finding:,}"),
    ]
    return [(name, value) for name, value in facts if value]


def _with_curves(material: Material, task: str) -> list[str]:
    """Backbones that were trained on a task: what only asks has no curve."""
    trained = (record for record in material.by_task[task] if record.status == "ok" and record.steps)
    return list(dict.fromkeys(one_line(record.job.labels.backbone) for record in trained))


def _line(task: str, members: Sequence[Section]) -> TaskLine:
    labels = {row.label for section in members for row in section.rows}
    places = tuple(dict.fromkeys(section.title for section in members))
    return TaskLine(members[0].rows[0], addresses.task_page(task), len(labels), places)


def _place(row: Row) -> tuple:
    return (row.phantom, row.scale, row.protocol, row.task, row.split, row.metric)


def _by_place(values: Sequence[Value]) -> dict[tuple, list[Value]]:
    found: dict[tuple, list[Value]] = {}
    for value in values:
        found.setdefault(_place(value.row), []).append(value)
    return found


def _by_place_of(found: Iterable[AnyCompared], row_of: Callable[[AnyCompared], Row]) -> dict[tuple[str, str], list[AnyCompared]]:
    grouped: dict[tuple[str, str], list[AnyCompared]] = {}
    for one in found:
        grouped.setdefault((row_of(one).task, row_of(one).split), []).append(one)
    return grouped
