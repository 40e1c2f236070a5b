"""The verbs as a notebook calls them: what can be used is used, what cannot is said, and done is done."""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark import api, plan, registry, resolve
from benchmark.api import Request, evaluate, plan_jobs, write_report
from benchmark.cards import Record
from benchmark.encoders import describe
from benchmark.encoders.describe import FactoryDigest
from benchmark.errors import LobeError, StoreError, TrainingError, UsageError
from benchmark.events import Finished, Hashing
from benchmark.readers.base import open_reader
from benchmark.report.reproduce import Cell
from benchmark.store import Store
from tests.corpora import CorpusPlan, write_corpus
from tests.report.conftest import make_job, make_record

LINEAR = "rsna-linear-frozen-100"
LATE = "from net.late import act; self.stages['2'][2] = act"


@pytest.fixture
def request_for(corpora: Path, tmp_path: Path, image_cache: Path, monkeypatch):
    monkeypatch.setattr(plan, "smoke_steps", lambda head: 2)
    return partial(small_request, corpora, image_cache, out=tmp_path / "out")


def small_request(corpora: Path, cache: Path, out: Path, **changes) -> Request:
    given = {
        "backbones": ["torchvision:resnet18"],
        "tasks": [LINEAR],
        "data": [str(corpora)],
        "out": out,
        "cache": cache,
        "executor": "inline",
        "runs": 1,
        "limit": 8,
        "profile": "smoke",
        "tracking": False,
    }
    return Request(**(given | changes))


@pytest.fixture(scope="module")
def evaluated(corpora: Path, image_cache: Path, tmp_path_factory):
    """One evaluation, and everything its watcher saw."""
    seen = []
    watcher = SimpleNamespace(planned=seen.append, event=seen.append)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "smoke_steps", lambda head: 2)
        request = small_request(corpora, image_cache, tmp_path_factory.mktemp("evaluated") / "out")
        return SimpleNamespace(request=request, evaluation=evaluate(request, watcher), seen=seen)


def test_planning_computes_nothing_and_lists_every_job(request_for, tmp_path: Path):
    planned = plan_jobs(request_for(profile="full", runs=2))
    assert [job.experiment.role.value for job in planned.jobs] == ["selection"] * 4 + ["final"] * 2
    assert (planned.n_todo, planned.done, planned.problems) == (6, {}, ())
    assert Store(tmp_path / "out").all() == []


def test_a_part_that_cannot_be_used_is_a_problem_and_the_rest_is_planned(request_for):
    planned = plan_jobs(request_for(backbones=["torchvision:resnet18", "no-such-card"], tasks=[LINEAR, "siim-unet-frozen-100"]))
    assert {job.labels.task for job in planned.jobs} == {LINEAR}
    assert [p.what for p in planned.problems] == ["backbone no-such-card", "dataset siim"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"limit": 1}, "--limit 1"),
        ({"runs": 0}, "--seeds 0"),
        ({"tasks": []}, "either --suite"),
        ({"data": []}, "Where is the data"),
        ({"protocol": "publsihed"}, "published"),
        ({"backbones": ["no-such-card"]}, "no-such-card"),
    ],
)
def test_a_request_that_makes_no_sense_starts_nothing(request_for, changes, sentence, tmp_path: Path):
    with pytest.raises(LobeError, match=sentence):
        evaluate(request_for(**changes))
    assert Store(tmp_path / "out").all() == []


def test_a_backbone_named_twice_is_evaluated_once(request_for):
    assert len(plan_jobs(request_for(backbones=["torchvision:resnet18"] * 2)).jobs) == 1


def test_evaluating_again_computes_nothing_and_gives_the_same_records(evaluated, request_for):
    again = evaluate(request_for(out=evaluated.request.out))
    assert (evaluated.evaluation.computed, again.computed) == (1, 0)
    assert again.records == evaluated.evaluation.records


def test_more_seeds_compute_only_the_new_runs(evaluated, request_for, tmp_path: Path):
    shutil.copytree(evaluated.request.out, tmp_path / "out")
    more = evaluate(request_for(runs=2))
    assert (more.computed, len(more.records)) == (1, 2)


