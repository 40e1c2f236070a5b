"""The training loop against LoVT's protocol, batch by batch: rates, BatchNorm, unfreezing, plateau, patience, checkpoint, guard.

A small real encoder (convolution and BatchNorm) and a head with one convolution run on blank images; validation is scripted where a rule
depends on it. Source: LoVT's released code (docs/sources.md, LoVT) and Lightning 1.4.9.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from benchmark import registry
from benchmark.cards import BackboneRef, BackboneSpec, DatasetRef, EncoderMode, Experiment, Normalisation, Recipe, Role, SplitRule, Switches
from benchmark.encoders.base import Backbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.errors import TrainingError
from benchmark.events import Steps
from benchmark.heads.base import Head, Targets
from benchmark.heads.networks.dice_loss import dice_loss_of, dice_sums
from benchmark.kinds.segmentation import KIND as SEGMENTATION
from benchmark.training import loop
from benchmark.training.data import JobData, choose
from benchmark.training.evaluate import validate
from benchmark.training.features import FeatureBank
from benchmark.training.loop import Precision, batches, train
from benchmark.training.model import Model

SIDE, STRIDE = 32, 32
GREY = Normalisation(mean=(0.5,), std=(0.25,))
CORRECTED = registry.protocol("corrected").switches

# ------------------------------------------------------------------------------------------------------ a small real model


class TinyBackbone(Backbone):
    def __init__(self) -> None:
        super().__init__()
        self.spec = BackboneSpec(name="tiny", strides={STRIDE: 2}, embed_dim=2)
        self.convolution = nn.Conv2d(3, 2, STRIDE, stride=STRIDE, bias=False)
        self.norm = nn.BatchNorm2d(2)

    def pyramid(self, images, strides=None):
        return {STRIDE: self.norm(self.convolution(images))}

    def pooled(self, images):
        return self.pyramid(images)[STRIDE].mean((2, 3))


class TinyHead(Head):
    """Brings one logit per image to 1; notes how the encoder ran for every batch."""

    strides = (STRIDE,)

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 1, 1)
        self.loss_factor = 1.0

    def forward(self, pyramid, images=None):
        return self.convolution(pyramid[STRIDE])

    def sums(self, outputs, targets):
        return (outputs - 1).square().mean(dim=(1, 2, 3)).sum()[None]

    def loss_of(self, sums, n_images):
        return self.loss_factor * sums[0] / n_images

    def predict(self, outputs):
        return outputs.sigmoid()


class BlankPart:
    """As much of a part as the loop needs: noise images, no files."""

    augmentation = None  # LoVT's tasks have none
    trained_kind = SEGMENTATION
    own_metrics = ()

    def __init__(self, n_images: int):
        self.n_images = n_images
        self.drawn: list[tuple[int, ...]] = []

    def in_epoch(self, epoch: int) -> BlankPart:
        return self

    def __len__(self) -> int:
        return self.n_images

    def images(self, index: np.ndarray) -> torch.Tensor:
        self.drawn.append(tuple(int(i) for i in index))
        values = (np.asarray(index)[:, None, None] * 37) % 256
        return torch.from_numpy(np.broadcast_to(values, (len(index), SIDE, SIDE)).astype(np.uint8))

    def targets(self, index: np.ndarray, device: torch.device) -> Targets:
        return Targets()


@dataclass
class Batch:
    """What was true when the optimiser stepped."""

    epoch: int
    number: int
    rate: float
    encoder_learns: bool
    norm_trains: bool
    head_trains: bool


@dataclass
class Trace:
    batches: list[Batch] = field(default_factory=list)
    epochs: list = field(default_factory=list)
    selected: loop.Selected | None = None

    def rates(self) -> list[float]:
        """The learning rate of each epoch's last batch."""
        return [e.learning_rate for e in self.epochs]


