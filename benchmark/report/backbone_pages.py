"""A page per backbone: what it is, where it stands, its score on every task, and every job behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.report import addresses, curve_data, data_files, figures, numbers, provenance, trade_figures
from benchmark.report.backbone_facts import BackboneFacts
from benchmark.report.curve_data import CurveFile, CurveOf
from benchmark.report.differences import Gain
from benchmark.report.figures import Dot, Panel
from benchmark.report.label_curves import label_curves
from benchmark.report.material import Material
from benchmark.report.ranking_page import SEEN, Line, lines_of, page_of, title_of
from benchmark.report.rows import Row
from benchmark.report.shell import Shell
from benchmark.report.tables import split_text


@dataclass(frozen=True)
class TaskRow:
    """One row of the backbone with what pretraining added to it."""

    row: Row
    gain: Gain | None

    @property
    def id(self) -> str:
        return addresses.row_id(self.row)

    @property
    def page(self) -> str:
        return f"{addresses.task_page(self.row.task)}#{addresses.section_id(self.row)}"

    @property
    def where(self) -> str:
        marks = ["limited"] * (self.row.scale == "limited") + ["phantom"] * self.row.phantom
        return " · ".join(filter(None, (self.row.protocol, split_text(self.row.split), *marks)))

    @property
    def seen(self) -> str:
        return SEEN[self.row.contamination]


def write(shell: Shell, material: Material, curve_of: CurveOf) -> CurveFile:
    """Writes the page and the data of every backbone, and returns all curves: each is read once, one backbone at a time."""
    every_curve = CurveFile()
    gains = {id(gain.trained): gain for ranked in material.tables for gain in ranked.gains}
    rows: dict[str, list[TaskRow]] = {}
    for row in material.rows:
        rows.setdefault(row.backbone, []).append(TaskRow(row, gains.get(id(row))))
    standing: dict[str, list[tuple[str, str, Line]]] = {}
    for place, ranked in enumerate(material.tables):
        for line in lines_of(ranked.standings, material):
            entry = (page_of(place, ranked.standings), title_of(ranked.standings), line)
            standing.setdefault(line.standing.backbone, []).append(entry)
    styles = figures.line_styles({name: facts.random for name, facts in material.facts.items()})
    for name in dict.fromkeys((*material.facts, *rows)):
        _write(shell, material, name, rows.get(name, []), standing.get(name, []), styles.get(name, {}), curve_of, every_curve)
    return every_curve


def _write(
    shell: Shell,
    material: Material,
    name: str,
    rows: Sequence[TaskRow],
    standing: Sequence[tuple[str, str, Line]],
    style: dict[str, Any],
    curve_of: CurveOf,
    every_curve: CurveFile,
) -> None:
    records, facts, address = material.by_backbone.get(name, []), material.facts.get(name), addresses.name_of(name)
    card = None if facts is None else facts.card
    jobs = provenance.as_table([provenance.facts_of_job(record, card) for record in records])
    shell.add(data_files.write(shell.report, f"jobs/{address}", jobs))
    curves = []
    for record in records:
        curve = curve_of(record)
        every_curve.add(record, curve)
        if curve:
            curves.append(curve_data.of_job(record, curve))
    if curves:
        shell.add(data_files.write(shell.report, f"curves/{address}", {"backbone": name, "style": style, "jobs": curves}))
    figure = _figure(shell, address, [one.row for one in rows])
    by_labels = label_curves([one.row for one in rows])
    if by_labels:
        shell.add(data_files.write(shell.report, f"figures/{address}-labels", trade_figures.over_labels(by_labels)))
    warnings: dict[str, list[str]] = {}
    for one in rows:
        for warning in one.row.warnings:
            warnings.setdefault(warning, []).append(one.row.task)
    shell.render(
        addresses.backbone_page(name),
        "backbone.html.j2",
        heading=name,
        phantom=any(one.row.phantom for one in rows),
        limited=any(one.row.scale == "limited" for one in rows),
        address=address,
        facts=facts,
        facts_listed=[] if facts is None else _listed(facts),
        standing=standing,
        rows=rows,
        n_jobs=len(records),
        n_curves=len(curves),
        tasks_with_curves=list(dict.fromkeys(curve["title"] for curve in curves)),
        figure=figure,
        label_figure=f"figures/{address}-labels" if by_labels else "",
        warnings={text: [f"{len(tasks)} tasks"] if len(tasks) > 3 else tasks for text, tasks in warnings.items()},
        failures=[provenance.failure(record) for record in records if record.status == "failed"],
    )


def _figure(shell: Shell, address: str, rows: Sequence[Row]) -> str:
    """Scores of one backbone, a panel per metric."""
    panels: dict[str, list[Dot]] = {}
    for row in rows:
        name = " · ".join(filter(None, (row.task, split_text(row.split), row.protocol)))
        panels.setdefault(f"{row.metric_title} (%)", []).append(figures.dot_of(row, name))
    if not panels:
        return ""
    made = figures.dots([Panel(title, tuple(dots)) for title, dots in panels.items()])
    shell.add(data_files.write(shell.report, f"figures/{address}", made))
    return f"figures/{address}"


def _listed(facts: BackboneFacts) -> list[tuple[str, str]]:
    """What a card and its records say, without what they leave out."""
    card = facts.card
    of_card = (
        []
        if card is None
        else [
            ("Card", card.name),
            ("Layout of the weights", card.layout),
            ("Intensity rule", card.intensity),
            ("Paper", card.paper),
            ("Published at", card.origin),
            ("Published digest", card.digest),
            ("Status of the card", card.status),
            ("Notes", card.notes),
        ]
    )
    account = ["; ".join(f"{count:,} {fate}" for fate, count in one if count) or "none" for one in facts.account]
    listed = [
        ("Architecture", facts.architecture),
        ("Pretrained on", facts.pretraining),
        ("Licence", facts.licence),
        ("Parameters of the encoder", facts.parameters_text),
        ("Weights", ", ".join(facts.digests) or "random, drawn anew for every run"),
        ("Tensors of the weights file", " or ".join(account) or numbers.DASH),
        ("Jobs", f"{facts.n_jobs:,} in {provenance.duration(facts.seconds)}"),
        ("From cards of the user's own", ", ".join(facts.custom)),
        *of_card,
    ]
    return [(name, value) for name, value in listed if value]
