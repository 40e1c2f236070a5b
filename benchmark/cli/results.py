"""What is made of results: `lobe report`, `lobe reproduce`, `lobe score`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark import registry
from benchmark.cli.app import app
from benchmark.cli.options import AsJson, CacheOption, DataOption, SplitOption, SplitsOption, one_of
from benchmark.cli.show import err, out, plain, print_json, show_rows


@app.command()
def report(
    out_folders: Annotated[
        list[Path], typer.Option("--out", help="Output folder; several are reported together, on a page in the first.")
    ] = [Path("lobe-out")],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Writes the leaderboard page, tables and plots from stored records; computes nothing."""
    from benchmark.api import write_report

    written = write_report(out_folders)
    for refused in written.refused:
        err.print(f"[red]refused:[/] {plain(refused.sentence)}", soft_wrap=True)
    if as_json:
        print_json({"page": str(written.page), "refused": [vars(refused) for refused in written.refused]})
    else:
        out.print(f"Leaderboard: {written.page}")
    if written.refused:
        raise typer.Exit(1)


@app.command()
def reproduce(
    paper: Annotated[str, typer.Argument(help="A paper that `lobe list papers` names.")],
    out_folder: Annotated[Path | None, typer.Option("--out", help="Folder with results; the pages are written to its report/.")] = None,
    as_json: AsJson = False,
) -> None:
    """Prints a paper's published numbers, beside what was measured where that is a fair comparison."""
    from benchmark.api import reproduce as reproduced
    from benchmark.report import reproduce_pages

    found = reproduced(one_of("PAPER", paper, tuple(registry.papers())), out_folder)
    page = reproduce_pages.write(found, out_folder) if out_folder is not None else None
    if as_json:
        print_json({**reproduce_pages.to_dict(found), "page": None if page is None else str(page)})
        return
    out.print(reproduce_pages.to_rich(found))
    if page is not None:
        out.print(f"Pages: {plain(str(page))}, and .md, .csv and .tex beside it.")


@app.command()
def score(
    task: Annotated[str, typer.Option("--task", "-t", help="Task whose test split the predictions are of.")],
    predictions: Annotated[Path, typer.Option("--predictions", "-p", help="detections.json or masks.json of a run, or made like one.")],
    data: DataOption = [],  # noqa: B006
    cache: CacheOption = None,
    protocol: Annotated[str, typer.Option("--protocol", help="published or corrected.")] = "published",
    split: SplitOption = None,
    splits: SplitsOption = None,
    limit: Annotated[int | None, typer.Option("--limit", help="The limit of the run that made the predictions.")] = None,
    as_json: AsJson = False,
) -> None:
    """Scores saved predictions again; they must say in which frame they were measured."""
    from benchmark.submission import score as rescore

    found = rescore(task, predictions, data, cache, protocol, limit, split, splits)
    if as_json:
        print_json({**vars(found)})
        return
    rows = [{"metric": name, "per cent": f"{value * 100:.2f}"} for name, value in found.metrics.items()]
    rows += [{"metric": name, "per cent": f"– ({why})"} for name, why in found.undefined.items()]
    out.print(
        f"{found.task}, {found.n_images:,} test images, split {found.split}, protocol {found.protocol}; reported metric: {found.report}"
    )
    show_rows(rows, False, ("metric", "per cent"))
