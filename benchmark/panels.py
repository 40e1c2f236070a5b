"""How a reference panel comes about: the backbones of its line-up, measured like any others, then frozen from what is stored.

A panel decides how far apart two scores are for everybody, so it is frozen from complete, full, real rows alone and says what it is made
of. What a panel is: `benchmark.cards.panels`; what its scale means: `benchmark.statistics.panel`.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from benchmark import extras, registry
from benchmark import planned as planned_jobs
from benchmark.cards import BackboneCard, Job, LineupCard, PanelCard, PanelRow, PanelTask, Record
from benchmark.encoders import naming
from benchmark.errors import UsageError
from benchmark.metrics import spec
from benchmark.report import resampling
from benchmark.report.rows import ResampledOf, Row, is_of, rows_of
from benchmark.shelf import Shelf
from benchmark.statistics.difference import differences
from benchmark.statistics.headline import SEEN
from benchmark.statistics.levels import Seeds
from benchmark.statistics.panel import FEWEST_RELIABLE, freeze_panel, reliability
from benchmark.stored_results import believable

AnyValue = TypeVar("AnyValue")


def backbones_of(lineup: LineupCard, weights: Path | None) -> list[str]:
    """Names of a line-up's backbones as a request takes them: the panel's own, then its anchors.

    Args:
        weights: folder of the files that cards ask for, as `<card>/<file>` or `<file>`; without its file a card keeps its plain name.
    """
    names = dict.fromkeys([*lineup.backbones, *lineup.anchors.values()])
    return [_with_file(name, weights) for name in names]


def frozen(
    out: Path, version: str, suite: str, *, protocol: str | None = None, lineup: str = "", without: Collection[str] = ()
) -> PanelCard:
    """The panel of what an output folder holds, as far as a report would believe it; written nowhere. Arguments as of `freeze`.

    Raises:
        UsageError: as `freeze`.
        StoreError: what was planned in the folder cannot be read.
    """
    records, damaged = believable(Shelf(out))
    return freeze(
        records,
        version,
        suite,
        resampled=resampling.of_records(records, out),
        planned=planned_jobs.read(out),
        refused=[one.key for one in damaged],
        protocol=protocol,
        lineup=lineup,
        without=without,
    )


def freeze(
    records: Iterable[Record],
    version: str,
    suite: str,
    *,
    resampled: ResampledOf,
    planned: Iterable[Job] = (),
    refused: Collection[str] = (),
    protocol: str | None = None,
    lineup: str = "",
    without: Collection[str] = (),
) -> PanelCard:
    """A panel from records: median and spread of each task over all trained rows.

    A task enters where at least 0.7 of the spread between rows is no chance; the others are named with the reason.

    Args:
        suite: every row needs all tasks of its core.
        resampled: record -> its test score in resamples of the patients.
        planned: jobs that were to run: what they leave missing is a gap.
        refused: keys of stored records that may not be believed.
        protocol: None takes the suite's.
        lineup: that was measured; the panel names it where every trained row is one of its backbones.
        without: rows to leave out, by their name in tables.

    Raises:
        UsageError: the version exists; rows are too few, incomplete, limited, of one run, of other data, metrics or versions of a task
            than the rest, of cards of the user's own, or of backbones whose pretraining has or may have seen a task's images; or no task is
            reliable.
    """
    if version in registry.panels():
        raise UsageError(f"The panel {version!r} is frozen already, and rows were ranked by it. Freeze under another version.")
    card = registry.suite(suite)
    protocol = protocol or card.default_protocol
    by_key = {record.key: record for record in records if record.job.labels.task in card.core}
    found = rows_of(by_key.values(), planned=[j for j in planned if j.labels.task in card.core], resampled=resampled, refused=refused)
    rows = _rows(found, card.core, protocol)
    _require_known(without, rows)
    rows = {name: by_task for name, by_task in rows.items() if name not in without}
    _require_whole(rows, card.core)
    phantom = _one({row.phantom for by_task in rows.values() for row in by_task.values()}, "phantom and real images")
    if not phantom:
        _require_clean(rows)

    trained = {name: by_task for name, by_task in rows.items() if not any(row.random for row in by_task.values())}
    scores = {name: {task: row.mean for task, row in by_task.items() if row.mean is not None} for name, by_task in trained.items()}
    falling = {task for task in card.core if not spec.rises(registry.task(task).report)}
    freeze_panel(scores, ())  # told first: too few rows
    scales, left_out = {}, {}
    for task in card.core:
        column = [by_task[task] for by_task in trained.values()]
        metric, task_version = _one({(row.metric, row.task_version) for row in column}, f"other metrics or versions of {task}")
        try:
            sure = reliability([scores[name][task] for name in trained], _variances(column))
            if sure < FEWEST_RELIABLE:
                left_out[task] = f"only {sure:.2f} of the spread between rows is no chance; {FEWEST_RELIABLE} are needed"
                continue
            scale = freeze_panel({name: {task: by_task[task]} for name, by_task in scores.items()}, (), falling).by_task[task]
        except UsageError as error:
            left_out[task] = str(error).rstrip(".")
            continue
        digest = _one({by_key[run.key].job.experiment.dataset.digest for row in column for run in row.runs}, f"other files of {task}")
        scales[task] = PanelTask(
            metric=metric,
            dataset_digest=digest,
            median=scale.median,
            iqr=scale.iqr,
            rises=scale.rises,
            reliability=sure,
            task_version=task_version,
        )
    if not scales:
        raise UsageError(f"No task gives a scale. {'; '.join(f'{task}: {why}' for task, why in left_out.items())}.")
    panel_rows = tuple(_panel_row(name, by_task, by_key) for name, by_task in trained.items())
    return PanelCard(
        version=version,
        suite=suite,
        lineup=lineup if lineup and _are_of(registry.lineup(lineup), panel_rows, trained) else "",
        protocol=protocol,
        phantom=phantom,
        tasks=scales,
        left_out=left_out,
        rows=panel_rows,
        made_by=extras.release(),
        frozen_on=datetime.now(UTC).date().isoformat(),
    ).sealed()


def _with_file(name: str, weights: Path | None) -> str:
    file = naming.file_asked_for(registry.backbones()[name]) if name in registry.backbones() else None
    if file is None or weights is None:
        return name
    places = (weights / name / file, weights / file)
    return next((f"{name}@{place}" for place in places if place.is_file()), name)


def _rows(rows: Iterable[Row], tasks: Sequence[str], protocol: str) -> dict[str, dict[str, Row]]:
    """Name -> task -> row, of full runs under the protocol on the tasks' own splits."""
    of_protocol = [row for row in rows if row.protocol == protocol]
    found: dict[str, dict[str, Row]] = {}
    for row in of_protocol:
        if row.scale == "full" and row.split == registry.task(row.task).split:
            found.setdefault(row.label, {})[row.task] = row
    if not found:
        known = "only limited rows, which rank nothing" if any(row.scale == "limited" for row in of_protocol) else "no rows"
        raise UsageError(f"There are {known} of these tasks under the protocol {protocol!r}. `lobe panel run` measures some.")
    return {name: {task: by_task[task] for task in tasks if task in by_task} for name, by_task in found.items()}


