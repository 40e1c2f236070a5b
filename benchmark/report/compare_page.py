"""The page that compares any two backbones: difference of headlines with its adjusted p, and the difference on every task.

All pairs on all tasks would be millions of differences, so a page gets what one is made of: each backbone's runs, its variance over test
patients and its covariances with the others. It subtracts; half widths it reads from a table of `two_part_half_width`, computed here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmark.report import addresses, data_files
from benchmark.report.differences import tested_alike
from benchmark.report.material import Material, Ranked
from benchmark.report.numbers import significant
from benchmark.report.ranking_page import title_of
from benchmark.report.rows import Row
from benchmark.report.shell import Shell
from benchmark.statistics.two_part import two_part_half_width

N_NODES = 65  # a half width read between two of them is off by less than 0.1 %


def write(shell: Shell, material: Material) -> None:
    index = [_table(shell, place, ranked) for place, ranked in enumerate(material.tables)]
    shell.add(data_files.write(shell.report, "compare/index", {"tables": index, "half_widths": half_widths(material.rows)}))
    shell.render(
        "compare.html",
        "compare.html.j2",
        heading="Compare two backbones",
        phantom=any(row.phantom for row in material.rows),
        limited=any(row.scale == "limited" for row in material.rows),
        tables=[title_of(ranked.standings) for ranked in material.tables],
    )


def half_widths(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Half widths of 95 % intervals of an error of variance 1: `runs' freedom,patients' freedom` -> one for each share of the two.

    Node i of n stands for the share sin²(i / (n - 1) · π / 2) of the runs: the first is all patients, the last all runs.
    """
    most = max((len(row.runs) for row in rows), default=1)
    freedoms = sorted({row.resampled.n_clusters - 1 for row in rows if row.resampled is not None and row.resampled.n_clusters > 1}) or [1]
    runs = range(1, max(2, 2 * most - 1))
    share = np.sin(np.linspace(0, math.pi / 2, N_NODES)) ** 2
    share[[0, -1]] = 0, 1
    pairs = [(f, g) for f in runs for g in freedoms]
    of_runs, of_patients = (np.repeat([pair[i] for pair in pairs], N_NODES) for i in (0, 1))
    shares = np.tile(share, len(pairs))
    found = two_part_half_width((shares, of_runs), (1 - shares, of_patients)).reshape(len(pairs), N_NODES)
    return {f"{f},{g}": line for (f, g), line in zip(pairs, significant(found, 5), strict=True)}


def _table(shell: Shell, place: int, ranked: Ranked) -> dict[str, Any]:
    """Writes what the backbones of a table are compared by, and returns what the page must know to begin."""
    board, standings = ranked.board, ranked.standings
    cells: dict[str, list[dict[str, Any] | None]] = {label: [None] * len(board.columns) for label in board.backbones}
    for number, column in enumerate(board.columns):
        rows = {label: row for label in board.backbones if (row := board.cell(label, column)) is not None and row.mean is not None}
        for label, found in _cells(rows, board.backbones).items():
            cells[label][number] = found
    for label, mine in cells.items():
        shell.add(data_files.write(shell.report, f"compare/{place}/{addresses.name_of(label)}", mine))
    pairs = {"p": significant(standings.adjusted_p, 5), "half_widths": significant(standings.pair_half_widths, 5)}
    shell.add(data_files.write(shell.report, f"compare/{place}/pairs", pairs))
    by_label = {one.label: one for one in standings.rows}
    of_headline = [by_label[label] for label in standings.ranked]
    return {
        "title": title_of(standings),
        "backbones": [[label, addresses.name_of(label), addresses.backbone_page(board.names[label])] for label in board.backbones],
        "columns": [
            {"task": column.title, "metric": column.metric_title, "page": addresses.task_page(column.task)} for column in board.columns
        ],
        "headlines": [[one.label, one.headline, str(one.band or "")] for one in of_headline],
        "sentence": standings.sentence,
    }


def _cells(rows: dict[str, Row], labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Each row of one task in per cent, with the covariances of its mean over runs with those of the others; null where the two were not
    tested alike."""
    means = {
        label: 100 * row.resampled.mean
        for label, row in rows.items()
        if row.resampled is not None and np.isfinite(row.resampled.mean).all()
    }
    shared = np.full((len(rows), len(labels)), np.nan)
    if means:
        alike = tested_alike([rows[label] for label in means])
        mine, others = ([names.index(label) for label in means] for names in (list(rows), list(labels)))
        shared[np.ix_(mine, others)] = np.where(alike, np.cov(np.stack(list(means.values()))), np.nan)
    return {
        label: {
            "mean": float(f"{100 * (row.mean or 0.0):.6g}"),
            "text": row.text,
            "runs": [float(f"{100 * value:.6g}") for value in row.values],
            "seeds": ";".join(",".join(map(str, one)) for one in row.seeds) if row.drawn else "",
            "clusters": None if label not in means or row.resampled is None else row.resampled.n_clusters,
            "patients": row.resampled is not None and row.resampled.by_patient,
            "with": covariances if label in means else None,
        }
        for (label, row), covariances in zip(rows.items(), significant(shared, 4), strict=True)
    }