def experiment(recipe: Recipe, *, finetune: bool, switches: Switches | None = None, fraction: float = 1.0, **more) -> Experiment:
    return Experiment(
        task_version=1,
        backbone=BackboneRef(family="tiny", model="tiny", digest="x"),
        dataset=DatasetRef(
            name="rsna",
            digest="y",
            split="lovt",
            split_rule=SplitRule(rule="permutation"),
            classes=("opacity",),
            target="masks",
            intensity="as-stored",
            statistics=GREY,
        ),
        head="linear",
        encoder=EncoderMode.FINETUNE if finetune else EncoderMode.FROZEN,
        fraction=fraction,
        recipe=recipe,
        select="score",
        report="score",
        switches=switches or Switches(),
        role=Role.FINAL,
        learning_rate=recipe.learning_rate,
        head_seed=1,
        order_seed=12345,
        **more,
    )


def tiny_model() -> Model:
    torch.manual_seed(0)
    return Model(SealedEncoder(TinyBackbone(), GREY), TinyHead(), None, torch.device("cpu"))


def run(
    monkeypatch,
    job: Experiment,
    n_train: int,
    *,
    losses: Iterable[float] | None = None,
    scores: Iterable[float] | None = None,
    model: Model | None = None,
) -> Trace:
    """Trains with validation scripted by `losses` and `scores` (their last value repeats) and the optimiser watched."""
    model, trace = model or tiny_model(), Trace()
    script = {"loss": list(losses or [1.0]), "score": list(scores or [0.5])}
    backbone = model.encoder.backbone

    class Watched(torch.optim.Adam):
        def step(self, closure=None):
            epoch = len(trace.epochs)
            number = len(trace.batches) - (trace.epochs[-1].step if trace.epochs else 0)
            learns = backbone.convolution.weight.grad is not None
            rates = {group["lr"] for group in self.param_groups}
            assert len(rates) == 1
            trace.batches.append(Batch(epoch, number, rates.pop(), learns, backbone.norm.training, model.head.training))
            return super().step(closure)

    def scripted(model, part, batch_size, names, autocast):
        model.start_evaluation()
        assert not backbone.norm.training
        at = len(trace.epochs)
        return script["loss"][min(at, len(script["loss"]) - 1)], {"score": script["score"][min(at, len(script["score"]) - 1)]}

    monkeypatch.setattr(torch.optim, "Adam", Watched)
    monkeypatch.setattr(loop, "validate", scripted)
    data = JobData(
        train=BlankPart(n_train),
        validation=BlankPart(4),
        test=BlankPart(4),
        batch_size=job.recipe.batch_size,
        warmup_steps=job.recipe.warmup_steps,
        warnings=(),
    )
    running = Steps(train(model, data, job, job.recipe.learning_rate, ("opacity",)))
    for epoch in running:
        trace.epochs.append(epoch)
    trace.selected = running.result
    return trace


def short(max_epochs: int, **more) -> Recipe:
    defaults = {"batch_size": 2, "learning_rate": 0.01, "patience": 1000}
    return Recipe(max_epochs=max_epochs, **{**defaults, **more})


# ------------------------------------------------------------------- steps per epoch and unfreezing

UNFREEZING = [
    # task, training images, steps an epoch, first unfrozen (epoch, batch), epoch from which BatchNorm trains (None: at once)
    ("rsna-yolov3-finetune-1", 160, 20, (5, 0), None),
    ("rsna-yolov3-finetune-10", 1601, 25, (4, 0), None),
    ("rsna-yolov3-finetune-100", 16010, 250, (0, 100), 1),
    ("covid-rural-unet-finetune-100", 133, 16, (1, 4), 2),
    ("siim-unet-finetune-100", 7229, 112, (0, 100), 1),
    ("object-cxr-yolov3-finetune-100", 6400, 100, (1, 0), None),
]


@pytest.fixture(scope="module", params=UNFREEZING, ids=[row[0] for row in UNFREEZING])
def released(request) -> tuple:
    """A row of the table with the trace of training it as released, until the epoch after unfreezing."""
    task, n_train, steps, first, norm_epoch = request.param
    card = registry.task(task)
    job = experiment(card.recipe.model_copy(update={"max_epochs": first[0] + 2}), finetune=True)
    with pytest.MonkeyPatch.context() as patched:
        return card, n_train, steps, first, norm_epoch, run(patched, job, n_train)


