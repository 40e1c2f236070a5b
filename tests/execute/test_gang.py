"""Several processes for one job: their share of a node, and what they need. That they train one network, test_on_ray.py shows."""

from __future__ import annotations

import pytest

from benchmark.api import Request, plan_jobs
from benchmark.errors import UsageError
from benchmark.execute.gang import cores_each


def test_processes_with_more_threads_than_their_node_has_cores_share_all_of_it():
    assert [cores_each(*given) for given in ((1, 2, 16), (8, 2, 16), (8, 4, 16), (1, 4, 2))] == [1, 8, 4, 0.5]


def test_without_ray_there_is_one_process_for_a_job():
    with pytest.raises(UsageError, match="--workers-per-job 2 needs Ray"):
        plan_jobs(Request(backbones=["torchvision:resnet18"], tasks=["rsna-linear-frozen-100"], executor="inline", workers_per_job=2))
