"""A unit of work: who shares one, what it tells on its way, and that one failure stays one failure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.cards import VOLATILE_FIELDS, Choice, EncoderMode, Role
from benchmark.errors import LobeError, NotSelected
from benchmark.events import Decoded, Encoded, EpochEnded, Finished, Started
from benchmark.execute import work
from benchmark.execute.inline import InlineExecutor
from benchmark.execute.schedule import Schedule
from benchmark.execute.work import Outcome, Search, WorkUnit, near, run_unit, units, with_share_of_memory
from benchmark.rate_search import BASE_SEED

LINEAR, DETECTION = "rsna-linear-frozen-100", "rsna-yolov3-frozen-100"


def records(events) -> list:
    return [e.record for e in events if isinstance(e, Finished)]


def test_frozen_runs_share_a_unit_and_fine_tuned_ones_do_not(small, tiny):
    file = tiny()
    frozen, places = small.plan(LINEAR, [file], runs=3)
    assert [len(unit.jobs) for unit in units(frozen, places)] == [3]
    tuned, places = small.plan(LINEAR, [file], runs=3, card={"encoder": EncoderMode.FINETUNE})
    assert [len(unit.jobs) for unit in units(tuned, places)] == [1, 1, 1]


def test_two_backbones_never_share_a_unit_even_under_one_label(small, tiny):
    files = [tiny("one"), tiny("two", at_build="torch.manual_seed(6)")]
    jobs, places = small.plan(LINEAR, [small.backbone(file, label="mine") for file in files])
    planned = units(jobs, places)
    assert [unit.inputs.backbone_model for unit in planned] == [f"{file}:build" for file in files]
    for unit in planned:
        assert unit.inputs is places[unit.jobs[0].key]


def test_units_side_by_side_take_no_more_than_the_nodes_memory(small, tiny):
    (unit,) = units(*small.plan(LINEAR, [tiny()]))
    whole = unit.options.feature_budget_bytes
    for n in (1, 2, 7):
        share = with_share_of_memory(unit, n)
        assert whole - n < n * share.options.feature_budget_bytes <= whole
        assert replace(share, options=unit.options) == unit


def test_shares_of_one_datasets_labels_share_a_unit_and_its_features(small, tiny, monkeypatch):
    from benchmark.training.features import FeatureBank

    file, seen = tiny(), []
    whole, places = small.plan(LINEAR, [file])
    tenth, _ = small.plan("rsna-linear-frozen-10", [file])
    jobs = [*whole, *tenth]
    (unit,) = units(jobs, dict.fromkeys((job.key for job in jobs), places[whole[0].key]))
    compute = FeatureBank._compute
    monkeypatch.setattr(
        FeatureBank, "_compute", lambda self, part, index, *more: seen.extend(part.rows[index]) or compute(self, part, index, *more)
    )
    assert [r.status for r in records(run_unit(unit))] == ["ok", "ok"]
    assert len(seen) == len(set(seen))


def test_events_tell_of_decoding_start_epochs_and_end_in_this_order(small, tiny):
    jobs, places = small.plan(LINEAR, [tiny()], runs=2)
    (unit,) = units(jobs, places)
    events = list(run_unit(unit))
    per_job = [
        [e for e in events if getattr(e, "key", None) == job.key or (isinstance(e, Finished) and e.record.key == job.key)] for job in jobs
    ]
    for mine in per_job:
        assert isinstance(mine[0], Started)
        assert isinstance(mine[-1], Finished)
        assert tuple(e.epoch for e in mine[1:-1]) == mine[-1].record.curve
        assert mine[-1].files.keys() >= {"masks.parquet", "statistics.parquet"}
    assert all(isinstance(e, Started | Decoded | Encoded | EpochEnded | Finished) for e in events)
    last = [e for e in events if isinstance(e, Decoded)][-1]
    assert last.done == last.total > 0


def test_a_job_that_fails_leaves_the_others_of_its_unit_alone(small, tiny):
    jobs, places = small.plan(LINEAR, [tiny()], runs=3)
    broken = jobs[1].model_copy(update={"experiment": jobs[1].experiment.model_copy(update={"select": "no such metric"})})
    (unit,) = units([jobs[0], broken, jobs[2]], {**places, broken.key: places[jobs[1].key]})
    by_key = {r.key: r for r in records(run_unit(unit))}
    found = [by_key[job.key] for job in unit.jobs]
    assert [r.status for r in found] == ["ok", "failed", "ok"]
    assert "no such metric" in found[1].failure.sentence
    alone = records(run_unit(replace(unit, jobs=(jobs[2],))))
    assert found[2].metrics == alone[0].metrics


def test_a_bug_keeps_its_traceback_and_a_sentence_for_the_user_does_not(small, tiny):
    bug, place = small.one(LINEAR, tiny("bug", at_pyramid="raise KeyError('author')"))
    (record,) = records(run_unit(WorkUnit("bug", (bug,), place)))
    assert "KeyError" in record.failure.sentence
    wrong, place = small.one(LINEAR, tiny("wrong"))
    missing = replace(place, dataset_root=place.dataset_root / "nowhere")
    (record,) = records(run_unit(WorkUnit("wrong", (wrong,), missing)))
    assert (record.failure.kind, record.failure.traceback) == ("DataChanged", "")
    assert "nowhere" in record.failure.sentence
    out_of_range = wrong.model_copy(update={"experiment": wrong.experiment.model_copy(update={"order_seed": -(2**80)})})
    (record,) = records(run_unit(WorkUnit("range", (out_of_range,), place)))
    assert "together.py" in record.failure.traceback


def test_a_failed_record_says_what_it_stands_for(small, tiny):
    job, place = small.one(LINEAR, tiny())
    (record,) = records(run_unit(WorkUnit("x", (job,), replace(place, dataset_root=place.dataset_root / "nowhere"))))
    assert (record.key, record.status, record.scale, record.phantom, record.redistribution) == (job.key, "failed", "limited", True, "ids")
    assert not record.metrics


def test_inline_executor_runs_everything_that_can_run(small, tiny):
    jobs, places = small.plan(LINEAR, [tiny()], runs=2, card={"encoder": EncoderMode.FINETUNE}, grid=(0.01, 0.1))
    found = records(InlineExecutor().run(Schedule(units(jobs, places))))
    assert {r.key for r in found} == {job.key for job in jobs}
    assert all(r.status == "ok" for r in found)


# ------------------------------------------------------------------------------------------------------- one pass of features


@pytest.fixture
def of_two_heads(small, tiny, tmp_path: Path) -> list[WorkUnit]:
    """Units of a linear and of a detection task on one backbone, with a cache of their own."""
    file, jobs, places = tiny(), [], {}
    for task in (LINEAR, DETECTION):
        planned, inputs = small.plan(task, [file], runs=2)
        jobs, places = [*jobs, *planned], places | inputs
    return [replace(unit, inputs=replace(unit.inputs, cache=tmp_path / "cache" / "images")) for unit in units(jobs, places)]


@pytest.fixture
def computed(monkeypatch) -> list[tuple[int, tuple[int, ...]]]:
    """(row, levels) of all features that are computed; no disk is ever too slow."""
    from benchmark.training import features

    seen: list[tuple[int, tuple[int, ...]]] = []
    compute = features.FeatureBank._compute

    def noted(self, part, index, strides=None):
        seen.extend((int(row), tuple(strides or self.strides)) for row in part.rows[index])
        return compute(self, part, index, strides)

    monkeypatch.setattr(features.FeatureBank, "_compute", noted)
    monkeypatch.setattr(features, "is_slower", lambda reading_s, compute_s: False)
    return seen


def content(events) -> list[tuple]:
    return [(e.record.model_dump(exclude=VOLATILE_FIELDS), e.files) for e in events if isinstance(e, Finished)]


def test_units_say_which_heads_read_their_features_and_are_kept_near_them(of_two_heads, small, tiny):
    linear, detection = of_two_heads
    assert linear.heads == detection.heads == ("linear", "yolov3")
    assert near(linear) == near(detection)
    other, places = small.plan(LINEAR, [tiny("other", at_build="torch.manual_seed(6)")])
    (unit,) = units([*other], places)
    assert unit.heads == ("linear",)
    assert near(unit)[0] == near(linear)[0]
    assert near(unit)[1] != near(linear)[1]
    tuned, places = small.plan(LINEAR, [tiny("tuned")], card={"encoder": EncoderMode.FINETUNE})
    (unit,) = units(tuned, places)
    assert (unit.heads, len(near(unit))) == ((), 1)


def test_one_pass_serves_all_heads_and_seeds_and_the_next_run_and_changes_nothing(of_two_heads, computed, monkeypatch):
    found = [content(run_unit(unit)) for unit in of_two_heads]
    assert [record["status"] for unit in found for record, _ in unit] == ["ok"] * 4
    assert {levels for _, levels in computed} == {(32, 8, 16)}
    assert len(computed) == len({row for row, _ in computed})
    computed.clear()
    assert [content(run_unit(unit)) for unit in of_two_heads] == found
    assert computed == []
    # As before there was such a store: every unit in its own memory.
    from benchmark.training import shared_work

    monkeypatch.setattr(shared_work, "_stored", lambda *_: (None, []))
    assert [content(run_unit(unit)) for unit in of_two_heads] == found
    assert {levels for _, levels in computed} == {(32,), (8, 16, 32)}


def test_a_backbone_with_another_way_to_a_level_alone_shares_no_pass_of_several(small, tiny, tmp_path: Path, computed):
    file, found = tiny(at_pyramid="images = images * (1 + 1e-6 * (strides is None or len(strides) > 1))"), []
    for task in (LINEAR, DETECTION):
        jobs, places = small.plan(task, [file])
        (unit,) = units(jobs, places)
        unit = replace(unit, heads=("linear", "yolov3"), inputs=replace(unit.inputs, cache=tmp_path / "cache" / "images"))
        found += records(run_unit(unit))
    assert [record.status for record in found] == ["ok", "ok"]
    assert {levels for _, levels in computed} == {(32,), (8, 16, 32)}


# ------------------------------------------------------------------------------------------------- searching for a learning rate

LOBE = {"protocols": ("lobe",)}
OWN = {"normalised_by": "dataset"}  # the tiny backbone states no statistics of its own
GRID = (1e-4, 3.16e-4, 1e-3, 3.16e-3, 1e-2)


def searching(small, file: Path):
    """Jobs of a search over `GRID` with two seeds, its extension and two final runs."""
    jobs, _ = small.plan(DETECTION, [file], runs=2, card=LOBE, data=OWN)
    return [job for job in jobs if job.experiment.extends_grid], [job for job in jobs if job.experiment.role is Role.FINAL]


def outcomes(job, values: dict[float, tuple[float | None, float | None]], beyond: tuple[float | None, ...] | None = (), **failure) -> dict:
    """As if the selection runs had ended so; `beyond` of None was not needed."""
    listed = [(rate, value) for rate, of_rate in values.items() for value in of_rate]
    found = [
        Outcome(key, rate, value, **({} if value is not None else failure))
        for key, (rate, value) in zip(job.depends_on, listed, strict=False)
    ]
    for key, value in zip(job.depends_on[len(listed) :], (None, None) if beyond is None else beyond, strict=True):
        found.append(Outcome(key, 0.0, value, needed=beyond is not None, **({} if value is not None or beyond is None else failure)))
    return {outcome.key: outcome for outcome in found}


def rising(best: float) -> dict[float, tuple[float, float]]:
    return {rate: (0.5, 0.5) if rate == best else (0.1, 0.2) for rate in GRID}


@pytest.mark.parametrize(("best", "tried"), [(1e-2, 3.16e-2), (1e-4, 3.16e-5), (1e-3, None)])
def test_the_grid_is_extended_where_its_winner_lies_on_the_edge_and_nowhere_else(small, tiny, best: float, tried: float | None) -> None:
    extensions, _ = searching(small, tiny())
    assert [work._learning_rate(job, Search(outcomes(job, rising(best)))) for job in extensions] == [tried, tried]


@pytest.mark.parametrize(
    ("best", "beyond", "expected"),
    [
        (1e-2, (0.6, 0.6), 3.16e-2),
        (1e-2, (0.4, 0.45), 1e-2),
        (1e-2, (None, 0.6), 1e-2),  # training failed there at one seed
        (1e-3, None, 1e-3),
    ],
)
def test_the_final_runs_take_the_best_of_the_grid_and_of_what_was_tried_beyond_it(small, tiny, best, beyond, expected) -> None:
    _, finals = searching(small, tiny())
    for job in finals:
        search = Search(outcomes(job, rising(best), beyond, training=True))
        assert work._learning_rate(job, search) == expected
        made = search.choices[job.key]
        assert made.beyond == (None if beyond is None else 3.16e-2)
        assert not made.uncertain


def test_a_rate_at_which_training_fails_is_out_and_no_other_failure_is_passed_over(small, tiny) -> None:
    (job, _) = searching(small, tiny())[1]
    values = rising(3.16e-3) | {1e-2: (None, 0.9)}
    search = Search(outcomes(job, values, None, training=True))
    assert work._learning_rate(job, search) == 3.16e-3
    assert search.choices[job.key].failed == (1e-2,)
    with pytest.raises(LobeError, match=r"selection run at 0\.01 failed"):
        work._learning_rate(job, Search(outcomes(job, values, None)))
    with pytest.raises(NotSelected, match=r"selection run at 0\.01 was not computed"):
        work._learning_rate(job, Search(outcomes(job, values, None, environment=True)))
    with pytest.raises(LobeError, match="failed"):
        work._learning_rate(job, Search(outcomes(job, dict.fromkeys(GRID, (None, None)), None, training=True)))


def test_a_selection_run_of_which_nothing_is_known_is_no_bug_and_no_failure_of_the_job(small, tiny) -> None:
    """Its outcome may come after the unit began, where it ran out of memory and is tried again elsewhere."""
    (job, _) = searching(small, tiny())[1]
    known = outcomes(job, rising(1e-3), None)
    known.pop(job.depends_on[3])
    with pytest.raises(NotSelected, match=r"1 of 12 selection runs had not ended when this job began"):
        work._learning_rate(job, Search(known))


def test_a_search_beyond_the_grid_that_is_not_needed_ends_before_it_reads_an_image(small, tiny, monkeypatch) -> None:
    from benchmark.training import fit

    jobs, places = small.plan(DETECTION, [tiny()], card=LOBE, data=OWN)
    job = next(job for job in jobs if job.experiment.extends_grid)
    monkeypatch.setattr(fit, "load", None)
    unit = WorkUnit("beyond", (job,), places[job.key], outcomes=tuple(outcomes(job, rising(1e-3)).values()))
    started, finished = run_unit(unit)
    assert started == Started(job.key)
    assert (finished.record.status, finished.record.not_needed) == ("ok", "the winner of the grid does not lie on its edge")
    assert work.outcome_of(finished.record) == Outcome(job.key, 0.0, None, needed=False)


def test_a_search_never_opens_the_test_split_and_is_over_before_any_run_does(small, tiny, monkeypatch) -> None:
    from benchmark.training import data

    jobs, places = small.plan(LINEAR, [tiny()], runs=2, card=LOBE, data=OWN)
    (unit,) = units(jobs, places)
    part, known, opened = data._part, [], []

    def noticing(name, *rest):
        if name == "test":
            opened.append(len(known))
        return part(name, *rest)

    monkeypatch.setattr(data, "_part", noticing)
    for event in run_unit(unit):
        if isinstance(event, Finished):  # whoever reads the events stores the record before it asks for the next
            known.append(event.record)
    searched = [record for record in known if record.job.experiment.role is Role.SELECTION]
    finals = [record for record in known if record.job.experiment.role is Role.FINAL]
    assert len(searched) == 2 * 9 + 2
    assert opened
    assert min(opened) == len(searched)
    for record in searched:
        assert (record.status, record.metrics, record.predictions, "test" in record.counts) == ("ok", {}, (), False)
        assert not any(what.startswith("test") for what in record.sample_digests)
        assert bool(record.not_needed) != (record.job.experiment.select in record.validation)
    values = {
        rate: tuple(r.validation["opacity_dice"] for r in searched if r.job.experiment.learning_rate == rate)
        for rate in {r.job.experiment.learning_rate for r in searched} - {None}
    }
    for record in finals:
        assert isinstance(record.choice, Choice)
        found = dict(zip(record.choice.rates, record.choice.values, strict=True))
        assert {rate: found[rate] for rate in values} == values
        assert record.learning_rate == max(found, key=lambda rate: sum(found[rate]))
        assert record.metrics["opacity_dice"] >= 0
        assert record.choice.uncertain == any("choice uncertain" in warning for warning in record.warnings)
    assert {r.job.experiment.order_seed for r in finals} == {BASE_SEED, BASE_SEED + 1}


def test_other_protocols_keep_their_records_of_a_search(small, tiny) -> None:
    jobs, places = small.plan(LINEAR, [tiny()], grid=(1e-2, 1e-3))
    (unit,) = units(jobs, places)
    for record in records(run_unit(unit)):
        assert record.metrics
        assert not {"choice", "not_needed"} & set(record.model_dump(mode="json"))
