"""The whole suite of LoVT, cut to a stated size: how much of its wall time is not features, training and tests."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmark import registry
from benchmark.bench.corpus import corpus, jobs
from benchmark.bench.measure import Report, Row, Timed, report
from benchmark.errors import TrainingError
from benchmark.execute.inline import InlineExecutor
from benchmark.execute.schedule import Schedule
from benchmark.execute.work import Finished, WorkUnit, run_unit
from benchmark.store import Store

SIDES = (
    "plain: the same jobs, each fitted in turn by itself, counting only the seconds inside features, training and test. fast: the suite as "
    "`lobe run` executes it inline, from raw files to stored records, counting everything. The goal is to be near: fast / plain."
)
PATIENTS = {"rsna": 40, "covid-rural": 20, "siim": 30, "object-cxr": 40, "nih-cxr": 40}
NEAR = 1.20


def run(quick: bool, folder: Path) -> Report:
    started = time.monotonic()
    cores = os.cpu_count() or 1
    limit, steps = (4, 1) if quick else (16, 8)
    tasks = ("covid-rural-linear-frozen-100", "covid-rural-unet-frozen-100") if quick else registry.suite("lovt-18").tasks
    units: list[WorkUnit] = []
    for task in tasks:
        dataset = registry.task(task).dataset
        root = corpus(folder / "small", dataset, 14 if quick else PATIENTS[dataset])
        planned, place = jobs(
            folder, root, task, limit=limit, threads=cores, runs=1, batch_size=8, grid=(), max_steps=steps, max_epochs=steps, warmup_steps=2
        )
        units.append(WorkUnit(task, tuple(planned), place))
    store = Store(folder / "suite-out")
    began = time.perf_counter()
    ours = {}
    for event in InlineExecutor().run(Schedule(units)):
        if isinstance(event, Finished):
            ours[event.record.key] = store.put(event.record, event.files)
    wall = time.perf_counter() - began
    inside: dict[str, float] = {}
    alone = {}
    for unit in units:
        for event in run_unit(unit):
            if isinstance(event, Finished):
                alone[event.record.key] = event.record
                for name, seconds in event.record.timings_s.items():
                    inside[name] = inside.get(name, 0.0) + seconds
    for record in ours.values():
        if record.failure is not None:
            raise TrainingError(f"{record.job.labels.task} failed, so there is nothing to measure: {record.failure.sentence}")
    differences = [abs(value - alone[key].metrics[name]) for key, r in ours.items() for name, value in r.metrics.items()]
    floor = sum(inside.get(name, 0.0) for name in ("features", "training", "test"))
    row = Row(
        what=f"{len(units)} tasks from raw files to stored records",
        plain=Timed(seconds=(floor,)),
        fast=Timed(seconds=(wall,)),
        goal="near",
        target=NEAR,
        compared="every test metric of every job",
        difference=max(differences),
        tolerance=0,
        details={f"seconds in {name}": round(seconds, 2) for name, seconds in inside.items()},
    )
    sizes = {"tasks": len(units), "images a split, at most": limit, "steps a run": steps, "batch": min(8, limit // 2), "threads": cores}
    return report("suite", SIDES, quick, sizes, [row], started)
