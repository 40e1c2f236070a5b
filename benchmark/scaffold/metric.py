"""A family of metrics to start from: a module that scores as it stands."""

from __future__ import annotations

from pathlib import Path

from benchmark.scaffold.own_files import Started, module_name, start

_MODULE = '''\
"""A family of metrics: functions of what a split's predictions are counted to. This one is the share of images with a finding in which
some predicted pixel is right.

What a family owes: `METRICS`. A task computes it when it names one of its metrics in `select` or `report`. Helpers lie beside it in files
whose names begin with an underscore. This file and what it imports from its folder is part of the key of such a task's jobs. Everything a
metric states: benchmark/metrics/spec.py; what statistics there are: benchmark/metrics/*_statistics.py.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmark.metrics.dice import DiceCounts
from benchmark.metrics.spec import MetricSpec


def touched(counts: DiceCounts, weights: np.ndarray | None = None) -> float | None:
    """Share of the images with a finding whose prediction meets it; None where no image has one.

    Args:
        counts: pixels of each image and class: `tp`, `fp` and `fn`, (n_images, n_classes).
        weights: (n_images,) copies of each image, for intervals by bootstrap; None for the split itself.
    """
    n = np.ones(len(counts.tp)) if weights is None else weights
    positive, met = counts.positive.any(axis=1), (counts.tp > 0).any(axis=1)
    total = float((n * positive).sum())
    return float((n * (positive & met)).sum()) / total if total else None


METRICS = (
    MetricSpec(
        name="@NAME@",  # as cards and records call it; `{class}` in it stands for each class
        title="@NAME@",  # in tables
        target="masks",  # ground truth that it scores against: masks, boxes or labels
        needs=("counts",),  # fields of the statistics that it reads
        compute=lambda statistics: partial(touched, statistics.counts),  # -> a function of weights
        undefined="no image has a finding",  # why a split may have no value
        low=0.0,
        high=1.0,
        better="higher",  # a task is judged by one that rises
        selects=True,  # known after every epoch, so that `select` may name it
    ),
)
'''


def new(name: str, folder: Path) -> Started:
    """Writes `metrics/<name>.py`. Raises UsageError where the name cannot be one, is taken, or the file is there."""
    module = module_name("metrics", name)
    then = f"lobe --include {{folder}} new task my-{module.replace('_', '-')} --report {module} --out {{folder}}"
    return start(folder, {f"metrics/{module}.py": _MODULE.replace("@NAME@", module)}, then)
