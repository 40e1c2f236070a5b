"""The main job end to end, as a user types it: run, resume, track, report; and every kind of bad input with its sentence and exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmark.kinds.kit.stored import STATISTICS_FILE, read_statistics
from benchmark.store import Store

pytestmark = [pytest.mark.long(30), pytest.mark.usefixtures("small_frames")]

LINEAR = "rsna-linear-frozen-100"
QUICK = ["--limit", "12", "--seeds", "1", "--profile", "smoke"]


@pytest.fixture
def rsna(corpora: Path, tmp_path: Path) -> Path:
    """A private copy of the RSNA phantom, to be damaged at will; the root to give as --data."""
    shutil.copytree(corpora / "rsna", tmp_path / "data" / "rsna")
    return tmp_path / "data"


def run(data: Path, out: Path, *more: object, backbone: str = "torchvision:resnet18") -> tuple:
    return ("run", "--backbone", backbone, "--data", data, "--out", out, *QUICK, *more)


def labels_of(data: Path) -> Path:
    return data / "rsna" / "stage_2_train_labels.csv"


@pytest.fixture(scope="module")
def place_of_finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("finished") / "out"


@pytest.fixture
def finished(place_of_finished: Path, corpora: Path, lobe) -> Path:
    """The output folder of one quick tracked run, for all who read it; the first of them runs it."""
    if not place_of_finished.exists():
        code, _, err = lobe(*run(corpora, place_of_finished, "--task", LINEAR, "--executor", "inline"))
        assert code == 0, err
    return place_of_finished


def used_image(data: Path, finished: Path) -> Path:
    """An image file that the quick job reads."""
    record = Store(finished).all()[0]
    first = read_statistics(finished / "predictions" / record.key / STATISTICS_FILE).ids[0]
    return data / "rsna" / "stage_2_train_images" / f"{first}.dcm"


# ------------------------------------------------------------------------------------------------------------------ the job


def test_same_command_again_computes_nothing_and_a_removed_record_comes_back_to_the_digit(corpora: Path, lobe, tiny, tmp_path: Path):
    out = tmp_path / "out"
    named = ("--task", LINEAR, "--task", "rsna-linear-frozen-10")
    command = run(corpora, out, *named, "--executor", "inline", "--no-tracking", "--json", backbone=f"{tiny()}:build")
    code, text, _ = lobe(*command)
    assert (code, json.loads(text)["computed"]) == (0, 2)
    before = {r.key: r for r in Store(out).all()}
    assert json.loads(lobe(*command)[1])["computed"] == 0
    gone = sorted(before)[0]
    Store(out).path(gone).unlink()
    assert json.loads(lobe(*command)[1])["computed"] == 1
    after = Store(out).get(gone)
    assert (after.metrics, after.curve, after.predictions) == (before[gone].metrics, before[gone].curve, before[gone].predictions)


@pytest.mark.usefixtures("narrow_heads")
def test_every_head_runs_frozen_and_fine_tuned(corpora: Path, lobe, tiny, tmp_path: Path):
    tasks = [
        "rsna-yolov3-finetune-1",
        "rsna-yolov3-frozen-1",
        "covid-rural-unet-finetune-100",
        "covid-rural-unet-frozen-100",
        "covid-rural-linear-frozen-100",
    ]
    named = [word for task in tasks for word in ("--task", task)]
    code, _, err = lobe(
        *run(corpora, tmp_path / "out", *named, "--executor", "inline", "--no-tracking", "--limit", 8, "--json", backbone=f"{tiny()}:build")
    )
    assert code == 0, err
    records = Store(tmp_path / "out").all()
    assert {r.job.labels.task for r in records} == set(tasks)
    assert all(r.phantom and r.scale == "limited" for r in records)
    for record in records:
        trained = record.parameters["head"] + (record.parameters["encoder"] if record.job.experiment.encoder == "finetune" else 0)
        assert record.parameters["trained"] == trained


def test_the_other_datasets_run_from_their_own_formats(lobe, tiny, tmp_path: Path):
    from tests.corpora import CorpusPlan, write_corpus

    tasks = ["siim-unet-frozen-100", "object-cxr-linear-frozen-100", "nih-cxr-linear-frozen-100"]
    for name in ("siim", "object-cxr", "nih-cxr"):
        plan = CorpusPlan(dataset=name, n_patients=14, seed=3, images_per_patient=(1, 1), positive_share=0.5)
        write_corpus(plan, tmp_path / "data" / name)
    named = [word for task in tasks for word in ("--task", task)]
    code, _, err = lobe(
        *run(tmp_path / "data", tmp_path / "out", *named, "--executor", "inline", "--no-tracking", "--limit", 8, backbone=f"{tiny()}:build")
    )
    assert code == 0, err
    assert {r.job.labels.task: r.status for r in Store(tmp_path / "out").all()} == dict.fromkeys(tasks, "ok")


def test_mlflow_holds_a_parent_run_with_children_parameters_epochs_and_artifacts(finished: Path):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{finished / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("lobe").experiment_id])
    parent = next(r for r in runs if r.data.tags["lobe.kind"] == "evaluation")
    (task,) = (r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id)
    (child,) = (r for r in runs if r.data.tags.get("mlflow.parentRunId") == task.info.run_id)
    record = Store(finished).all()[0]
    assert child.data.params["task"] == LINEAR
    assert child.data.metrics["test_opacity_dice"] == record.metrics["opacity_dice"]
    assert len(client.get_metric_history(child.info.run_id, "train_loss")) == len(record.curve)
    assert {a.path for a in client.list_artifacts(child.info.run_id)} >= {"job.json", "record.json"}
    assert {parent.info.status, child.info.status} == {"FINISHED"}


def test_report_makes_a_page_with_overlays_from_stored_records_alone(finished: Path, lobe):
    code, text, _ = lobe("report", "--out", finished, "--json")
    page = Path(json.loads(text)["page"])
    assert code == 0
    assert "resnet18 (random)" in page.read_text()
    assert list(page.parent.rglob("*.png"))


def test_saved_predictions_score_to_the_same_number_and_need_their_frame(finished: Path, corpora: Path, lobe, tmp_path: Path):
    record = Store(finished).all()[0]
    file = finished / "predictions" / record.key / "masks.parquet"
    code, text, _ = lobe("score", "-t", LINEAR, "-p", file, "--data", corpora, "--limit", 12, "--json")
    assert (code, json.loads(text)["metrics"]["opacity_dice"]) == (0, record.metrics["opacity_dice"])
    code, text, _ = lobe("score", "-t", LINEAR, "-p", file, "--data", corpora, "--limit", 12)
    assert (code, f"{record.metrics['opacity_dice'] * 100:.2f}" in text, "without probabilities" in text) == (0, True, True)
    assert lobe("export", finished, record.key, "--to", tmp_path / "given")[0] == 0
    content = json.loads((tmp_path / "given" / record.key / "masks.json").read_text())
    (tmp_path / "frameless.json").write_text(json.dumps({k: v for k, v in content.items() if k != "frame"}))
    code, _, err = lobe("score", "-t", LINEAR, "-p", tmp_path / "frameless.json", "--data", corpora, "--limit", 12)
    assert (code, "frame" in err) == (2, True)


def test_dry_run_lists_jobs_and_writes_no_record(corpora: Path, lobe, tmp_path: Path):
    arguments = (
        "run",
        "-b",
        "torchvision:resnet18",
        "-t",
        "rsna-linear-frozen-100",
        "--data",
        corpora,
        "--out",
        tmp_path / "out",
        "--dry-run",
        "--json",
    )
    code, text, _ = lobe(*arguments)
    rows = json.loads(text)
    assert (code, len(rows), [r["role"] for r in rows].count("selection")) == (0, 9, 4)
    assert not list((tmp_path / "out" / "records").glob("*.json"))


# ---------------------------------------------------------------------------------------------------------------- bad input


def test_a_truncated_dicom_fails_its_dataset_names_file_and_id_and_other_jobs_finish(
    rsna: Path, corpora: Path, finished: Path, lobe, tmp_path: Path
):
    image = used_image(rsna, finished)
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    more = ("--data", f"covid-rural={corpora / 'covid-rural'}", "--task", LINEAR, "--task", "covid-rural-linear-frozen-100")
    code, _, err = lobe(*run(rsna, tmp_path / "out", *more, "--executor", "inline", "--no-tracking"))
    assert code == 1
    assert image.stem in err
    assert image.name in err
    assert {r.job.labels.task: r.status for r in Store(tmp_path / "out").all()} == {LINEAR: "failed", "covid-rural-linear-frozen-100": "ok"}


def test_a_dicom_that_is_no_image_is_named(rsna: Path, finished: Path, lobe, tmp_path: Path):
    image = used_image(rsna, finished)
    import pydicom

    dataset = pydicom.dcmread(image)
    del dataset.PixelData
    dataset.save_as(image)
    code, _, err = lobe(*run(rsna, tmp_path / "out", "--task", LINEAR, "--executor", "inline", "--no-tracking"))
    assert (code, image.stem in err) == (1, True)


def test_a_failed_job_is_kept_and_retried_on_request(rsna: Path, finished: Path, lobe, tmp_path: Path):
    image = used_image(rsna, finished)
    good = image.read_bytes()
    image.write_bytes(b"not a DICOM file")
    command = run(rsna, tmp_path / "out", "--task", LINEAR, "--executor", "inline", "--no-tracking")
    assert lobe(*command)[0] == 1
    image.write_bytes(good)
    # The folder's digest counts sizes, so the mended folder is the first one again: only the image's bytes had changed.
    assert lobe(*command, "--retry-failed")[0] == 0


def test_a_label_row_without_its_image_stops_the_dataset(rsna: Path, lobe, tmp_path: Path):
    with labels_of(rsna).open("a") as handle:
        handle.write("11111111-2222-4333-8444-555555555555,,,,,0\n")
    code, _, err = lobe(*run(rsna, tmp_path / "out", "--task", LINEAR, "--executor", "inline"))
    assert (code, "11111111-2222-4333-8444-555555555555" in err) == (2, True)


def test_a_box_outside_its_image_stops_the_dataset_and_names_the_line(rsna: Path, lobe, tmp_path: Path):
    text = labels_of(rsna).read_text()
    positive = next(line for line in text.splitlines() if line.endswith(",1")).split(",")[0]
    labels_of(rsna).write_text(text + f"{positive},1000.0,10.0,100.0,100.0,1\n")
    code, _, err = lobe(*run(rsna, tmp_path / "out", "--task", LINEAR, "--executor", "inline"))
    assert code == 2
    line = str(len(text.splitlines()) + 1)
    assert all(part in err.replace(",", "") for part in (positive, "leaves the image", line))


def test_a_repeated_label_row_stops_the_dataset(rsna: Path, lobe, tmp_path: Path):
    text = labels_of(rsna).read_text()
    row = next(line for line in text.splitlines() if line.endswith(",1"))
    labels_of(rsna).write_text(text + row + "\n")
    code, _, err = lobe(*run(rsna, tmp_path / "out", "--task", LINEAR, "--executor", "inline"))
    assert (code, row.split(",")[0] in err) == (2, True)


def test_an_empty_data_folder_says_what_was_expected(lobe, tmp_path: Path):
    (tmp_path / "data" / "rsna").mkdir(parents=True)
    code, _, err = lobe(*run(tmp_path / "data", tmp_path / "out", "--task", LINEAR))
    assert (code, "empty" in err, "stage_2_train_labels.csv" in err) == (2, True, True)


def test_a_wrong_task_name_suggests_the_nearest(corpora: Path, lobe, tmp_path: Path):
    code, _, err = lobe(*run(corpora, tmp_path / "out", "--task", "rsna-linear-frozen-99"))
    assert (code, LINEAR in err) == (2, True)


def test_an_unreadable_weights_file_is_named_and_other_backbones_go_on(corpora: Path, lobe, tmp_path: Path):
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"this is no checkpoint")
    command = run(
        corpora,
        tmp_path / "out",
        "--task",
        LINEAR,
        "--backbone",
        f"torchvision:resnet18@{weights}",
        "--executor",
        "inline",
        "--no-tracking",
    )
    code, _, err = lobe(*command)
    assert (code, "weights.pth" in err) == (1, True)
    assert sorted(r.status for r in Store(tmp_path / "out").all()) == ["failed", "ok"]


def test_an_output_path_that_cannot_be_written_stops_before_any_work(corpora: Path, lobe, tmp_path: Path):
    (tmp_path / "out").write_text("a file, not a folder")
    code, _, err = lobe(*run(corpora, tmp_path / "out", "--task", LINEAR))
    assert (code, "Cannot write to the output folder" in err) == (2, True)


def test_a_disk_that_fills_up_stops_with_a_sentence_and_keeps_what_is_stored(corpora: Path, lobe, tmp_path: Path, monkeypatch):
    out = tmp_path / "out"
    stored = []
    put = Store.put

    def put_once(self, record, files=None):
        if stored:
            monkeypatch.setattr("benchmark.store.write_atomically", no_space)
        stored.append(record.key)
        return put(self, record, files)

    def no_space(path, content, opener=None):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Store, "put", put_once)
    code, _, err = lobe(*run(corpora, out, "--task", LINEAR, "--task", "rsna-linear-frozen-10", "--executor", "inline", "--no-tracking"))
    assert (code, "No space left on device" in err) == (2, True)
    assert len(Store(out).all()) == 1


def test_too_few_images_for_one_batch_names_both_numbers(corpora: Path, lobe, tmp_path: Path):
    command = (
        "run",
        "-b",
        "torchvision:resnet18",
        "-t",
        "rsna-linear-frozen-10",
        "--data",
        corpora,
        "--out",
        tmp_path / "out",
        "--seeds",
        1,
        "--executor",
        "inline",
        "--no-tracking",
    )
    code, _, err = lobe(*command)
    assert code == 1
    assert "fewer than one batch of 64" in err


def test_a_lost_tracking_server_costs_no_result(corpora: Path, lobe, tmp_path: Path, monkeypatch):
    (tmp_path / "a file").write_text("")  # MLflow makes missing folders
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'a file' / 'mlflow.db'}")
    code, _, err = lobe(*run(corpora, tmp_path / "out", "--task", LINEAR, "--executor", "inline"))
    assert (code, "Tracking is behind" in err) == (0, True)
    assert len(Store(tmp_path / "out").all()) == 1
