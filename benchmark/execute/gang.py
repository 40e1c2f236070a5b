"""Several processes for one job, on the unit's node (`connected`). What a process computes is `fit`, which knows how batches are shared
(`benchmark.parallel`); the unit's own process passes on the events of the leading one. A lost process fails the unit's process too, so that
the executor counts it as lost and starts the job again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmark.cards import Job
from benchmark.events import Event
from benchmark.execute import connected
from benchmark.own import catalogue
from benchmark.training.inputs import Inputs
from benchmark.training.options import RunOptions

NODE = "ray.io/node-id"  # a label that Ray gives to every node


@dataclass(frozen=True)
class _Given:
    """The arguments of `fit`, as they travel."""

    job: Job
    inputs: Inputs
    options: RunOptions
    learning_rate: float


def fit(job: Job, inputs: Inputs, options: RunOptions, learning_rate: float, workers: int) -> Iterator[Event]:
    """As `training.fit.fit`, by so many processes that share each batch.

    Raises:
        ProcessLost: the job may be tried again.
        EnvironmentProblem: this process does not run on Ray.
        Exception: what failed the job, with the traceback of its process as a note.
    """
    ray = connected.ray_of_this_process()
    here = ray.get_runtime_context().get_node_id()
    n_cores = next(node["Resources"].get("CPU", 1) for node in ray.nodes() if node["NodeID"] == here)
    places = connected.Places(
        workers,
        cores_each(job.experiment.threads, workers, n_cores),
        job.experiment.device_type == "cuda",
        {NODE: here},  # on which the placer keeps their devices free
    )
    yield from connected.run(job.key, _share_of_fit, _Given(job, inputs, options, learning_rate), places)


def cores_each(threads: int, workers: int, n_cores: float) -> float:
    """Cores to ask for each process: its threads, or its part of a node that has too few. Asked for more, Ray would wait for ever."""
    return min(float(threads), n_cores / workers)


def _share_of_fit(given: _Given, tell: connected.Tell) -> None:
    """The same fit, on this process's share of every batch. The leader tells of it."""
    from benchmark import parallel
    from benchmark.training import fit as fitting
    from benchmark.training.determinism import prepare_process
    from benchmark.training.shared_work import SharedWork

    prepare_process(given.job.experiment.threads)
    with catalogue.as_planned(given.inputs.own):
        for event in fitting.fit(given.job, given.inputs, given.options, given.learning_rate, SharedWork()):
            if parallel.rank() == 0:
                tell(event)
