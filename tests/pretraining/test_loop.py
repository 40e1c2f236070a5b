"""A step depends on its number and the seed alone: groups, processes and stops change nothing but rounding; a broken loss stops."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmark import parallel
from benchmark.cards.pretraining import StageCard
from benchmark.encoders.words import Words
from benchmark.errors import TrainingError, UsageError
from benchmark.objectives import convirt
from benchmark.pretraining import loop, pairs, run, towers
from benchmark.pretraining.views import Views
from benchmark.training.checkpoint import Checkpoint
from tests.pretraining.small import corpus, recipe
from tests.test_parallel import joined, run_all


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loop")
    train, _ = pairs.load(recipe("convirt").pairs, corpus(folder / "mimic-cxr"), 48, 0)
    return train, towers.tokenizer_of(recipe("convirt").text, train.reports, folder / "tokenizer")


def parts(given, card, dtype=torch.float64):
    """What the loop takes, without dropout, in float64: so that processes can be compared."""
    train, tokenizer = given
    module = run.module_of(card)
    built, reader = towers.build(card.image, card.text, tokenizer, 0, reads_attention=run.reads_attention(module))
    torch.manual_seed(1)
    objective = module.build(built.widths, run.options_of(card, module))
    trained = loop.Trained(built, objective).to(dtype).train()
    trained.towers.image.backbone.network.conv1.register_forward_pre_hook(lambda layer, given: (given[0].to(dtype),))
    for layer in trained.modules():
        if isinstance(layer, nn.Dropout | nn.Dropout2d):
            layer.p = 0.0
    views = Views(card.image.augmentation, card.image.size)
    feed = loop.Feed(train, Words(reader, train.reports), views, card.pairs.sentences, torch.device("cpu"))
    return trained, feed, loop.Course(len(train), card, 0)


def trained_by(given, card, checkpoint=None) -> dict[str, torch.Tensor]:
    torch.set_num_threads(1)
    trained, feed, course = parts(given, card)
    losses = [step.loss for step in loop.train(trained, feed, course, card, checkpoint)]
    return {"losses": torch.tensor(losses), **{name: one.double() for name, one in trained.state_dict().items()}}


def one_of(rank: int, size: int, port: int, file: str, arguments: tuple) -> None:
    with joined(rank, size, port):
        found = trained_by(*arguments)
    if rank == 0:
        torch.save(found, file)


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], within: float) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.allclose(value, other[name], rtol=within, atol=within), name


def test_gaps_that_steps_leave_are_looked_for_after_each(given, monkeypatch: pytest.MonkeyPatch):
    looked: list[int] = []
    monkeypatch.setattr(loop, "BetweenSteps", lambda: partial(looked.append, 1))
    losses = trained_by(given, recipe("convirt", batch=5, group=5, pairs=15))["losses"]
    assert len(looked) == len(losses) == 3


# MGCA's prototypes thaw after the first step, and are trained in two.
@pytest.mark.parametrize(("name", "steps"), [("lovt", 2), ("gloria", 2), ("mgca", 3)])
def test_two_processes_train_what_one_trains(name, steps, given, tmp_path: Path):
    card = recipe(name, batch=5, group=5, pairs=5 * steps)
    equal(trained_by(given, card), run_all(one_of, tmp_path, (given, card), 2), 1e-8)


def gone_on_with(rank: int, size: int, port: int, file: str, arguments: tuple) -> None:
    """Stops in the second step, and goes on from what was saved after the first."""
    given, card, folder = arguments
    kept = partial(Checkpoint, folder, "key", card.optimiser.rate, every_s=0.0)
    with joined(rank, size, port):
        begun = loop.train(*parts(given, card), card, kept())
        assert [next(begun).number, next(begun).number] == [0, 1]
        found = trained_by(given, card, kept())
    if rank == 0:
        torch.save(found, file)


def test_two_processes_that_were_stopped_go_on_to_what_one_trains(given, tmp_path: Path):
    card = recipe("lovt", batch=5, group=5, pairs=15)
    one, two = trained_by(given, card), run_all(gone_on_with, tmp_path, (given, card, tmp_path), 2)
    assert len(two["losses"]) == 2  # of three steps
    equal({**one, "losses": one["losses"][1:]}, two, 1e-8)


def test_groups_inside_processes_are_the_same_groups_in_turn(given, tmp_path: Path):
    card = recipe("convirt", steps=2, group=3)
    assert not any(isinstance(one, nn.BatchNorm1d) for one in parts(given, card)[0].objective.modules())
    one, two = trained_by(given, card), run_all(one_of, tmp_path, (given, card), 2)
    equal({"losses": one["losses"]}, {"losses": two["losses"]}, 1e-8)
    apart = trained_by(given, recipe("convirt", steps=2))
    assert not torch.allclose(apart["losses"], one["losses"], rtol=1e-3)


def apart(rank: int, size: int, port: int, file: str, arguments: tuple) -> None:
    """Running statistics of both processes after a step: as each has seen them, and as the loop leaves them."""
    found = {}
    with joined(rank, size, port):
        for how in ("own", "left"):
            with pytest.MonkeyPatch.context() as patch:
                if how == "own":
                    patch.setattr(parallel, "share_running_statistics", lambda module: None)
                running = {name: one for name, one in trained_by(*arguments).items() if name.endswith(("running_mean", "running_var"))}
            both = {name: [torch.empty_like(one) for _ in range(size)] for name, one in running.items()}
            for name, one in running.items():
                torch.distributed.all_gather(both[name], one)
            found[how] = {name: torch.stack(each) for name, each in both.items()}
    if rank == 0:
        torch.save(found, file)


def test_groups_inside_processes_leave_the_mean_of_what_the_processes_saw(given, tmp_path: Path):
    """Else the encoder would be read with the statistics of the first process's images alone."""
    found = run_all(apart, tmp_path, (given, recipe("convirt", steps=1, group=3)), 2)
    assert found["own"]
    for name, own in found["own"].items():
        assert not torch.allclose(own[0], own[1])
        for left in found["left"][name]:
            assert torch.allclose(left, own.mean(dim=0), rtol=1e-12, atol=1e-12), name


