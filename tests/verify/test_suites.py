"""All 18 tasks of LoVT from raw phantom files to stored records, in two worker processes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmark import registry
from benchmark.api import Request, evaluate
from benchmark.phantom.corpus import Plan, write_corpus

pytestmark = pytest.mark.slow

PATIENTS = {"rsna": 40, "covid-rural": 20, "siim": 30, "object-cxr": 40, "nih-cxr": 40}


def test_all_18_tasks_complete_on_phantoms(tmp_path: Path, record_property):
    for name, patients in PATIENTS.items():
        write_corpus(Plan(dataset=name, n_patients=patients, seed=5), tmp_path / "data" / registry.dataset(name).folder)
    started = time.monotonic()
    request = Request(
        backbones=["torchvision:resnet18"],
        suite="lovt-18",
        data=[str(tmp_path / "data")],
        out=tmp_path / "out",
        cache=tmp_path / "cache",
        limit=16,
        profile="smoke",
        runs=1,
    )
    evaluation = evaluate(request)
    record_property("jobs", len(evaluation.records))
    record_property("minutes for the suite", f"{(time.monotonic() - started) / 60:.1f}")
    assert [(r.job.labels.task, r.failure.sentence) for r in evaluation.failures if r.failure] == []
    assert {r.job.labels.task for r in evaluation.records} == set(registry.suite("lovt-18").tasks)
