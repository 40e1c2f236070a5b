"""What MLflow is told: evaluation and runs in their order, a failure as a failure, and nothing an agreement keeps in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2

from benchmark.cards import Epoch, Failure
from benchmark.integrity import sealed
from benchmark.tracking import runs as runs_module
from benchmark.tracking import tracker as tracking
from benchmark.tracking.address import tracking_uri
from benchmark.tracking.runs import EXPERIMENT
from benchmark.tracking.tracker import Tracker

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


def changed(record, **update):
    """A record of its own with these changes, as if it had been stored."""
    return sealed(record.model_copy(update=update))


def failure_of(record, sentence: str):
    failure = Failure(kind="ImageError", sentence=sentence, traceback="")
    return changed(record, status="failed", metrics={}, predictions=(), file_digests={}, failure=failure)


def planted(record, redistribution: str):
    """The record with an id in every place that may hold one."""
    rule = record.job.experiment.dataset.split_rule.model_copy(update={"patients": {"train": (PLANTED,)}})
    data = record.job.experiment.dataset.model_copy(update={"split_rule": rule})
    job = record.job.model_copy(update={"experiment": record.job.experiment.model_copy(update={"dataset": data})})
    digests = {name.replace(record.key, job.key): digest for name, digest in record.file_digests.items()}
    update = {"job": job, "key": job.key, "predictions": tuple(digests), "file_digests": digests}
    return changed(record, **update, redistribution=redistribution, warnings=(f"{PLANTED} is odd",))


def everything_on_disk(out: Path) -> bytes:
    """Bytes of the tracking store alone: its database (with what SQLite keeps beside it) and its artifacts."""
    files = [*out.glob("mlflow.db*"), *(p for p in (out / "mlartifacts").rglob("*") if p.is_file())]
    assert files
    return b"".join(path.read_bytes() for path in files)


def test_a_run_is_a_child_of_its_evaluation_and_both_finish(record, out: Path):
    tracker = Tracker(out, "tasks · tiny", {"protocol": "published"})
    tracker.record(record)
    tracker.close("FINISHED")
    assert tracker.problem is None
    client, runs = runs_of(out)
    parent, child = runs["evaluation"], runs["run"]
    assert runs["task"].data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.tags["mlflow.parentRunId"] == runs["task"].info.run_id
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert parent.data.params == {"protocol": "published"}
    assert (child.data.params["task"], child.data.params["head_seed"]) == (LINEAR, str(record.job.experiment.head_seed))
    assert child.data.metrics["test_opacity_dice"] == record.metrics["opacity_dice"]
    losses = client.get_metric_history(child.info.run_id, "train_loss")
    assert [(m.step, m.value) for m in losses] == [(e.epoch, e.train_loss) for e in record.curve]


def test_a_run_by_an_own_card_has_a_tag_that_says_so(record, out: Path):
    job = record.job.model_copy(update={"labels": record.job.labels.model_copy(update={"custom": ("task", "prompts"), "run": 1})})
    tracker = Tracker(out, "x", {})
    tracker.record(changed(record, job=job))
    tracker.close("FINISHED")
    _, runs = runs_of(out)
    assert runs["run"].data.tags["lobe.custom"] == "task, prompts"
    # Counted from one, in the title and among the parameters alike.
    assert runs["run"].info.run_name.endswith("run 2")
    assert runs["run"].data.params["run"] == "2"


def test_a_failed_run_is_failed_with_its_sentence_and_so_is_its_evaluation(record, out: Path):
    tracker = Tracker(out, "x", {})
    tracker.record(failure_of(record, "image 12 cannot be read"))
    tracker.close("FAILED")
    _, runs = runs_of(out)
    assert (runs["evaluation"].info.status, runs["run"].info.status) == ("FAILED", "FAILED")
    assert runs["run"].data.tags["lobe.failure"] == "image 12 cannot be read"


@pytest.fixture
def usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize(("redistribution", "with_predictions"), [("open", True), ("ids", False), ("none", False)])
def test_predictions_are_uploaded_only_where_the_agreement_is_open(record, out: Path, usual_umask, redistribution, with_predictions):
    tracker = Tracker(out, "x", {})
    tracker.record(changed(record, redistribution=redistribution))
    tracker.close("FINISHED")
    client, runs = runs_of(out)
    stored = artifacts(client, runs["run"].info.run_id)
    assert {"job.json", "record.json"} <= stored
    assert any(name.startswith("predictions/") for name in stored) == with_predictions
    folder = out / "mlartifacts" / runs["run"].info.run_id / "artifacts"
    modes = {path.name: path.stat().st_mode & 0o777 for path in (folder, folder / "job.json", folder / "record.json")}
    private = {"artifacts": 0o700, "job.json": 0o600, "record.json": 0o600}
    assert (modes == private) == (redistribution == "none")
    assert (out / "mlartifacts").stat().st_mode & 0o055 == 0o055  # other runs lie there, on data that may be passed on


def test_under_an_agreement_without_redistribution_no_id_reaches_the_tracking_store(record, out: Path):
    tracker = Tracker(out, "x", {})
    given = planted(record, "none")
    tracker.record(given)
    tracker.record(failure_of(given, f"{PLANTED}.dcm cannot be read"))
    tracker.close("FAILED")
    assert tracker.problem is None
    stored = everything_on_disk(out)
    assert PLANTED.encode() not in stored
    assert given.predictions[0].encode() not in stored
    for digest in (*given.sample_digests.values(), *given.file_digests.values()):
        assert digest.encode() not in stored
    _, runs = runs_of(out)
    assert "run" in runs


def test_the_same_ids_would_be_found_if_the_agreement_let_them_out(record, out: Path):
    tracker = Tracker(out, "x", {})
    tracker.record(planted(record, "ids"))
    tracker.close("FINISHED")
    assert PLANTED.encode() in everything_on_disk(out)


def epochs(n: int) -> list[Epoch]:
    given = {"validation_loss": 0.5, "learning_rate": 0.1, "metrics": {"opacity_dice": 0.25}}
    return [Epoch(epoch=i, step=i + 1, train_loss=1.0 / (i + 1), **given) for i in range(n)]


def notes(out: Path) -> list[Path]:
    return sorted((out / "tracking").glob("*.json"))


@pytest.fixture
def lost(tmp_path: Path, monkeypatch):
    """A store that cannot be opened, until called."""
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'a file' / 'mlflow.db'}")
    return lambda: monkeypatch.delenv("MLFLOW_TRACKING_URI")


def test_epochs_of_a_run_that_failed_are_written_as_far_as_it_came(record, out: Path):
    """Its record has no curve; all but the first were held back for the next batch of epochs."""
    tracker = Tracker(out, "x", {})
    for epoch in epochs(3):
        tracker.epoch(record.job, epoch)
    tracker.record(changed(failure_of(record, "the disk is full"), curve=()))
    tracker.close("FAILED")
    client, runs = runs_of(out)
    losses = client.get_metric_history(runs["run"].info.run_id, "train_loss")
    assert [(m.step, m.value) for m in losses] == [(0, 1.0), (1, 0.5), (2, 1 / 3)]


def test_a_server_that_is_out_of_order_is_asked_again_and_a_note_that_it_refuses_is_not(record, out: Path, monkeypatch):
    def answering(code: int):
        def refuse(*_) -> None:
            raise MlflowException("come back later", error_code=code)

        return refuse

    monkeypatch.setattr(runs_module.Runs, "_finished", answering(databricks_pb2.TEMPORARILY_UNAVAILABLE))
    first = Tracker(out, "first", {})
    first.record(record)
    first.close("FINISHED")
    assert "come back later" in first.problem
    assert [path for path in notes(out) if '"finished"' in path.read_text()]
    monkeypatch.setattr(runs_module.Runs, "_finished", answering(databricks_pb2.INVALID_PARAMETER_VALUE))
    Tracker(out, "second", {}).close("FINISHED")
    assert notes(out) == []


def test_what_a_lost_server_missed_is_written_by_the_next_run(record, out: Path, lost):
    first = Tracker(out, "first", {"protocol": "published"})
    first.epoch(record.job, record.curve[0])
    first.record(record)
    first.close("FINISHED")
    assert "4 notes" in first.problem
    assert "next run on this folder" in first.problem
    assert len(notes(out)) == 4
    lost()
    second = Tracker(out, "second", {})
    second.close("FINISHED")
    assert (second.problem, notes(out)) == (None, [])
    client = MlflowClient(tracking_uri=f"sqlite:///{out / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    kinds = sorted((run.data.tags["lobe.kind"], run.info.status) for run in runs)
    assert kinds == [("evaluation", "FINISHED"), ("evaluation", "FINISHED"), ("run", "FINISHED"), ("task", "FINISHED")]
    (child,) = (run for run in runs if run.data.tags["lobe.kind"] == "run")
    losses = client.get_metric_history(child.info.run_id, "train_loss")
    assert [(m.step, m.value) for m in losses] == [(e.epoch, e.train_loss) for e in record.curve]
    assert {"job.json", "record.json"} <= artifacts(client, child.info.run_id)


def test_a_note_written_twice_is_one_note(record, out: Path):
    """A driver killed between writing and forgetting a note writes it again."""
    first = Tracker(out, "x", {"protocol": "published"})
    first.close("FINISHED")
    writer = runs_module.Runs(f"sqlite:///{out / 'mlflow.db'}", out)
    note = {"evaluation": first.evaluation, "record": record.model_dump(mode="json"), "told": 0}
    for _ in range(2):
        writer.write("finished", note)
        writer = runs_module.Runs(f"sqlite:///{out / 'mlflow.db'}", out)
    client, runs = runs_of(out)
    assert len(client.search_runs([runs["run"].info.experiment_id])) == 3
    assert len(client.get_metric_history(runs["run"].info.run_id, "train_loss")) == len(record.curve)


def test_the_evaluation_of_a_killed_driver_is_ended_by_the_next(record, out: Path):
    killed = Tracker(out, "killed", {})
    killed.epoch(record.job, record.curve[0])
    killed._closing.set()  # its thread ends as a killed process's does: without a note
    killed._wake.set()
    killed._thread.join()
    after = Tracker(out, "after", {})
    after.close("FINISHED")
    client = MlflowClient(tracking_uri=f"sqlite:///{out / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    of_killed = [run for run in runs if run.data.tags["lobe.evaluation"] == killed.evaluation]
    assert sorted((run.data.tags["lobe.kind"], run.info.status) for run in of_killed) == [
        ("evaluation", "KILLED"),
        ("run", "KILLED"),
        ("task", "KILLED"),
    ]


def test_live_metrics_come_in_batches_at_least_five_seconds_apart(record, out: Path, lost, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(tracking.time, "monotonic", lambda: now[0])
    tracker = Tracker(out, "x", {})
    for epoch in epochs(21):  # one a second
        tracker.epoch(record.job, epoch)
        now[0] += 1.0
    batches = [note.content["epochs"] for note in tracker._spool.waiting() if note.kind == "epochs"]
    assert [[e["epoch"] for e in batch] for batch in batches] == [
        [0],
        [1, 2, 3, 4, 5],
        [6, 7, 8, 9, 10],
        [11, 12, 13, 14, 15],
        [16, 17, 18, 19, 20],
    ]
    tracker.record(changed(record, curve=tuple(epochs(23))))
    (end,) = (note.content for note in tracker._spool.waiting() if note.kind == "finished")
    assert end["told"] == 21
    tracker.close("FINISHED")


def test_a_note_mlflow_refuses_is_set_aside_and_the_next_one_is_written(record, out: Path):
    tracker = Tracker(out, "x", {})
    tracker.record(changed(record, metrics={300 * "x": 0.5}))  # no name may be so long
    tracker.close("FINISHED")
    assert "refused a note" in tracker.problem
    assert len(list((out / "tracking" / "rejected").iterdir())) == 1
    assert notes(out) == []
    assert runs_of(out)[1]["evaluation"].info.status == "FINISHED"


def test_a_note_of_another_shape_is_set_aside_and_never_tried_again():
    """A note that raised anything else would be sent first for ever, and every later one would wait behind it."""
    runs = runs_module.Runs.__new__(runs_module.Runs)  # no server is asked
    for kind in runs_module._NOTES:
        for note in ({}, {"evaluation": []}, {"evaluation": "x", "title": 3, "job": [], "record": None, "status": {}}):
            with pytest.raises(runs_module.Rejected):
                runs.write(kind, note)
    for job, epochs in (({}, []), ({"experiment": [[]]}, [3])):
        with pytest.raises(runs_module.Rejected):
            runs.write("epochs", {"evaluation": "x", "job": job, "epochs": epochs})


def test_a_disk_that_takes_no_notes_costs_notes_only(record, out: Path):
    (out / "tracking").write_text("not a folder")
    tracker = Tracker(out, "x", {})
    tracker.record(record)
    tracker.close("FINISHED")
    assert "Tracking lost notes" in tracker.problem


@pytest.mark.parametrize("address", ["postgresql://me:secret-word@127.0.0.1:1/none", "http://me:a-secret-word@b@127.0.0.1:1"])
def test_a_password_in_the_address_is_not_shown(record, out: Path, monkeypatch, address: str):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    tracker = Tracker(out, "x", {})
    tracker.close("FINISHED")
    assert tracker.problem is not None
    assert "secret-word" not in tracker.problem


def test_metrics_whose_names_mlflow_would_refuse_are_written_and_none_falls_together_with_another(record, out: Path):
    tracker = Tracker(out, "x", {})
    tracker.record(changed(record, metrics={"mAP@0.5": 0.25, "Nodule, mass_cnr": 0.5, "Nodule; mass_cnr": 0.75}))
    tracker.close("FINISHED")
    assert tracker.problem is None
    kept = runs_of(out)[1]["run"].data.metrics
    assert [kept[f"test_{name}"] for name in ("mAP_at_0.5", "Nodule_2c_ mass_cnr", "Nodule_3b_ mass_cnr")] == [0.25, 0.5, 0.75]


def test_a_second_evaluation_joins_the_same_experiment(record, out: Path):
    for _ in range(2):
        tracker = Tracker(out, "x", {})
        tracker.close("FINISHED")
    client = MlflowClient(tracking_uri=f"sqlite:///{out / 'mlflow.db'}")
    assert len([e for e in client.search_experiments() if e.name == EXPERIMENT]) == 1


@pytest.mark.parametrize("name", ["a?b", "a%20b", "a#b=c d"])
def test_an_output_folder_may_have_any_name_and_nothing_is_written_beside_it(tmp_path: Path, empty_store: Path, name: str, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    out = tmp_path / name
    out.mkdir()
    shutil.copy(empty_store, out / "mlflow.db")
    writer = runs_module.Runs(tracking_uri(out), out)
    writer.write("open", {"evaluation": "e", "title": "an odd name", "parameters": {}})
    assert [run.info.run_name for run in MlflowClient(tracking_uri=tracking_uri(out)).search_runs([writer._experiment])] == ["an odd name"]
    writer = runs_module.Runs(tracking_uri(out), out)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert tracking_uri(tmp_path / "plain") == f"sqlite:///{tmp_path / 'plain' / 'mlflow.db'}"


@pytest.mark.parametrize("name", ["../../secret.txt", "/etc/hostname", "predictions/other/secret.txt"])
@pytest.mark.parametrize("counted_anew", [True, False])
def test_a_note_that_names_a_file_elsewhere_uploads_nothing(record, out: Path, name: str, counted_anew: bool):
    """A note waits on disk until the server answers, and may be edited there."""
    (out.parent.parent / "secret.txt").write_text("secret")
    update = {"predictions": (name,), "file_digests": {name: "0" * 64}, "redistribution": "open", "checksum": ""}
    edited = record.model_copy(update=update)
    tracker = Tracker(out, "x", {})
    tracker.record(sealed(edited) if counted_anew else edited)
    tracker.close("FINISHED")
    assert "is no file of predictions/" in tracker.problem
    assert list((out / "tracking" / "rejected").iterdir())
    assert not list(out.rglob("*secret*")) + list(out.rglob("*hostname*"))


def test_a_replay_uploads_no_file_that_changed_since(record, out: Path):
    (out / record.predictions[0]).write_bytes(b"other")
    tracker = Tracker(out, "x", {})
    tracker.record(changed(record, redistribution="open"))
    tracker.close("FINISHED")
    assert "is not the file that was stored" in tracker.problem
