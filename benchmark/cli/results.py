"""What is made of results: `lobe results`, `lobe report`, `lobe reproduce`, `lobe score`, `lobe export`, `lobe convert`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from benchmark import registry
from benchmark.cli.app import app
from benchmark.cli.options import AsJson, CacheOption, DataOption, SplitOption, SplitsOption, SubmissionsOption, one_of
from benchmark.cli.show import err, out, paged, plain, print_json, progress_bar, show_rows, show_whole


@app.command("results")
def show_results(
    out_folders: Annotated[
        list[Path], typer.Option("--out", help="Output folder; several are read together, a result in more than one counts once.")
    ] = [Path("lobe-out")],  # noqa: B006
    task: Annotated[list[str], typer.Option("--task", "-t", help="Only tasks whose name holds this; * and ? as in a shell.")] = [],  # noqa: B006
    backbone: Annotated[list[str], typer.Option("--backbone", "-b", help="Only backbones whose name holds this.")] = [],  # noqa: B006
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Also write the rows here, unrounded, with their keys.")] = None,
    as_json: AsJson = False,
) -> None:
    """Prints the table of stored results of one output folder or several; computes and writes nothing else."""
    from benchmark import stored_results
    from benchmark.files import write_atomically, writing
    from benchmark.report import tables

    stored = stored_results.read(out_folders)
    rows = stored_results.narrowed(stored.rows(), task, backbone)
    for refused in stored.refused:
        err.print(f"[red]refused:[/] {plain(refused.sentence)}", soft_wrap=True)
    if csv_file is not None:
        with writing(csv_file, "Name another file with --csv."):
            csv_file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(csv_file, tables.to_csv(rows).encode())
    if as_json:
        print_json(tables.to_dicts(rows))
    else:
        folders = " and ".join(map(str, dict.fromkeys(out_folders)))
        with paged() as console:
            show_whole(console, tables.to_rich(rows))
            console.print(plain(f"{len(rows):,} rows of {len(stored.records):,} records in {folders}. {tables.INTERVAL}"))
        if csv_file is not None:
            out.print(f"Rows: {plain(str(csv_file))}", soft_wrap=True)
    if stored.refused:
        raise typer.Exit(1)


@app.command()
def report(
    out_folders: Annotated[
        list[Path], typer.Option("--out", help="Output folder; several are reported together, on a page in the first.")
    ] = [Path("lobe-out")],  # noqa: B006
    submissions: SubmissionsOption = None,
    trust: Annotated[
        str, typer.Option("--trust", help="Least level that a submission is shown from: reported, recomputed, re-scored or re-run.")
    ] = "recomputed",
    with_images: Annotated[
        bool,
        typer.Option("--with-images", help="Draw predictions on images that may not be published, into a folder of their own."),
    ] = False,
    groups: Annotated[
        bool, typer.Option("--groups", help="Also scores by size of the finding, view, sex and age, and groups.csv. Reads all statistics.")
    ] = False,
    recipe: Annotated[
        list[str], typer.Option("--recipe", help="NAME=BACKBONE, once for each of three or more checkpoints that differ in their seed.")
    ] = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Writes the leaderboard's pages, tables and plots from stored records and accepted submissions; computes nothing."""
    from benchmark.api import draw_local_pictures, write_report
    from benchmark.submission.trust import Trust

    levels = tuple(level.value for level in Trust if level is not Trust.LOCAL)
    recipes: dict[str, list[str]] = {}
    for name, separator, backbone in (each.partition("=") for each in recipe):
        if not separator or not name or not backbone:
            raise typer.BadParameter(f"{name}{separator}{backbone}: write NAME=BACKBONE.", param_hint="--recipe")
        recipes.setdefault(name, []).append(backbone)
    least = Trust(one_of("--trust", trust, levels))
    show = partial(progress_bar, quiet=as_json)
    written = write_report(out_folders, submissions=submissions, least=least, groups=groups, recipes=recipes, show=show)
    pictures = draw_local_pictures(out_folders) if with_images else None
    for refused in written.refused:
        err.print(f"[red]refused:[/] {plain(refused.sentence)}", soft_wrap=True)
    if as_json:
        print_json({"page": str(written.page), "refused": [vars(refused) for refused in written.refused], "below": written.below})
    else:
        if pictures is not None:
            out.print(f"Not for publication: {plain(str(pictures))}", soft_wrap=True)
        if written.below:
            out.print(f"{written.below:,} submitted results are below the level {trust} and not shown; --trust reported shows all.")
        out.print(f"Leaderboard: {plain(str(written.page))}", soft_wrap=True)
    if written.refused:
        raise typer.Exit(1)