def _require_known(without: Collection[str], rows: Mapping[str, object]) -> None:
    strange = sorted(set(without) - set(rows))
    if strange:
        raise UsageError(f"No row is called {', '.join(map(repr, strange))}; there are {', '.join(map(repr, rows))}.")


def _require_whole(rows: Mapping[str, Mapping[str, Row]], tasks: Sequence[str]) -> None:
    """A panel has no gaps, and every interval needs a second run."""
    faults = []
    for name, by_task in rows.items():
        gaps = [f"{task} ({by_task[task].missing if task in by_task else 'not measured'})" for task in tasks if _has_gap(by_task.get(task))]
        gaps += [f"{task} (one run)" for task, row in by_task.items() if row.mean is not None and len(row.values) < 2]
        gaps += [
            f"{task} (measured with {' and '.join(own)} of your own)"
            for task, row in by_task.items()
            if (own := [part for part in row.custom if part != "backbone"])
        ]
        if gaps:
            faults.append(f"  - {name}: {', '.join(gaps)}")
    if faults:
        raise UsageError("\n".join(["A panel has no gaps. Measure these, or leave the rows out with --without:", *faults]))


def _has_gap(row: Row | None) -> bool:
    return row is None or row.mean is None


def _require_clean(rows: Mapping[str, Mapping[str, Row]]) -> None:
    """A row that has seen the test images would move the scale for all that have not."""
    faults = []
    for name, by_task in rows.items():
        leaked = [f"{task} ({row.contamination})" for task, row in by_task.items() if not row.random and row.contamination in SEEN]
        if leaked:
            faults.append(f"  - {name}: {', '.join(leaked)}")
    if faults:
        raise UsageError("\n".join(["Pretraining has or may have seen the images of a task. Leave these out with --without:", *faults]))


def _one(values: Collection[AnyValue], said: str) -> AnyValue:
    if len(values) > 1:
        raise UsageError(f"The rows are of {said}; a panel is of one kind. Freeze it from an output folder of its own.")
    return next(iter(values))


def _variances(column: Sequence[Row]) -> list[float]:
    """V = V_seed + V_patient of the differences between all pairs of rows on a task.

    Raises:
        UsageError: a row has no statistics per image, or other test images than the rest, or no variance over patients is known.
    """
    for row in column:
        if row.resampled is None:
            raise UsageError(f"{row.label} has no statistics per image, so that its chance is not known.")
    if len({row.resampled.test for row in column if row.resampled is not None}) > 1:
        raise UsageError("Its rows were tested on different images.")
    found = differences((a.scores, b.scores, _seeds(a, b)) for a, b in itertools.combinations(column, 2))
    if not all(one.covers_patients for one in found):
        raise UsageError("Too few resamples of its test patients define the metric, so that their chance is not known.")
    return [sum(level.variance for level in one.levels) for one in found]


def _seeds(first: Row, second: Row) -> Seeds:
    return "shared" if first.seeds == second.seeds else "independent"


def _are_of(lineup: LineupCard, rows: Iterable[PanelRow], trained: Mapping[str, Mapping[str, Row]]) -> bool:
    """Whether every row is a backbone that the line-up names; trained anchors are measured with it."""
    known = registry.backbones()
    cards = [known[name] for name in (*lineup.backbones, *lineup.anchors.values()) if name in known]
    return all(any(_is_of(card, next(iter(trained[row.backbone].values())), row.digest) for card in cards) for row in rows)


def _is_of(card: BackboneCard, row: Row, digest: str) -> bool:
    """Whether a row is of a card's own weights, to the bit where the card says which these are."""
    return is_of(row, card) and (not card.digest.startswith("sha256:") or card.digest == f"sha256:{digest}")


def _panel_row(name: str, by_task: Mapping[str, Row], by_key: Mapping[str, Record]) -> PanelRow:
    first = by_key[next(iter(by_task.values())).runs[0].key]
    return PanelRow(
        backbone=name,
        digest=first.job.experiment.backbone.digest or "",
        scores={task: row.mean for task, row in by_task.items() if row.mean is not None},
        records={task: tuple(run.key for run in row.runs) for task, row in by_task.items()},
    )
