"""`lobe run`: an evaluation, its dry run and its forecast."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from benchmark.cli.app import app
from benchmark.cli.cluster import hand_over
from benchmark.cli.options import (
    AsJson,
    CacheOption,
    ContainerOption,
    DataOption,
    LayoutOption,
    OutOption,
    SplitOption,
    SplitsOption,
    one_of,
)
from benchmark.cli.show import err, out, plain, print_json, show_problems, show_rows, show_whole, word

TO_COMPUTE, TO_TAKE_OVER, NOT_KNOWN = "to compute", "to take over", "not known yet"
# Column of a dry run's table -> state of the jobs that it counts.
STATES = {"stored": "ok", "failed": "failed", TO_COMPUTE: TO_COMPUTE, TO_TAKE_OVER: TO_TAKE_OVER, NOT_KNOWN: NOT_KNOWN}


@app.command()
def run(
    backbone: Annotated[
        list[str], typer.Option("--backbone", "-b", help="SOURCE:MODEL[@WEIGHTS], CARD[@FILE] or file.py:function; repeatable.")
    ],
    container: ContainerOption = None,
    layout: LayoutOption = None,
    suite: Annotated[str | None, typer.Option("--suite", help="All tasks of a suite.")] = None,
    task: Annotated[list[str], typer.Option("--task", "-t", help="One task; repeatable.")] = [],  # noqa: B006
    data: DataOption = [],  # noqa: B006
    out_folder: OutOption = Path("lobe-out"),
    cache: CacheOption = None,
    cache_budget: Annotated[
        str | None,
        typer.Option("--cache-budget", help="Memory of a node for frozen features, like 4GB; beyond it disk. Default: 2GiB."),
    ] = None,
    executor: Annotated[str, typer.Option("--executor", help="ray or inline.")] = "ray",
    address: Annotated[
        str | None, typer.Option("--address", help="Ray cluster, like head:6379, or auto for the one running here. Default: this machine.")
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="auto, cpu or cuda; part of a job's identity. auto: cuda if a node of the cluster has a GPU.")
    ] = "auto",
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="As in `lobe list protocols`. Default: the suite's, or the first that all tasks offer.")
    ] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", help="Final runs per task. Default: the card's (5).")] = None,
    split: SplitOption = None,
    splits: SplitsOption = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Trial: at most N images per split; never ranked.")] = None,
    profile: Annotated[str, typer.Option("--profile", help="full, or smoke: a small step budget; never ranked.")] = "full",
    threads: Annotated[int, typer.Option("--threads", min=1, help="CPU threads of a job; part of its identity.")] = 1,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Compute failed jobs again.")] = False,
    no_tracking: Annotated[bool, typer.Option("--no-tracking", help="Without MLflow.")] = False,
    checkpoints: Annotated[
        Path | None, typer.Option("--checkpoints", help="Folder all nodes see: long jobs go on from there after a loss.")
    ] = None,
    workers_per_job: Annotated[
        int, typer.Option("--workers-per-job", min=1, help="Devices of one node that share the batches of a fine-tuning job.")
    ] = 1,
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="torch.compile what trains: minutes more when a job begins; docs/performance.md says what for."),
    ] = False,
    retries: Annotated[int, typer.Option("--retries", min=0, help="Of jobs whose process was lost.")] = 2,
    detach: Annotated[bool, typer.Option("--detach", help="Hand it to the cluster at --address and return; see lobe status.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would run, by task, with -v by job; compute nothing.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="List the jobs of a dry run, the files that travel to a cluster.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Evaluates backbones. Running the same command again resumes; when all is done it prints the finished table."""
    from benchmark.api import Request, plan_jobs
    from benchmark.encoders.naming import with_choices

    request = Request(
        backbones=with_choices(backbone, container=container, layout=layout),
        tasks=task,
        suite=suite,
        data=data,
        out=out_folder,
        cache=cache,
        cache_budget=cache_budget,
        executor=one_of("--executor", executor, ("ray", "inline")),
        address=address,
        device=one_of("--device", device, ("auto", "cpu", "cuda")),
        protocol=protocol,
        runs=seeds,
        limit=limit,
        profile=one_of("--profile", profile, ("full", "smoke")),
        threads=threads,
        split=split,
        splits=splits,
        retry_failed=retry_failed,
        tracking=not no_tracking,
        checkpoints=checkpoints,
        workers_per_job=workers_per_job,
        compiled=compiled,
        retries=retries,
        verbose=verbose,
    )
    if detach:
        hand_over(request, no_tracking, as_json, dry_run=dry_run)
        return
    if dry_run:
        planned = plan_jobs(request, hashing=False)
        _show_plan(planned, as_json, every_job=verbose or as_json)
        end_dry_run(planned, as_json)
    run_and_show(request, as_json, f"lobe report --out {word(out_folder)}")


