"""The reference for metrics: what each is declared to be, family by family."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from itertools import groupby

from benchmark.metrics.spec import MetricSpec, specs
from docsite import formulas
from docsite.examples import EXAMPLES
from docsite.tables import cell, summary, table

TARGETS = {
    "boxes": "Boxes (detection)",
    "masks": "Masks (segmentation)",
    "labels": "Labels (classification, zero-shot)",
    "labels-to-masks": "Masks, learned from labels (class maps)",
    "phrases": "Phrases (grounding)",
    "reports": "Reports (retrieval)",
}
_UNITS = {"share": "per\u00a0cent", "ratio": "times a hundred, as the title says", "count": "a count"}
_BETTER = {"higher": "↑\u00a0higher", "lower": "↓\u00a0lower", "neither": "– says nothing of quality"}


def by_target() -> dict[str, list[MetricSpec]]:
    """Target -> its metrics, family by family; a name declared twice stands once."""
    found: dict[str, list[MetricSpec]] = {target: [] for target in TARGETS}
    for spec in sorted(specs(), key=lambda spec: spec.family):
        same = found.setdefault(spec.target, [])
        if (spec.name, spec.title, spec.family) not in {(one.name, one.title, one.family) for one in same}:
            same.append(spec)
    return found


def page() -> str:
    """Every metric with title, unit, direction and range, as Markdown."""
    head = [
        "# Metrics",
        "",
        "Made from the `METRICS` of the modules of `benchmark/metrics/` when the site is built. A family is a module; two families never",
        "share a column. In a name, `{class}` stands for the name of a class. *Selects*: the metric is known after every epoch, so that a",
        "task may choose its epoch by it.",
        "",
        "Formulas stand in the modules, beside the code. Values under a picture are those that this code gave for it when the site was",
        "built, as fractions. [*a*] is 1 where *a* holds and 0 elsewhere; a mean over *x* is written mean<sub>x</sub>.",
    ]
    sections = [line for target, found in by_target().items() for line in _section(target, found)]
    return "\n".join([*head, *sections]) + "\n"


def _section(target: str, found: list[MetricSpec]) -> Iterator[str]:
    yield from ("", f"## {TARGETS.get(target, target.capitalize())}")
    for family, inside in groupby(found, key=lambda spec: spec.family):
        about = importlib.import_module(f"benchmark.metrics.{family}").__doc__ or ""
        yield from (
            "",
            f"### Family `{family}`, {target}",
            "",
            summary(about),
            "",
            f"Code: [{family}.py](../../benchmark/metrics/{family}.py).",
            "",
            *formulas.listed(about),
            "",
            *(EXAMPLES[family]().lines() if family in EXAMPLES else ()),
            "",
        )
        yield from table(("name", "title", "unit", "better", "from, to", "selects", "undefined when"), map(_row, inside))


def _row(spec: MetricSpec) -> tuple[str, ...]:
    values = f" ({', '.join(str(key) for key in spec.values)})" if spec.values else ""
    return (
        f"`{spec.name}`{values}",
        cell(spec.title),
        _UNITS[spec.unit],
        _BETTER[spec.better],
        f"{_end(spec.low)}, {_end(spec.high)}",
        "yes" if spec.selects else "",
        cell(spec.undefined) or "–",
    )


def _end(value: float) -> str:
    return f"{'−' if value < 0 else ''}∞" if math.isinf(value) else f"{value:g}".replace("-", "−")
