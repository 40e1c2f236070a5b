"""Runs in MLflow: experiment > evaluation > task > run, written from notes. Writing a note twice gives what writing it once gives.

A run holds parameters, the metrics of every epoch, the test metrics, and as artifacts the resolved job, its record with versions and
environment, and (as the dataset's redistribution rule allows) its predictions. A pretraining is one run, with what its steps gave.
"""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from benchmark import private
from benchmark.cards import Epoch, Job, Record
from benchmark.errors import StoreError
from benchmark.integrity import file_of, require_believable
from benchmark.tracking.address import database_uri, remove_misnamed_folders

if TYPE_CHECKING:
    from mlflow.entities import Run

EXPERIMENT = "lobe"
REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST"}  # asking again will not help
BATCH = 1000  # metrics MLflow takes at once
_REFUSED = re.compile(r"[^\w./ :-]")  # of a metric's name


# What a note of each kind holds.
_NOTES: dict[str, dict[str, type]] = {
    "open": {"evaluation": str, "title": str, "parameters": dict},
    "epochs": {"evaluation": str, "job": dict, "epochs": list},
    "finished": {"evaluation": str, "record": dict, "told": int},
    "values": {"evaluation": str, "values": list},
    "close": {"evaluation": str, "status": str},
}


class Rejected(Exception):
    """MLflow will never take this note."""


