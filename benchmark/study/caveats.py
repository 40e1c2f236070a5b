"""What readers must know of the rows behind a study's scores: what pretraining saw of their images, what was cut short, and warnings.

The rows' own words (`report.row_warnings`), gathered over all backbones of a study.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from benchmark.cards import Contamination
from benchmark.report.row_warnings import PHANTOM
from benchmark.report.rows import Row

SEEN = {
    Contamination.SOURCE: "pretraining saw other images of this dataset's source",
    Contamination.IMAGES: "pretraining saw images of this dataset",
    Contamination.LABELS: "pretraining saw images of this dataset and their labels",
    Contamination.UNKNOWN: "what pretraining saw is unknown, which counts as images of this dataset",
}


@dataclass(frozen=True)
class Caveats:
    """
    Attributes:
        seen: task -> the worst that the pretraining of any backbone saw of its dataset; tasks of which none saw anything are left out.
        limited: tasks that saw a part of the data or of the steps, or a partial release.
        warnings: (task, warning) -> rows that carry it; what is said of phantoms once is left out.
    """

    seen: dict[str, Contamination] = field(default_factory=dict)
    limited: tuple[str, ...] = ()
    warnings: dict[tuple[str, str], int] = field(default_factory=dict)


def caveats_of(rows: Iterable[Row]) -> Caveats:
    rows = list(rows)
    seen: dict[str, Contamination] = {}
    for row in rows:
        marks = [Contamination(row.contamination), seen.get(row.task, Contamination.NONE)]
        seen[row.task] = max(marks, key=list(Contamination).index)
    warnings = Counter((row.task, warning) for row in rows for warning in row.warnings if warning != PHANTOM)
    return Caveats(
        {task: mark for task, mark in seen.items() if mark is not Contamination.NONE},
        tuple(dict.fromkeys(row.task for row in rows if row.scale == "limited")),
        dict(warnings),
    )


def notices(caveats: Caveats, titles: Mapping[str, str]) -> list[str]:
    """One for each task whose dataset pretraining saw, and one for all that were cut short.

    Args:
        titles: of tasks.
    """
    found = [f"{titles[task]}: {SEEN[mark]}." for task, mark in caveats.seen.items()]
    if caveats.limited:
        cut = "; ".join(titles[task] for task in caveats.limited)
        found.append(f"Limited to a part of the data or steps, or a partial release: {cut}. Never ranked, never beside published numbers.")
    return found
