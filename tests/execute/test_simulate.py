"""The simulated clock: bounds that hold for every schedule, selection before what waits for it, and a machine kept busy."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import registry
from benchmark.cards import BackboneRef, DatasetRef, Normalisation, SplitRule
from benchmark.execute.costs import Costs
from benchmark.execute.equipment import Equipment
from benchmark.execute.forecast import forecast
from benchmark.execute.inline import InlineExecutor
from benchmark.execute.placing import Node
from benchmark.execute.simulate import simulate
from benchmark.execute.work import WorkUnit, units
from benchmark.plan import NamedBackbone, Settings, plan
from benchmark.training.inputs import Inputs

GIB = 2**30


def suite_units(n_backbones: int, device_type: str = "cuda") -> list[WorkUnit]:
    """Work units of LoVT's 18 tasks for so many backbones; no file is read."""
    tasks = [registry.task(name) for name in registry.suite("lovt-18").tasks]
    refs = {name: _reference(name) for name in {task.dataset for task in tasks}}
    made: list[WorkUnit] = []
    for i in range(n_backbones):
        backbone = NamedBackbone(f"backbone {i}", BackboneRef(family="torchvision", model="resnet50", digest=f"{i:064x}"))
        jobs = plan(tasks, [backbone], refs, registry.protocol("published"), Settings(device_type=device_type))
        inputs = {name: _inputs(name) for name in refs}
        made += units(jobs, {job.key: inputs[job.experiment.dataset.name] for job in jobs})
    return made


def _reference(name: str) -> DatasetRef:
    card = registry.dataset(name)
    return DatasetRef(
        name=name,
        digest="d",
        split="lovt",
        split_rule=SplitRule(rule="permutation", seed=123),
        classes=card.classes,
        target="masks",
        intensity="as-stored",
        statistics=Normalisation(mean=(0.5,), std=(0.25,)),
    )


def _inputs(name: str) -> Inputs:
    return Inputs(registry.dataset(name), Path("/nowhere"), Path("/nowhere"), "resnet50", None, "none", False, True)


def cluster(n_nodes: int) -> list[Node]:
    return [Node(f"node {i}", cpus=64, memory_bytes=1024 * GIB, n_gpus=8, gpu_bytes=80 * GIB) for i in range(n_nodes)]


def test_a_cluster_is_kept_busy_until_the_tail():
    made = suite_units(8)
    result = simulate(made, cluster(2), Costs())
    assert result.makespan_s >= result.bound_s
    assert result.makespan_s <= result.bound_s * 1.10
    assert result.utilisation() >= 0.95
    assert max(n for _, n in result.curve) <= result.devices == 16
    assert result.curve[-1][1] == 0
    assert not result.unplaced


def test_one_device_takes_the_sum_and_many_take_the_longest_chain():
    made = suite_units(1)
    one = simulate(made, [Node("a", cpus=64, n_gpus=1)], Costs())
    many = simulate(made, cluster(20), Costs())
    assert one.makespan_s == pytest.approx(one.work_s)
    assert many.makespan_s == pytest.approx(many.critical_path_s)
    assert one.utilisation(one.makespan_s) == pytest.approx(1.0)


def test_of_units_that_can_start_the_longest_starts_first():
    made, costs = suite_units(2), Costs()
    length = {unit.name: costs.unit_seconds(unit) for unit in made if not {key for job in unit.jobs for key in job.depends_on}}
    started = [length[name] for _, name in simulate(made, [Node("a", cpus=64, n_gpus=1)], costs).starts if name in length]
    assert started == sorted(started, reverse=True)
    assert len(set(started)) > 5


@pytest.mark.parametrize("told", [lambda seconds: -seconds, lambda seconds: 1.0], ids=["shortest first", "in plan order"])
def test_another_order_would_be_slower(told):
    class Mistaken(Costs):
        def unit_seconds(self, unit: WorkUnit) -> float:
            return told(super().unit_seconds(unit))

    made, true = suite_units(2), Costs()
    ours = simulate(made, cluster(1), true).makespan_s
    assert simulate(made, cluster(1), Mistaken(), seconds=lambda unit: true.unit_seconds(unit) / unit.workers).makespan_s > 1.1 * ours


def test_nothing_to_do_wastes_no_device():
    assert simulate([], cluster(1), Costs()).utilisation() == 1.0


def test_what_no_node_can_hold_is_named():
    result = simulate(suite_units(1), [Node("a", cpus=2)], Costs())
    assert len(result.unplaced) > 0
    assert result.makespan_s == 0


def test_one_after_another_takes_the_sum_on_any_number_of_cores():
    made = suite_units(1, "cpu")
    one, all_that_fit = (simulate(made, [Node("a", cpus=16)], Costs(), at_once=n) for n in (1, None))
    assert one.makespan_s == pytest.approx(one.work_s)
    assert one.makespan_s > 3 * all_that_fit.makespan_s
    assert InlineExecutor().equipment("cpu").at_once == 1


def test_a_forecast_says_how_much_of_it_was_measured():
    made = suite_units(1, device_type="cpu")
    told = forecast(made, Costs(), Equipment("cpu", (Node("a", cpus=2, memory_bytes=8 * GIB),), "this machine"))
    assert (told.n_jobs, told.measured_jobs) == (sum(len(unit.jobs) for unit in made), 0)
    assert told.seconds >= told.critical_path_s > 0
    assert told.device_hours * 3600 <= 2 * told.seconds
