"""Results of an earlier release: taken over where everything that decided them is today's, left alone where it is not."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest

from benchmark import adopt, api, plan, registry, resolve
from benchmark.cards import Job, Normalisation, Record, Role
from benchmark.cli.run import _job_row
from benchmark.events import Finished
from benchmark.execute.inline import InlineExecutor
from benchmark.execute.schedule import Schedule
from benchmark.execute.work import units
from benchmark.report.rows import rows_of
from benchmark.shelf import Shelf
from benchmark.store import Store

LINEAR = "rsna-linear-frozen-100"


def as_stored_earlier(job: Job, outline: str) -> Job:
    """The job as the release before planned it: a dataset was label bytes, names and sizes."""
    data = job.experiment.dataset.model_copy(update={"digest": outline})
    return job.model_copy(update={"experiment": job.experiment.model_copy(update={"dataset": data})})


def write_as_earlier(out: Path, record: Record, files: dict[str, bytes], outline: str, keys: dict[str, str]) -> str:
    """Plain JSON under the earlier key, with its files; nothing of today's store is used. Gives the key."""
    job = as_stored_earlier(record.job, outline)
    content = record.model_dump(mode="json", exclude={"checksum", "file_digests"})  # as the earlier release wrote records
    content |= {"key": job.key, "job": job.model_dump(mode="json"), "predictions": [f"predictions/{job.key}/{name}" for name in files]}
    content["job"]["depends_on"] = [keys[key] for key in job.depends_on]
    (out / "records").mkdir(parents=True, exist_ok=True)
    (out / "records" / f"{job.key}.json").write_text(json.dumps(content, indent=1))
    for name, held in files.items():
        (out / "predictions" / job.key).mkdir(parents=True, exist_ok=True)
        (out / "predictions" / job.key / name).write_bytes(held)
    return job.key


@pytest.fixture(scope="module")
def computed(corpora: Path, image_cache: Path, tmp_path_factory: pytest.TempPathFactory):
    """Two searched rates and two runs, computed once: records with their files, in plan order."""
    root = tmp_path_factory.mktemp("adopt") / "data"
    shutil.copytree(corpora / "rsna", root / "rsna")
    card = registry.task(LINEAR)
    recipe = card.recipe.model_copy(update={"max_steps": 2, "max_epochs": 2, "grid": (1e-2, 1e-3)})
    card = card.model_copy(update={"recipe": recipe, "frame_size": 64})
    protocol = registry.protocol("published")
    backbone = resolve.backbone("torchvision:resnet18", image_cache)
    dataset = resolve.dataset(registry.dataset("rsna"), root / "rsna", protocol, limit=12, cache=image_cache)
    jobs = plan.plan([card], [backbone.named], {"rsna": dataset.ref}, protocol, plan.Settings(runs=2, limit=12))
    inputs = resolve.inputs(backbone, dataset, image_cache)
    events = InlineExecutor().run(Schedule(units(jobs, {job.key: inputs for job in jobs})))
    ended = {e.record.key: (e.record, dict(e.files)) for e in events if isinstance(e, Finished)}
    assert {record.status for record, _ in ended.values()} == {"ok"}
    return root, backbone, dataset, jobs, [ended[job.key] for job in jobs]


@pytest.fixture
def earlier(computed, tmp_path: Path):
    """A store as the release before would have written it, and what is asked of it."""
    _, backbone, dataset, jobs, ended = computed
    keys: dict[str, str] = {}
    for record, files in ended:
        keys[record.key] = write_as_earlier(tmp_path / "out", record, files, dataset.outline, keys)
    store = Store(tmp_path / "out")
    assert {record.key for record in store.all()} == set(keys.values())
    return store, keys, lambda: adopt.candidates(jobs, Shelf(store.out), [backbone], [dataset])


def test_results_on_the_same_images_are_taken_over_to_the_digit(computed, earlier) -> None:
    *_, jobs, ended = computed
    store, keys, candidates = earlier
    kept = {key: store.path(key).read_bytes() for key in keys.values()}
    seen = []
    adopted = adopt.adopt(candidates(), store, lambda *told: seen.append(told))
    assert [record.key for record in adopted] == [job.key for job in jobs]
    assert seen[-1][0] == seen[-1][1] > 0
    for (record, files), new in zip(ended, adopted, strict=True):
        assert store.get(new.key) == new
        assert new.adopted_from == keys[new.key]
        changed = {"predictions", "adopted_from", "checksum", "file_digests"}
        assert new.model_dump(exclude=changed) == record.model_dump(exclude=changed)
        assert {Path(name).name: (store.out / name).read_bytes() for name in new.predictions} == files
        assert all(name.startswith(f"predictions/{new.key}/") for name in new.predictions)
    finals = [record for record in adopted if record.job.experiment.role is Role.FINAL]
    assert {key for record in finals for key in record.job.depends_on} <= {job.key for job in jobs}
    assert kept == {key: store.path(key).read_bytes() for key in keys.values()}  # evidence stays