def test_a_failure_stays_until_asked_for_again(request_for, monkeypatch):
    def fail(*_):
        raise TrainingError("nothing was learnt")

    with monkeypatch.context() as patch:
        patch.setattr("benchmark.training.fit.train", fail)
        patch.setattr("benchmark.training.fit.train_together", fail)
        assert [r.failure.sentence for r in evaluate(request_for()).failures] == ["nothing was learnt"]
    again = evaluate(request_for())
    assert (again.computed, len(again.failures)) == (0, 1)
    mended = evaluate(request_for(retry_failed=True))
    assert (mended.computed, mended.failures) == (1, [])


def test_mended_images_are_another_dataset_and_computed_at_once(request_for, corpora: Path, tmp_path: Path):
    shutil.copytree(corpora / "rsna", tmp_path / "data" / "rsna")
    images = sorted((tmp_path / "data" / "rsna" / "stage_2_train_images").glob("*.dcm"))
    kept = {path: path.read_bytes() for path in images}
    for path in images:
        path.write_bytes(b"\0" * len(kept[path]))
    here = {"data": [str(tmp_path / "data")]}
    assert [r.status for r in evaluate(request_for(**here)).failures] == ["failed"]
    for path, content in kept.items():
        path.write_bytes(content)
    mended = evaluate(request_for(**here))
    assert (mended.computed, mended.failures) == (1, [])


def test_hashing_is_seen_and_planning_without_it_says_what_it_does_not_know(request_for, corpora: Path, tmp_path: Path):
    seen = []
    shutil.copytree(corpora / "rsna", tmp_path / "data" / "rsna")
    request = dataclasses.replace(request_for(data=[str(tmp_path / "data")]), cache=tmp_path / "cache")
    unread = plan_jobs(request, hashing=False)
    planned = plan_jobs(request, SimpleNamespace(event=seen.append))
    assert [(e.dataset, e.done_bytes <= e.total_bytes) for e in seen] == [("rsna", True)] * len(seen)
    assert (seen[0].done_bytes, seen[-1].done_bytes) == (0, seen[-1].total_bytes)
    (unhashed,) = unread.unhashed
    assert (unhashed.dataset, unhashed.n_bytes) == ("rsna", seen[-1].total_bytes)
    assert 8 * 3 <= unhashed.n_files < len(list((tmp_path / "data" / "rsna").rglob("*.dcm")))  # of a limited run, not all
    assert unread.provisional == {job.key for job in unread.jobs}
    assert not unread.provisional & {job.key for job in planned.jobs}
    assert (planned.unhashed, planned.provisional) == ((), frozenset())


def test_a_watcher_sees_the_plan_first_and_every_end(evaluated):
    seen = [e for e in evaluated.seen if not isinstance(e, Hashing)]  # before there can be a plan
    assert isinstance(seen[0], api.Planned)
    assert [e.record.key for e in seen if isinstance(e, Finished)] == [r.key for r in evaluated.evaluation.records]


def test_files_named_by_a_record_are_there(evaluated):
    (record,) = evaluated.evaluation.records
    assert {Path(name).name for name in record.predictions} >= {"masks.parquet", "statistics.parquet"}
    assert all((evaluated.request.out / name).is_file() for name in record.predictions)


def test_a_report_needs_records(tmp_path: Path):
    with pytest.raises(UsageError, match="holds no results yet"):
        write_report(tmp_path / "empty")
    assert not (tmp_path / "empty").exists()


def test_the_report_names_how_many_planned_runs_are_missing(evaluated, tmp_path: Path):
    out = tmp_path / "copy"
    shutil.copytree(evaluated.request.out, out)
    store = Store(out)
    assert {job.key for job in store.planned()} == {record.key for record in store.all()}
    (job,) = store.planned()
    later = job.model_copy(
        update={
            "experiment": job.experiment.model_copy(update={"head_seed": 9}),
            "labels": job.labels.model_copy(update={"run": 1}),
        }
    )
    store.plan([later])
    assert "1 of 2 runs, 1 missing" in write_report(out).page.read_text()


# ---------------------------------------------------------------------------------------------------------- damaged results


@pytest.fixture
def copied(evaluated, tmp_path: Path):
    """A copy of an evaluation's folder: `path(run)` of its record, `put(run)` makes another run of it."""
    out = tmp_path / "copy"
    shutil.copytree(evaluated.request.out, out)
    store = Store(out)
    (record,) = store.all()
    files = {Path(name).name: (out / name).read_bytes() for name in record.predictions}

    def put(run: int) -> Record:
        changes = {"experiment": record.job.experiment.model_copy(update={"head_seed": run})}
        job = record.job.model_copy(update=changes | {"labels": record.job.labels.model_copy(update={"run": run})})
        return store.put(record.model_copy(update={"job": job, "key": job.key}), files)

    return SimpleNamespace(out=out, store=store, record=record, put=put)