def test_a_pair_is_shown_once_a_round_and_never_twice_in_a_batch(given):
    card = recipe("convirt", steps=20)
    course = loop.Course(13, card, 0)
    rounds = [np.concatenate([course.batch(2 * k)[0], course.batch(2 * k + 1)[0]]) for k in range(4)]
    assert all(len(set(one.tolist())) == 12 for one in rounds)
    assert not np.array_equal(rounds[0], rounds[1])
    keys = np.concatenate([course.batch(step)[1] for step in range(8)])
    assert len(set(keys.tolist())) == len(keys)
    assert not set(keys.tolist()) & set(loop.Course(13, card, 1).batch(0)[1].tolist())


def test_the_rate_rises_and_falls_as_the_recipe_says():
    card = recipe("convirt", steps=20, schedule="cosine")
    course = loop.Course(100, card, 0)
    rates = [course.rate(step) for step in range(course.n_steps)]
    assert rates[:2] == [0.5, 1.0]
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 17 / 18)))
    assert loop.Course(100, recipe("convirt", steps=20), 0).rate(19) == 1.0


def test_lovts_rate_swings_and_g2ds_begins_anew():
    swinging = loop.Course(30, recipe("convirt", steps=20, schedule="swinging", warm_up=0), 0)  # five steps a round
    assert [swinging.rate(step) for step in (0, 5, 10, 15)] == pytest.approx([1, 0, 1, 0])
    assert swinging.rate(2) == pytest.approx(0.5 * (1 + math.cos(0.4 * math.pi)))
    assert swinging.rate(8) == pytest.approx(swinging.rate(2))
    restarting = loop.Course(30, recipe("convirt", steps=20, schedule="restarts", period=4, lowest=0.1, warm_up=0), 0)
    assert [restarting.rate(step) for step in (0, 2, 4, 6, 8)] == pytest.approx([1, 0.55, 1, 0.55, 1])
    assert min(restarting.rate(step) for step in range(20)) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(0.75 * math.pi)))


STAGES = (StageCard(begins=0, rate=1.0, warm_up=0.5), StageCard(begins=0.4, rate=0.5, warm_up=0))


def test_a_stage_has_a_schedule_of_its_own():
    course = loop.Course(60, recipe("convirt", steps=10, schedule="cosine", stages=STAGES), 0)
    assert [course.rate(step) for step in range(4)] == pytest.approx([0.5, 1.0, 1.0, 0.5])
    assert [course.rate(step) for step in (4, 7)] == pytest.approx([0.5, 0.25])
    assert [course.begins_stage(step) for step in range(6)] == [False] * 4 + [True, False]


def test_the_optimiser_forgets_its_moments_where_a_stage_begins(given):
    torch.set_num_threads(1)
    card = recipe("convirt", steps=4, stages=(STAGES[0], StageCard(begins=0.5, rate=0.5, warm_up=0)))
    trained, feed, course = parts(given, card)
    counts, step = [], torch.optim.AdamW.step

    class Watched(torch.optim.AdamW):
        def step(self, *rest):
            found = step(self, *rest)
            counts.append({int(state["step"]) for state in self.state.values()})
            return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "AdamW", Watched)
        list(loop.train(trained, feed, course, card))
    assert counts == [{1}, {2}, {1}, {2}]


def test_an_order_made_once_is_that_of_every_round():
    once, anew = (loop.Course(12, recipe("convirt", steps=8, order=order), 0) for order in ("once", "anew"))
    assert np.array_equal(once.batch(0)[0], once.batch(2)[0])
    assert not np.array_equal(once.batch(0)[1], once.batch(2)[1])
    assert np.array_equal(once.batch(0)[0], anew.batch(0)[0])
    assert not np.array_equal(anew.batch(0)[0], anew.batch(2)[0])


