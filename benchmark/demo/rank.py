"""The demo's one rank: a reference panel measured on its own images, and the lines that say where its backbones stand."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

from benchmark import panel_files, panels, registry
from benchmark.api import Evaluation
from benchmark.cards.base import digest_of
from benchmark.report.site import REPORT

SUITE = "demo-ranked"
STANDINGS = "standings.csv"


def include_panel(measured: Evaluation, folder: Path) -> None:
    """Freezes what was measured as the panel of a folder, and makes reports of this process rank by it.

    Args:
        measured: of `banks` on the suite.
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
    """Who is ranked, with ranks and headline, of the report's own table; then what is shown beside, and why it has no rank."""
    with (out / REPORT / STANDINGS).open(encoding="utf-8", newline="") as table:
        rows = [row for row in csv.DictReader(table) if row["suite"] == SUITE]
    return [_line(row) for row in rows]


def _line(row: dict[str, str]) -> str:
    score = f"{float(row['headline']):+.2f}" if row["headline"] else "no headline"
    around = f" ± {float(row['half_width_95']):.2f}" if row["half_width_95"] else ""
    if not row["best_rank"]:
        return f"  {row['backbone']}: {score}{around}; {row['why_none']}"
    best, worst = row["best_rank"], row["worst_rank"]
    return f"  {row['backbone']}: rank {best if best == worst else f'{best} to {worst}'}, {score}{around}"
