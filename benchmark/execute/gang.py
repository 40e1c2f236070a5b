"""Several processes of one node for one job: the process of the unit leads, the others follow and say nothing.

A follower that dies breaks the leader's next exchange and so fails the job; a leader that dies takes its followers with it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmark.cards import Job
from benchmark.parallel import Group, joined
from benchmark.training.place import Place


@contextlib.contextmanager
def together(job: Job, place: Place, learning_rate: float, workers: int) -> Iterator[None]:
    """Inside, `fit` of this job shares its batches with `workers - 1` further processes; with one worker nothing happens."""
    if workers == 1:
        yield
        return
    device_type = job.experiment.device_type
    address = f"tcp://127.0.0.1:{_free_port()}"
    spawn = multiprocessing.get_context("spawn")
    followers = [
        spawn.Process(target=follow, args=(job, place, learning_rate, Group(rank, workers, address), os.getpid()), daemon=True)
        for rank in range(1, workers)
    ]
    for follower in followers:
        follower.start()
    try:
        with joined(Group(0, workers, address), device_type):
            yield
    finally:
        for follower in followers:
            follower.join(5.0)
            if follower.is_alive():
                follower.kill()
                follower.join()


def follow(job: Job, place: Place, learning_rate: float, group: Group, leader: int) -> None:
    """What a follower does: the same fit, on its share of every batch."""
    import torch

    from benchmark.training import fit as fitting
    from benchmark.training.determinism import prepare_process

    _die_with(leader)
    prepare_process(job.experiment.threads)
    if job.experiment.device_type == "cuda":
        torch.cuda.set_device(group.rank)
    with joined(group, job.experiment.device_type), tempfile.TemporaryDirectory() as nothing:
        for _ in fitting.fit(job, place, Path(nothing), learning_rate, fitting.Bench()):
            pass


def _die_with(leader: int) -> None:
    """Ends this process when its leader is killed, which could tell nobody."""
    import threading
    import time

    def watch() -> None:
        while os.getppid() == leader:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
