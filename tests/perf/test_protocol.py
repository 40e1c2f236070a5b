"""Arithmetic from seconds an image to hours of the full protocol."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmark import registry
from tests.perf import gpu
from tests.perf.protocol import ImageCosts, full_size, run_seconds, task_seconds

TASKS = registry.suite("lovt-18").tasks


def test_the_full_protocol_has_136_runs():
    assert sum(full_size(task).runs for task in TASKS) == 136


def test_a_share_of_labels_is_a_share_of_training_images_alone():
    size = full_size("rsna-yolov3-finetune-1")
    assert (size.train, size.validation, size.test) == (160, 534, 5337)  # LoVT's lists (docs/tasks.md)
    assert (size.runs, size.fewest_epochs, size.most_epochs) == (7, 21, 500)
    assert full_size("rsna-yolov3-frozen-10").runs == 5  # the one task without a grid


def test_a_tasks_time_is_what_is_done_once_and_what_every_run_repeats():
    size = full_size("covid-rural-linear-frozen-100")
    assert (size.runs, size.train, size.validation, size.test) == (9, 133, 44, 44)
    costs = ImageCosts(once=1000.0, train=1.0, validation=0.1, test=0.01)
    assert run_seconds(size, costs, epochs=2) == pytest.approx(9 * (2 * (133 + 4.4) + 0.44))
    assert task_seconds(size, costs, epochs=2) == pytest.approx(221_000 + 9 * (2 * (133 + 4.4) + 0.44))
    assert run_seconds(size, replace(costs, run=7.0), epochs=2) == pytest.approx(9 * (7 + 2 * (133 + 4.4) + 0.44))


def test_gpu_hours_are_the_measured_seconds_of_every_step_of_every_task():
    kinds = {(card.head, card.encoder) for card in map(registry.task, TASKS)}
    measured = {(card.head, card.encoder) for card in map(registry.task, gpu.NEAR_TASKS + gpu.ALSO)}
    assert measured == kinds
    ours, bare = ImageCosts(once=0.0, train=2.0, validation=1.0, test=1.0), ImageCosts(once=0.0, train=1.0, validation=1.0, test=1.0)
    shortest, longest = gpu.hours(dict.fromkeys(kinds, (bare, ours)), difference=0.0)
    sizes = [full_size(task) for task in TASKS]
    expected = sum(s.runs * (s.fewest_epochs * (2 * s.train + s.validation) + s.test) for s in sizes)
    assert shortest.fast.median == pytest.approx(expected)
    assert shortest.details["GPU-hours"] == pytest.approx(expected / 3600, abs=0.01)
    assert shortest.fast.median < longest.fast.median
    assert 1 < shortest.ratio < 2
