"""Who stands where: a table for everything that may be ranked together, with headlines, rank bands, and why a backbone has none.

A table is one track of a suite under one protocol and geometry, of one scale and kind of data. It ranks only against a reference panel that
was frozen for the same. What a headline is: `statistics.headline`; which of a backbone's rows count, and how they are read: `contenders`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from benchmark import task_rules
from benchmark.cards import PanelCard, PanelTask
from benchmark.report import contenders, tracks
from benchmark.report.contenders import Contender
from benchmark.report.rows import Row
from benchmark.statistics.bands import RankBand, rank_bands, tied_for_best
from benchmark.statistics.families import holm_all_pairs
from benchmark.statistics.headline import Headline, Pairs, all_pairs
from benchmark.statistics.levels import Seeds
from benchmark.statistics.panel import Panel
from benchmark.submission.history import Entry
from benchmark.submission.trust import Trust

NO_PANEL = "no reference panel has been measured for these tasks"
LIMITED = "limited runs are never ranked"
AS_PUBLISHED = "runs that repeat a paper's code, mistakes included, are never ranked"
ALONE = "not ranked: no other row of the table may have a rank"
UNTRAINED = "an anchor: untrained, shown beside the ranks"
RELEASED = "published"  # the protocol that repeats papers


class FrozenPanel(Protocol):
    """A reference panel, and the rows that it is a scale for."""

    @property
    def version(self) -> str: ...
    @property
    def suite(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    @property
    def phantom(self) -> bool: ...

    def as_panel(self, *, phantom: bool | None = None) -> Panel: ...


@dataclass(frozen=True)
class Standing:
    """One backbone in one table.

    Attributes:
        label: the name with what tells it from another of the same name.
        random: untrained; an anchor, which has a headline and no rank.
        headline, half_width: in spreads of the panel above its median; half width of the 95 % interval over runs and patients.
        band: the ranks it may hold; None without a rank.
        by_task: task -> z, clipped; also of tasks that keep the row from a headline.
        by_dataset: dataset -> mean z over its tasks of the table; of complete datasets alone.
        why_none: why there is no headline, no interval or no rank, a clause without a full stop; empty where there are all.
        contamination: task -> what pretraining saw of its dataset.
        trust: the lowest level of its cells.
        parameters, macs: of the encoder; None where no record says.
        cost_s: of all its jobs in this table.
        unseen: where pretraining saw some tasks' data: the headline over the others, which ranks nothing.
        unseen_half_width: of its interval.
    """

    backbone: str
    label: str
    random: bool
    custom: tuple[str, ...]
    headline: float | None
    half_width: float | None
    band: RankBand | None
    by_task: dict[str, float]
    by_dataset: dict[str, float]
    why_none: str
    contamination: dict[str, str]
    trust: Trust
    parameters: int | None
    macs: int | None
    cost_s: float | None
    unseen: float | None = None
    unseen_half_width: float | None = None


@dataclass(frozen=True)
class Standings:
    """One table.

    Attributes:
        tasks: that a headline averages; without a panel, all of the track that were run.
        shown: all of the suite's track that were run, those that got no scale included.
        panel: version of the reference panel; empty without one.
        rows: by band, alphabetical inside a band; then anchors, then rows without a headline.
        ranked: labels of rows with a band, in their order.
        sentence: `Tied for best: A, B.` or `No ranking yet: …`.
        adjusted_p: (K, K) of the differences of all pairs of `ranked`, Holm's over all pairs; empty where nothing is tested.
        pair_half_widths: (K, K) of the 95 % intervals of these differences, not corrected; NaN where two rows are off scale on one side.
        n_gone: backbones that were accepted for these tasks and are shown no more; bands and adjusted p are corrected for them too.
    """

    suite: str
    track: str
    geometry: str
    protocol: str
    scale: str
    phantom: bool
    tasks: tuple[str, ...]
    panel: str
    rows: tuple[Standing, ...]
    tied_for_best: tuple[str, ...]
    sentence: str
    adjusted_p: list[list[float]]
    ranked: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    pair_half_widths: list[list[float]] = field(default_factory=list)
    n_gone: int = 0

    def rows_in(self, rows: Iterable[Row]) -> list[Row]:
        """Those of a report's rows that the table shows."""
        place = (self.phantom, self.scale, self.protocol, self.geometry, self.track)
        return [row for row in rows if (row.phantom, row.scale, row.protocol, row.geometry, row.track) == place and row.task in self.shown]


