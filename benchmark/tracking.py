"""MLflow, written by the driver only: experiment > evaluation > run. Tracking may fail; science goes on.

One parent run an evaluation; one child run a job with parameters, the metrics of every epoch, the test metrics and the resolved job, its
record and (as the dataset's redistribution rule allows) its predictions as artifacts.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmark.cards import Job, Record

EXPERIMENT = "lobe"


class Tracker:
    """Writes one evaluation.

    Args:
        out: output folder; the default store is `<out>/mlflow.db` with artifacts in `<out>/mlartifacts`.
            MLFLOW_TRACKING_URI overrides it, as everywhere in MLflow.
        title: name of the parent run.
        parameters: of the evaluation, as text.

    Attributes:
        problem: the first thing that went wrong, or None. After a problem nothing more is written.
    """

    def __init__(self, out: Path, title: str, parameters: dict[str, str]):
        self.problem: str | None = None
        self.uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(out / 'mlflow.db').resolve()}"
        self._guarded(self._open, out, title, parameters)

    def record(self, record: Record, out: Path) -> None:
        """Writes a finished job as a child run."""
        self._guarded(self._write, record, out)

    def close(self, failures: int) -> None:
        self._guarded(lambda: self._client.set_terminated(self._parent, "FAILED" if failures else "FINISHED"))

    def _open(self, out: Path, title: str, parameters: dict[str, str]) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
        logging.getLogger("alembic").setLevel(logging.ERROR)
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=self.uri)
        found = self._client.get_experiment_by_name(EXPERIMENT)
        local = self.uri.startswith("sqlite")
        where = (out / "mlartifacts").resolve().as_uri() if local else None
        experiment = found.experiment_id if found else self._client.create_experiment(EXPERIMENT, artifact_location=where)
        self._experiment = experiment
        self._parent = self._client.create_run(experiment, run_name=title, tags={"lobe.kind": "evaluation"}).info.run_id
        self._log(self._parent, parameters, [])

    def _write(self, record: Record, out: Path) -> None:
        labels = record.job.labels
        tags = {
            "mlflow.parentRunId": self._parent,
            "lobe.kind": "run",
            "lobe.key": record.key,
            "lobe.task": labels.task,
            "lobe.backbone": labels.backbone,
            "lobe.status": record.status,
            "lobe.scale": record.scale,
            "lobe.phantom": str(record.phantom).lower(),
        }
        name = f"{labels.task} · {labels.backbone} · run {labels.run + 1}"
        run = self._client.create_run(self._experiment, run_name=name, tags=tags).info.run_id
        self._log(run, _parameters(record.job), _metrics(record))
        with tempfile.TemporaryDirectory() as folder:
            job, summary = _shareable(record)
            (Path(folder) / "job.json").write_text(json.dumps(job, indent=1), encoding="utf-8")
            (Path(folder) / "record.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
            self._client.log_artifacts(run, folder)
        if record.failure is not None:
            withheld = record.redistribution == "none"
            self._client.set_tag(run, "lobe.failure", record.failure.kind if withheld else record.failure.sentence[:4000])
        if record.redistribution == "open":
            for name in record.predictions:
                self._client.log_artifact(run, str(out / name), "predictions")
        self._client.set_terminated(run, "FINISHED" if record.status == "ok" else "FAILED")

    def _log(self, run: str, parameters: dict[str, str], metrics: list) -> None:
        from mlflow.entities import Param

        self._client.log_batch(run, params=[Param(k, v[:6000]) for k, v in parameters.items()])
        for start in range(0, len(metrics), 1000):
            self._client.log_batch(run, metrics=metrics[start : start + 1000])

    def _guarded(self, action, *arguments: Any) -> None:
        if self.problem is not None:
            return
        try:
            action(*arguments)
        except Exception as error:  # a lost tracking server must not cost a result
            self.problem = (
                f"Tracking stopped ({type(error).__name__}: {str(error).splitlines()[0][:200]}). Results are complete without it."
            )


def _shareable(record: Record) -> tuple[dict[str, Any], dict[str, Any]]:
    """Job and record as the dataset's agreement lets them leave the output folder: with `none` aggregates only, no ids in any form."""
    job = record.job.model_dump(mode="json")
    summary = record.model_dump(mode="json", exclude={"job", "failure"})
    if record.redistribution == "none":
        job["experiment"]["dataset"]["split_rule"]["patients"] = None
        for carries_ids in ("warnings", "sample_digests", "predictions"):
            del summary[carries_ids]
    return job, summary


def _parameters(job: Job) -> dict[str, str]:
    """Flat parameters of a job: names people filter by, then the experiment's own values."""
    e, names = job.experiment, job.labels
    flat = {
        "task": names.task,
        "backbone": names.backbone,
        "protocol": names.protocol,
        "run": names.run,
        "role": e.role.value,
        "dataset": e.dataset.name,
        "dataset_digest": e.dataset.digest[:16],
        "head": e.head,
        "encoder": e.encoder.value,
        "fraction": e.fraction,
        "learning_rate": e.learning_rate or ("none" if e.words else f"selected from {list(e.recipe.grid)}"),
        "batch_size": e.recipe.batch_size,
        "max_epochs": e.recipe.max_epochs,
        "max_steps": e.recipe.max_steps,
        "head_seed": e.head_seed,
        "order_seed": e.order_seed,
        "precision": e.precision,
        "threads": e.threads,
        "limit": e.limit,
        "profile": e.profile,
    }
    return {name: str(value) for name, value in flat.items()}


def _metrics(record: Record) -> list:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    rows = []
    for line in record.curve:
        values = {"train_loss": line.train_loss, "validation_loss": line.validation_loss, "learning_rate": line.learning_rate}
        values |= {f"validation_{name}": value for name, value in line.metrics.items()}
        rows += [Metric(_safe(name), value, now, line.epoch) for name, value in values.items()]
    rows += [Metric(_safe(f"test_{name}"), value, now, 0) for name, value in record.metrics.items()]
    rows += [Metric(f"seconds_{name}", value, now, 0) for name, value in record.timings_s.items()]
    return rows


def _safe(name: str) -> str:
    """MLflow allows letters, digits, and _-. /: in metric names; LoVT's names have an @."""
    return name.replace("@", "_at_")
