"""The demo's one rank: its trained backbones on a scale of encoders made by hand."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

from benchmark import panel_files, panels, registry
from benchmark.api import Evaluation, Request
from benchmark.cards.base import digest_of
from benchmark.demo import banks
from benchmark.report.site import REPORT

SUITE, RUNS = "demo-ranked", 3
STANDINGS = "standings.csv"


def requests_of(whole: Request, panel: Path) -> tuple[Request, Request]:
    """What a rank needs beside the demo's own request: its trained backbones as often as a rank asks for, and the encoders made by hand.

    Their jobs take seconds; to start processes for them would take longer.

    Args:
        panel: folder of the encoders made by hand, which are a scale and no rows of the report.
    """
    trained = replace(whole, backbones=whole.backbones[1:], tasks=(), suite=SUITE, runs=RUNS, executor="inline", tracking=False)
    return trained, replace(trained, backbones=banks.names(), out=panel / "out")


def include_panel(measured: Evaluation, folder: Path) -> None:
    """Freezes the encoders made by hand as the panel of a folder, and makes reports of this process rank by it.

    Args:
        folder: for `lobe --include`. A panel of other images or of another release that lies there is taken away.

    Raises:
        UsageError: the measured rows give no scale.
    """
    version, results = f"demo-{digest_of(sorted(measured.planned.jobs.keys))[:8]}", folder / "results"
    if not (results / panel_files.FOLDER / f"{version}.json").is_file():
        shutil.rmtree(results, ignore_errors=True)
        registry.forget()
        panel_files.write(panels.frozen(measured.planned.request.out, version, SUITE), results)
    registry.include(folder)


def rank_lines(out: Path) -> list[str]:
    """Who stands where, by the report's own table: ranks with headlines and intervals, then rows without a rank and why."""
    with (out / REPORT / STANDINGS).open(encoding="utf-8", newline="") as table:
        return [_line(row) for row in csv.DictReader(table) if row["suite"] == SUITE]


def _line(row: dict[str, str]) -> str:
    if not row["headline"]:
        why = row["why_none"]
        return f"  {row['backbone']}: {why if why.startswith('no headline') else f'no headline: {why}'}"
    score = f"{float(row['headline']):+.2f}" + (f" ± {float(row['half_width_95']):.2f}" if row["half_width_95"] else "")
    best, worst = row["best_rank"], row["worst_rank"]
    if not best:
        return f"  {row['backbone']}: {score}; {row['why_none']}"
    return f"  {row['backbone']}: rank {best if best == worst else f'{best} to {worst}'}, {score}"
