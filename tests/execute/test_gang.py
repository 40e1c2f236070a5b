"""Several processes for one job: their share of a node, and what they need. That they train one network, test_on_ray.py shows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmark.api import Request, plan_jobs
from benchmark.cards import EncoderMode
from benchmark.errors import EnvironmentProblem, TrainingError, UsageError
from benchmark.execute import connected, gang
from benchmark.execute.gang import cores_each
from benchmark.execute.work import run_unit, units


def test_processes_with_more_threads_than_their_node_has_cores_share_all_of_it():
    assert [cores_each(*given) for given in ((1, 2, 16), (8, 2, 16), (8, 4, 16), (1, 4, 2))] == [1, 8, 4, 0.5]


def test_outside_ray_a_gang_is_refused(monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(EnvironmentProblem, match="Several processes for one job need Ray"):
        next(gang.fit(None, None, None, 0.1, 2))


@pytest.mark.parametrize(
    ("error", "is_of_another"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer"), True),
        (RuntimeError("NCCL communicator was aborted"), True),
        (RuntimeError("Broken pipe"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (TrainingError("The network of gloo has no parameter."), False),
    ],
)
def test_a_broken_exchange_says_that_another_process_died_and_is_no_fault_of_the_job(error: Exception, is_of_another: bool):
    assert connected._is_of_another(error) is is_of_another


def test_a_lost_gang_is_the_executors_business_and_no_failed_job(small, tiny, monkeypatch):
    def lost(*_):
        raise connected.ProcessLost("WorkerCrashedError")
        yield

    monkeypatch.setattr(gang, "fit", lost)
    (unit,) = units(*small.plan("rsna-linear-frozen-100", [tiny()], card={"encoder": EncoderMode.FINETUNE}))
    with pytest.raises(connected.ProcessLost):
        list(run_unit(replace(unit, workers=2)))


def test_without_ray_there_is_one_process_for_a_job():
    with pytest.raises(UsageError, match="--workers-per-job 2 needs Ray"):
        plan_jobs(Request(backbones=["torchvision:resnet18"], tasks=["rsna-linear-frozen-100"], executor="inline", workers_per_job=2))
