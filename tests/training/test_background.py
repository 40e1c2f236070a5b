"""Scores and files made beside the next job's training: the same bytes, every end told, failures the job's own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from benchmark.cards import VOLATILE_FIELDS
from benchmark.errors import TrainingError
from benchmark.events import EpochEnded, Finished, Started
from benchmark.execute import work
from benchmark.execute.work import run_unit, units
from benchmark.kinds.segmentation import Segmentation
from benchmark.training import background
from benchmark.training.background import Background
from benchmark.training.shared_work import SharedWork

LINEAR, UNET, DETECTION = "rsna-linear-frozen-100", "covid-rural-unet-frozen-100", "rsna-yolov3-frozen-100"


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch):
    """Says how many cores this process may use."""
    return lambda n: monkeypatch.setattr(work, "usable_cores", lambda: n)


def finished(unit) -> dict[str, Finished]:
    return {event.record.key: event for event in run_unit(unit) if isinstance(event, Finished)}


def content(record) -> dict:
    return record.model_dump(exclude=set(VOLATILE_FIELDS))


@pytest.mark.parametrize("task", [LINEAR, UNET, DETECTION])
def test_an_idle_core_changes_no_byte_of_records_and_files(small, tiny, cores, task):
    jobs, places = small.plan(task, [tiny()], runs=2, max_steps=2, batch_size=4)
    (unit,) = units(jobs, places)
    cores(1)
    inline = finished(unit)
    cores(8)
    beside = finished(unit)
    assert list(inline) == list(beside) == [job.key for job in jobs]
    for key, one in inline.items():
        assert one.record.status == "ok"
        assert content(one.record) == content(beside[key].record)
        assert {name: one.files[name] for name in sorted(one.files)} == beside[key].files


def test_the_next_job_trains_while_one_is_scored(small, tiny, cores, monkeypatch):
    """The first job's scoring waits for an epoch of the second."""
    jobs, places = small.plan(UNET, [tiny()], runs=2, max_steps=2, batch_size=4)
    (unit,) = units(jobs, places)
    trained, test = threading.Event(), Segmentation.test

    def waits(self, predicted, *rest):
        found = test(self, predicted, *rest)
        assert trained.wait(60)
        return found

    monkeypatch.setattr(Segmentation, "test", waits)
    cores(8)
    order = []
    for event in run_unit(unit):
        if isinstance(event, EpochEnded) and event.key == jobs[1].key:
            trained.set()
        if isinstance(event, Started | Finished):
            order.append((type(event), event.key if isinstance(event, Started) else event.record.key))
    first, second = (job.key for job in jobs)
    assert order == [(Started, first), (Started, second), (Finished, first), (Finished, second)]


@pytest.mark.parametrize("task", [LINEAR, UNET])
def test_a_failure_in_the_background_is_that_jobs_failed_record(small, tiny, cores, monkeypatch, task):
    jobs, places = small.plan(task, [tiny()], runs=2, max_steps=2, batch_size=4)
    (unit,) = units(jobs, places)
    test, calls = Segmentation.test, []

    def fails_once(self, *given):
        calls.append(1)
        if len(calls) == 1:
            raise TrainingError("as the first test would have it")
        return test(self, *given)

    monkeypatch.setattr(Segmentation, "test", fails_once)
    cores(8)
    found = [event.record for event in finished(unit).values()]
    assert sorted(record.status for record in found) == ["failed", "ok"]
    (failed,) = (record for record in found if record.status == "failed")
    assert failed.failure.sentence == "as the first test would have it"


def test_a_job_that_waits_for_a_selection_has_its_outcome(small, tiny, cores):
    jobs, places = small.plan(DETECTION, [tiny()], grid=(1e-3, 1e-4), max_steps=2, batch_size=4)
    (unit,) = units(jobs, places)
    cores(1)
    inline = finished(unit)
    cores(8)
    beside = finished(unit)
    assert len(jobs) == 3
    assert [content(e.record) for e in inline.values()] == [content(e.record) for e in beside.values()]
    assert all(event.record.status == "ok" for event in beside.values())


