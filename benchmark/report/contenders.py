"""What a backbone brings to a table: its rows on the table's tasks, the headline that follows, and what keeps it from having one.

Nothing here compares two backbones, except that all of a table must have been tested alike to be compared at all (`comparable`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmark import registry
from benchmark.cards import Contamination, PanelTask
from benchmark.report import tracks
from benchmark.report.rows import Row
from benchmark.statistics.headline import SEEN, Z_LIMIT, Headline, Measured, half_widths, headline, uneven, why_no_headline
from benchmark.statistics.panel import Panel
from benchmark.submission.trust import Trust, lowest

OWN_RULES = (
    "task",
    "dataset",
    "protocol",
    "prompts",
)  # cards of one's own that make a number another one; a backbone of one's own does not

# Whoever sends statistics alone may have chosen the best of many runs, or made them up: somebody who holds the images has to look.
UNRANKED = frozenset({Trust.REPORTED, Trust.RECOMPUTED})
NOT_SCORED_AGAIN = "not ranked: nobody who holds the images scored its predictions again"


@dataclass(frozen=True)
class Contender:
    """One backbone on the tasks of a table.

    Attributes:
        headline: None where a task is missing, was seen, has no statistics per image, or has other runs than its dataset's other tasks.
        half_width: of the headline.
        unseen: over the tasks that pretraining did not see, where it saw some and not all.
        why_none: why there is no headline, a clause.
        unranked: why it has no rank although it has a headline, a clause; empty where it may have one.
        by_task, by_dataset: z, of what there is.
        seeds: task -> (run, head seed, order seed) of each run.
        tests: task -> digest of the test images and their patients.
    """

    backbone: str
    label: str
    random: bool
    custom: tuple[str, ...]
    headline: Headline | None
    half_width: float | None
    unseen: Headline | None
    why_none: str
    unranked: str
    by_task: dict[str, float]
    by_dataset: dict[str, float]
    contamination: dict[str, str]
    trust: Trust
    parameters: int | None
    macs: int | None
    cost_s: float | None
    seeds: dict[str, tuple]
    tests: dict[str, str]


def read(rows: Sequence[Row], panel: Panel | None, frozen: Mapping[str, PanelTask] | None = None) -> list[Contender]:
    """One for each label, in the order of their first rows.

    Args:
        rows: of one track, protocol, geometry, scale and kind of data.
        panel: of exactly the tasks that are averaged; None where nothing is.
        frozen: task -> what the panel was measured on; rows of other images, another metric or another version of the task are not
            measured by its scale.
    """
    split_of = _splits(rows, frozen or {})
    by_label: dict[str, list[Row]] = {}
    settings: dict[tuple[str, str], dict[str, set[str]]] = {}
    for row in rows:
        by_label.setdefault(row.label, []).append(row)
        if row.split == split_of[row.task] and row.mean is not None:
            settings.setdefault((row.backbone, row.network), {}).setdefault(row.task, set()).add(row.settings)
    found = [
        _contender(label, mine, split_of, panel, frozen or {}, settings.get((mine[0].backbone, mine[0].network), {}))
        for label, mine in by_label.items()
    ]
    # All intervals at once: one alone takes as long as a hundred.
    known = [one.headline for one in found if one.headline is not None]
    half_of = dict(zip(map(id, known), half_widths(known), strict=True))
    return [one if one.headline is None else replace(one, half_width=half_of[id(one.headline)]) for one in found]


def comparable(contenders: Sequence[Contender]) -> set[str]:
    """Labels of those with a headline whose numbers of runs, test images and patients are those of most; only these can be subtracted."""
    kinds = {one.label: (one.headline.shape, tuple(sorted(one.tests.items()))) for one in contenders if one.headline is not None}
    counted = Counter(kinds.values())
    if not counted:
        return set()
    most = min((-count, kind) for kind, count in counted.items())[1]
    return {label for label, kind in kinds.items() if kind == most}


def _splits(rows: Sequence[Row], frozen: Mapping[str, PanelTask]) -> dict[str, str]:
    """Task -> the split that counts: the one that most rows ran on. Where some ran on the panel's own images, no other row has a say."""
    own = {row.task for row in rows if _is_on_images(row, frozen)}
    splits: dict[str, Counter[str]] = {}
    for row in rows:
        if row.task not in own or _is_on_images(row, frozen):
            splits.setdefault(row.task, Counter())[row.split] += 1
    return {task: min((-count, split) for split, count in found.items())[1] for task, found in splits.items()}


