"""All 18 tasks of LoVT by the fast path and by the plain one: the same epoch, and metrics within 1e-5."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import registry
from benchmark.bench.corpus import corpus, jobs
from benchmark.execute.work import Finished, WorkUnit, run_unit

pytestmark = pytest.mark.slow

PATIENTS = {"rsna": 30, "covid-rural": 20, "siim": 30, "object-cxr": 30, "nih-cxr": 30}
CLOSE = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fast-path")


@pytest.mark.parametrize("task", registry.suite("lovt-18").tasks)
def test_a_task_gives_the_same_numbers_by_both_paths(folder: Path, plain_fit, task, record_property):
    dataset = registry.task(task).dataset
    root = corpus(folder, dataset, PATIENTS[dataset])
    planned, place = jobs(folder, root, task, limit=12, threads=1, runs=1, batch_size=4, max_steps=6, max_epochs=6, warmup_steps=2)
    planned = [job.model_copy(update={"depends_on": ()}) for job in planned[:1]]  # the first learning rate stands for the grid
    (record,) = (e.record for e in run_unit(WorkUnit(task, tuple(planned), place)) if isinstance(e, Finished))
    assert record.failure is None
    plain = plain_fit(record.job, place, record.learning_rate)
    record_property("path", record.path)
    record_property("largest difference", max(abs(record.metrics[name] - value) for name, value in plain.metrics.items()))
    assert (record.selected_epoch, record.steps) == (plain.selected_epoch, plain.steps)
    assert record.validation == pytest.approx(plain.validation, abs=CLOSE)
    assert record.metrics == pytest.approx(plain.metrics, abs=CLOSE)
