"""The first page, and one like it for every other table: who stands where, with what it rests on, and the scores behind it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from benchmark.cards import Contamination
from benchmark.report import addresses, anchor_rows, data_files, figures, numbers, table_files, tables, trade_figures
from benchmark.report.backbone_facts import NOT_STATED, BackboneFacts, millions
from benchmark.report.figures import Dot, Panel
from benchmark.report.material import Material, Ranked
from benchmark.report.provenance import duration, summary
from benchmark.report.shell import Shell
from benchmark.report.standings import Standing, Standings
from benchmark.report.tables import Board, Column
from benchmark.submission.trust import MEANINGS

DOWNLOADS = (
    "leaderboard.csv",
    "leaderboard.json",
    "leaderboard.md",
    "leaderboard.tex",
    "metrics.csv",
    "curves.csv",
    *table_files.NAMES,
)
CELLS_ON_FIRST_PAGE = 1200  # a score with its link takes about 150 bytes
BACKBONES_IN_ONE_PLOT = 12

TRACKS = {
    "linear-frozen": "linear head, frozen encoder",
    "head-frozen": "larger heads, frozen encoder",
    "fine-tuned": "fine-tuned encoder",
    "text": "text and image, nothing trained",
}
SEEN = {
    Contamination.NONE.value: "nothing of these images",
    Contamination.SOURCE.value: "other images of the same source",
    Contamination.IMAGES.value: "these images",
    Contamination.LABELS.value: "these images with labels",
    Contamination.UNKNOWN.value: "unknown",
}


class Filtered(Protocol):
    """A line that a reader may choose by what it says of itself."""

    @property
    def filters(self) -> dict[str, str]: ...


@dataclass(frozen=True)
class Line:
    """One backbone of a ranking, as the page prints it.

    Attributes:
        anchor: what it stands for in every table; empty for all that are no anchor.
    """

    standing: Standing
    facts: BackboneFacts | None
    anchor: str = ""

    @property
    def page(self) -> str:
        return addresses.backbone_page(self.standing.backbone)

    @property
    def headline(self) -> str:
        one = self.standing
        return numbers.DASH if one.headline is None else signed(one.headline, one.half_width)

    @property
    def band(self) -> str:
        return numbers.DASH if self.standing.band is None else str(self.standing.band)

    @property
    def why_none(self) -> str:
        """A clause that says that there is no headline, and why."""
        why = self.standing.why_none
        return why if why.startswith("no headline") else f"no headline: {why}"

    @property
    def unseen(self) -> str:
        """Beside a missing headline: that over the datasets which pretraining did not see."""
        one = self.standing
        return "" if one.unseen is None else f"over what pretraining did not see: {signed(one.unseen, one.unseen_half_width)}"

    def on_dataset(self, name: str) -> str:
        value = self.standing.by_dataset.get(name)
        return numbers.DASH if value is None else f"{value:+.2f}"

    @property
    def seen(self) -> str:
        """The worst mark of its tasks."""
        return max(self.standing.contamination.values(), key=list(SEEN).index, default=Contamination.UNKNOWN.value)

    @property
    def seen_text(self) -> str:
        worst = [task for task, mark in self.standing.contamination.items() if mark == self.seen]
        return SEEN[self.seen] + (f" ({len(worst)} of {len(self.standing.contamination)} tasks)" if self.seen != "none" else "")

    @property
    def n_parameters(self) -> int | None:
        """Of the encoder; where no record says, of what was kept frozen."""
        return self.standing.parameters if self.facts is None else self.standing.parameters or self.facts.parameters

    @property
    def parameters(self) -> str:
        return millions(self.n_parameters)

    @property
    def n_macs(self) -> int | None:
        return self.standing.macs if self.facts is None else self.standing.macs or self.facts.macs

    @property
    def macs(self) -> str:
        return numbers.DASH if self.n_macs is None else f"{self.n_macs / 1e9:,.1f} G"

    @property
    def cost(self) -> str:
        return numbers.DASH if self.standing.cost_s is None else duration(self.standing.cost_s)

    @property
    def filters(self) -> dict[str, str]:
        """What a reader may choose rows by."""
        return {**row_filters(self.facts), "trust": str(self.standing.trust), "seen": SEEN[self.seen]}


@dataclass(frozen=True)
class ScoreTable:
    """The scores of a board with the reason of every gap."""

    board: Board
    reasons: dict[tuple[str, Column], int]
    gaps: list[tuple[int, str, str, str]]


def page_of(place: int, standings: Standings) -> str:
    """The first table is the front page."""
    parts = (standings.suite, standings.track, standings.geometry, standings.protocol, standings.scale, "phantom" * standings.phantom)
    return "index.html" if place == 0 else f"{addresses.TABLES}/{addresses.name_of(' '.join(filter(None, parts)))}.html"


def title_of(standings: Standings) -> str:
    """What a table is of, in words."""
    return " · ".join(filter(None, _parts(standings)))


def short_titles(tables: Sequence[Standings]) -> list[str]:
    """What tells each table from the others."""
    parts = [_parts(one) for one in tables]
    differs = [i for i in range(len(parts[0]) if parts else 0) if len({one[i] for one in parts}) > 1]
    return [" · ".join(filter(None, (one[i] for i in differs))) or title_of(table) for one, table in zip(parts, tables, strict=True)]


def _parts(standings: Standings) -> tuple[str, ...]:
    return (
        TRACKS.get(standings.track, standings.track),
        f"suite {standings.suite}" if standings.suite else "",
        f"protocol {standings.protocol}",
        f"{standings.geometry} geometry" if standings.geometry else "",
        "limited runs" * (standings.scale == "limited"),
        "phantom data" * standings.phantom,
    )


def write(shell: Shell, material: Material) -> None:
    """Writes the front page and the other tables; an empty site has a front page that says so."""
    titles = short_titles([one.standings for one in material.tables])
    choices = [(page_of(place, one.standings), title) for place, (one, title) in enumerate(zip(material.tables, titles, strict=True))]
    facts = summary(material.records, n_backbones=len({row.label for row in material.rows}), planned=material.planned)
    everywhere = {
        "choices": choices,
        "facts": facts,
        "n_failures": len(material.failures),
        "n_refused": len(material.refused),
        "interval": tables.INTERVAL,
        "about_anchors": tables.ANCHORS,
        "downloads": DOWNLOADS,
        "levels_of_trust": {level.value: meaning for level, meaning in MEANINGS.items()},
    }
    for place, ranked in enumerate(material.tables):
        _write(shell, material, ranked, choices[place][0], everywhere, place)
    if not material.tables:
        nothing: dict[str, Any] = {"standings": None, "lines": [], "scores": None, "filters": {}, "board": None}
        shell.render("index.html", "index.html.j2", heading=material.title, phantom=False, limited=False, **everywhere, **nothing)


def lines_of(standings: Standings, material: Material) -> list[Line]:
    return [Line(one, material.facts.get(one.backbone)) for one in standings.rows]


def row_filters(facts: BackboneFacts | None) -> dict[str, str]:
    """What a reader may choose backbones by, as far as their cards tell."""
    if facts is None:
        return dict.fromkeys(("pretraining", "licence", "size"), NOT_STATED)
    return {"pretraining": facts.pretraining, "licence": facts.licence, "size": facts.size}


def choices_of(lines: Iterable[Filtered]) -> dict[str, list[str]]:
    """What each filter offers; one that offers a single value is left out."""
    found: dict[str, set[str]] = {}
    for line in lines:
        for name, value in line.filters.items():
            found.setdefault(name, set()).add(value)
    return {name: sorted(values, key=str.lower) for name, values in found.items() if len(values) > 1}


def signed(value: float, half_width: float | None) -> str:
    """A headline with its interval: `+1.79 ± 0.55`."""
    return f"{value:+.2f}" + ("" if half_width is None else f" ± {half_width:.2f}")


def score_table(board: Board) -> ScoreTable:
    gaps = board.gaps()
    numbered = {why: number for number, why in enumerate(dict.fromkeys(why for _, _, why in gaps), start=1)}
    reasons = {(backbone, column): numbered[why] for backbone, column, why in gaps}
    return ScoreTable(board, reasons, [(numbered[why], backbone, column.title, why) for backbone, column, why in gaps])


def _write(shell: Shell, material: Material, ranked: Ranked, page: str, everywhere: dict[str, Any], place: int) -> None:
    standings, board = ranked.standings, ranked.board
    anchors = {one.name: one.role for one in anchor_rows.anchor_rows(board.rows)}
    lines = [replace(line, anchor=anchors.get(line.standing.label, "")) for line in lines_of(standings, material)]
    z_datasets = list(dict.fromkeys(name for line in lines for name in line.standing.by_dataset))
    small = len(board.backbones) * len(board.columns) <= CELLS_ON_FIRST_PAGE
    scores_page = f"{addresses.TABLES}/scores-{place}.html"
    shown: dict[str, Any] = {
        "standings": standings,
        "table_title": title_of(standings),
        "lines": lines,
        "filters": choices_of(lines),
        "board": board,
        "scores": score_table(board) if small else None,
        "scores_page": scores_page,
        "z_datasets": z_datasets if len(z_datasets) > 1 else [],
        "has_headlines": any(line.standing.headline is not None for line in lines),
        "has_macs": any(line.n_macs is not None for line in lines),
        "headline_figure": _headline_figure(shell, lines, place),
        "cost_figure": _cost_figure(shell, lines, place),
        "score_figure": _score_figure(shell, board, place) if small else "",
        "warnings": board.warnings(),
    }
    marks: dict[str, Any] = {"phantom": board.phantom, "limited": board.scale == "limited"}
    heading = material.title if place == 0 else f"{material.title}: {title_of(standings)}"
    shell.render(page, "index.html.j2", heading=heading, **marks, **everywhere, **shown)
    if not small:
        shown |= {"scores": score_table(board)}
        shell.render(scores_page, "scores.html.j2", heading=f"Scores: {title_of(standings)}", **marks, **everywhere, **shown)


def _headline_figure(shell: Shell, lines: Sequence[Line], place: int) -> str:
    dots = tuple(
        Dot(one.label, one.headline, one.half_width, f"{line.headline}, rank {line.band}", one.random)
        for line in lines
        if (one := line.standing).headline is not None
    )
    if not dots:
        return ""
    name = f"figures/headlines-{place}"
    title = "headline (in spreads of the references)"
    shell.add(data_files.write(shell.report, name, figures.dots([Panel(title, dots, around_zero=True)])))
    return name


def _cost_figure(shell: Shell, lines: Sequence[Line], place: int) -> str:
    """Headlines over multiply-adds where all are known, else over computing time."""
    ranked = [line for line in lines if line.standing.headline is not None]
    by_macs = all(line.n_macs for line in ranked)
    costs = [(line.n_macs or 0) / 1e9 if by_macs else (line.standing.cost_s or 0.0) / 3600 for line in ranked]
    if len(ranked) < 2 or min(costs) <= 0:
        return ""
    points = [
        (one.label, one.random, cost, one.headline or 0.0, one.half_width)
        for line, cost in zip(ranked, costs, strict=True)
        if (one := line.standing)
    ]
    unit = "thousand million multiply-adds of the encoder for an image" if by_macs else "hours of computing"
    name = f"figures/costs-{place}"
    shell.add(data_files.write(shell.report, name, trade_figures.over_cost(points, unit)))
    return name


def _score_figure(shell: Shell, board: Board, place: int) -> str:
    if len(board.backbones) > BACKBONES_IN_ONE_PLOT:
        return ""
    name = f"figures/scores-{place}"
    shell.add(data_files.write(shell.report, name, figures.forest(board)))
    return name
