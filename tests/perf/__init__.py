"""`lobe bench`: the project's speed against the plain way, measured in the same run, with the numbers of both compared.

Each bench is a module with `run(quick, folder) -> BenchResult`; `measure` holds what they share, `page` makes rows of data of their JSON
files, and a page of the rows.
`growth` is another matter: it measures one commit against another, at several sizes, and has a page of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from benchmark import json_files
from benchmark.errors import UsageError
from benchmark.files import write_atomically
from docsite import performance
from tests.perf import page
from tests.perf.measure import BenchResult

if TYPE_CHECKING:
    from tests.perf.growth_reach import GrowthReport

NAMES = ("startup", "metrics", "pipeline", "step", "frozen", "suite", "pretrain")
GROWTH = "growth"  # no part of `all`: it runs another commit as well


def run(name: str, out: Path, *, quick: bool, folder: Path | None = None) -> BenchResult:
    """Runs one bench on data made for it, and writes `<out>/<name>.json`.

    Args:
        folder: where data is made, left there for the next bench; None makes it in a temporary folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    with contextlib.nullcontext(folder) if folder else tempfile.TemporaryDirectory(prefix="lobe-bench-") as place:
        report = importlib.import_module(f"tests.perf.{name}").run(quick, Path(place))
    write_atomically(out / f"{name}.json", report.model_dump_json(indent=1).encode())
    return report


def read(out: Path) -> list[BenchResult]:
    """The reports in a folder, in the order of `NAMES`; benches that were not run are left out.

    Raises:
        UsageError: a file is no report.
    """
    return [_report(file) for file in (out / f"{name}.json" for name in NAMES) if file.exists()]


def _report(file: Path) -> BenchResult:
    try:
        return BenchResult.model_validate(json_files.read(file))
    except (OSError, ValueError) as error:  # pydantic's own is a ValueError
        reason = str(error).splitlines()[0]
        raise UsageError(f"{file} is no report of a bench ({reason}). Move it away, or run `lobe bench {file.stem}` again.") from None


def table(report: BenchResult) -> Table:
    """For the terminal."""
    shown = Table(title=f"bench {report.bench}{' (quick: times mean nothing)' if report.quick else ''}", box=None, header_style="bold")
    for column in performance.COLUMNS:
        shown.add_column(column, overflow="fold")
    for row in report.rows:
        shown.add_row(*page.cells(row))
    return shown


def write_page(out: Path, path: Path) -> None:
    """Notes everything measured in `out` among the rows of `data/` beside the page, and writes the page of them.

    Raises:
        UsageError: a file of rows holds others, or a file in `out` is no report.
    """
    results = read(out)
    try:
        page.write(results, path)
    except ValueError as error:
        raise UsageError(str(error)) from None


def grow(
    asked: Mapping[str, str],
    out: Path,
    *,
    quick: bool,
    folder: Path | None = None,
    page: Path | None = None,
    show: Callable[[int, int], None] = lambda done, total: None,
) -> GrowthReport:
    """Measures growth and writes `<out>/growth.json`, anew after every step, and the page with its picture.

    Stopped and started again with the same options on the same commits, it goes on where it was: caches and what is done lie in
    `<out>/growth-work` until all is measured.

    Args:
        asked: options of the command line by name (`--against`, `--sizes`, `--records`, `--lists`); others keep their default.
        folder: where data is made, left there for the next bench; None makes it in `<out>/growth-data` and removes it.
        show: told how many of the expected seconds have gone.

    Raises:
        UsageError: an option makes no sense, or there is no such commit.
    """
    from tests.perf import growth, growth_page, growth_sizes

    sizes, against = growth_sizes.chosen(asked, quick=quick)
    command = " ".join(["lobe bench growth", *(["--quick"] if quick else []), *(f"{option} {value}" for option, value in asked.items())])
    out.mkdir(parents=True, exist_ok=True)

    def keep(report: GrowthReport) -> None:
        write_atomically(out / "growth.json", report.model_dump_json(indent=1).encode())

    work, made = (out.resolve() / name for name in ("growth-work", "growth-data"))
    data = made if folder is None else folder.resolve()
    report = growth.run(sizes, data, work, quick=quick, against=against, command=command, show=show, keep=keep)
    keep(report)
    for done in (work, made):
        shutil.rmtree(done, ignore_errors=True)
    if page is not None:
        growth_page.write_page(report, page)
    return report


def growth_table(report: GrowthReport) -> Table:
    """For the terminal."""
    from tests.perf import growth_page

    return growth_page.table(report)