def standings(rows: Iterable[Row], panels: Sequence[FrozenPanel] = (), gone: Sequence[Entry] = ()) -> list[Standings]:
    """All tables, real and full ones first; those of one board in the order of their suites and tracks.

    Args:
        panels: frozen ones, the newest of a suite last.
        gone: submissions that were accepted and are shown no more. Bands and pairs are corrected for them too.
    """
    boards: dict[tuple[bool, str, str, str], list[Row]] = {}
    for row in rows:
        boards.setdefault((row.phantom, row.scale, row.protocol, row.geometry), []).append(row)
    found = []
    for (phantom, scale, protocol, geometry), members in sorted(boards.items()):
        suited: set[int] = set()
        for suite in dict.fromkeys([*(row.suite for row in members if row.suite), *(panel.suite for panel in panels)]):
            tasks = _tasks_of(suite, members)
            mine = [row for row in members if row.task in tasks]
            suited |= {id(row) for row in mine}
            found += [_table(suite, track, geometry, protocol, scale, phantom, each, panels, gone) for track, each in _by_track(mine)]
        rest = [row for row in members if id(row) not in suited]
        found += [_table("", track, geometry, protocol, scale, phantom, each, (), ()) for track, each in _by_track(rest)]
    return found


def _tasks_of(suite: str, rows: Sequence[Row]) -> dict[str, None]:
    """Tasks that a suite ranks, in its order; of a suite that is not known here, those its rows were planned for."""
    card = tracks.suites().get(suite)
    if card is None:
        return dict.fromkeys(row.task for row in rows if row.suite == suite)
    return dict.fromkeys(card.core)