def _is_on_images(row: Row, frozen: Mapping[str, PanelTask]) -> bool:
    scale = frozen.get(row.task)
    return scale is not None and scale.dataset_digest == row.dataset_digest


def _is_of_scale(row: Row, frozen: Mapping[str, PanelTask]) -> bool:
    """Whether a row is of the metric and version that a panel measured. One that names no version is of the version of today's card."""
    scale, card = frozen.get(row.task), tracks.tasks().get(row.task)
    if scale is None:
        return True
    version = scale.task_version if scale.task_version is not None or card is None else card.version
    return row.metric == scale.metric and version in (None, row.task_version)


def _contender(
    label: str,
    rows: Sequence[Row],
    split_of: Mapping[str, str],
    panel: Panel | None,
    frozen: Mapping[str, PanelTask],
    settings: Mapping[str, Collection[str]],
) -> Contender:
    """
    Args:
        settings: task -> settings under which the contender's network was measured, under any label.
    """
    cells = {row.task: row for row in rows if row.split == split_of[row.task] and (panel is None or row.task in panel.by_task)}
    shown = cells or {row.task: row for row in rows}
    head, unseen, why, by_task, by_dataset = None, None, "", {}, {}
    if panel is not None:
        measured = {task: found for task, row in cells.items() if (found := _measured(row)) is not None}
        run = [task for task in panel.by_task if task in cells]
        strange = [task for task in run if task in frozen and not _is_on_images(cells[task], frozen)]
        odd = [task for task in run if not _is_of_scale(cells[task], frozen)]
        scaled = {task: row for task, row in cells.items() if task not in (*strange, *odd)}
        by_task = {
            task: float(np.clip(panel.by_task[task].z(np.array(row.mean)), -Z_LIMIT, Z_LIMIT)) for task, row in _in_order(scaled, panel)
        }
        by_dataset = _by_dataset(by_task, cells, panel)
        seen = {task: Contamination(row.contamination) for task, row in cells.items()}
        off_split = {row.task for row in rows if row.mean is not None} - set(cells)
        why = _why_none(cells, measured, panel, seen, settings, off_split)
        if strange:
            why = f"{why or 'no headline'}; on other images than the panel: {', '.join(strange)}"
        if odd:
            why = f"{why or 'no headline'}; of another version or metric than the panel: {', '.join(odd)}"
        if not why:
            head = headline(measured, panel, sources=sources())
        clean = [task for task in panel.by_task if task not in seen or seen[task] not in SEEN]
        of_clean = {task: measured[task] for task in clean if task in measured and task in scaled}
        if 0 < len(of_clean) == len(clean) < len(panel.by_task) and not uneven(of_clean):
            unseen = headline(of_clean, panel.only(clean), sources=sources())
    own = [part for part in OWN_RULES if any(part in row.custom for row in rows)]
    trust = lowest(row.trust for row in shown.values())
    costs = [row.cost for row in shown.values() if row.cost is not None]
    return Contender(
        backbone=rows[0].backbone,
        label=label,
        random=any(row.random for row in rows),
        custom=tuple(dict.fromkeys(part for row in rows for part in row.custom)),
        headline=head,
        half_width=None,
        unseen=unseen,
        why_none=why,
        unranked=f"not ranked: custom {', '.join(own)}" if own else NOT_SCORED_AGAIN if trust in UNRANKED else "",
        by_task=by_task,
        by_dataset=by_dataset,
        contamination={task: row.contamination for task, row in shown.items()},
        trust=trust,
        parameters=next((cost.encoder_parameters for cost in costs if cost.encoder_parameters is not None), None),
        macs=next((cost.encoder_macs for cost in costs if cost.encoder_macs is not None), None),
        cost_s=sum(cost.seconds for cost in costs) if costs else None,
        seeds={task: row.seeds for task, row in cells.items()},
        tests={task: row.resampled.test for task, row in cells.items() if row.resampled is not None},
    )


