"""What MLflow is told: evaluation and runs as parent and child, a failure as a failure, and nothing an agreement keeps in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from benchmark.cards import Failure
from benchmark.tracking import EXPERIMENT, Tracker

LINEAR = "rsna-linear-frozen-100"
PLANTED = "patient-4711-secret"


@pytest.fixture
def record(small, tiny, tmp_path: Path):
    """A record with its files in `tmp_path/out`."""
    from benchmark.store import Store

    job, place = small.one(LINEAR, tiny())
    made = small.fit(job, place, produced=tmp_path / "produced")
    return Store(tmp_path / "out").put(made, {p.name: p.read_bytes() for p in (tmp_path / "produced").iterdir()})


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory) -> Path:
    """A database with MLflow's tables and nothing in them: making these takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def out(tmp_path: Path, empty_store: Path) -> Path:
    (tmp_path / "out").mkdir(exist_ok=True)
    shutil.copy(empty_store, tmp_path / "out" / "mlflow.db")
    return tmp_path / "out"


def runs_of(out: Path):
    client = MlflowClient(tracking_uri=f"sqlite:///{out / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    return client, {run.data.tags["lobe.kind"]: run for run in runs}


def artifacts(client, run_id: str, path: str | None = None) -> set[str]:
    found = set()
    for entry in client.list_artifacts(run_id, path):
        found |= artifacts(client, run_id, entry.path) if entry.is_dir else {entry.path}
    return found


def failure_of(record, sentence: str):
    return record.model_copy(
        update={
            "status": "failed",
            "metrics": {},
            "predictions": (),
            "failure": Failure(kind="ImageError", sentence=sentence, traceback=""),
        }
    )


def planted(record, redistribution: str):
    """The record with an id in every place that may hold one."""
    rule = record.job.experiment.dataset.split_rule.model_copy(update={"patients": {"train": (PLANTED,)}})
    data = record.job.experiment.dataset.model_copy(update={"split_rule": rule})
    job = record.job.model_copy(update={"experiment": record.job.experiment.model_copy(update={"dataset": data})})
    return record.model_copy(update={"job": job, "key": job.key, "redistribution": redistribution, "warnings": (f"{PLANTED} is odd",)})


def everything_on_disk(out: Path) -> bytes:
    """Bytes of the tracking store alone: its database (with what SQLite keeps beside it) and its artifacts."""
    files = [*out.glob("mlflow.db*"), *(p for p in (out / "mlartifacts").rglob("*") if p.is_file())]
    assert files
    return b"".join(path.read_bytes() for path in files)


def test_a_run_is_a_child_of_its_evaluation_and_both_finish(record, out: Path):
    tracker = Tracker(out, "tasks · tiny", {"protocol": "published"})
    tracker.record(record, out)
    tracker.close(failures=0)
    assert tracker.problem is None
    client, runs = runs_of(out)
    parent, child = runs["evaluation"], runs["run"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (parent.info.status, child.info.status) == ("FINISHED", "FINISHED")
    assert parent.data.params == {"protocol": "published"}
    assert (child.data.params["task"], child.data.params["head_seed"]) == (LINEAR, str(record.job.experiment.head_seed))
    assert child.data.metrics["test_opacity_dice"] == record.metrics["opacity_dice"]
    losses = client.get_metric_history(child.info.run_id, "train_loss")
    assert [(m.step, m.value) for m in losses] == [(e.epoch, e.train_loss) for e in record.curve]


def test_a_failed_run_is_failed_with_its_sentence_and_so_is_its_evaluation(record, out: Path):
    tracker = Tracker(out, "x", {})
    tracker.record(failure_of(record, "image 12 cannot be read"), out)
    tracker.close(failures=1)
    _, runs = runs_of(out)
    assert (runs["evaluation"].info.status, runs["run"].info.status) == ("FAILED", "FAILED")
    assert runs["run"].data.tags["lobe.failure"] == "image 12 cannot be read"


@pytest.mark.parametrize(("redistribution", "with_predictions"), [("open", True), ("ids", False), ("none", False)])
def test_predictions_are_uploaded_only_where_the_agreement_is_open(record, out: Path, redistribution, with_predictions):
    tracker = Tracker(out, "x", {})
    tracker.record(record.model_copy(update={"redistribution": redistribution}), out)
    client, runs = runs_of(out)
    stored = artifacts(client, runs["run"].info.run_id)
    assert {"job.json", "record.json"} <= stored
    assert any(name.startswith("predictions/") for name in stored) == with_predictions


def test_under_an_agreement_without_redistribution_no_id_reaches_the_tracking_store(record, out: Path):
    tracker = Tracker(out, "x", {})
    given = planted(record, "none")
    tracker.record(given, out)
    tracker.record(failure_of(given, f"{PLANTED}.dcm cannot be read"), out)
    tracker.close(failures=1)
    assert tracker.problem is None
    stored = everything_on_disk(out)
    assert PLANTED.encode() not in stored
    assert given.predictions[0].encode() not in stored
    for sample_digest in given.sample_digests.values():
        assert sample_digest.encode() not in stored
    _, runs = runs_of(out)
    assert "run" in runs


def test_the_same_ids_would_be_found_if_the_agreement_let_them_out(record, out: Path):
    tracker = Tracker(out, "x", {})
    tracker.record(planted(record, "ids"), out)
    assert PLANTED.encode() in everything_on_disk(out)


def test_a_lost_store_is_said_once_and_never_raised(record, out: Path, tmp_path: Path, monkeypatch):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'a file' / 'mlflow.db'}")
    tracker = Tracker(out, "x", {})
    first = tracker.problem
    assert "Tracking stopped" in first
    tracker.record(record, out)
    tracker.close(failures=0)
    assert tracker.problem == first


def test_metrics_of_lovt_with_an_at_sign_are_accepted(record, out: Path):
    tracker = Tracker(out, "x", {})
    tracker.record(record.model_copy(update={"metrics": {"mAP@0.5": 0.25}}), out)
    assert tracker.problem is None
    assert runs_of(out)[1]["run"].data.metrics["test_mAP_at_0.5"] == 0.25


def test_a_second_evaluation_joins_the_same_experiment(record, out: Path):
    for _ in range(2):
        tracker = Tracker(out, "x", {})
        tracker.close(failures=0)
    client = MlflowClient(tracking_uri=f"sqlite:///{out / 'mlflow.db'}")
    assert len([e for e in client.search_experiments() if e.name == EXPERIMENT]) == 1
