"""Whether a submission holds all that its suite asks for: every task, every run, every search. One lucky run is no result."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from benchmark import registry
from benchmark.cards import Record, Role, TaskCard, canonical_json
from benchmark.rate_search import BASE_SEED, beyond, choice_of, chosen, is_out, try_of

Group = tuple[str, str, str, str, int]  # backbone's label and digest, task, protocol, version of the task


def missing_from(records: Sequence[Record], suite: str | None) -> list[str]:
    """What is not there, a sentence each: tasks of the suite, runs of a task, searches that a run's learning rate comes from."""
    groups, found = _groups(records), []
    if suite is not None and suite in registry.suites():
        wanted = registry.suite(suite).tasks
        for backbone in sorted({group[:2] for group in groups}):
            done = {group[2] for group in groups if group[:2] == backbone}
            if absent := [task for task in wanted if task not in done]:
                found.append(f"{backbone[0]}: {len(absent)} of {len(wanted)} tasks of {suite} are missing: {_some(absent)}.")
    there = {record.key for record in records}
    return found + [sentence for group, members in sorted(groups.items()) for sentence in _gaps(group, members, there)]


def incomplete_tasks(records: Sequence[Record]) -> list[str]:
    """Tasks of which runs, or runs of the search, are missing. Tasks that are missing altogether are none of them: they have no row."""
    there = {record.key for record in records}
    return sorted({group[2] for group, members in _groups(records).items() if _gaps(group, members, there)})


def odd_runs(records: Sequence[Record]) -> list[str]:
    """What no honest evaluation gives, a sentence each: a run twice, a seed of another run, a rate that is not the best of its search."""
    by_key, found = {record.key: record for record in records}, []
    for (label, _, task, *_), members in sorted(_groups(records).items()):
        runs = [record.job.labels.run for record in members]
        if len(set(runs)) != len(runs):
            found.append(f"{label} on {task}: a run is there twice, with different jobs.")
        for record in members:
            experiment = record.job.experiment
            if experiment.words is None and experiment.head_seed != BASE_SEED + record.job.labels.run:
                found.append(f"{label} on {task}: run {record.job.labels.run_number} has the seed of another run.")
            if fault := _fault_of_rate(record, by_key):
                found.append(f"{label} on {task}: run {record.job.labels.run_number} trained with {record.learning_rate:g}, {fault}.")
    return found


def equal_runs(records: Sequence[Record]) -> list[str]:
    """Runs of different seeds with the same metrics to the last bit, a sentence each: one run sent several times, or nothing trained."""
    found = []
    for (label, _, task, *_), members in sorted(_groups(records).items()):
        trained = [record for record in members if record.job.experiment.words is None]
        distinct = {canonical_json(record.metrics) for record in trained}
        if len(distinct) < len(trained):
            found.append(f"{label} on {task}: {len(trained)} runs of different seeds have {len(distinct)} different results.")
    return found


def _groups(records: Iterable[Record]) -> dict[Group, list[Record]]:
    """Final runs that belong to one row."""
    groups: dict[Group, list[Record]] = defaultdict(list)
    for record in records:
        experiment, labels = record.job.experiment, record.job.labels
        if experiment.role is Role.FINAL:
            group = (labels.backbone, experiment.backbone.digest or "random", labels.task, labels.protocol, experiment.task_version)
            groups[group].append(record)
    return groups


def _gaps(group: Group, members: Sequence[Record], there: Collection[str]) -> list[str]:
    """What is not there of the final runs of one row and of the searches they wait for, a sentence each; `there`: all keys."""
    label, _, task, *_ = group
    runs = sorted(record.job.labels.run_number for record in members)
    n_runs, found = _n_runs(registry.tasks().get(task), members), []
    if absent := [str(run) for run in range(1, n_runs + 1) if run not in runs]:
        found.append(f"{label} on {task}: run {_some(absent)} of {n_runs} is missing.")
    waits_for = {key for record in members for key in record.job.depends_on}
    if lost := [key for key in waits_for if key not in there]:
        found.append(f"{label} on {task}: {len(lost)} of {len(waits_for)} runs of its learning-rate search are missing.")
    return found


def _n_runs(task: TaskCard | None, members: Sequence[Record]) -> int:
    """Runs that the task asks for; a task that trains nothing is answered once by fixed weights."""
    if task is None:
        return len(members)
    fixed = all(record.job.experiment.backbone.digest is not None for record in members)
    return 1 if task.words is not None and fixed else task.runs


def _fault_of_rate(record: Record, by_key: Mapping[str, Record]) -> str:
    """Why a whole search on record does not give the rate of a run, as a clause; empty where it does, or the search is not known."""
    searched = [by_key[key] for key in record.job.depends_on if key in by_key]
    grid, switches = record.job.experiment.recipe.grid, record.job.experiment.switches
    if not grid or record.learning_rate is None or len(searched) != len(record.job.depends_on):
        return ""
    known = all(one.status == "ok" or is_out(one) for one in searched)
    made = choice_of(grid, [try_of(one) for one in searched if not one.not_needed]) if known else None
    if made is None:
        return ""
    best = chosen(made)
    if switches.grid_edge == "extended" and made.beyond is None and beyond(grid, best) is not None:
        return f"and its search stopped at {best:g}, on the edge of the grid"
    return "" if record.learning_rate == best else f"the search gives {best:g}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
