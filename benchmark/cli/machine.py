"""This machine: `lobe demo`, `lobe doctor`, `lobe bench`, `lobe clean`."""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from benchmark.cli.app import app
from benchmark.cli.options import AsJson, CacheOption, one_of
from benchmark.cli.show import err, out, plain, print_json, show_rows
from benchmark.errors import UsageError


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for data, results and report.")] = Path("lobe-demo"),
    executor: Annotated[str, typer.Option("--executor", help="ray or inline.")] = "ray",
) -> None:
    """The newcomer's journey: phantom data, three backbones, four tasks, a rank, a leaderboard. About four minutes on two cores."""
    from benchmark.demo.journey import run_demo

    raise typer.Exit(run_demo(folder, one_of("--executor", executor, ("ray", "inline")), err))


@app.command()
def doctor(cache: CacheOption = None, as_json: AsJson = False) -> None:
    """What works on this machine, what does not, and how to mend it."""
    from benchmark.doctor import examine

    findings = examine(cache)
    rows = [{"check": f.name, "state": f.state, "detail": f.detail, "mend": f.mend} for f in findings]
    show_rows(rows, as_json, ("check", "state", "detail", "mend"))
    if any(f.state == "error" for f in findings):
        raise typer.Exit(1)


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="pipeline, frozen, step, suite, metrics, startup, pretrain, or all of these; growth.")],
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for NAME.json, one a bench.")] = Path("lobe-bench"),
    quick: Annotated[bool, typer.Option("--quick", help="A miniature that shows that it runs; its times mean nothing.")] = False,
    page: Annotated[
        Path | None, typer.Option("--page", help="Also note all JSON files in --out in data/ beside this page, and write it.")
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", help="Of growth: the commit before to measure beside this one, or none.")
    ] = None,
    sizes: Annotated[str | None, typer.Option("--sizes", help="Of growth: images a split, like 200,800,3200.")] = None,
    records: Annotated[str | None, typer.Option("--records", help="Of growth: records of a store, like 1000,4000.")] = None,
    lists: Annotated[str | None, typer.Option("--lists", help="Of growth: images of a list to plan on.")] = None,
    data_folder: Annotated[
        Path | None,
        typer.Option("--made", help="Of growth: where its data is made, and left for the next time. Default: a temporary folder."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measures speed against the plain way on this machine and checks that both give the same numbers; `all` is meant for an hour.

    `growth` measures how time, memory and bytes grow with size, against a commit before; meant for an hour as well.
    """
    benches = _benches()
    options = {"--against": against, "--sizes": sizes, "--records": records, "--lists": lists}
    asked = {option: value for option, value in options.items() if value}
    if name == benches.GROWTH:
        _grow(benches, asked, out_folder, quick, data_folder, page, as_json)
        return
    if asked or data_folder:
        raise typer.BadParameter(f"only `lobe bench {benches.GROWTH}` takes it.", param_hint=next(iter(asked), "--made"))
    chosen = benches.NAMES if name == "all" else (one_of("NAME", name, (*benches.NAMES, benches.GROWTH)),)
    results = []
    with tempfile.TemporaryDirectory(prefix="lobe-bench-") as folder:
        for each in chosen:
            if not as_json:
                err.print(f"bench {each} …")
            results.append(benches.run(each, out_folder, quick=quick, folder=Path(folder)))
            if not as_json:
                out.print(benches.table(results[-1]))
    if page is not None:
        benches.write_page(out_folder, page)
    if as_json:
        print_json([r.model_dump(mode="json") for r in results])
    else:
        out.print(f"Written to {plain(str(out_folder))}.")
    if not all(r.equal for r in results):
        err.print("[red]The two sides differ:[/] see the rows marked so; their times are no measurement.")
        raise typer.Exit(1)


@app.command()
def clean(
    cache: CacheOption = None,
    remove: Annotated[bool, typer.Option("--remove", help="Delete the listed caches.")] = False,
    as_json: AsJson = False,
) -> None:
    """Lists caches with their sizes; --remove deletes them. Results are never touched."""
    from benchmark.data import caches, remove_caches

    rows = caches(cache)
    show_rows(rows, as_json, ("dataset", "bytes", "folder"))
    if remove:
        remove_caches(rows)
        if not as_json:
            out.print(f"Removed {len(rows)} caches, {sum(r['bytes'] for r in rows) / 2**20:.0f} MiB.")


def _grow(
    benches: ModuleType, asked: dict[str, str], out_folder: Path, quick: bool, folder: Path | None, page: Path | None, as_json: bool
) -> None:
    from benchmark.progress import bar

    with bar(err, "bench growth, expected seconds", quiet=as_json) as show:
        report = benches.grow(asked, out_folder, quick=quick, folder=folder, page=page, show=show)
    failed = [f"{side.name}: {step}: {why}" for side in report.sides for step, why in side.failures.items()]
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        out.print(benches.growth_table(report))
        out.print(f"Written to {plain(str(out_folder))}.")
    for each in failed:
        err.print(f"[red]failed:[/] {plain(each)}", soft_wrap=True)
    if not report.equal:
        err.print("[red]The two sides differ:[/] their numbers are not the same, so neither are their times.")
    if failed or not report.equal:
        raise typer.Exit(1)


def _benches() -> ModuleType:
    """`tests.perf` of the checkout that the package lies in: the benches are measured by developers, and no part of the wheel."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "tests" / "perf" / "__init__.py").is_file():
        raise UsageError(
            "`lobe bench` measures a checkout, and this is an installed package, which has no benches. "
            "Get the sources, run `make` there, and start `.venv/bin/lobe bench` from that folder."
        )
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return importlib.import_module("tests.perf")
