"""Hours by arithmetic: of the leaderboard's core within what was promised, and what makes them more or less."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmark import registry
from benchmark.cards import BackboneRef, DatasetRef
from benchmark.execute.arithmetic import BACKWARD, EPOCHS, FLOP_PER_S, FORWARD, Hours, hours
from benchmark.execute.memory import ENCODERS
from benchmark.execute.work import WorkUnit, units
from benchmark.plan import NamedBackbone, Settings, plan
from benchmark.readers.base import SPLITS
from benchmark.training.inputs import Inputs
from benchmark.training.sizes import SplitSizes

CORE = registry.suite("lobe-v1").core
SIIM = "siim-unet-finetune-100-lobe-v1"


def sizes(dataset: str, split: str) -> SplitSizes:
    """Of the public release: before patients of the test split are taken out of training, where its card counts that alone."""
    splits = registry.dataset(dataset).splits
    expected = splits[split].expected or splits["lovt"].expected
    return SplitSizes(**{name: expected[name].n_images for name in SPLITS})


def units_of(tasks: Sequence[str], model: str = "resnet50", **settings) -> list[WorkUnit]:
    jobs, inputs = [], {}
    backbone = NamedBackbone(model, BackboneRef(family="torchvision", model=model, digest="abc"))
    for name in tasks:
        task = registry.task(name)
        card = registry.dataset(task.dataset)
        rule = card.splits[task.split].model_copy(update={"expected": {}})
        about = {"split": task.split, "split_rule": rule, "classes": card.classes, "statistics": card.statistics}
        ref = DatasetRef(name=card.name, digest=card.name, target="masks", intensity="as-stored", **about)
        found = plan([task], [backbone], {card.name: ref}, registry.protocol("lobe"), Settings(device_type="cuda", **settings))
        place = Inputs(card, Path(), Path(), model, None, "", False, True, sizes=sizes(task.dataset, task.split))
        jobs += found
        inputs |= dict.fromkeys((job.key for job in found), place)
    return units(jobs, inputs)


def test_the_core_takes_a_resnet_50_at_most_three_hours_of_an_h200_by_forecast() -> None:
    planned = units_of(CORE)
    found = hours(planned)
    assert sum(len(unit.jobs) for unit in planned) == 387
    assert found.expected <= 3
    page = (Path(__file__).parents[2] / "docs" / "protocols" / "lobe.md").read_text(encoding="utf-8")
    assert f"| | all, 387 jobs | | {found.expected:.1f} | {found.at_most:.1f} if every run" in page


@pytest.mark.parametrize("task", CORE)
def test_the_page_states_the_hours_of_every_task_of_the_core(task: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "protocols" / "lobe.md").read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if f"| `{task}` |" in line]
    assert line.split(" | ")[3] == f"{hours(units_of([task])).expected:.2f}"


def test_a_fine_tuned_run_costs_its_network_for_every_image_of_its_epochs() -> None:
    (unit,) = [one for one in units_of([SIIM], runs=1) if one.jobs[0].experiment.role.value == "final"]
    head = registry.plugin("heads", "unet").size(ENCODERS["resnet50"].channels, 1, 224).multiplications
    n, recipe = sizes("siim", "lovt"), registry.task(SIIM).recipe
    per_epoch = n.train * (FORWARD + BACKWARD) + n.validation * FORWARD
    total = (head + ENCODERS["resnet50"].multiplications) * (recipe.max_epochs * EPOCHS * per_epoch + n.test * FORWARD)
    assert hours([unit]).expected == pytest.approx(total / FLOP_PER_S / 3600)


def test_only_the_upper_bound_counts_steps_beyond_the_grid_and_all_epochs() -> None:
    planned = units_of([SIIM])
    (beyond, *_) = [unit for unit in planned if unit.jobs[0].experiment.extends_grid]
    assert hours([beyond]).expected == 0
    assert hours([beyond]).at_most > 0
    assert hours(planned).at_most > hours(planned).expected / EPOCHS * 0.99


def test_images_pass_a_frozen_encoder_once_for_all_heads_and_shares_of_labels() -> None:
    linear, both = (hours(units_of(names)).expected for names in (CORE[:1], CORE[:2]))
    assert both < 1.5 * linear


def test_a_network_that_nobody_counted_is_said_to_be_a_guess() -> None:
    small, large = (hours(units_of([SIIM], model=f"vit_{size}_patch16_224")) for size in ("small", "base"))
    assert large.guessed == ("vit_base_patch16_224",)
    assert large.expected > small.expected > 0
    assert "The work of vit_base_patch16_224 is a guess" in large.sentence
    assert "240 TFLOP/s assumed, never measured" in Hours(1.0, 2.0).sentence