def test_a_result_taken_over_counts_once_and_the_search_stays_with_its_runs(computed, earlier) -> None:
    *_, jobs, _ = computed
    store, _, candidates = earlier
    (before,) = rows_of(store.all())
    adopt.adopt(candidates(), store)
    assert {record.key for record in store.all()} == {job.key for job in jobs}
    (after,) = rows_of(store.all(), planned=jobs)
    assert [run.value for run in after.runs] == [run.value for run in before.runs]
    assert len(after.runs) == 2
    assert candidates() == []


def test_predictions_take_no_room_twice(earlier) -> None:
    store, _, candidates = earlier
    (first, *_) = adopt.adopt(candidates(), store)
    assert all(os.stat(store.out / name).st_nlink == 2 for name in first.predictions)
    assert first.predictions


def test_where_files_have_one_name_only_predictions_are_there_twice(earlier, monkeypatch) -> None:
    def none(*_) -> None:
        raise OSError(1, "Operation not permitted")  # as file systems without hard links say

    store, keys, candidates = earlier
    monkeypatch.setattr(adopt.os, "link", none)
    for record in adopt.adopt(candidates(), store):
        names = [store.out / name for name in record.predictions]
        old = [store.out / "predictions" / keys[record.key] / name.name for name in names]
        assert names
        assert [path.read_bytes() for path in names] == [path.read_bytes() for path in old]
        assert {path.stat().st_nlink for path in names} == {1}
    assert not list(store.out.rglob("*.tmp"))


def test_an_image_replaced_since_is_no_reason_to_take_anything_over(computed, earlier, tmp_path: Path) -> None:
    """Its name and size are the same, so the earlier key is too."""
    root, backbone, dataset, jobs, _ = computed
    store, *_ = earlier
    moved = tmp_path / "data"
    shutil.copytree(root, moved)
    path = moved / "rsna" / "stage_2_train_images" / f"{_test_ids(jobs[0], moved)[0]}.dcm"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    protocol = registry.protocol("published")
    now = resolve.dataset(registry.dataset("rsna"), moved / "rsna", protocol, limit=12)
    assert (now.outline == dataset.outline, now.ref.digest == dataset.ref.digest) == (True, False)
    planned = [
        job.model_copy(
            update={
                "experiment": job.experiment.model_copy(
                    update={"dataset": job.experiment.dataset.model_copy(update={"digest": now.ref.digest})}
                )
            }
        )
        for job in jobs
    ]
    found = adopt.candidates(planned, Shelf(store.out), [backbone], [now])
    assert len(found) == len(jobs)
    assert adopt.adopt(found, store) == []


def test_a_dataset_that_broke_since_is_no_reason_to_take_anything_over(computed, earlier, tmp_path: Path) -> None:
    """Nor to stop: the jobs are planned, and say it themselves."""
    root, backbone, dataset, jobs, _ = computed
    store, *_ = earlier
    shutil.copytree(root / "rsna", tmp_path / "rsna")
    (tmp_path / "rsna" / "stage_2_train_labels.csv").unlink()
    found = adopt.candidates(jobs, Shelf(store.out), [backbone], [dataclasses.replace(dataset, root=tmp_path / "rsna")])
    assert len(found) == len(jobs)
    assert adopt.adopt(found, store) == []


def _test_ids(job: Job, root: Path) -> list[str]:
    from benchmark.readers.base import open_reader
    from benchmark.training.data import choose

    return [s.id for s in choose(job.experiment, open_reader(registry.dataset("rsna"), root / "rsna"))["test"]]


@pytest.mark.parametrize(
    "change",
    [
        {"sample_digests": {}},
        {"sample_digests": {"test files": "0" * 64}},
        {"sample_digests": {"train": "0" * 64}},
        {"status": "failed", "failure": {"kind": "x", "sentence": "y", "traceback": ""}},
    ],
    ids=["says nothing of its files", "other bytes", "other images", "failed"],
)
def test_a_record_that_does_not_say_the_same_is_not_taken_over(earlier, change: dict) -> None:
    store, keys, candidates = earlier
    old = next(iter(keys.values()))
    content = json.loads(store.path(old).read_text())
    held = content["sample_digests"]
    content |= change
    if change.get("sample_digests"):
        content["sample_digests"] = held | change["sample_digests"]
    store.path(old).write_text(json.dumps(content))
    adopted = adopt.adopt(candidates(), store)
    assert old not in {record.adopted_from for record in adopted}
    assert len(adopted) == len(keys) - 1