def test_an_epoch_has_the_published_number_of_steps(released):
    card, n_train, steps, _, _, trace = released
    expected = registry.dataset(card.dataset).splits["lovt"].expected["train"].n_images
    assert n_train == round(expected * card.fraction)
    assert [e.step for e in trace.epochs] == [steps * (i + 1) for i in range(len(trace.epochs))]


def test_the_encoder_learns_from_the_published_batch_on(released):
    *_, first, _, trace = released
    learning = [(b.epoch, b.number) for b in trace.batches if b.encoder_learns]
    assert learning[0] == first
    assert learning == [(b.epoch, b.number) for b in trace.batches if (b.epoch, b.number) >= first]


def test_batchnorm_trains_at_once_at_the_start_of_an_epoch_and_from_the_next_one_otherwise(released):
    *_, first, norm_epoch, trace = released
    begins = first if norm_epoch is None else (norm_epoch, 0)
    assert all(b.norm_trains == ((b.epoch, b.number) >= begins) for b in trace.batches)
    assert all(b.head_trains for b in trace.batches)


def test_the_warm_up_rate_gives_way_to_the_learning_rate_at_unfreezing(released):
    card, *_, first, _, trace = released
    assert all(b.rate == (card.recipe.learning_rate if (b.epoch, b.number) >= first else 1e-3) for b in trace.batches)


@pytest.mark.parametrize("row", [UNFREEZING[2], UNFREEZING[3]], ids=["rsna", "covid-rural"])
def test_corrected_batchnorm_trains_with_the_first_unfrozen_batch(monkeypatch, row):
    task, n_train, _, first, _ = row
    job = experiment(registry.task(task).recipe.model_copy(update={"max_epochs": first[0] + 1}), finetune=True, switches=CORRECTED)
    trace = run(monkeypatch, job, n_train)
    assert all(b.norm_trains == b.encoder_learns == ((b.epoch, b.number) >= first) for b in trace.batches)


def test_nih_drops_its_last_twelve_images():
    recipe = registry.task("nih-cxr-linear-frozen-100").recipe
    assert len(batches(588, recipe.batch_size, torch.Generator(), recipe.drop_last)) == 9


# ----------------------------------------------------------------------------------------------------------- frozen encoder


def test_a_frozen_encoder_stays_as_it_is_to_the_bit(monkeypatch):
    model = tiny_model()
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    trace = run(monkeypatch, experiment(short(3), finetune=False), 7, model=model)
    assert not any(b.encoder_learns or b.norm_trains for b in trace.batches)
    assert all(torch.equal(value, before[name]) for name, value in model.encoder.state_dict().items())


def test_during_warm_up_the_encoder_is_skipped_weight_decay_included(monkeypatch):
    model = tiny_model()
    before = model.encoder.backbone.convolution.weight.detach().clone()
    job = experiment(short(2, warmup_steps=5, weight_decay=0.5), finetune=True)
    after_warmup = {}
    take_step = Precision.step

    def step(self, parts, optimiser):
        loss = take_step(self, parts, optimiser)
        after_warmup.setdefault(len(after_warmup) + 1, model.encoder.backbone.convolution.weight.detach().clone())
        return loss

    monkeypatch.setattr(Precision, "step", step)
    run(monkeypatch, job, 8, model=model)
    assert all(torch.equal(after_warmup[i], before) for i in range(1, 6))
    assert not torch.equal(after_warmup[6], before)


# ----------------------------------------------------------------------------------------------------------------- rates

BAD = [1.0]  # the validation loss never improves


def test_the_plateau_halves_the_rate_after_four_epochs_without_improvement(monkeypatch):
    trace = run(monkeypatch, experiment(short(10), finetune=False), 4, losses=BAD, scores=[0.1 * i for i in range(10)])
    assert trace.rates() == [0.01] * 5 + [0.005] * 4 + [0.0025]


