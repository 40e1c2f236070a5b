"""A learning rate that is sent in is the one its search gives, also where two seeds and a step beyond the grid decide."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from benchmark import registry
from benchmark.cards import BackboneRef, DatasetRef, Failure, Record, Role
from benchmark.plan import NamedBackbone, Settings, plan
from benchmark.rate_search import is_out
from benchmark.submission.completeness import incomplete_tasks, missing_from, odd_runs

TASK = registry.task("object-cxr-yolov3-frozen-100-lobe-v1")
GRID = registry.protocol("lobe").grid_of(TASK.head, TASK.encoder)
Values = Mapping[float, tuple[float, float]]


def searched(values: Values, chosen: float, beyond: tuple[float, float] | None = None, failed: float | None = None) -> list[Record]:
    """A whole search and its reported runs, as if they had been computed so.

    Args:
        chosen: rate of the reported runs.
        beyond: values one step beyond the grid; None where that was not needed.
        failed: rate at which training failed at one seed.
    """
    card = registry.dataset(TASK.dataset)
    about = {"split": TASK.split, "split_rule": card.splits[TASK.split], "classes": card.classes, "statistics": card.statistics}
    ref = DatasetRef(name=card.name, digest="images", target="boxes", intensity="as-stored", **about)
    backbone = NamedBackbone("mine", BackboneRef(family="torchvision", model="resnet50", digest="abc"))
    records = []
    for job in plan([TASK], [backbone], {card.name: ref}, registry.protocol("lobe"), Settings()):
        e = job.experiment
        known = {"key": job.key, "job": job, "scale": "full", "phantom": False, "redistribution": "ids"}
        if e.role is Role.FINAL:
            found = {"status": "ok", "learning_rate": chosen, "metrics": {TASK.report: 0.5}}
        elif e.extends_grid and beyond is None:
            found = {"status": "ok", "not_needed": "the winner lies inside"}
        elif failed is not None and (e.learning_rate, job.labels.run) == (failed, 1):
            found = {"status": "failed", "failure": Failure(kind="TrainingError", sentence="The loss is not finite.", traceback="")}
        else:
            value = (beyond if e.extends_grid else values[e.learning_rate])[job.labels.run]
            found = {"status": "ok", "learning_rate": e.learning_rate, "validation": {TASK.select: value}}
        records.append(Record(**known, **found))
    return records


def rising(best: float) -> Values:
    return {rate: (0.5, 0.5) if rate == best else (0.2, 0.3) for rate in GRID}


@pytest.mark.parametrize(
    ("best", "beyond", "chosen"), [(GRID[2], None, GRID[2]), (GRID[-1], (0.6, 0.6), 0.0316), (GRID[-1], (0.4, 0.6), GRID[-1])]
)
def test_the_rate_that_the_search_gives_is_no_odd_run(best: float, beyond: tuple[float, float] | None, chosen: float) -> None:
    assert odd_runs(searched(rising(best), chosen, beyond)) == []


def test_a_rate_that_wins_at_one_seed_alone_is_found() -> None:
    values = rising(GRID[2]) | {GRID[1]: (0.9, 0.0)}
    found = odd_runs(searched(values, GRID[1]))
    assert len(found) == 5
    assert found[0] == f"mine on {TASK.id}: run 1 trained with {GRID[1]:g}, the search gives {GRID[2]:g}."


def test_a_search_that_stopped_at_an_edge_that_won_is_found() -> None:
    assert "its search stopped at 0.01, on the edge of the grid" in odd_runs(searched(rising(GRID[-1]), GRID[-1]))[0]


def test_a_rate_at_which_training_failed_cannot_be_the_one_that_is_sent_in() -> None:
    values = rising(GRID[3]) | {GRID[4]: (0.9, 0.9)}
    assert [is_out(record) for record in searched(values, GRID[3], failed=GRID[4]) if record.status == "failed"] == [True]
    assert odd_runs(searched(values, GRID[3], failed=GRID[4])) == []
    assert "the search gives 0.00316" in odd_runs(searched(values, GRID[4], failed=GRID[4]))[0]


def test_a_run_and_a_search_that_are_not_there_are_missing() -> None:
    records = searched(rising(GRID[2]), GRID[2])
    assert missing_from(records, None) == []
    finals = [record for record in records if record.job.experiment.role is Role.FINAL]
    assert missing_from([record for record in records if record is not finals[0]], None) == [f"mine on {TASK.id}: run 1 of 5 is missing."]
    n_searches = len(finals[0].job.depends_on)
    part = [record for record in records if record.key != finals[0].job.depends_on[0]]
    (sentence,) = missing_from(part, None)
    assert sentence == f"mine on {TASK.id}: 1 of {n_searches} runs of its learning-rate search are missing."
    assert [incomplete_tasks(each) for each in (records, part, records[:-1], [])] == [[], [TASK.id], [TASK.id], []]


def test_one_run_by_two_jobs_is_odd() -> None:
    records = searched(rising(GRID[2]), GRID[2])
    final = next(record for record in records if record.job.experiment.role is Role.FINAL)
    assert odd_runs([*records, final])[0] == f"mine on {TASK.id}: a run is there twice, with different jobs."


def test_a_search_of_which_a_run_failed_for_another_reason_says_nothing_of_a_rate() -> None:
    records = searched(rising(GRID[2]), GRID[3])
    assert "the search gives" in odd_runs(records)[0]
    lost = next(record for record in records if record.job.experiment.role is Role.SELECTION)
    failure = Failure(kind="OSError", sentence="The disk is full.", traceback="")
    failed = lost.model_copy(update={"status": "failed", "failure": failure, "validation": {}})
    assert odd_runs([failed if record is lost else record for record in records]) == []
