"""`lobe study`: pretraining methods on equal terms, from recipes to one report."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark.cli.app import app
from benchmark.cli.options import CacheOption, DataOption, one_of
from benchmark.cli.show import err, out, plain, progress_bar, show_problems, show_rows


@app.command()
def study(
    card: Annotated[Path, typer.Argument(metavar="STUDY", help="A study's file, or the name of a shipped one: phantom.")],
    data: DataOption = [],  # noqa: B006
    to: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for backbones, results and the report; the same call again goes on.")
    ] = Path("lobe-study"),
    cache: CacheOption = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Pretrainings at a time, a process each.")] = 1,
    threads: Annotated[int, typer.Option("--threads", min=1, help="CPU threads of a pretraining or job; part of its identity.")] = 1,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
    executor: Annotated[str, typer.Option("--executor", help="Of the evaluation: ray or inline.")] = "ray",
    no_tracking: Annotated[bool, typer.Option("--no-tracking", help="Without MLflow.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the pretrainings, what is made, and how long the rest takes.")] = False,
) -> None:
    """Pretrains methods at an equal budget, evaluates every backbone, and reports what holds of their claims and what does not."""
    from benchmark.study import reading

    study_card = reading.read(card)
    from benchmark.study import running

    asked = running.Asked(
        data=data,
        out=to,
        cache=cache,
        workers=workers,
        threads=threads,
        device=one_of("--device", device, ("cpu", "cuda")),
        executor=one_of("--executor", executor, ("ray", "inline")),
        tracking=not no_tracking,
    )
    if dry_run:
        _show_plan(study_card, asked)
        return
    found = _run(study_card, asked)
    failed = found.making.failed
    for label, why in failed.items():
        err.print(f"[red]failed:[/] {plain(label)}: {plain(why)}", soft_wrap=True)
    failures = [record for one in found.evaluations for record in one.failures]
    for one in found.evaluations:
        show_problems(one.planned.problems)
    for record in failures:
        assert record.failure is not None
        names = record.job.labels
        err.print(f"[red]failed:[/] {plain(f'{names.task} · {names.backbone}: {record.failure.sentence}')}", soft_wrap=True)
    from benchmark.study import page

    out.print(f"Report: {plain(str(page.write(found, to)))}", soft_wrap=True)
    if failed or failures:
        raise typer.Exit(1)


def _show_plan(card: Any, asked: Any) -> None:
    from benchmark.progress import duration
    from benchmark.study import reading, running
    from benchmark.study.made import lies_there

    members, costs = running.planned(card, asked)
    made = {one.label for one in members if lies_there(one, asked.out)}
    rows = [
        {
            "pretraining": one.label,
            "as": one.role,
            "pairs": one.keeps[-1],
            "kept_after": ", ".join(f"{n:,}" for n in one.keeps[:-1]) or None,
            "state": "made" if one.label in made else "to make",
        }
        for one in members
    ]
    show_rows(rows, False, ("pretraining", "as", "pairs", "kept_after", "state"))
    n_backbones = 1 + sum(sum(pairs > 0 for pairs in one.keeps) for one in members)
    tasks = reading.tasks_of(card)
    evaluated = f"{n_backbones} backbones known so far, on {len(tasks)} tasks, {card.evaluation.runs} runs each"
    out.print(f"{len(members)} pretrainings, {len(made)} made; {evaluated}.")
    expected = running.forecast_s([one for one in members if one.label not in made], costs, asked.workers)
    if expected is None or not costs:
        out.print("How long it takes is measured when a run begins; after that a dry run says it.")
    else:
        out.print(f"Pretraining what is missing takes about {duration(expected)} with {asked.workers} at a time.")


def _run(card: Any, asked: Any) -> Any:
    from benchmark.progress import Live, duration
    from benchmark.study import running

    with contextlib.ExitStack() as bars:
        pretraining: list[Callable[[int, int], None]] = []

        class Told:
            def measuring(self, recipe: str, number: int, of: int) -> None:
                err.print(f"measuring what a pair costs {plain(recipe)} ({number + 1} of {of})")

            def measured(self, forecast_s: float, n_made: int, n_members: int) -> None:
                left = f"; the rest takes about {duration(forecast_s)} with {asked.workers} at a time" if n_made < n_members else ""
                err.print(f"{n_members} pretrainings, {n_made} lie there{left}.", soft_wrap=True)
                pretraining.append(bars.enter_context(progress_bar("pairs", False)))

            def pretrained(self, pairs: int, of: int) -> None:
                pretraining[0](pairs, of)

            def ended(self, label: str, sentence: str, number: int, of: int, left_s: float | None) -> None:
                left = f"; about {duration(left_s)} left" if left_s and number < of else ""
                err.print(f"{number} of {of}: {plain(label)} {plain(sentence.rstrip('.'))}{left}.", soft_wrap=True)

            def evaluating(self) -> Any:
                bars.close()
                return bars.enter_context(Live(err))

        return running.run(card, asked, Told())