def test_an_improvement_below_a_ten_thousandth_does_not_count(monkeypatch):
    small = [1 - 0.9e-4 * i / 10 for i in range(7)]
    enough = [(1 - 1.1e-4) ** i for i in range(7)]
    assert run(monkeypatch, experiment(short(6), finetune=False), 4, losses=small).rates()[-1] == 0.005
    assert run(monkeypatch, experiment(short(6), finetune=False), 4, losses=enough).rates()[-1] == 0.01


def test_the_plateau_watches_the_loss_and_not_the_metric(monkeypatch):
    falling = [1 / (i + 1) for i in range(8)]
    trace = run(monkeypatch, experiment(short(8), finetune=False), 4, losses=falling, scores=[0.9, 0.1])
    assert set(trace.rates()) == {0.01}


def test_published_fine_tuning_gives_back_what_the_plateau_took(monkeypatch):
    trace = run(monkeypatch, experiment(short(12, warmup_steps=2), finetune=True), 4, losses=BAD)
    assert trace.rates() == [1e-3] + [0.01] * 11


def test_corrected_fine_tuning_keeps_what_the_plateau_took(monkeypatch):
    trace = run(monkeypatch, experiment(short(12, warmup_steps=2), finetune=True, switches=CORRECTED), 4, losses=BAD)
    assert trace.rates() == [1e-3] + [0.01] * 4 + [0.005] * 4 + [0.0025] * 3


@pytest.mark.parametrize("switches", [Switches(), CORRECTED], ids=["published", "corrected"])
def test_a_reduction_during_warm_up_lasts_until_its_end(monkeypatch, switches):
    trace = run(monkeypatch, experiment(short(8, warmup_steps=14), finetune=True, switches=switches), 4, losses=BAD)
    assert trace.rates() == [1e-3] * 5 + [5e-4] * 2 + [0.01]


def test_adam_is_lovts(monkeypatch):
    made = []
    adam = torch.optim.Adam

    class Noted(adam):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr(torch.optim, "Adam", Noted)
    model = tiny_model()
    for finetune in (False, True):
        run(monkeypatch, experiment(short(1, warmup_steps=1 if finetune else 0), finetune=finetune), 4, model=model)
    for optimiser, modules in zip(made, ([model.head], [model.head, model.encoder]), strict=True):
        (group,) = optimiser.param_groups
        assert (group["betas"], group["eps"], group["weight_decay"], group["amsgrad"]) == ((0.9, 0.999), 1e-8, 1e-6, False)
        assert {id(p) for p in group["params"]} == {id(p) for m in modules for p in m.parameters()}
        assert not isinstance(optimiser, torch.optim.AdamW)
        assert not group.get("decoupled_weight_decay", False)


# ------------------------------------------------------------------------------------------ early stopping and checkpoint


def test_patience_counts_epochs_since_the_last_improvement(monkeypatch):
    trace = run(monkeypatch, experiment(short(100, patience=3), finetune=False), 4, scores=[0.1, 0.3, 0.2, 0.2, 0.2])
    assert (len(trace.epochs), trace.selected.epoch) == (5, 1)


def test_an_improvement_within_min_delta_is_kept_as_checkpoint_but_does_not_reset_patience(monkeypatch):
    trace = run(monkeypatch, experiment(short(100, patience=3), finetune=False), 4, scores=[0.5, 0.500005, 0.500004])
    assert (len(trace.epochs), trace.selected.epoch) == (4, 1)


def test_small_improvements_add_up_against_the_last_counted_best(monkeypatch):
    trace = run(monkeypatch, experiment(short(100, patience=3), finetune=False), 4, scores=[0.5, 0.500006, 0.500012, 0.500012])
    assert len(trace.epochs) == 6  # epoch 2 counts: 1.2e-5 above epoch 0


