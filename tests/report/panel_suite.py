"""A phantom suite that a panel ranks: four backbones on every task of `conftest`, their resamples, and a reference panel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from benchmark.cards import Contamination, Record
from benchmark.cards.panels import Panel, PanelScale
from benchmark.report.resampling import Resampled
from tests.report.conftest import TASKS, make_job, make_record

SUITE, PROTOCOL = "phantom-suite", "lobe"
LEVELS = {"resnet50 (random)": 0.10, "BioViL-T": 0.30, "MGCA": 0.30, "resnet50 (IMAGENET1K_V2)": 0.20}
DIGESTS = {name: None if "random" in name else f"{number:064x}" for number, name in enumerate(LEVELS)}
N_PATIENTS = 300


@dataclass(frozen=True)
class PhantomPanel:
    """A frozen panel of the suite: median 22 %, spread 6 points on every task."""

    version: str = "phantom-1"
    suite: str = SUITE
    protocol: str = PROTOCOL
    phantom: bool = True

    def as_panel(self, *, phantom: bool | None = None) -> Panel:
        return Panel(MappingProxyType({task: PanelScale(0.22, 0.06) for task in TASKS}), tuple(f"reference {i}" for i in range(8)))


def records_of(
    levels: dict[str, float] = LEVELS,
    *,
    n_runs: int = 5,
    tasks: Sequence[str] = tuple(TASKS),
    seen: dict[str, Contamination] | None = None,
    phantom: bool = True,
) -> list[Record]:
    """Every backbone on every task; `seen` says what pretraining of some saw of all datasets."""
    rng, found = np.random.default_rng(7), []
    for name, level in levels.items():
        for task in tasks:
            metric = TASKS[task][4]
            for run in range(n_runs):
                value = level + float(rng.normal(0, 0.012))
                job = make_job(task, name, run, digest=DIGESTS.get(name, "f" * 64), protocol=PROTOCOL)
                labels = job.labels.model_copy(update={"suite": SUITE, "contamination": (seen or {}).get(name, Contamination.NONE)})
                more = {"negatives_empty": 0.3, "pixel_ap": value / 2} if "dice" in metric else {}
                found.append(
                    make_record(
                        value,
                        job=job.model_copy(update={"labels": labels}),
                        phantom=phantom,
                        metrics={metric: value, **more},
                        account={"loaded": 318, "missing": 2} if DIGESTS.get(name, "f") else {},
                    )
                )
    return found


def resampled(record: Record) -> Resampled | None:
    """What all runs of a task have in common, and a little of their own."""
    if record.status != "ok":
        return None
    task = record.job.labels.task
    common = np.random.default_rng(sum(map(ord, task))).normal(0, 0.02, 1000)
    own = np.random.default_rng(int(record.key[:8], 16)).normal(0, 0.006, 1000)
    values = record.metrics[record.job.experiment.report] + common + own
    return Resampled(values.astype(np.float32)[:, None], task, N_PATIENTS, True)
