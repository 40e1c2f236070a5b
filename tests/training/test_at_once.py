"""A head that keeps its examples: one pass, no rate, no epoch, one run of fixed weights, and a record like any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import registry, task_rules
from benchmark.errors import CardError
from benchmark.kinds import draws_anew
from benchmark.training import at_once
from benchmark.training.options import RunOptions

WHOLE, TENTH = "rsna-labels-nearest-neighbour-frozen-100-lobe", "rsna-labels-nearest-neighbour-frozen-10-lobe"


def test_a_run_has_scores_and_validation_but_neither_steps_nor_curve(small, tiny, tmp_path: Path):
    job, place = small.one(WHOLE, tiny())
    record = small.fit(job, place, produced=tmp_path / "files")
    assert (record.status, record.steps, record.curve) == ("ok", 0, ())
    assert 0 <= record.metrics["auroc"] <= 1
    assert record.validation["negative_loss"] < 0
    assert record.parameters["trained"] == 0
    again = small.fit(job, place, RunOptions(micro_batches=2))
    assert again.metrics == pytest.approx(record.metrics, abs=1e-5)  # an embedding of smaller batches may round otherwise


def test_it_reads_every_training_image_once_and_no_other(small, tiny, monkeypatch: pytest.MonkeyPatch):
    seen: list[int] = []

    def learned(model, data, experiment):
        result = yield from learn(model, data, experiment)
        seen.extend([len(model.head.kept), len(data.train), len(data.validation)])
        return result

    learn = at_once.learn_at_once
    monkeypatch.setattr("benchmark.training.fit.learn_at_once", learned)
    job, place = small.one(WHOLE, tiny(), batch_size=5)  # 12 images: the last batch is not dropped
    assert small.fit(job, place).status == "ok"
    assert seen[0] == seen[1] == 12


def test_fixed_weights_have_one_run_a_random_network_as_many_as_asked_for(small, tiny):
    fixed, untrained = tiny(), small.backbone(tiny("other"), random=True)
    assert [len(small.plan(WHOLE, [one], runs=3)[0]) for one in (fixed, untrained)] == [1, 3]
    assert len(small.plan("rsna-labels-linear-frozen-100-mgca", [fixed], runs=3)[0]) == 3
    switches = registry.protocol("lobe").switches
    assert switches.label_draw == "nested"
    assert [draws_anew("nearest_neighbour", share, switches) for share in (1.0, 0.1)] == [False, True]


def test_a_protocols_learning_rates_are_not_tried():
    from benchmark.plan import Settings, _recipe

    task = registry.task(WHOLE)
    protocol = registry.protocol("lobe")
    assert protocol.grid_of("linear", task.encoder)
    assert _recipe(task, protocol, Settings()).grid == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [({"encoder": "finetune"}, "keeps examples of a frozen one"), ({"recipe": {"grid": (0.1, 0.01)}}, "has learning rates")],
)
def test_a_card_that_promises_training_is_refused(change: dict, said: str):
    given = registry.task(WHOLE)
    recipe = given.recipe.model_copy(update=change.pop("recipe", {}))
    card = type(given).model_validate(given.model_dump() | change | {"recipe": recipe.model_dump()})
    with pytest.raises(CardError, match=said):
        task_rules.require([card])


def test_neither_probe_is_ranked_with_linear_heads():
    assert {task_rules.track_of(registry.task(f"rsna-labels-{probe}-frozen-100-lobe")) for probe in ("nearest-neighbour", "attentive")} == {
        "head-frozen"
    }
