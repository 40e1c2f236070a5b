"""Code and cards of one's own: `lobe validate-cards`, and `lobe new task`, `head`, `metric`, `reader` and `prompts`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli.app import app
from benchmark.cli.new import new_app
from benchmark.cli.options import AsJson
from benchmark.cli.show import err, out, plain, print_json

if TYPE_CHECKING:
    from benchmark.scaffold.own_files import Started

Name = Annotated[str, typer.Argument(help="Its name.")]
Folder = Annotated[Path, typer.Option("--out", help="Folder of your own, as --include takes it.")]
MINE = Path("mine")


@app.command("validate-cards")
def validate_cards(
    folder: Annotated[Path, typer.Argument(help="Folder of your own, as --include takes it.")], as_json: AsJson = False
) -> None:
    """Everything that is wrong with a folder of your own, cards and code, at once, with file and line."""
    from dataclasses import asdict

    from benchmark.validate_cards import validate

    found = validate(folder)
    if as_json:
        print_json(asdict(found))
    else:
        for fault in found.faults:
            err.print(f"{plain(fault.file)}:{fault.line}: {plain(fault.sentence)}", soft_wrap=True, highlight=False)
        n, kinds = len(found.faults), f"{found.n_cards:,} cards and {found.n_modules:,} modules"
        out.print(f"{kinds}: {f'{n:,} faults' if n > 1 else 'one fault' if n else 'nothing is wrong with them'}.")
    if found.faults:
        raise typer.Exit(1)


@new_app.command("task")
def new_task(
    name: Name,
    folder: Folder = MINE,
    dataset: Annotated[str, typer.Option("--dataset", help="As in `lobe list datasets`, or of your folder.")] = "rsna",
    head: Annotated[str, typer.Option("--head", help="LOBE's, or of your folder.")] = "linear",
    report: Annotated[str | None, typer.Option("--report", help="Metric that stands in tables. Default: the head's usual one.")] = None,
) -> None:
    """Writes the card of a task, tasks/NAME.yaml."""
    from benchmark.scaffold import task

    _told(task.new(name, folder, dataset=dataset, head=head, report=report))


@new_app.command("head")
def new_head(name: Name, folder: Folder = MINE) -> None:
    """Writes a head that trains as it stands, heads/NAME.py."""
    from benchmark.scaffold import head

    _told(head.new(name, folder))


@new_app.command("metric")
def new_metric(name: Name, folder: Folder = MINE) -> None:
    """Writes a metric that scores as it stands, metrics/NAME.py."""
    from benchmark.scaffold import metric

    _told(metric.new(name, folder))


@new_app.command("reader")
def new_reader(name: Name, folder: Folder = MINE) -> None:
    """Writes a reader, readers/NAME.py, and the card of its dataset."""
    from benchmark.scaffold import reader

    _told(reader.new(name, folder))


@new_app.command("prompts")
def new_prompts(name: Name, folder: Folder = MINE) -> None:
    """Writes a set of prompts for zero-shot tasks, tasks/NAME.yaml."""
    from benchmark.scaffold import prompts

    _told(prompts.new(name, folder))


def _told(started: Started) -> None:
    out.print(f"Wrote {plain(' and '.join(map(str, started.files)))}. Next: {plain(started.next)}", soft_wrap=True)