@app.command()
def reproduce(
    paper: Annotated[str, typer.Argument(help="A paper that `lobe list papers` names.")],
    out_folder: Annotated[Path | None, typer.Option("--out", help="Folder with results; the pages are written to its report/.")] = None,
    table: Annotated[str | None, typer.Option("--table", help="Only tables whose title holds this; * and ? as in a shell.")] = None,
    method: Annotated[str | None, typer.Option("--method", help="Only lines of methods whose name holds this.")] = None,
    as_json: AsJson = False,
) -> None:
    """Prints a paper's own tables, and what was measured below each line where that is a fair comparison."""
    from benchmark.api import reproduce as reproduced
    from benchmark.report import paper_text, reproduce_pages

    found = reproduced(one_of("PAPER", paper, tuple(registry.papers())), out_folder, table, method)
    page = reproduce_pages.write(found, out_folder) if out_folder is not None else None
    if out_folder is not None and not (out_folder / "records").is_dir():
        err.print(f"{plain(str(out_folder))} holds no results: the tables show published numbers alone.", soft_wrap=True)
    if as_json:
        print_json({**reproduce_pages.to_dict(found), "page": None if page is None else str(page)})
        return
    with paged() as console:
        console.print(paper_text.to_text(found, out.width), soft_wrap=True)
    if page is not None:
        out.print(f"Pages: {plain(str(page))}, and .md, .csv and .tex beside it; each table as CSV in {plain(page.stem)}/.")


@app.command()
def score(
    task: Annotated[str, typer.Option("--task", "-t", help="Task whose test split the predictions are of.")],
    predictions: Annotated[Path, typer.Option("--predictions", "-p", help="Predictions of a run, or made like it: Parquet or COCO JSON.")],
    data: DataOption = [],  # noqa: B006
    cache: CacheOption = None,
    protocol: Annotated[str, typer.Option("--protocol", help="As in `lobe list protocols`.")] = "published",
    split: SplitOption = None,
    splits: SplitsOption = None,
    limit: Annotated[int | None, typer.Option("--limit", min=2, help="The limit of the run that made the predictions.")] = None,
    as_json: AsJson = False,
) -> None:
    """Scores saved predictions again; they must say in which frame they were measured."""
    from benchmark.submission.score import scorer

    found = scorer(task, data, cache, protocol, limit, split, splits).score(predictions)
    if as_json:
        print_json({name: value for name, value in vars(found).items() if name != "images"})
        return
    rows = [{"metric": name, "per cent": f"{value * 100:.2f}"} for name, value in found.metrics.items()]
    rows += [{"metric": name, "per cent": f"– ({why})"} for name, why in found.undefined.items()]
    out.print(
        f"{found.task}, {found.n_images:,} test images, split {found.split}, protocol {found.protocol}; reported metric: {found.report}"
    )
    show_rows(rows, False, ("metric", "per cent"))


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="Output folder of a run.")],
    to: Annotated[Path, typer.Option("--to", help="Folder for the files, one sub-folder a record.")],
    keys: Annotated[list[str] | None, typer.Argument(metavar="KEY", help="Records, by their keys or how these begin.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All records.")] = False,
    original: Annotated[bool, typer.Option("--original", help="In pixels of the original images, not of the task's frame.")] = False,
    as_json: AsJson = False,
) -> None:
    """Writes stored predictions for other programs: boxes and masks as COCO JSON, class scores as CSV."""
    from benchmark.export import export as exported

    if bool(keys) == every:
        raise typer.BadParameter("name records, or take --all of them.", param_hint="KEY")
    with progress_bar("exporting", as_json) as progress:
        found = exported(folder, None if every else keys, to, "original" if original else "task", progress)
    if as_json:
        left_out = [{"key": key, "why": why} for key, why in found.left_out]
        print_json({"files": [str(path) for path in found.files], "left_out": left_out, "private": found.n_private})
    else:
        for key, why in found.left_out:
            err.print(f"[yellow]left out:[/] {key}: {plain(why)}", soft_wrap=True)
        private = (
            f" {found.n_private:,} records are of data that may not be passed on; only you may open their files." if found.n_private else ""
        )
        out.print(f"Files in {plain(str(to))}: {len(found.files):,}.{private}", soft_wrap=True)
    if not found.files:
        raise typer.Exit(1)


@app.command()
def convert(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="Output folder with results of an earlier release.")],
    as_json: AsJson = False,
) -> None:
    """Gives files that an earlier LOBE stored today's form, a fifth in size or less; numbers and keys stay."""
    from benchmark.convert import convert as converted

    with progress_bar("converting", as_json) as progress:
        found = converted(folder, progress)
    if as_json:
        print_json({**vars(found), "kept": [{"key": key, "why": why} for key, why in found.kept]})
    else:
        for key, why in found.kept:
            err.print(f"[yellow]kept as it is:[/] {key}: {plain(why)}", soft_wrap=True)
        shrunk = f": {found.bytes_before / 1e6:,.1f} MB are {found.bytes_after / 1e6:,.1f} MB now" if found.n_converted else ""
        out.print(f"{found.n_converted:,} of {found.n_records:,} records converted{shrunk}.")
    if found.kept:
        raise typer.Exit(1)