def end_dry_run(planned, as_json: bool) -> NoReturn:
    """Says what a plan will take, below its table, and ends the verb."""
    from benchmark.api import by_arithmetic, forecast

    show_problems(planned.problems)
    if not as_json:
        out.print(plain(planned.equipment.sentence), soft_wrap=True)
        for text in planned.warnings:
            err.print(f"[yellow]note:[/] {plain(text)}", soft_wrap=True)
        out.print(_dry_summary(planned))
        _show_unhashed(planned)
        if planned.todo:
            _show_forecast(forecast(planned))
            out.print(by_arithmetic(planned).sentence, soft_wrap=True)
    raise typer.Exit(1 if planned.problems else 0)


def run_and_show(request, as_json: bool, next_step: str) -> None:
    """Evaluates under a bar and prints what came of it, the failures first; ends the verb with 1 where some job failed.

    Args:
        next_step: the command to give next.
    """
    from benchmark.api import costs_of, evaluate
    from benchmark.progress import Live

    with Live(err, quiet=as_json, costs=costs_of(request)) as live:
        evaluation = evaluate(request, live)
    _show_evaluation(evaluation, as_json, next_step)
    if evaluation.failures or evaluation.planned.problems:
        raise typer.Exit(1)


def _show_plan(planned, as_json: bool, *, every_job: bool) -> None:
    rows = [_job_row(job, planned) for job in planned.jobs]
    if every_job:
        show_rows(rows, as_json, ("task", "split", "backbone", "role", "run", "learning_rate", "waits_for", "state", "key"))
        return
    lines = tasks_of(rows)
    states = tuple(state for state in STATES if any(line[state] for line in lines))
    show_rows(lines, False, ("task", "split", "backbones", "searches", "runs", "jobs", *states))
    out.print("Every job, with its key: the same command with -v.")


