"""Several processes for one job, started by Ray Train: the job's own numbers, and a lost process costs time and nothing else."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.api import Request, plan_jobs
from benchmark.cards import EncoderMode
from benchmark.errors import UsageError
from benchmark.events import EpochEnded, Finished
from benchmark.execute.connecting import QUIET, start_here
from benchmark.execute.gang import cores_each
from benchmark.execute.inline import InlineExecutor
from benchmark.execute.on_ray import RayExecutor
from benchmark.execute.schedule import Schedule
from benchmark.execute.work import units

LINEAR = "rsna-linear-frozen-100"
FINETUNE = {"encoder": EncoderMode.FINETUNE}
FOLLOWS = "torch.distributed.is_initialized() and torch.distributed.get_rank() == 1"


@pytest.fixture(scope="module")
def ray():
    os.environ.update(QUIET)
    import ray

    start_here(ray, 2)
    yield ray
    ray.shutdown()


def run(executor, jobs, places, workers: int = 1) -> list:
    return list(executor.run(Schedule([replace(unit, workers=workers) for unit in units(jobs, places)])))


@pytest.mark.usefixtures("ray")
def test_two_processes_train_the_network_of_one_though_one_of_them_is_killed_first(small, tiny, tmp_path: Path):
    killed = tmp_path / "killed"
    dies = f"if {FOLLOWS} and not Path({str(killed)!r}).exists(): Path({str(killed)!r}).touch(); os.kill(os.getpid(), signal.SIGKILL)"
    jobs, places = small.plan(LINEAR, [tiny(at_build=f"torch.manual_seed(5)\n    {dies}")], card=FINETUNE, batch_size=5, drop_last=False)
    (one,) = (e for e in run(InlineExecutor(), jobs, places) if isinstance(e, Finished))
    assert not killed.exists()
    events = run(RayExecutor(), jobs, places, workers=2)
    (two,) = (e for e in events if isinstance(e, Finished))
    assert killed.exists()
    assert (two.record.status, two.record.steps) == ("ok", one.record.steps), two.record.failure
    assert [line.train_loss for line in two.record.curve] == pytest.approx([line.train_loss for line in one.record.curve], abs=1e-4)
    assert two.record.metrics["opacity_dice"] == pytest.approx(one.record.metrics["opacity_dice"], abs=1e-2)
    assert sum(isinstance(e, EpochEnded) for e in events) == len(two.record.curve)
    assert two.files.keys() == one.files.keys()
    assert "trained by 2 processes that shared each batch: equal to one process up to rounding" in two.record.warnings
    assert not any("processes" in text for text in one.record.warnings)


@pytest.mark.usefixtures("ray")
def test_what_fails_in_one_process_fails_the_job_with_its_own_sentence(small, tiny):
    jobs, places = small.plan(LINEAR, [tiny(at_pyramid=f"if {FOLLOWS}: raise ValueError('bad weather')")], card=FINETUNE)
    (event,) = (e for e in run(RayExecutor(), jobs, places, workers=2) if isinstance(e, Finished))
    assert event.record.failure.kind == "ConformanceError"  # the contract of an author's backbone is checked in every process
    assert event.record.failure.sentence.endswith("ValueError: bad weather")


def test_processes_with_more_threads_than_their_node_has_cores_share_all_of_it():
    assert [cores_each(*given) for given in ((1, 2, 16), (8, 2, 16), (8, 4, 16), (1, 4, 2))] == [1, 8, 4, 0.5]


def test_without_ray_there_is_one_process_for_a_job():
    with pytest.raises(UsageError, match="--workers-per-job 2 needs Ray"):
        plan_jobs(Request(backbones=["torchvision:resnet18"], tasks=[LINEAR], executor="inline", workers_per_job=2))
