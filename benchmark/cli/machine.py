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
    """The newcomer's journey: phantom data, two backbones, four tasks, a leaderboard. About five minutes on a laptop."""
    from benchmark.demo import run_demo

    raise typer.Exit(run_demo(folder, one_of("--executor", executor, ("ray", "inline")), err))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """What works on this machine, what does not, and how to mend it."""
    from benchmark.doctor import examine

    findings = examine()
    rows = [{"check": f.name, "state": f.state, "detail": f.detail, "mend": f.mend} for f in findings]
    show_rows(rows, as_json, ("check", "state", "detail", "mend"))
    if any(f.state == "error" for f in findings):
        raise typer.Exit(1)


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="pipeline, frozen, step, suite, metrics, startup, or all.")],
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for NAME.json, one a bench.")] = Path("lobe-bench"),
    quick: Annotated[bool, typer.Option("--quick", help="A miniature that shows that it runs; its times mean nothing.")] = False,
    page: Annotated[Path | None, typer.Option("--page", help="Also write the page made of all JSON files in --out, as Markdown.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measures speed against the plain way on this machine and checks that both give the same numbers; `all` is meant for an hour."""
    benches = _benches()
    chosen = benches.NAMES if name == "all" else (one_of("NAME", name, benches.NAMES),)
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
