"""What the site's tables say, as files for a spreadsheet or a script: standings, their pairs, what pretraining adds, what leaks are
worth, and what others compute from rows.

Numbers are unrounded; differences are in percentage points, headlines in spreads of the reference panel.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmark.report import against, anchor_rows, escape, label_curves
from benchmark.report.differences import Compared, Gain, Leak
from benchmark.report.material import Material
from benchmark.report.rows import Row
from benchmark.report.standings import Standings

NAMES = ("standings.csv", "pairs.csv", "gains.csv", "leaks.csv", "references.csv", "label_curves.csv", "anchors.csv")
_OF_TABLE = ("suite", "track", "geometry", "protocol", "scale", "phantom", "panel")
_OF_ROW = ("backbone", "variant", "task", "dataset", "split", "protocol", "scale", "phantom", "metric")


def all_of(material: Material) -> dict[str, str]:
    """Name of a file -> its text."""
    return {
        "standings.csv": _csv(_standings(one.standings) for one in material.tables),
        "pairs.csv": _csv(_pairs(one.standings) for one in material.tables),
        "gains.csv": _csv(map(_gain, one.gains) for one in material.tables),
        "leaks.csv": _csv(map(_leak, one.leaks) for one in material.tables),
        "references.csv": against.to_csv(against.against_references(material.rows)),
        "label_curves.csv": label_curves.to_csv(label_curves.label_curves(material.rows)),
        "anchors.csv": anchor_rows.to_csv(material.rows),
    }


def _standings(table: Standings) -> Iterator[dict[str, Any]]:
    for one in table.rows:
        yield {
            **_table(table),
            "backbone": one.label,
            "untrained": one.random,
            "headline": one.headline,
            "half_width_95": one.half_width,
            "best_rank": None if one.band is None else one.band.best,
            "worst_rank": None if one.band is None else one.band.worst,
            "why_none": one.why_none,
            "headline_over_unseen": one.unseen,
            "half_width_95_over_unseen": one.unseen_half_width,
            "trust": str(one.trust),
            "contamination": "; ".join(f"{task}: {mark}" for task, mark in one.contamination.items()),
            "encoder_parameters": one.parameters,
            "macs": one.macs,
            "seconds": one.cost_s,
            "z_by_task": "; ".join(f"{task}: {value:.4g}" for task, value in one.by_task.items()),
            "z_by_dataset": "; ".join(f"{name}: {value:.4g}" for name, value in one.by_dataset.items()),
        }


def _pairs(table: Standings) -> Iterator[dict[str, Any]]:
    headline = {one.label: one.headline for one in table.rows}
    for i, first in enumerate(table.ranked):
        for j, second in enumerate(table.ranked[i + 1 :], start=i + 1):
            ends = headline[first], headline[second]
            yield {
                **_table(table),
                "first": first,
                "second": second,
                "difference": None if None in ends else float(ends[0] or 0.0) - float(ends[1] or 0.0),
                "half_width_95": table.pair_half_widths[i][j],
                "p_holm_all_pairs": table.adjusted_p[i][j],
            }


def _gain(gain: Gain) -> dict[str, Any]:
    return {**_row(gain.trained), "minus": gain.random.label, **_difference(gain)}


def _leak(leak: Leak) -> dict[str, Any]:
    return {**_row(leak.leaky), "minus": f"split {leak.disjoint.split}", **_difference(leak)}


def _difference(compared: Compared) -> dict[str, Any]:
    found = compared.difference
    return {
        "difference_points": 100 * found.value,
        "half_width_95_points": None if found.half_width is None else 100 * found.half_width,
        "p_holm": compared.adjusted_p,
        "reading": compared.reading,
        "interval_covers": compared.covers,
    }


def _table(table: Standings) -> dict[str, Any]:
    return {name: getattr(table, name) for name in _OF_TABLE}


def _row(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _OF_ROW}


def _csv(tables: Iterable[Iterable[Mapping[str, Any]]]) -> str:
    """All lines under the names of the first; a file without lines is empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    heads: Sequence[str] = ()
    for lines in tables:
        for line in lines:
            if not heads:
                heads = tuple(line)
                writer.writerow(heads)
            writer.writerow([_cell(line[name]) for name in heads])
    return buffer.getvalue()


def _cell(value: Any) -> object:
    known = value is not None and not (isinstance(value, float) and math.isnan(value))
    return escape.csv_cell(value) if known else ""