@pytest.mark.parametrize(
    ("budget", "n_pairs", "said"),
    [
        ({"schedule": "restarts"}, 50, "the schedule `restarts` needs a `period`"),
        ({"stages": STAGES[::-1]}, 50, "its stages begin at 0.4, 0. Give"),
        ({"stages": STAGES[1:]}, 50, "its stages begin at 0.4. Give rising shares from 0"),
        ({}, 5, "a batch of 6 pairs, and there are 5"),
        ({"group": 4}, 50, "no whole number of groups of 4"),
        ({"stages": STAGES, "pairs": 6}, 50, "6 pairs, 6 a step, leave no step for the stage that begins at 0.4. Show more"),
        ({"stages": (*STAGES, StageCard(begins=0.45, rate=0.5, warm_up=0)), "pairs": 12}, 50, "no step for the stage that begins at 0.4"),
    ],
)
def test_a_budget_that_does_not_fit_is_refused(budget, n_pairs, said):
    with pytest.raises(UsageError, match=said):
        loop.Course(n_pairs, recipe("convirt", **budget), 0)


def test_a_process_more_than_groups_is_refused(monkeypatch):
    monkeypatch.setattr(parallel, "size", lambda: 4)
    with pytest.raises(UsageError, match="2 groups a batch and 4 processes"):
        next(loop.train(nn.Identity(), None, None, recipe("convirt", group=3)))


def test_a_loss_that_is_not_finite_stops_with_the_step_and_without_ids(given, monkeypatch):
    card = recipe("convirt", steps=3)
    trained, feed, course = parts(given, card)
    losses = convirt.ConVirt.forward

    def broken(self, encoded, group, done):
        found = losses(self, encoded, group, done)
        return {**found, "image to text": found["image to text"] / 0.0} if done > 0.5 else found

    monkeypatch.setattr(convirt.ConVirt, "forward", broken)
    with pytest.raises(TrainingError, match=r"not finite in step 2 of 3 at rate 0.0005 \(image to text inf\)") as caught:
        list(loop.train(trained, feed, course, card))
    assert not any(i in str(caught.value) for i in given[0].ids)


def test_norms_biases_and_scales_do_not_decay(given):
    card = recipe("lovt")
    trained, _, _ = parts(given, card)
    decays, kept = loop.optimiser_of(card.optimiser, trained).param_groups
    assert {p.dim() for p in kept["params"]} <= {0, 1}
    assert min(p.dim() for p in decays["params"]) == 2
    assert (decays["weight_decay"], kept["weight_decay"]) == (1e-4, 0)
    (every,) = loop.optimiser_of(card.optimiser.model_copy(update={"decays_all": True}), trained).param_groups
    assert len(every["params"]) == len(decays["params"]) + len(kept["params"])


def test_images_that_find_their_own_report_first_are_at_one_and_chance_is_a_half(given, monkeypatch):
    trained, feed, _ = parts(given, recipe("convirt"), torch.float32)
    n = len(feed.pairs)

    def told(rows):
        monkeypatch.setattr(
            type(trained.objective), "embed", lambda self, encoded, group, done: (rows[encoded.keys], torch.eye(n)[encoded.keys])
        )
        return float(loop.percentiles(trained, feed, 1.0, 4, 0).mean())

    assert told(torch.eye(n)) == 1.0
    assert told(torch.ones(n, n)) == 0.5
    assert told(-torch.eye(n)) == 0.0
    assert trained.training


def test_a_seed_of_any_size_has_keys_for_held_out_pairs(given):
    trained, feed, _ = parts(given, recipe("convirt"), torch.float32)
    assert np.array_equal(loop.percentiles(trained, feed, 1.0, 8, 3), loop.percentiles(trained, feed, 1.0, 8, 2**40 + 3))


def test_weights_that_the_last_step_broke_are_never_called_finished(given):
    trained, feed, _ = parts(given, recipe("convirt"), torch.float32)
    with torch.no_grad():
        trained.objective.model_b.project_global.projection_after.weight[0, 0] = math.nan
    with pytest.raises(TrainingError, match=r"not finite after 100 % of the budget: training has diverged"):
        loop.percentiles(trained, feed, 1.0, 8, 0)
    assert trained.training


def test_priors_last_stage_stops_with_a_sentence_when_its_weights_are_not_finite(given):
    """Matching sentences with vectors that are not finite may not end in a fault of its own."""
    card = recipe("prior", steps=3)
    card = card.model_copy(update={"objective": {**card.objective, "stages": (0.0, 0.0)}})
    trained, feed, course = parts(given, card)
    with torch.no_grad():
        trained.objective.sentence_decoder.queries[0, 0, 0] = math.nan
    with pytest.raises(TrainingError, match=r"a loss is not finite in step 0 of 3"):
        list(loop.train(trained, feed, course, card))