def test_several_folders_are_reported_together_each_result_once(copied, tmp_path: Path, lobe):
    other = tmp_path / "other"
    shutil.copytree(copied.out, other)  # with the first run, which lies in both
    second = copied.put(1)
    page = write_report([copied.out, other, copied.out]).page
    assert page == copied.out / "report" / "index.html"
    rows = json.loads((page.parent / "leaderboard.json").read_text())["rows"]
    assert [(row["runs_ok"], row["runs_expected"], set(row["keys"])) for row in rows] == [(2, 2, {copied.record.key, second.key})]
    assert rows[0]["interval_covers"].startswith("runs and ")  # statistics of each run are found where it lies
    shutil.rmtree(other / "report", ignore_errors=True)
    code, said, _ = lobe("report", "--out", other, "--out", copied.out)
    assert (code, str(other / "report") in said.replace("\n", "")) == (0, True)
    again = json.loads((other / "report" / "leaderboard.json").read_text())["rows"]
    assert [row["mean_percent"] for row in again] == [row["mean_percent"] for row in rows]


def test_folders_with_different_results_of_one_job_are_not_reported_together(copied, tmp_path: Path):
    other = Store(tmp_path / "other")
    record = copied.record
    other.put(record.model_copy(update={"metrics": {name: value / 2 + 0.1 for name, value in record.metrics.items()}, "predictions": ()}))
    with pytest.raises(UsageError, match=f"hold different results of one job .{record.key}: {LINEAR}"):
        write_report([copied.out, other.out])


def pages_of(written: api.WrittenReport) -> dict[str, str]:
    """Pages of a report, and the data that they load, by file name."""
    return {path.name: path.read_text() for path in sorted(written.page.parent.rglob("*")) if path.suffix in (".html", ".js")}


def test_the_report_goes_on_beside_damaged_results_and_names_them(copied, lobe):
    records = [copied.record, copied.put(1), copied.put(2)]
    copied.store.plan(record.job for record in records)
    edited, other_statistics, whole = records
    path = copied.store.path(edited.key)
    path.write_text(path.read_text().replace('"phantom": true', '"phantom": false'))
    statistics = copied.out / "predictions" / other_statistics.key / "statistics.parquet"
    statistics.write_bytes(statistics.read_bytes() + b" ")
    written = write_report(copied.out)
    assert {one.key for one in written.refused} == {edited.key, other_statistics.key}
    pages = pages_of(written)
    records = pages["records.html"]
    assert "Refused records (2)" in records
    assert f"{path} is damaged or was edited" in records
    assert f"{statistics} is not the file that was stored" in records
    assert "1 of 3 runs, 2 missing: the stored record" in pages["index.html"]
    assert any(whole.key in page for page in pages.values())
    assert [name for name, page in pages.items() if name.endswith(".html") and 'class="watermark"' not in page] == ["papers.html"]
    code, out, err = lobe("report", "--out", copied.out)
    assert (code, "Leaderboard:" in out, err.count("refused:")) == (1, True, 2)


def test_a_run_says_which_of_its_records_is_damaged(copied, request_for):
    path = copied.store.path(copied.record.key)
    path.write_text(path.read_text().replace('"ok"', '"failed"'))
    with pytest.raises(StoreError, match=str(path)):
        evaluate(request_for(out=copied.out))


def test_predictions_that_changed_are_not_drawn(copied):
    assert "overlays/" in "".join(pages_of(write_report(copied.out)).values())
    masks = copied.out / "predictions" / copied.record.key / "masks.parquet"
    masks.write_bytes(masks.read_bytes() + b" ")
    written = write_report(copied.out)
    assert [one.key for one in written.refused] == [copied.record.key]
    assert "overlays/" not in "".join(pages_of(written).values())


def test_provenance_says_which_records_have_no_checksum(copied):
    assert any(copied.record.checksum[:16] in page for page in pages_of(write_report(copied.out)).values())
    older = copied.record.model_dump_json(exclude={"checksum", "file_digests"})
    copied.store.path(copied.record.key).write_text(older)
    written = write_report(copied.out)
    assert (written.refused, any("without checksum" in page for page in pages_of(written).values())) == ((), True)


