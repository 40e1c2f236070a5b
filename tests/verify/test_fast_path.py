"""All 18 tasks of LoVT by the fast path and by the plain one: the same epoch, and metrics within 1e-5.

At 64 pixels with a backbone of five convolutions, so that it is minutes: what is compared is the path, not the size.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import registry
from benchmark.cards import EncoderMode
from benchmark.events import Finished
from benchmark.execute.work import WorkUnit, run_unit
from tests.perf.corpus import corpus

pytestmark = pytest.mark.slow

PATIENTS = {"rsna": 30, "covid-rural": 20, "siim": 30, "object-cxr": 30, "nih-cxr": 30}
CLOSE = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fast-path")


@pytest.mark.parametrize("task", registry.suite("lovt-18").tasks)
def test_a_task_gives_the_same_numbers_by_both_paths(folder: Path, small, tiny, plain_fit, task, record_property):
    card = registry.task(task)
    root = corpus(folder, card.dataset, PATIENTS[card.dataset])
    side_by_side = card.head == "linear"  # two learning rates and the run that takes the better one
    jobs, places = small.plan(
        task,
        [tiny()],
        root=root,
        limit=12,
        batch_size=4,
        max_steps=6,
        max_epochs=6,
        warmup_steps=1 if card.encoder is EncoderMode.FINETUNE else 0,
        grid=card.recipe.grid[:2] if side_by_side else (),
    )
    place = places[jobs[0].key]
    records = [e.record for e in run_unit(WorkUnit(task, tuple(jobs), place)) if isinstance(e, Finished)]
    assert len(records) == (3 if side_by_side else 1)
    differences = []
    for record in records:
        assert record.failure is None, record.failure.sentence
        plain = plain_fit(record.job, place, record.learning_rate)
        differences += [abs(record.metrics[name] - value) for name, value in plain.metrics.items()]
        assert (record.path, plain.path) == ("fused" if side_by_side else "plain", "plain")
        assert (record.selected_epoch, record.steps) == (plain.selected_epoch, plain.steps)
        assert record.validation == pytest.approx(plain.validation, abs=CLOSE)
        assert record.metrics == pytest.approx(plain.metrics, abs=CLOSE)
    record_property("runs", len(records))
    record_property("largest difference", f"{max(differences):.2g}")