def tasks_of(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line for each task and split of a plan in the order of its jobs, and at the end their total.

    Args:
        jobs: of `--json`: a dictionary a job, with its `task`, `split`, `backbone`, `role`, `state` and `custom`.
    """
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for job in jobs:
        grouped.setdefault((job["task"], job["split"]), []).append(job)
    lines = [{"task": task, "split": split, **_counted(mine)} for (task, split), mine in grouped.items()]
    return lines if len(lines) < 2 else [*lines, {"task": f"total of {len(lines)} tasks", "split": "", **_counted(jobs)}]


def _counted(jobs: list[dict[str, Any]]) -> dict[str, Any]:
    n_searches = sum(job["role"] == "selection" for job in jobs)
    states = Counter(job["state"] for job in jobs)
    return {
        "backbones": len({job["backbone"] for job in jobs}),
        "searches": n_searches,
        "runs": len(jobs) - n_searches,
        "jobs": len(jobs),
        **{title: states[state] for title, state in STATES.items()},
        "custom": list(dict.fromkeys(part for job in jobs for part in job["custom"])),
    }


def _job_row(job, planned) -> dict[str, Any]:
    """Without a key where the images that it depends on were not read yet; nobody knows then whether the job is stored."""
    e = job.experiment
    is_known = job.key not in planned.provisional
    state = planned.done.status(job.key) if job.key in planned.done else TO_COMPUTE if is_known else NOT_KNOWN
    if job.key in planned.earlier:
        state = TO_TAKE_OVER
    return {
        "task": job.labels.task,
        "split": e.dataset.split,
        "backbone": job.labels.backbone,
        "role": e.role.value,
        "run": job.labels.run_number,
        "learning_rate": e.learning_rate or (None if e.words else _searched_rate(e)),
        "waits_for": len(job.depends_on) or None,
        "device": e.device_type,
        "precision": e.precision,
        "state": state,
        "key": job.key if is_known else None,
        "custom": list(job.labels.custom),
    }


def _searched_rate(experiment) -> str:
    grid = ", ".join(f"{rate:g}" for rate in experiment.recipe.grid)
    return f"one step beyond {grid}, if its edge wins" if experiment.extends_grid else f"winner of {grid}"


def _dry_summary(planned) -> str:
    n_unknown, n_earlier = len(planned.provisional - planned.earlier), len(planned.earlier)
    counts = f"{len(planned.done)} stored, {planned.n_todo - n_unknown - n_earlier} to compute"
    unknown = f", {n_unknown} not known before their images are hashed or their weights are here" if n_unknown else ""
    earlier = f", {n_earlier} stored by an earlier release: taken over if their images are still the same" if n_earlier else ""
    return f"{len(planned.jobs)} jobs, {counts}{unknown}{earlier}."


def _show_unhashed(planned) -> None:
    from benchmark.progress import size_text

    for one in planned.unhashed:
        out.print(
            f"{one.dataset}: {one.n_files:,} image files ({size_text(one.n_bytes)}) are not hashed yet. The run does it first, once; "
            "only then do their jobs have keys.",
            soft_wrap=True,
        )


def _show_forecast(expected) -> None:
    from benchmark.progress import duration

    known = f"{expected.measured_jobs} of {expected.n_jobs} jobs measured before, the rest a rough guess"
    out.print(
        f"Expected with {expected.machine}: about {duration(expected.seconds)} ({known}); "
        f"longest chain {duration(expected.critical_path_s)}; {expected.device_hours:.1f} device-hours; "
        f"up to {expected.process_bytes / 2**30:.1f} GiB a process; {expected.disk_bytes / 2**20:.0f} MiB of predictions known so far."
    )


def _show_evaluation(evaluation, as_json: bool, next_step: str) -> None:
    planned = evaluation.planned
    show_problems(planned.problems)
    not_computed = evaluation.not_computed
    for record in evaluation.failures:
        assert record.failure is not None
        name = f"{record.job.labels.task} · {record.job.labels.backbone} · run {record.job.labels.run_number}"
        state = "not computed" if record in not_computed else "failed"
        err.print(f"[red]{state}:[/] {plain(name)}: {plain(record.failure.sentence)}", soft_wrap=True)
    if evaluation.tracking_problem:
        err.print(f"[yellow]tracking:[/] {plain(evaluation.tracking_problem)}", soft_wrap=True)
    from benchmark.report import resampling
    from benchmark.report.rows import rows_of
    from benchmark.report.tables import to_dicts, to_rich

    rows = rows_of(evaluation.results, planned=planned.jobs, resampled=resampling.of_records(evaluation.results, planned.request.out))
    if as_json:
        counts = {"computed": evaluation.computed, "stored": len(planned.done), "not_computed": [r.key for r in not_computed]}
        print_json({**counts, **to_dicts(rows)})
        return
    show_whole(out, to_rich(rows))
    out.print(f"{evaluation.computed} jobs computed, {len(planned.done)} already stored in {plain(str(planned.request.out))}.")
    if not_computed:
        out.print(f"{len(not_computed)} not computed, for want of memory, disk or a device: the same command computes them again.")
    out.print(f"Next: {next_step}", soft_wrap=True)
