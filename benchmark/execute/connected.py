"""Several processes that share one piece of work, by Ray Train: it places them, gives each its device, connects them with torch's process
group, and ends them all when one is lost. The process that asked has no device of theirs: it hears what they tell, in order.

A failure that a process can name reaches the one that asked; one that dies, or whose exchange breaks, is `ProcessLost`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.errors import EnvironmentProblem, LobeError

POLL_S = 0.5  # of Ray Train, which looks after its processes
EXCHANGE_BROKE = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe")
SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": str(POLL_S),
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # what was shipped is found from the working directory
}

Tell = Callable[[Any], None]
Work = Callable[[Any, Tell], None]


class ProcessLost(Exception):
    """A process of the work died, or could not be reached by the others."""


@dataclass(frozen=True)
class Places:
    """Where the processes run.

    Attributes:
        n: processes.
        cores: for each.
        cuda: each has a GPU.
        labels: what their nodes must have; then all are on one node. None: wherever there is room.
    """

    n: int
    cores: float
    cuda: bool
    labels: dict[str, str] | None = None


@dataclass(frozen=True)
class _Share:
    """What a process is started with; `told` is the queue to the process that asked."""

    work: Work
    given: Any
    told: Any


def run(name: str, work: Work, given: Any, places: Places) -> Iterator[Any]:
    """What the processes tell, until they have ended.

    Args:
        name: of the work, among those of this cluster.
        work: a function of a module; called in every process with `given` and a function that tells.

    Raises:
        ProcessLost: the work may be tried again.
        EnvironmentProblem: this process does not run on Ray.
        Exception: what failed the work, with the traceback of its process as a note.
    """
    ray_of_this_process()
    from ray.util.queue import Empty, Queue

    os.environ.update(SETTINGS)
    told = Queue(actor_options={"num_cpus": 0})
    with tempfile.TemporaryDirectory(prefix="lobe-gang-") as nothing:
        lost: list[BaseException] = []
        thread = threading.Thread(target=_start, args=(name, _Share(work, given, told), places, Path(nothing), lost), daemon=True)
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
            raise ProcessLost(f"{type(lost[0]).__name__}: {str(lost[0])[-2000:]}")


def ray_of_this_process() -> Any:
    """The module `ray`, connected.

    Raises:
        EnvironmentProblem: it is not.
    """
    import ray

    if not ray.is_initialized():
        raise EnvironmentProblem("Several processes for one job need Ray: use --executor ray, or leave --workers-per-job out.")
    return ray


def room_for(n: int, threads: int, cuda: bool) -> Places:
    """Places anywhere on this Ray: a GPU each, or the threads' cores, or an equal part of too few. Asked for more, Ray would wait.

    Raises:
        EnvironmentProblem: there are fewer GPUs.
    """
    there = ray_of_this_process().cluster_resources()
    n_gpus = int(there.get("GPU", 0))
    if cuda and n_gpus < n:
        raise EnvironmentProblem(
            f"{n} processes with a GPU each, and this Ray has {n_gpus}. Give fewer --workers, or an --address with more."
        )
    return Places(n, min(float(threads), there.get("CPU", 1.0) / n), cuda)


def _start(name: str, share: _Share, places: Places, storage: Path, lost: list[BaseException]) -> None:
    """Starts the processes and waits for their end."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from benchmark import parallel

    one_node = {} if places.labels is None else {"placement_strategy": "STRICT_PACK", "label_selector": places.labels}
    trainer = TorchTrainer(
        _process,
        train_loop_config={"share": share},
        scaling_config=ScalingConfig(
            num_workers=places.n,
            use_gpu=places.cuda,
            resources_per_worker={"CPU": places.cores} | ({"GPU": 1} if places.cuda else {}),
            **one_node,  # type: ignore[arg-type]  # Ray's types are those of its older Train, which does not run here
        ),
        torch_config=TorchConfig(backend="nccl" if places.cuda else "gloo", timeout_s=parallel.TIMEOUT_S),
        # Whoever asked decides about retries. Nothing is reported to Ray Train, so nothing is stored there.
        run_config=RunConfig(name=name, storage_path=str(storage), failure_config=FailureConfig(max_failures=0)),
    )
    try:
        trainer.fit()
    except BaseException as error:
        lost.append(error)


def _process(config: dict[str, _Share]) -> None:
    """What each process does."""
    share = config["share"]
    try:
        share.work(share.given, share.told.put)
    except Exception as error:
        if not _is_of_another(error):
            error.add_note(traceback.format_exc()[-8000:])
            with contextlib.suppress(Exception):  # it may not travel: then the work counts as lost
                share.told.put(error)
        raise


def _is_of_another(error: Exception) -> bool:
    """True if a collective failed because another process died."""
    return not isinstance(error, LobeError) and any(sign in str(error) for sign in EXCHANGE_BROKE)