def test_other_weights_are_another_backbone(computed, earlier, tmp_path: Path) -> None:
    *_, dataset, jobs, _ = computed
    store, *_ = earlier
    fixed = jobs[0].experiment.backbone.model_copy(update={"digest": "1" * 64})
    other = resolve.ResolvedBackbone(plan.NamedBackbone("other", fixed.model_copy(update={"init_seed": None})), "resnet18", None)
    planned = [job.model_copy(update={"experiment": job.experiment.model_copy(update={"backbone": fixed})}) for job in jobs]
    assert adopt.candidates(planned, Shelf(store.out), [other], [dataset]) == []


def test_statistics_that_no_earlier_key_holds_are_not_guessed(computed, earlier) -> None:
    _, backbone, dataset, jobs, _ = computed
    store, keys, _ = earlier
    stating = dataclasses.replace(backbone.named, statistics=Normalisation(mean=(0.5,), std=(0.5,)))
    now = dataclasses.replace(backbone, named=stating)
    refs = [stating.self_normalised.model_copy(update={"init_seed": job.experiment.backbone.init_seed}) for job in jobs]
    planned = [
        job.model_copy(update={"experiment": job.experiment.model_copy(update={"backbone": ref})})
        for job, ref in zip(jobs, refs, strict=True)
    ]
    assert adopt.candidates(planned, Shelf(store.out), [now], [dataset]) == []
    assert [c.earlier_key for c in adopt.candidates(jobs, Shelf(store.out), [now], [dataset])] == list(keys.values())


def test_a_backbone_that_was_named_otherwise_is_found_by_its_earlier_reference(computed, earlier) -> None:
    _, backbone, dataset, jobs, _ = computed
    store, keys, _ = earlier
    renamed = backbone.named.ref.model_copy(update={"model": "resnet18:code"})
    now = resolve.ResolvedBackbone(plan.NamedBackbone("r", renamed), backbone.model, None, earlier=backbone.named.ref)
    planned = [
        job.model_copy(
            update={
                "experiment": job.experiment.model_copy(
                    update={"backbone": renamed.model_copy(update={"init_seed": job.experiment.backbone.init_seed})}
                )
            }
        )
        for job in jobs
    ]
    found = adopt.candidates(planned, Shelf(store.out), [now], [dataset])
    assert [c.earlier_key for c in found] == list(keys.values())
    assert len(adopt.adopt(found, store)) == len(jobs)
    unknown = resolve.ResolvedBackbone(plan.NamedBackbone("r", renamed), backbone.model, None)
    assert adopt.candidates(planned, Shelf(store.out), [unknown], [dataset]) == []


def test_an_evaluation_takes_over_what_it_finds_and_computes_only_the_rest(corpora: Path, image_cache: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(plan, "smoke_steps", lambda head: 2)
    given = {"executor": "inline", "runs": 1, "limit": 8, "profile": "smoke", "tracking": False, "cache": image_cache}
    request = api.Request(["torchvision:resnet18"], (LINEAR,), data=[str(corpora)], out=tmp_path / "first", **given)
    (record,) = api.evaluate(request).records
    outline = resolve.dataset(registry.dataset("rsna"), corpora / "rsna", registry.protocol("published"), limit=8).outline
    files = {Path(name).name: (request.out / name).read_bytes() for name in record.predictions}
    later = dataclasses.replace(request, out=tmp_path / "out", runs=2)
    old = write_as_earlier(later.out, record, files, outline, {})
    dry = api.plan_jobs(later, hashing=False)
    assert (dry.earlier, dry.n_todo, dry.adopted) == ({record.key}, 2, 0)
    assert [_job_row(job, dry)["state"] for job in dry.jobs] == ["to take over", "to compute"]
    again = api.evaluate(later)
    assert (again.computed, again.planned.adopted, len(again.planned.done)) == (1, 1, 1)
    (taken,) = [r for r in again.records if r.key == record.key]
    assert (taken.adopted_from, taken.metrics, taken.finished_at) == (old, record.metrics, record.finished_at)
    assert api.evaluate(later).computed == 0
    assert "adopted" not in record.model_dump_json()
    assert api.write_report(later.out).page.exists()