def _by_track(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    tracks: dict[str, list[Row]] = {}
    for row in rows:
        tracks.setdefault(row.track, []).append(row)
    order = ("linear-frozen", "head-frozen", "fine-tuned", "text")
    return sorted(tracks.items(), key=lambda each: (order.index(each[0]) if each[0] in order else len(order), each[0]))


def _table(
    suite: str,
    track: str,
    geometry: str,
    protocol: str,
    scale: str,
    phantom: bool,
    rows: Sequence[Row],
    panels: Sequence[FrozenPanel],
    gone: Sequence[Entry],
) -> Standings:
    fitting = [each for each in panels if (each.suite, each.protocol, each.phantom) == (suite, protocol, phantom)]
    frozen = fitting[-1] if fitting and scale == "full" and protocol != RELEASED else None
    panel = None if frozen is None else _of_track(frozen.as_panel(phantom=phantom), track, rows)
    why = LIMITED if scale != "full" else AS_PUBLISHED if protocol == RELEASED else NO_PANEL if panel is None else ""
    order = _tasks_of(suite, rows) if suite else {}
    run = dict.fromkeys(
        sorted({row.task for row in rows}, key=lambda task: (list(order).index(task) if task in order else len(order), task))
    )
    tasks = tuple(run) if panel is None else tuple(panel.by_task)
    entrants = contenders.read(rows, panel, _tasks_in(frozen))
    version = "" if frozen is None or panel is None else frozen.version
    ordered = tuple(sorted((_standing(one, why) for one in entrants), key=_alphabetical))
    none = f"No ranking yet: {why}."
    table = Standings(suite, track, geometry, protocol, scale, phantom, tasks, version, ordered, (), none, [], shown=tuple(run))
    return table if panel is None else _ranked(replace(table, n_gone=_ranked_once(gone, tasks, phantom=phantom)), entrants)


def _ranked_once(gone: Sequence[Entry], tasks: Sequence[str], *, phantom: bool) -> int:
    """Backbones of submissions that are shown no more, as far as they could have been ranked by these tasks."""
    levels = ([one.levels.get(task, Trust.REPORTED) for task in tasks] for one in gone)
    return sum(
        len(one.backbones) for one, mine in zip(gone, levels, strict=True) if one.phantom == phantom and not contenders.UNRANKED & {*mine}
    )


def _of_track(panel: Panel, track: str, rows: Sequence[Row]) -> Panel | None:
    """The panel's scales for one track; None where it has none. What no card knows has the track of the rows that ran it."""
    cards, run = tracks.tasks(), {row.task for row in rows}
    mine = [task for task in panel.by_task if (task_rules.track_of(cards[task]) == track if task in cards else task in run)]
    return panel.only(mine) if mine else None


def _tasks_in(frozen: FrozenPanel | None) -> Mapping[str, PanelTask]:
    """Task -> images, metric and version that a panel was measured on, where it says so."""
    return frozen.tasks if isinstance(frozen, PanelCard) else {}


def _ranked(table: Standings, entrants: Sequence[Contender]) -> Standings:
    """The table with its bands."""
    fits = contenders.comparable([one for one in entrants if one.headline is not None and not one.random and not one.unranked])
    ranked = sorted((one for one in entrants if one.label in fits), key=lambda one: (one.label.casefold(), one.label))
    headlines = [one.headline for one in ranked if one.headline is not None]
    pairs = all_pairs(headlines, _seeds(ranked))
    alone = len(ranked) == 1 and not pairs.untested
    untested = ALONE if alone else pairs.untested
    bands = dict(zip((one.label for one in ranked), _bands(headlines, pairs, table.n_gone, untested), strict=True))
    places = []
    for one in entrants:
        why = one.why_none or (UNTRAINED if one.random else one.unranked)
        if not why and one.label not in fits:
            why = "not ranked: other runs, test images or patients than most rows of the table"
        places.append(replace(_standing(one, why or (untested if bands.get(one.label) is None else "")), band=bands.get(one.label)))
    places.sort(key=lambda one: (one.headline is None, one.band is None, one.band and (one.band.best, one.band.worst), *_alphabetical(one)))
    order = [[one.label for one in ranked].index(place.label) for place in places if place.label in fits]
    known = {label: band for label, band in bands.items() if band is not None}
    tied = tuple(tied_for_best(list(known), list(known.values())))
    return replace(
        table,
        rows=tuple(places),
        tied_for_best=tied,
        sentence=_sentence(tied, f"only {ranked[0].label} may have a rank" if alone else untested or _nobody(entrants)),
        adjusted_p=holm_all_pairs(pairs.p_values, table.n_gone)[np.ix_(order, order)].tolist() if known else [],
        ranked=tuple(ranked[i].label for i in order) if known else (),
        pair_half_widths=pairs.half_widths[np.ix_(order, order)].tolist() if known else [],
    )


def _bands(headlines: Sequence[Headline], pairs: Pairs, n_gone: int, untested: str) -> Sequence[RankBand | None]:
    if untested:
        return [None] * len(headlines)
    return rank_bands([one.value for one in headlines], pairs.p_values, n_gone)


def _seeds(ranked: Sequence[Contender]) -> Seeds:
    """Runs are paired where the protocol gave run r of every row the same draws; else no pair is."""
    return "shared" if len({tuple(sorted(one.seeds.items())) for one in ranked}) <= 1 else "independent"


def _nobody(entrants: Sequence[Contender]) -> str:
    return "no backbone may have a rank" if any(one.headline is not None for one in entrants) else "no backbone has a headline"


def _sentence(tied: Sequence[str], why: str) -> str:
    """
    Args:
        why: there is no ranking, where nobody is tied for best.
    """
    if not tied:
        return f"No ranking yet: {why}."
    return f"Best: {tied[0]}." if len(tied) == 1 else f"Tied for best: {', '.join(tied)}."


def _standing(one: Contender, why: str) -> Standing:
    head = one.headline
    return Standing(
        backbone=one.backbone,
        label=one.label,
        random=one.random,
        custom=one.custom,
        headline=None if head is None else head.value,
        half_width=one.half_width,
        band=None,
        by_task=one.by_task,
        by_dataset=one.by_dataset,
        why_none="; ".join(filter(None, ("off scale: over a quarter of its tasks are clipped" if head and head.off_scale else "", why))),
        contamination=one.contamination,
        trust=one.trust,
        parameters=one.parameters,
        macs=one.macs,
        cost_s=one.cost_s,
        unseen=None if one.unseen is None else one.unseen.value,
        unseen_half_width=None if one.unseen is None else one.unseen.half_width,
    )


def _alphabetical(one: Standing) -> tuple:
    return (not one.random, one.label.casefold(), one.label)