def _in_order(cells: Mapping[str, Row], panel: Panel) -> list[tuple[str, Row]]:
    return [(task, cells[task]) for task in panel.by_task if task in cells and cells[task].mean is not None]


def _by_dataset(by_task: Mapping[str, float], cells: Mapping[str, Row], panel: Panel) -> dict[str, float]:
    """Of datasets on which every task of the panel was measured; what no row ran has the dataset of its card."""
    cards, of = tracks.tasks(), {task: row.dataset for task, row in cells.items()}
    dataset_of = {task: of.get(task) or (cards[task].dataset if task in cards else task) for task in panel.by_task}
    tasks_of: dict[str, list[str]] = {}
    for task, dataset in dataset_of.items():
        tasks_of.setdefault(dataset, []).append(task)
    return {name: float(np.mean([by_task[t] for t in tasks])) for name, tasks in tasks_of.items() if all(t in by_task for t in tasks)}


def _why_none(
    cells: Mapping[str, Row],
    measured: Mapping[str, Measured],
    panel: Panel,
    seen: Mapping[str, Contamination],
    settings: Mapping[str, Collection[str]],
    off_split: Collection[str],
) -> str:
    """Names every task that keeps a row from a headline, by what it lacks.

    Args:
        settings: as of `_contender`.
        off_split: tasks that the row has on another split alone.
    """
    whole = [task for task in panel.by_task if task in cells and cells[task].mean is not None]
    several = [task for task in panel.by_task if len(settings.get(task, ())) > 1]
    # Each setting has a label of its own, and the tasks that ran under one alone have a further one.
    apart = [task for task in panel.by_task if several and task in settings and task not in whole]
    elsewhere = [task for task in panel.by_task if task in off_split and task not in apart]
    lone = [task for task in whole if cells[task].drawn and len(cells[task].values) < 2]
    blind = [task for task in whole if task not in measured and task not in lone]
    told = [why_no_headline([*whole, *apart, *elsewhere], panel, seen)]
    told += [f"measured under several settings: {', '.join(several)}"] * bool(apart)
    told += [f"measured on another split: {', '.join(elsewhere)}"] * bool(elsewhere)
    told += [f"one run: {', '.join(lone)}"] * bool(lone) + [f"no resamples of the test patients: {', '.join(blind)}"] * bool(blind)
    told += [f"other runs or test patients within {name}: {_sizes(tasks, measured)}" for name, tasks in uneven(measured).items()]
    said = "; ".join(filter(None, told))
    return said if not said or said.startswith("no headline") else f"no headline; {said}"


def _sizes(tasks: Sequence[str], measured: Mapping[str, Measured]) -> str:
    return ", ".join(f"{task} ({len(measured[task].runs)} runs, {measured[task].n_patients} patients)" for task in tasks)


def _measured(row: Row) -> Measured | None:
    """None without a mean, or without what other test patients would have given."""
    spread = row.resampled
    if row.cell is None or spread is None or not row.cell.covers_patients:
        return None
    drawn = spread.mean
    defined = ~np.isnan(drawn)
    # The few resamples that leave the metric undefined move nothing.
    drawn = np.where(defined, drawn, drawn[defined].mean())
    return Measured(row.dataset, np.array(row.values), drawn, spread.n_clusters, _patients_of(row), row.drawn, row.n_with_finding)


def _patients_of(row: Row) -> str:
    """Name of the list that a dataset's patients are on: of the release that names them, or of its own release, which may have other cards.
    Where images are resampled it is always its own."""
    card = registry.datasets().get(row.dataset)
    if card is None:
        return ""
    return card.patients_of if card.patients_of and row.resampled is not None and row.resampled.by_patient else card.folder


def sources() -> Mapping[str, str]:
    """Dataset -> family of releases that were drawn from one collection of images."""
    return {name: card.family for name, card in registry.datasets().items()}
