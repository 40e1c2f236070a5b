"""What a unit gets of the node it runs on."""

from __future__ import annotations

from dataclasses import replace

from benchmark.execute.remote import units_at_once
from benchmark.execute.work import units

LINEAR = "rsna-linear-frozen-100"


def with_resources(unit, **experiment):
    """The unit with another thread count or device."""
    jobs = tuple(job.model_copy(update={"experiment": job.experiment.model_copy(update=experiment)}) for job in unit.jobs)
    return replace(unit, jobs=jobs)


def test_a_node_runs_as_many_units_as_its_cores_and_devices_allow(small, tiny):
    (unit,) = units(*small.plan(LINEAR, [tiny()]))
    node = {"CPU": 16.0, "GPU": 2.0}
    assert units_at_once(node, unit) == 16
    assert units_at_once(node, with_resources(unit, threads=5)) == 3
    assert units_at_once(node, with_resources(unit, device_type="cuda")) == 2
    assert units_at_once({"CPU": 2.0}, with_resources(unit, threads=4)) == 1