class Runs:
    """A connection to the tracking server.

    Args:
        uri: of the server or database.
        out: output folder, for predictions and the artifacts of a local database.

    Raises:
        Exception: of MLflow, when the server does not answer; here and in `write`.
    """

    def __init__(self, uri: str, out: Path):
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
        logging.getLogger("alembic").setLevel(logging.ERROR)
        from mlflow import MlflowClient

        self.out = out
        self._client = MlflowClient(tracking_uri=uri)
        if uri == database_uri(out):
            remove_misnamed_folders(out)
        self._experiment = self._experiment_id((out / "mlartifacts").resolve().as_uri() if uri.startswith("sqlite") else None)
        self._found: dict[tuple[str, ...], str] = {}  # run ids by evaluation, kind and name

    def write(self, kind: str, note: dict[str, Any]) -> None:
        """Writes one note.

        Raises:
            Rejected: the note itself is at fault.
        """
        from mlflow.exceptions import MlflowException

        for name, kind_of_value in _NOTES[kind].items():
            if not isinstance(note.get(name), kind_of_value):
                raise Rejected(f"its `{name}` is {type(note.get(name)).__name__}, not {kind_of_value.__name__}")
        action = {"open": self._open, "epochs": self._epochs, "finished": self._finished, "values": self._values, "close": self._close}[
            kind
        ]
        try:
            action(note)
        except MlflowException as error:
            if error.error_code in REFUSALS:
                raise Rejected(str(error).splitlines()[0][:300]) from None
            raise

    def _open(self, note: dict[str, Any]) -> None:
        self._log(self._evaluation(note["evaluation"], note["title"]), note["parameters"], [])

    def _epochs(self, note: dict[str, Any]) -> None:
        try:
            job = Job.model_validate(note["job"])
            epochs = [_read_epoch(epoch) for epoch in note["epochs"]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Rejected(str(error).splitlines()[0][:300]) from None
        run = self._run(note["evaluation"], job)
        self._log(run, {}, [row for epoch in epochs for row in _epoch_metrics(epoch, epoch["at_ms"])])

    def _finished(self, note: dict[str, Any]) -> None:
        record, predictions = self._believed(note["record"])
        run = self._run(note["evaluation"], record.job)
        for name in ("status", "scale", "phantom"):
            self._client.set_tag(run, f"lobe.{name}", str(getattr(record, name)).lower())
        self._log(run, {}, _metrics(record, note["told"], self._started_ms(run)))
        with tempfile.TemporaryDirectory() as folder:
            withheld = private.is_restricted(record.redistribution)
            if withheld:
                self._make_private(run)
            for name, content in zip(("job.json", "record.json"), _shareable(record), strict=True):
                # A local store copies the file's mode too.
                with open(Path(folder) / name, "w", encoding="utf-8", opener=private.opener if withheld else None) as handle:
                    json.dump(content, handle, indent=1)
            self._client.log_artifacts(run, folder)
        if record.failure is not None:
            self._client.set_tag(run, "lobe.failure", record.failure.kind if withheld else record.failure.sentence[:4000])
        for path in predictions:
            self._client.log_artifact(run, str(path), "predictions")
        self._client.set_terminated(run, "FINISHED" if record.status == "ok" else "FAILED")

    def _values(self, note: dict[str, Any]) -> None:
        from mlflow.entities import Metric

        try:
            rows = [
                Metric(_safe(name), float(value), at["at_ms"], at["step"]) for at in note["values"] for name, value in at["metrics"].items()
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Rejected(str(error).splitlines()[0][:300]) from None
        self._log(self._evaluation(note["evaluation"], "evaluation"), {}, rows)

    def _believed(self, raw: dict[str, Any]) -> tuple[Record, list[Path]]:
        """The record of a note and the files of it that may leave: a note lies on disk and may be replayed much later."""
        try:
            record = Record.model_validate(raw)
            require_believable(record, raw, f"in the note of {str(raw.get('key'))[:64]}")
            names = [Path(name).name for name in record.predictions] if private.may_be_published(record.redistribution) else []
            found = [file_of(record, name, self.out) for name in names]
        except (StoreError, ValueError) as error:
            raise Rejected(str(error).splitlines()[0][:300]) from None
        return record, [path for path in found if path is not None]  # the user may have removed some before a replay

    def _make_private(self, run: str) -> None:
        """Artifacts of a run on restricted data, where they are files on this machine."""
        where = urlsplit(self._client.get_run(run).info.artifact_uri)
        if where.scheme == "file":
            folder = Path(url2pathname(where.path))
            folder.parent.mkdir(parents=True, exist_ok=True)  # others' runs lie there too
            private.folder(folder)

    def _close(self, note: dict[str, Any]) -> None:
        parent = self._evaluation(note["evaluation"], "evaluation")
        for run in self._search(f"tags.`lobe.evaluation` = '{note['evaluation']}' and attributes.status = 'RUNNING'"):
            if run.info.run_id != parent:
                tasks = run.data.tags.get("lobe.kind") == "task"
                self._client.set_terminated(run.info.run_id, note["status"] if tasks else "KILLED")
        self._client.set_terminated(parent, note["status"])

    def _evaluation(self, evaluation: str, title: str) -> str:
        return self._one(evaluation, "evaluation", "", title, None, {})

    def _run(self, evaluation: str, job: Job) -> str:
        names = job.labels
        parent = self._evaluation(evaluation, "evaluation")
        task = self._one(evaluation, "task", names.task, names.task, parent, {"lobe.task": names.task})
        tags = {"lobe.key": job.key, "lobe.task": names.task, "lobe.backbone": names.backbone}
        if names.custom:
            tags["lobe.custom"] = ", ".join(names.custom)
        title = f"{names.task} · {names.backbone} · run {names.run_number}"
        known = (evaluation, "run", job.key) in self._found
        run = self._one(evaluation, "run", job.key, title, task, tags)
        if not known:
            self._log(run, _parameters(job), [])
        return run

    def _one(self, evaluation: str, kind: str, name: str, title: str, parent: str | None, tags: dict[str, str]) -> str:
        """The run of this kind and name: known, found on the server, or created."""
        if (evaluation, kind, name) not in self._found:
            own = {"lobe.evaluation": evaluation, "lobe.kind": kind, "lobe.name": name}
            found = self._search(" and ".join(f"tags.`{tag}` = '{value}'" for tag, value in own.items() if value))
            if not found:
                nested = {} if parent is None else {"mlflow.parentRunId": parent}
                found = [self._client.create_run(self._experiment, run_name=title, tags={**own, **nested, **tags})]
            self._found[evaluation, kind, name] = found[0].info.run_id
        return self._found[evaluation, kind, name]

    def _search(self, condition: str) -> list[Run]:
        found: list[Run] = []
        token: str | None = None
        while True:
            page = self._client.search_runs([self._experiment], condition, max_results=BATCH, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _started_ms(self, run: str) -> int:
        return self._client.get_run(run).info.start_time

    def _experiment_id(self, artifacts: str | None) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            return self._client.create_experiment(EXPERIMENT, artifact_location=artifacts)
        return found.experiment_id

    def _log(self, run: str, parameters: dict[str, str], metrics: list) -> None:
        from mlflow.entities import Param

        if parameters:
            self._client.log_batch(run, params=[Param(k, v[:6000]) for k, v in parameters.items()])
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(run, metrics=metrics[start : start + BATCH])


def _read_epoch(stored: dict[str, Any]) -> dict[str, Any]:
    """An epoch of a note with the time it was noted; raises what a wrong shape raises."""
    at_ms = int(stored["at_ms"])
    epoch = Epoch.model_validate({name: value for name, value in stored.items() if name != "at_ms"})
    return {**epoch.model_dump(mode="json"), "at_ms": at_ms}


def _shareable(record: Record) -> tuple[dict[str, Any], dict[str, Any]]:
    """Job and record as the dataset's agreement lets them leave the output folder: with `none` aggregates only, no ids in any form."""
    job = record.job.model_dump(mode="json")
    summary = record.model_dump(mode="json", exclude={"job", "failure"})
    if private.is_restricted(record.redistribution):
        job["experiment"]["dataset"]["split_rule"]["patients"] = None
        for carries_ids in ("warnings", "sample_digests", "predictions", "file_digests"):
            summary.pop(carries_ids, None)
    return job, summary


def _parameters(job: Job) -> dict[str, str]:
    """Flat parameters of a job: names people filter by, then the experiment's own values."""
    e, names = job.experiment, job.labels
    flat = {
        "task": names.task,
        "backbone": names.backbone,
        "protocol": names.protocol,
        "run": names.run_number,
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


def _metrics(record: Record, told: int, at_ms: int) -> list:
    """Everything to draw of a record, but the first `told` epochs. One fixed time, so that a replay repeats no point."""
    from mlflow.entities import Metric

    rows = [row for line in record.curve if line.epoch >= told for row in _epoch_metrics(line.model_dump(mode="json"), at_ms)]
    rows += [Metric(_safe(f"test_{name}"), value, at_ms, 0) for name, value in record.metrics.items()]
    rows += [Metric(f"seconds_{name}", value, at_ms, 0) for name, value in record.timings_s.items()]
    return rows


def _epoch_metrics(epoch: dict[str, Any], at_ms: int) -> list:
    from mlflow.entities import Metric

    values = {name: epoch[name] for name in ("train_loss", "validation_loss", "learning_rate")}
    values |= {f"validation_{name}": value for name, value in epoch["metrics"].items()}
    return [Metric(_safe(name), value, at_ms, epoch["epoch"]) for name, value in values.items()]


def _safe(name: str) -> str:
    """MLflow allows letters, digits, and _-. /: in metric names; LoVT's names have an @, and a group of labels may have a comma.

    Any other character is written as its number, so that two groups never fall together.
    """
    return _REFUSED.sub(lambda found: f"_{ord(found[0]):x}_", name.replace("@", "_at_"))
