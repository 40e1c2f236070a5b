"""Several processes for one job, by Ray Train: it places them on the unit's node, gives each its device, connects them with torch's process
group, and ends them all when one is lost. What a process computes is `fit`, which knows how batches are shared (`benchmark.parallel`).

The unit's own process has no device. It passes on the events of the leading process. A failure that a process can name fails the job; one
that dies, or whose exchange breaks, fails the unit's process too, so that the executor counts it as lost and starts the job again.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.cards import Job
from benchmark.errors import EnvironmentProblem, LobeError
from benchmark.events import Event
from benchmark.own import catalogue
from benchmark.training.inputs import Inputs
from benchmark.training.options import RunOptions

POLL_S = 0.5  # of Ray Train, which looks after its processes
EXCHANGE_BROKE = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe")
NODE = "ray.io/node-id"  # a label that Ray gives to every node
SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": str(POLL_S),
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # what was shipped is found from the working directory
}


class GangLost(Exception):
    """A process of the job died, or could not be reached by the others."""


@dataclass(frozen=True)
class _Share:
    """What a process is started with; `told` is the queue to the unit's process."""

    job: Job
    inputs: Inputs
    options: RunOptions
    learning_rate: float
    told: Any


def fit(job: Job, inputs: Inputs, options: RunOptions, learning_rate: float, workers: int) -> Iterator[Event]:
    """As `training.fit.fit`, by so many processes that share each batch.

    Raises:
        GangLost: the job may be tried again.
        EnvironmentProblem: this process does not run on Ray.
        Exception: what failed the job, with the traceback of its process as a note.
    """
    import ray

    if not ray.is_initialized():
        raise EnvironmentProblem("Several processes for one job need Ray: use --executor ray, or leave --workers-per-job out.")
    from ray.util.queue import Empty, Queue

    os.environ.update(SETTINGS)
    told = Queue(actor_options={"num_cpus": 0})
    with tempfile.TemporaryDirectory(prefix="lobe-gang-") as nothing:
        lost: list[BaseException] = []
        share = _Share(job, inputs, options, learning_rate, told)
        thread = threading.Thread(target=_run, args=(share, workers, Path(nothing), lost), daemon=True)
        thread.start()
        ended = False
        try:
            while True:
                try:
                    event = told.get(timeout=POLL_S)
                except Empty:
                    if ended:
                        break
                    ended = not thread.is_alive()  # what was told before the end is still in the queue
                    continue
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            thread.join(60.0)
            told.shutdown(force=True)
        if lost:
            raise GangLost(f"{type(lost[0]).__name__}: {str(lost[0])[-2000:]}")


def cores_each(threads: int, workers: int, n_cores: float) -> float:
    """Cores to ask for each process: its threads, or its part of a node that has too few. Asked for more, Ray would wait for ever."""
    return min(float(threads), n_cores / workers)


def _run(share: _Share, workers: int, storage: Path, lost: list[BaseException]) -> None:
    """Starts the processes and waits for their end."""
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from benchmark import parallel

    cuda = share.job.experiment.device_type == "cuda"
    here = ray.get_runtime_context().get_node_id()
    n_cores = next(node["Resources"].get("CPU", 1) for node in ray.nodes() if node["NodeID"] == here)
    each = {"CPU": cores_each(share.job.experiment.threads, workers, n_cores)} | ({"GPU": 1} if cuda else {})
    trainer = TorchTrainer(
        _share_of_fit,
        train_loop_config={"share": share},
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=cuda,
            resources_per_worker=each,
            placement_strategy="STRICT_PACK",
            # The node on which the placer keeps their devices free.
            label_selector={NODE: here},  # type: ignore[call-arg]  # Ray's types are those of its older Train, which does not run here
        ),
        torch_config=TorchConfig(backend="nccl" if cuda else "gloo", timeout_s=parallel.TIMEOUT_S),
        # The executor decides about retries. Nothing is reported to Ray Train, so nothing is stored there.
        run_config=RunConfig(name=share.job.key, storage_path=str(storage), failure_config=FailureConfig(max_failures=0)),
    )
    try:
        trainer.fit()
    except BaseException as error:
        lost.append(error)


def _share_of_fit(config: dict[str, _Share]) -> None:
    """What each process does: the same fit, on its share of every batch. The leader tells of it."""
    from benchmark import parallel
    from benchmark.training import fit as fitting
    from benchmark.training.determinism import prepare_process
    from benchmark.training.shared_work import SharedWork

    share = config["share"]
    prepare_process(share.job.experiment.threads)
    try:
        with catalogue.as_planned(share.inputs.own):
            for event in fitting.fit(share.job, share.inputs, share.options, share.learning_rate, SharedWork()):
                if parallel.rank() == 0:
                    share.told.put(event)
    except Exception as error:
        if not _is_of_another(error):
            error.add_note(traceback.format_exc()[-8000:])
            with contextlib.suppress(Exception):  # it may not travel: then the job counts as lost
                share.told.put(error)
        raise


def _is_of_another(error: Exception) -> bool:
    """True if a collective failed because another process died."""
    return not isinstance(error, LobeError) and any(sign in str(error) for sign in EXCHANGE_BROKE)