def test_the_earlier_of_two_equal_epochs_is_tested_and_its_weights_are_kept(monkeypatch):
    model = tiny_model()
    seen = []
    snapshot = Model.snapshot
    monkeypatch.setattr(Model, "snapshot", lambda self, finetune: seen.append(snapshot(self, finetune)) or seen[-1])
    trace = run(monkeypatch, experiment(short(4), finetune=False), 4, scores=[0.1, 0.4, 0.4, 0.4], model=model)
    assert (trace.selected.epoch, len(seen)) == (1, 2)
    weight = model.head.convolution.weight.detach().clone()
    model.restore(trace.selected.state, finetune=False)
    assert not torch.equal(model.head.convolution.weight, weight)  # two more epochs moved it on
    assert torch.equal(model.head.convolution.weight, seen[1]["0.convolution.weight"])


def test_a_score_of_zero_is_a_checkpoint_too(monkeypatch):
    trace = run(monkeypatch, experiment(short(3), finetune=False), 4, scores=[0.0])
    assert (trace.selected.epoch, bool(trace.selected.state)) == (0, True)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_training_ends_when_the_loss_is_not_finite(monkeypatch, value):
    model = tiny_model()
    model.head.loss_factor = value
    with pytest.raises(TrainingError, match="not finite in epoch 0"):
        run(monkeypatch, experiment(short(3), finetune=False), 4, model=model)


# ----------------------------------------------------------------------------------------------- data: order and subsets


def drawn(monkeypatch, **more) -> list[tuple[int, ...]]:
    job = experiment(short(2, batch_size=4), finetune=False).model_copy(update=more)
    seen = []
    images = BlankPart.images
    monkeypatch.setattr(BlankPart, "images", lambda self, index: seen.append(tuple(map(int, index))) or images(self, index))
    run(monkeypatch, job, 10)
    return seen


def test_each_epoch_is_a_fresh_shuffle_without_repetition_and_without_the_incomplete_batch(monkeypatch):
    first, second, third, fourth = drawn(monkeypatch)
    assert len({*first, *second}) == len({*third, *fourth}) == 8
    assert (first, second) != (third, fourth)


def test_data_order_follows_its_own_seed_and_not_the_heads(monkeypatch):
    with monkeypatch.context() as patched:
        one = drawn(patched, head_seed=1)
    with monkeypatch.context() as patched:
        same_order = drawn(patched, head_seed=2)
    with monkeypatch.context() as patched:
        other_order = drawn(patched, order_seed=2)
    assert one == same_order
    assert one != other_order


@pytest.mark.parametrize(("task", "n_train", "n_validation"), [("rsna-linear-frozen-1", 160, 534), ("rsna-linear-frozen-10", 1601, 534)])
def test_rsna_trains_on_the_first_and_validates_on_the_first_534_images(task, n_train, n_validation):
    card = registry.task(task)
    ids = {"train": 16010, "validation": 5337, "test": 5337}
    splits = {name: tuple(f"{name}-{i}" for i in range(n)) for name, n in ids.items()}
    reader = SimpleNamespace(card=registry.dataset("rsna"), root="", split=lambda rule: splits, sample=lambda i: SimpleNamespace(id=i))
    chosen = choose(experiment(card.recipe, finetune=False, fraction=card.fraction), reader)
    assert {name: len(samples) for name, samples in chosen.items()} == {"train": n_train, "validation": n_validation, "test": 5337}
    assert [s.id for s in chosen["validation"]] == list(splits["validation"][:534])
    assert [s.id for s in chosen["train"]] == list(splits["train"][:n_train])


def test_only_rsna_validates_on_a_part():
    shares = {registry.task(name).dataset: registry.task(name).recipe.validation_subset for name in registry.suite("lovt-18").tasks}
    assert shares == {"rsna": 0.1, "covid-rural": 1.0, "siim": 1.0, "object-cxr": 1.0, "nih-cxr": 1.0}


# --------------------------------------------------------------------------------------------------------------------- losses


class PixelPart(BlankPart):
    """Five images with one-pixel masks: 1, 0, 1, 1, 0."""

    masks_of = np.array([1, 0, 1, 1, 0], bool)

    def __init__(self) -> None:
        super().__init__(5)

    def masks(self, index):
        return self.masks_of[index][:, None, None, None]

    def targets(self, index, device):
        return Targets(masks=torch.from_numpy(self.masks(index)).float())


