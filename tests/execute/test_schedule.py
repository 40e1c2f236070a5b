"""What may start when: selection before the final runs that wait for it, the longest first, and a failed selection fails its finals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmark.cards import EncoderMode, Role
from benchmark.errors import NotSelected
from benchmark.events import Finished
from benchmark.execute import schedule as module
from benchmark.execute.costs import Costs
from benchmark.execute.schedule import Schedule
from benchmark.execute.work import Outcome, WorkUnit, outcome_of, run_unit, units
from benchmark.training.record import failed
from tests.execute.test_simulate import suite_units

LINEAR = "rsna-linear-frozen-100"
GRID = (0.01, 0.1)


@pytest.fixture
def apart(small, tiny):
    """Selection and final jobs as units of their own, as fine-tuning has them."""
    jobs, places = small.plan(LINEAR, [tiny()], card={"encoder": EncoderMode.FINETUNE}, grid=GRID, runs=2)
    return units(jobs, places)


def names(unit: WorkUnit) -> list[str]:
    return [f"{job.experiment.role.value} {job.experiment.learning_rate or job.labels.run}" for job in unit.jobs]


def test_final_runs_wait_for_every_selection_run(apart):
    schedule = Schedule(reversed(apart))
    first, second = schedule.next(), schedule.next()
    assert {job.experiment.role for unit in (first, second) for job in unit.jobs} == {Role.SELECTION}
    assert schedule.next() is None
    done = [next(e for e in run_unit(unit) if isinstance(e, Finished)) for unit in (first, second)]
    schedule.note(done[0])
    assert schedule.next() is None
    schedule.note(done[1])
    final = schedule.next()
    assert {(o.key, o.value) for o in final.outcomes} == {(e.record.key, e.record.validation["opacity_dice"]) for e in done}
    record = next(e.record for e in run_unit(final) if isinstance(e, Finished))
    best = max(done, key=lambda e: e.record.validation["opacity_dice"])
    assert record.learning_rate == best.record.job.experiment.learning_rate


def test_a_final_run_trains_with_the_earlier_rate_of_a_tie(apart):
    final = apart[-1]
    outcomes = tuple(Outcome(key, rate, 0.5) for key, rate in zip(final.jobs[0].depends_on, GRID, strict=True))
    record = next(e.record for e in run_unit(replace(final, outcomes=outcomes)) if isinstance(e, Finished))
    assert record.learning_rate == GRID[0]


def test_a_failed_selection_run_fails_the_final_runs_with_its_rate(apart):
    schedule = Schedule(apart)
    for _ in GRID:
        unit = schedule.next()
        schedule.note(Finished(failed(unit.jobs[0], unit.inputs, unit.options, RuntimeError("broken"))))
    for _ in range(2):
        (record,) = (e.record for e in run_unit(schedule.next()) if isinstance(e, Finished))
        assert record.status == "failed"
        assert record.failure.sentence == (
            "The learning rate could not be selected: the selection run at 0.01, 0.1 failed. See its own record."
        )
    assert schedule.next() is None


def test_selection_runs_stored_earlier_need_not_run_again(apart):
    selection, finals = apart[:2], apart[2:]
    stored = [next(e.record for e in run_unit(unit) if isinstance(e, Finished)) for unit in selection]
    schedule = Schedule(finals, stored)
    unit = schedule.next()
    assert unit is not None
    assert unit.outcomes == tuple(sorted((outcome_of(r) for r in stored), key=lambda o: o.key))


def test_a_frozen_unit_holds_its_selection_and_its_final_runs(small, tiny):
    jobs, places = small.plan(LINEAR, [tiny()], grid=GRID, runs=2)
    (unit,) = units(jobs, places)
    assert names(unit) == ["selection 0.01", "selection 0.1", "final 0", "final 1"]
    assert Schedule([unit]).next() == unit


def test_a_final_run_that_began_before_a_repeated_selection_run_ended_is_tried_again_with_its_outcome(small, tiny):
    """The selection run ran out of memory, then the process was lost; the rest of the unit starts before the second try has ended."""
    jobs, places = small.plan(LINEAR, [tiny()], grid=GRID)
    schedule = Schedule(units(jobs, places))
    taken = schedule.next()
    first, final = taken.jobs[0], taken.jobs[-1]
    assert schedule.retry(taken, Finished(failed(first, taken.inputs, taken.options, MemoryError("no room"))), share=1.0)
    rest = schedule.refreshed(replace(taken, jobs=taken.jobs[1:]))
    for event in run_unit(schedule.next()):
        schedule.note(event)
    *_, selected, lacking = (event for event in run_unit(rest) if isinstance(event, Finished))
    schedule.note(selected)
    assert (lacking.record.key, lacking.record.failure.kind) == (final.key, NotSelected.__name__)
    assert schedule.retry(rest, lacking, share=1.0)
    again = schedule.next()
    assert (again.jobs, {outcome.key for outcome in again.outcomes}) == ((final,), set(final.depends_on))
    (done,) = (event for event in run_unit(again) if isinstance(event, Finished))
    assert done.record.status == "ok"
    assert not schedule.retry(again, lacking, share=1.0)  # who knew all outcomes is not tried for ever
    assert len(schedule) == 0


def test_the_longest_unit_starts_first(small, tiny):
    file = tiny()
    planned = []
    for task in (LINEAR, "rsna-yolov3-frozen-100", "covid-rural-unet-frozen-100"):
        jobs, places = small.plan(task, [file], max_steps=None)
        planned += units(jobs, places)
    schedule = Schedule(planned)
    order = [schedule.next() for _ in planned]
    costs = [Costs().unit_seconds(unit) for unit in order]
    assert costs == sorted(costs, reverse=True)
    assert order[-1].jobs[0].experiment.head == "linear"


def test_a_unit_that_others_overtook_often_enough_is_waited_for(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 5)
    costs, made = Costs(), suite_units(1, "cpu")
    longest = Schedule(made).next()
    schedule = Schedule(made)

    def fit(unit: WorkUnit) -> bool | None:
        return None if costs.needs(unit) == costs.needs(longest) else True

    assert len(list(schedule.ready_needs(1))) > 1
    overtook = 0
    while schedule.next_that_fits(fit) is not None:
        overtook += 1
    assert overtook == 5
    assert any(costs.needs(unit) != costs.needs(longest) for unit in schedule._units.values())  # there are more that would fit
    assert schedule.next() == longest


def test_a_unit_whose_jobs_are_done_by_now_never_starts():
    made = suite_units(1)
    first = Schedule(made).next()
    schedule = Schedule(made)
    for job in first.jobs:
        schedule.drop(job.key)
    assert len(schedule) == len(made) - 1
    assert not schedule.keys() & {job.key for job in first.jobs}
    started = []
    while (unit := schedule.next()) is not None:
        started.append(unit)
    assert started
    assert first not in started


def test_fine_tuning_is_expected_to_take_longer_than_frozen(small, tiny):
    file = tiny()
    frozen, _ = small.one(LINEAR, file)
    tuned, _ = small.one(LINEAR, file, card={"encoder": EncoderMode.FINETUNE})
    assert Costs().seconds(tuned) > Costs().seconds(frozen)
