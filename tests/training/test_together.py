"""Heads trained side by side are the heads trained one at a time: same epoch, metrics within 1e-5, and the earlier epoch on ties."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmark import parallel
from benchmark.cards import Epoch
from benchmark.errors import TrainingError
from benchmark.events import EpochEnded, Finished, Started, Steps
from benchmark.execute.work import WorkUnit, run_unit
from benchmark.heads.base import HeadRequest, Targets, seeded_init
from benchmark.heads.linear import build
from benchmark.kinds.segmentation import KIND as SEGMENTATION
from benchmark.training import together
from benchmark.training.loop import Selected, train

LINEAR, EIGHT = "rsna-linear-frozen-100", 8
CLOSE = 1e-5
SIZE, GRID, CHANNELS = 64, 2, 6


# ----------------------------------------------------------------------------------------- runs on features in memory, no files


class Noise:
    """A part of `n` images whose features and masks belong together, so that a head can learn."""

    trained_kind = SEGMENTATION
    own_metrics = ()

    def __init__(self, n: int, n_classes: int, seed: int):
        draw = np.random.default_rng(seed)
        self.features = draw.standard_normal((n, CHANNELS, GRID, GRID)).astype(np.float32)
        coarse = self.features[:, :n_classes].repeat(SIZE // GRID, 2).repeat(SIZE // GRID, 3)
        self.everything = coarse > 0.7
        self.everything[::3] = False

    def __len__(self) -> int:
        return len(self.features)

    def in_epoch(self, epoch: int):
        return self

    def masks(self, index: np.ndarray) -> np.ndarray:
        return self.everything[index]

    def targets(self, index: np.ndarray, device: torch.device) -> Targets:
        return Targets(masks=torch.from_numpy(self.masks(index)).float())


class NoiseModel:
    """What the two loops need of a model, over stored features."""

    device, most = torch.device("cpu"), None

    def __init__(self, head):
        self.head, self.bank, self.replica = head, self, parallel.Replica()

    def pyramid(self, part: Noise, index: np.ndarray) -> dict[int, torch.Tensor]:
        return {32: torch.from_numpy(part.features[index])}

    def pieces(self, index: np.ndarray) -> list[np.ndarray]:
        return [index]

    def outputs(self, part: Noise, index: np.ndarray) -> torch.Tensor:
        return self.head(self.pyramid(part, index))

    def start_epoch(self) -> None: ...
    def freeze_encoder(self) -> None: ...
    def start_evaluation(self) -> None: ...

    def trained_modules(self, finetune: bool):
        return torch.nn.ModuleList([self.head])

    def snapshot(self, finetune: bool):
        return {name: value.clone() for name, value in self.trained_modules(finetune).state_dict().items()}


@pytest.fixture
def runs(small, tiny):
    """`runs(n_classes, switches)`: three learning rates, then three seeds at one of them, with data to train on."""

    def make(*, n_classes: int = 1, own_orders: bool = False, dice_loss: str = "pooled", **recipe) -> SimpleNamespace:
        job, _ = small.one(LINEAR, tiny(f"tiny{n_classes}{own_orders}{len(recipe)}"))
        names = tuple(f"class{i}" for i in range(n_classes))
        base = job.experiment
        budget = {"batch_size": 8, "max_epochs": 12, "max_steps": None, "patience": 4, "plateau_patience": 1} | recipe
        base = base.model_copy(
            update={
                "dataset": base.dataset.model_copy(update={"classes": names}),
                "recipe": base.recipe.model_copy(update=budget),
                "select": "avg_dice",
            }
        )
        rates = (0.3, 0.03, 0.01, 0.03, 0.03, 0.03)
        seeds = (1, 1, 1, 1, 2, 3)
        experiments = [base.model_copy(update={"head_seed": s, "order_seed": s if own_orders else 1}) for s in seeds]
        data = SimpleNamespace(
            train=Noise(30, n_classes, 0), validation=Noise(11, n_classes, 1), batch_size=budget["batch_size"], warmup_steps=0
        )
        request = HeadRequest(
            channels={32: CHANNELS},
            n_classes=n_classes,
            frame_size=SIZE,
            switches=base.switches.model_copy(update={"dice_loss": dice_loss}),
        )
        models = lambda: [NoiseModel(seeded_init(lambda: build(request), s)) for s in seeds]  # noqa: E731
        return SimpleNamespace(experiments=experiments, rates=rates, data=data, models=models)

    return make


def side_by_side(given, chosen=None) -> list[Selected]:
    chosen = range(len(given.rates)) if chosen is None else chosen
    models = given.models()
    picked = [[part[i] for i in chosen] for part in (models, given.experiments, given.rates)]
    ended = {}
    for run, event in together.train_together(picked[0], given.data, picked[1], picked[2]):
        if not isinstance(event, Epoch):
            ended[run] = event
    return [ended[run] for run in range(len(picked[0]))]


def one_at_a_time(given) -> list[Selected]:
    found = []
    for model, experiment, rate in zip(given.models(), given.experiments, given.rates, strict=True):
        running = Steps(train(model, given.data, experiment, rate, experiment.dataset.classes))
        assert all(isinstance(epoch, Epoch) for epoch in running)
        found.append(running.result)
    return found


@pytest.mark.parametrize("own_orders", [False, True], ids=["published", "corrected"])
@pytest.mark.parametrize("n_classes", [1, EIGHT // 2])
def test_side_by_side_and_one_at_a_time_agree(runs, n_classes, own_orders):
    given = runs(n_classes=n_classes, own_orders=own_orders)
    fast, plain = side_by_side(given), one_at_a_time(given)
    assert len({run.epoch for run in plain}) > 1, "the runs should end differently, or the test shows little"
    for one, other in zip(fast, plain, strict=True):
        assert (one.epoch, one.steps, len(one.curve)) == (other.epoch, other.steps, len(other.curve))
        assert one.metrics == pytest.approx(other.metrics, abs=CLOSE)
        for a, b in zip(one.curve, other.curve, strict=True):
            assert (a.epoch, a.step, a.learning_rate) == (b.epoch, b.step, b.learning_rate)
            assert (a.train_loss, a.validation_loss) == pytest.approx((b.train_loss, b.validation_loss), abs=CLOSE)
        assert one.state.keys() == other.state.keys()


def test_a_run_has_the_same_bits_whoever_trains_beside_it(runs):
    given = runs(own_orders=True)
    everyone = side_by_side(given)
    for run in range(len(given.rates)):
        (alone,) = side_by_side(given, [run])
        assert [e.model_dump() for e in alone.curve] == [e.model_dump() for e in everyone[run].curve]
        assert all(torch.equal(value, everyone[run].state[name]) for name, value in alone.state.items())


def test_a_step_budget_ends_every_run_within_an_epoch(runs):
    given = runs(max_steps=5)
    for one, other in zip(side_by_side(given), one_at_a_time(given), strict=True):
        assert one.steps == other.steps == 5
        assert one.metrics == pytest.approx(other.metrics, abs=CLOSE)


def test_the_earlier_epoch_wins_a_tie(runs, monkeypatch):
    given = runs(max_epochs=4, patience=4)
    monkeypatch.setattr(together.scores, "segmentation_selection", lambda counts, names: {"avg_dice": 0.25})
    assert [run.epoch for run in side_by_side(given)] == [0] * len(given.rates)


def test_a_run_that_diverges_leaves_the_others_alone(runs):
    given = runs()
    expected = side_by_side(given)
    given.rates = (given.rates[0], float("inf"), *given.rates[2:])
    found = side_by_side(given)
    assert isinstance(found[1], TrainingError)
    assert "not finite in epoch 0" in str(found[1])
    for run in (0, 2, 3, 4, 5):
        assert found[run].metrics == expected[run].metrics


def test_a_batch_without_truth_has_loss_zero_and_no_gradient(runs):
    given = runs()
    given.data.train.everything[:] = False
    models = given.models()
    stack = together.plugin("heads", "linear").stack([model.head for model in models])
    index = np.arange(8)
    losses = stack.gradients([0, 3], models[0].pyramid(given.data.train, index), given.data.train.masks(index))
    assert [float(loss) for loss in losses] == [0.0, 0.0]
    assert all(float(models[i].head.classify.weight.grad.abs().sum()) == 0 for i in (0, 3))


@pytest.mark.parametrize(("n_classes", "dice_loss"), [(1, "pooled"), (3, "pooled"), (3, "per-class")])
def test_one_pass_gives_the_loss_and_gradient_of_autograd(runs, n_classes, dice_loss):
    given = runs(n_classes=n_classes, dice_loss=dice_loss)
    models = given.models()
    part, index = given.data.train, np.arange(29)
    stack = together.plugin("heads", "linear").stack([model.head for model in models])
    losses = stack.gradients([4], models[4].pyramid(part, index), part.masks(index))
    found = [p.grad.clone() for p in models[4].head.parameters()]
    models[4].head.zero_grad()
    loss = models[4].head.loss(models[4].outputs(part, index), part.targets(index, models[4].device))
    loss.backward()
    assert float(losses[0]) == pytest.approx(float(loss.detach()), abs=1e-6)
    ((measured, _),) = stack.measure([4], models[4].pyramid(part, index), part.masks(index))
    assert float(measured) == pytest.approx(float(loss.detach()), abs=1e-6)
    for one, parameter in zip(found, models[4].head.parameters(), strict=True):
        assert torch.allclose(one, parameter.grad, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("rule", ["stride-32", "native"])
def test_a_finer_grid_is_pooled_as_the_head_does(runs, rule):
    given = runs()
    switches = given.experiments[0].switches.model_copy(update={"linear_grid": rule})
    request = HeadRequest(channels={16: CHANNELS}, n_classes=1, frame_size=SIZE, switches=switches)
    head = seeded_init(lambda: build(request), 5)
    draw = torch.Generator().manual_seed(0)
    pyramid = {16: torch.randn(8, CHANNELS, 4, 4, generator=draw)}
    masks = given.data.train.masks(np.arange(8))
    ((loss, counts),) = together.plugin("heads", "linear").stack([head]).measure([0], pyramid, masks)
    with torch.no_grad():
        outputs = head(pyramid)
        assert float(loss) == pytest.approx(float(head.loss(outputs, Targets(masks=torch.from_numpy(masks).float()))), abs=1e-6)
    predicted = head.predict(outputs).numpy() >= 0.5
    assert counts.tp.sum() == pytest.approx((predicted & masks).sum(), abs=1)
    assert (counts.tp + counts.fn).tolist() == masks.sum(axis=(2, 3)).tolist()


# ------------------------------------------------------------------------------------------------------ units of real jobs


def test_a_unit_trains_side_by_side_and_gives_the_records_of_single_jobs(small, tiny):
    jobs, places = small.plan(LINEAR, [tiny()], runs=2, grid=(0.1, 0.01), batch_size=4)
    place = places[jobs[0].key]
    events = list(run_unit(WorkUnit("x", tuple(jobs), place)))
    records = {e.record.key: (e.record, e.files) for e in events if isinstance(e, Finished)}
    assert records.keys() == {job.key for job in jobs} == {e.key for e in events if isinstance(e, Started)}
    for job in jobs:
        record, files = records[job.key]
        assert record.status == "ok", record.failure
        assert tuple(e.epoch for e in events if isinstance(e, EpochEnded) and e.key == job.key) == record.curve
        assert files.keys() >= {"masks.parquet", "statistics.parquet"}
        plain = small.fit(job, place, learning_rate=record.learning_rate)
        assert (record.path, plain.path) == ("fused", "plain")
        assert (record.selected_epoch, record.steps) == (plain.selected_epoch, plain.steps)
        assert record.metrics == pytest.approx(plain.metrics, abs=CLOSE)
        assert record.validation == pytest.approx(plain.validation, abs=CLOSE)
        assert record.sample_digests == plain.sample_digests
        assert set(record.timings_s) == set(plain.timings_s)


def test_a_unit_resumed_half_way_gives_the_same_numbers(small, tiny):
    jobs, places = small.plan(LINEAR, [tiny()], runs=3)
    place = places[jobs[0].key]

    def found(chosen):
        return {e.record.key: e.record for e in run_unit(WorkUnit("x", chosen, place)) if isinstance(e, Finished)}

    whole, rest = found(tuple(jobs)), found(tuple(jobs[1:]))
    for key, record in rest.items():
        assert (record.metrics, record.curve) == (whole[key].metrics, whole[key].curve)


def test_a_bug_that_stops_all_is_tried_again_with_each_job_alone(small, tiny, monkeypatch):
    from benchmark.training import fit as fitting

    jobs, places = small.plan(LINEAR, [tiny()], runs=2)
    place = places[jobs[0].key]
    whole = fitting.train_together

    def breaks(models, *rest):
        if len(models) > 1:
            raise RuntimeError("too many")
        return whole(models, *rest)

    monkeypatch.setattr(fitting, "train_together", breaks)
    found = [e.record for e in run_unit(WorkUnit("x", tuple(jobs), place)) if isinstance(e, Finished)]
    assert [r.status for r in found] == ["ok", "ok"]


def test_only_runs_that_differ_in_rate_and_seeds_share_a_group(small, tiny):
    file = tiny()
    jobs, _ = small.plan(LINEAR, [file], runs=3, grid=(0.1, 0.01))
    keys = [together.group_key(job) for job in jobs]
    assert len(set(keys[:2])) == len(set(keys[2:])) == 1
    assert keys[0] != keys[2]  # final runs wait for the selection
    random, _ = small.plan(LINEAR, [small.backbone(file, random=True)], runs=2)
    assert len({together.group_key(job) for job in random}) == 2  # every run has an encoder of its own
    other, _ = small.plan(LINEAR, [file], card={"fraction": 0.1})
    tuned, _ = small.plan(LINEAR, [file], card={"encoder": "finetune"})
    assert together.group_key(other[0]) not in keys
    assert together.group_key(tuned[0]) is None