class PixelHead(TinyHead):
    def sums(self, outputs, targets):
        return dice_sums(outputs, targets.masks)

    def loss_of(self, sums, n_images):
        return dice_loss_of(sums)


def test_validation_loss_weighs_batches_by_their_images():
    model = tiny_model()
    model.head = PixelHead()
    part = PixelPart()
    loss, metrics = validate(model, part, 2, ("opacity",), torch.no_grad)
    with torch.no_grad():
        outputs = [model.outputs(part, np.array(index)) for index in ([0, 1], [2, 3], [4])]
        each = [float(model.head.loss(o, part.targets(np.array(i), None))) for o, i in zip(outputs, ([0, 1], [2, 3], [4]), strict=True)]
    assert each[2] == 0.0  # no positive pixel
    assert loss == pytest.approx((2 * each[0] + 2 * each[1] + 1 * each[2]) / 5)
    assert loss != pytest.approx(sum(each) / 3)
    assert "opacity_dice" in metrics


def test_a_batch_without_positives_has_no_loss_yet_moves_the_weights(monkeypatch):
    weight = nn.Parameter(torch.zeros(1, 1, 1, 1))
    optimiser = torch.optim.Adam([weight], lr=0.1, weight_decay=0.0)
    precision = Precision(experiment(short(1), finetune=False), torch.device("cpu"))
    positive, empty = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    precision.step([dice_loss_of(dice_sums(weight, positive))], optimiser)
    before = weight.detach().clone()
    loss = dice_loss_of(dice_sums(weight, empty))
    precision.step([loss], optimiser)
    assert loss.item() == 0.0
    assert float(weight.grad) == 0.0
    assert not torch.equal(weight, before)


# ------------------------------------------------------------------------------------------------------------------ precision


def test_half_precision_scales_the_loss_and_skips_a_step_whose_gradient_overflows():
    job = experiment(short(1), finetune=False, precision="float16")
    precision = Precision(job, torch.device("cpu"))
    weight = nn.Parameter(torch.ones(1))
    optimiser = torch.optim.Adam([weight], lr=0.1)
    assert precision.scaler.get_scale() == 65536.0
    precision.step([(weight * math.inf).sum()], optimiser)
    assert (weight.item(), precision.scaler.get_scale()) == (1.0, 32768.0)
    precision.step([weight.sum()], optimiser)
    assert weight.item() < 1.0


def test_a_loss_that_no_weight_has_a_part_in_is_an_error():
    precision = Precision(experiment(short(1), finetune=False), torch.device("cpu"))
    weight = nn.Parameter(torch.ones(1))
    with pytest.raises(TrainingError, match="The loss does not depend on any trained parameter"):
        precision.step([torch.ones(())], torch.optim.Adam([weight], lr=0.1))
    assert weight.item() == 1.0


@pytest.mark.parametrize(
    ("name", "dtype", "scaled"), [("float32", None, False), ("bfloat16", torch.bfloat16, False), ("float16", torch.float16, True)]
)
def test_only_half_precision_is_scaled(name, dtype, scaled):
    precision = Precision(experiment(short(1), finetune=False, precision=name), torch.device("cpu"))
    assert (precision.dtype, precision.scaler.is_enabled()) == (dtype, scaled)


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_kept_features_have_the_precision_in_which_the_plain_path_would_run_the_encoder(name):
    autocast = Precision(experiment(short(1), finetune=False, precision=name), torch.device("cpu")).autocast
    model = tiny_model()
    part = BlankPart(5)
    part.rows = np.arange(5)
    index = np.array([3, 1, 4])
    bank = FeatureBank(model.encoder, (STRIDE,), 2**20, autocast)
    assert bank.prepare(part) == 0  # none left to recompute
    with autocast():
        plain = model.encoder.pyramid(part.images(index), (STRIDE,))[STRIDE]
        kept = bank.pyramid(part, index)[STRIDE]
    assert kept.dtype == plain.dtype == getattr(torch, name)
    torch.testing.assert_close(kept, plain)