def test_an_encoder_that_changes_fails_its_job_in_the_background_too(small, tiny, cores, monkeypatch):
    jobs, places = small.plan(DETECTION, [tiny()], runs=2, max_steps=2, batch_size=4)
    (unit,) = units(jobs, places)
    require, calls = SharedWork.require_unchanged, []

    def moved_once(self):
        calls.append(1)
        if len(calls) == 1:
            raise TrainingError("The encoder changed")
        require(self)

    monkeypatch.setattr(SharedWork, "require_unchanged", moved_once)
    cores(8)
    assert [event.record.status for event in finished(unit).values()] == ["failed", "ok"]


def test_only_a_job_that_another_follows_and_a_core_that_nobody_uses_start_a_thread(small, tiny, cores, monkeypatch):
    jobs, places = small.plan(DETECTION, [tiny()], runs=2, max_steps=1, batch_size=4)
    (unit,) = units(jobs, places)
    cores(4)
    assert work._has_idle_core(unit)
    assert not work._has_idle_core(replace(unit, jobs=unit.jobs[:1]))
    assert not work._has_idle_core(replace(unit, workers=2))
    assert work._has_idle_core(work.with_share_of_memory(unit, 3))
    assert not work._has_idle_core(work.with_share_of_memory(unit, 4))
    cores(1)
    assert not work._has_idle_core(unit)


def batches(n: int) -> Iterator[tuple[np.ndarray, int]]:
    return ((np.array([i]), i) for i in range(n))


def test_predictions_that_break_off_leave_nothing_behind():
    background, seen = Background(), []

    def breaks():
        yield from batches(3)
        raise TrainingError("here")

    with pytest.raises(TrainingError, match="here"):
        background.score("job", breaks(), lambda predicted: seen.extend(value for _, value in predicted))
    assert seen == [0, 1, 2]
    assert background.ended(wait=True) == []
    background.score("next", batches(5), lambda predicted: sum(value for _, value in predicted))
    assert background.ended(wait=True) == [("next", 10)]
    background.close()


def test_scoring_that_fails_half_way_takes_no_more_predictions():
    background, made = Background(), []

    def fails(predicted):
        next(predicted)
        raise TrainingError("enough")

    def counted():
        for batch in batches(10_000):
            made.append(1)
            yield batch

    background.score("job", counted(), fails)
    ((job, error),) = background.ended(wait=True)
    assert (job, str(error)) == ("job", "enough")
    assert len(made) < 10
    background.close()


def test_a_slow_thread_is_waited_for_and_loses_no_batch(monkeypatch):
    full, waited = threading.Event(), []

    class Noted(queue.Queue):
        def put(self, item, **options):
            try:
                super().put(item, **options)
            except queue.Full:
                waited.append(item)
                if len(waited) == 3:
                    full.set()
                raise

    monkeypatch.setattr(background, "_LOOK_S", 0.001)
    monkeypatch.setattr(background.queue, "Queue", Noted)
    beside = Background()

    def scored(batches):
        assert full.wait(60)
        return list(batches)

    beside.score("job", iter(range(5)), scored)
    assert beside.ended(wait=True) == [("job", [0, 1, 2, 3, 4])]
    assert len(waited) >= 3
    beside.close()


def test_what_ends_the_thread_ends_the_process(monkeypatch):
    beside = Background()

    def ends(batches):
        list(batches)
        raise SystemExit(3)

    beside.score("job", iter(()), ends)
    with pytest.raises(SystemExit):
        beside.ended(wait=True)
    beside.close()


def test_a_job_that_was_handed_over_before_the_others_broke_keeps_its_result(small, tiny, cores, monkeypatch):
    """Two jobs train side by side; the second's test fails as a bug does while the first's is scored in the thread."""
    jobs, places = small.plan(LINEAR, [tiny()], runs=3, max_steps=2, batch_size=4)
    (unit,) = units(jobs, places)
    score, seen = Background.score, []

    def breaking(self, job, *rest):
        seen.append(job.key)
        if len(seen) == 2:
            raise KeyError("a bug")
        return score(self, job, *rest)

    cores(8)
    whole = finished(unit)
    monkeypatch.setattr(Background, "score", breaking)
    found = finished(unit)
    assert list(found) == list(whole)
    assert content(found[seen[0]].record) == content(whole[seen[0]].record)
    assert seen.count(seen[0]) == 1  # and is not trained again