def test_a_paper_beside_a_damaged_record_lists_it_and_goes_on(copied):
    path = copied.store.path(copied.record.key)
    path.write_text("{")
    (refused,) = api.reproduce("lovt", copied.out).refused
    assert refused.first == f"record {copied.record.key}"
    assert str(path) in refused.reason


def test_a_paper_waits_for_the_runs_that_were_planned_in_the_folder(tmp_path: Path):
    backbone = {"backbone": "lovt-100", "digest": "a" * 64}
    store = Store(tmp_path / "out")
    for run in range(2):
        store.put(make_record(0.3 + run / 100, run=run, **backbone))

    def measured() -> Cell:
        found = api.reproduce("lovt", store.out)
        (cell,) = [cell for table in found.tables for cell in table.cells if cell.measured is not None]
        return cell

    assert measured().difference is not None
    store.plan(make_job(run=run, **backbone) for run in range(5))
    assert (measured().difference, measured().why_not) == (None, "2 of 5 runs, 3 missing: not run yet")


def test_two_folders_with_modules_of_one_name_give_together_what_each_gives_alone(request_for, tiny, tmp_path: Path, monkeypatch):
    """`model.py`, and a package below, beside both files; the second must not be built from those of the first."""
    one_at_a_time = threading.Lock()

    def observed(model: str) -> FactoryDigest:
        """In this process, which is quicker."""
        with one_at_a_time:
            return FactoryDigest.of(describe.observe(model))

    monkeypatch.setattr(resolve, "describe", observed)
    names = []
    for folder, act in (("a", "ReLU"), ("b", "Sigmoid")):
        file = tiny(folder, at_build="import model; torch.manual_seed(5)", at_pyramid=LATE)
        (file.parent / "net").mkdir()
        (file.parent / "model.py").write_text(f"from torch import nn\nact = nn.{act}()\n")
        (file.parent / "net" / "late.py").write_text("from model import act\n")
        names.append(f"{file}:build")

    def losses(out: str, *backbones: str) -> list[list[float]]:
        evaluation = evaluate(request_for(backbones=backbones, out=tmp_path / out))
        assert [record.status for record in evaluation.records] == ["ok"] * len(backbones)
        return [[epoch.train_loss for epoch in record.curve] for record in evaluation.records]

    together = losses("together", *names)
    assert together == losses("a", names[0]) + losses("b", names[1])
    assert together[0] != together[1]


def test_code_below_the_folder_that_changed_is_computed_anew(request_for, tiny, monkeypatch):
    monkeypatch.setattr(resolve, "describe", lambda model: FactoryDigest.of(describe.observe(model)))
    file = tiny(at_pyramid=LATE)
    (file.parent / "net").mkdir()
    (file.parent / "net" / "late.py").write_text("from torch import nn\nact = nn.ReLU()\n")
    request = request_for(backbones=[f"{file}:build"])
    assert [evaluate(request).computed, evaluate(request).computed] == [1, 0]
    (file.parent / "net" / "late.py").write_text("from torch import nn\nact = nn.Tanh()\n")
    evaluation = evaluate(request)
    assert (evaluation.computed, [record.status for record in evaluation.records]) == (1, ["ok"])


def test_tasks_on_two_splits_of_a_dataset_have_the_inputs_of_their_own_split(request_for, tmp_path: Path):
    write_corpus(CorpusPlan(dataset="ms-cxr", n_patients=8, seed=5, images_per_patient=(1, 1)), tmp_path / "ms-cxr")
    tasks = ["ms-cxr-grounding-lobe", "ms-cxr-grounding-test-lobe"]
    planned = plan_jobs(request_for(tasks=tasks, data=[f"ms-cxr={tmp_path / 'ms-cxr'}"], profile="full", protocol="corrected"))
    assert planned.problems == ()
    card = registry.dataset("ms-cxr")
    reader = open_reader(card, tmp_path / "ms-cxr")
    found = {}
    for unit in planned.todo:
        (split,) = {job.experiment.dataset.split for job in unit.jobs}
        found[split] = unit.inputs.sizes
        assert unit.inputs.sizes.test == len(reader.split(card.splits[split])["test"])
    assert found["all-phrases"] != found["official"]
