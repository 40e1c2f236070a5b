"""The whole fast path (cache, features computed once, heads side by side) gives the numbers of decoding and encoding every time."""

from __future__ import annotations

import pytest

from benchmark.events import Finished
from benchmark.execute.work import WorkUnit, run_unit

CLOSE = 1e-5
CASES = [
    ("rsna-linear-frozen-100", {"grid": (0.1, 0.01)}),
    ("rsna-yolov3-frozen-100", {}),
    ("covid-rural-unet-frozen-100", {}),
    ("covid-rural-unet-finetune-100", {"warmup_steps": 1}),
]


@pytest.mark.parametrize(("task", "recipe"), CASES, ids=[task for task, _ in CASES])
def test_fast_and_plain_path_select_the_same_epoch_and_score_the_same(small, tiny, plain_fit, task, recipe):
    jobs, places = small.plan(task, [tiny()], limit=8, batch_size=4, max_steps=4, **recipe)
    place = places[jobs[0].key]
    for record in [e.record for e in run_unit(WorkUnit(task, tuple(jobs), place)) if isinstance(e, Finished)]:
        assert record.failure is None
        plain = plain_fit(record.job, place, record.learning_rate)
        assert (record.selected_epoch, record.steps) == (plain.selected_epoch, plain.steps)
        assert record.validation == pytest.approx(plain.validation, abs=CLOSE)
        assert record.metrics == pytest.approx(plain.metrics, abs=CLOSE)
