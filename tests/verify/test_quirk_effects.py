"""What each switch of the closed list does to a score: `published` against the same with one switch corrected, paired by seed, on phantoms.

Quirks without a switch are measured too: the alternative, which LOBE does not offer, is made here for the length of a training.

Run by `make studies`. Writes docs/protocols/lovt-effects.md, which says how little it shows: phantom data, four encoders of one
architecture, few runs and steps. That a switch acts where it should and nowhere else is asserted; how much it does, and whether it
reorders encoders, is only reported.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

from benchmark import registry, resolve
from benchmark.cards import Protocol, Record, Role, TaskCard
from benchmark.events import Finished
from benchmark.execute.inline import InlineExecutor
from benchmark.execute.schedule import Schedule
from benchmark.execute.work import units
from benchmark.heads.networks import yolov3, yolov3_targets
from benchmark.metrics.boxes import Boxes, Detections
from benchmark.metrics.detection import lovt_map
from benchmark.phantom.corpus import CorpusPlan, write_corpus
from benchmark.plan import Settings, plan
from benchmark.readers.base import open_reader
from benchmark.report import numbers
from benchmark.report.rows import metric_title
from benchmark.statistics.difference import Scores, difference
from benchmark.training import loop, text_pretraining, together

pytestmark = [pytest.mark.slow, pytest.mark.study]

CORES = os.cpu_count() or 1
ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "protocols" / "lovt-effects.md"
PUBLISHED, CORRECTED = registry.protocol("published"), registry.protocol("corrected")

RUNS = 3
SIZE = 128  # of the frame: an effect on the order needs many trainings, not many pixels
PATIENTS = {"rsna": 120, "covid-rural": 20, "object-cxr": 24}
PRETRAINING_PATIENTS = 120
# ResNet-18 pre-trained on that many images with their report text; without, random.
ENCODERS = {"random": 0, "short": 160, "middle": 640, "long": 1920}
ONE, BEST = "random", "long"  # for what needs one encoder only

UNET, LINEAR = "covid-rural-unet-finetune-100", "object-cxr-linear-frozen-100"
YOLO, COVID_LINEAR, RSNA_LINEAR = "rsna-yolov3-frozen-100", "covid-rural-linear-frozen-100", "rsna-linear-frozen-100"

# Where each switch can act, and a budget in which it does: the plateau needs epochs, mid-epoch unfreezing a warm-up that ends inside one.
BUDGETS = {
    UNET: {"batch_size": 4, "learning_rate": 3e-2, "max_epochs": 6, "warmup_steps": 2, "plateau_patience": 0, "patience": 100},
    COVID_LINEAR: {"batch_size": 4, "learning_rate": 1e-1, "max_epochs": 8, "patience": 100},
    LINEAR: {"batch_size": 4, "learning_rate": 1e-1, "max_epochs": 8, "patience": 100},
    RSNA_LINEAR: {"batch_size": 4, "learning_rate": 3e-2, "max_epochs": 8, "patience": 100},
    YOLO: {"batch_size": 4, "learning_rate": 1e-3, "max_epochs": 6, "patience": 100},
}
LIMITS = {UNET: 12, COVID_LINEAR: 24, LINEAR: 24, RSNA_LINEAR: 64, YOLO: 12}  # images per split; such steps take seconds on a CPU
ACTS_ON = {
    "plateau_after_warmup": UNET,
    "batchnorm_at_unfreezing": UNET,
    "data_order": COVID_LINEAR,
    "object_cxr_shapes": LINEAR,
    "background_at_positives": YOLO,
    "loss_at_extremes": YOLO,  # by rounding alone, unless a logit passes 17
}


@dataclass(frozen=True)
class Kept:
    """A quirk that stays in both protocols, and what would stand in its place.

    Attributes:
        number: of the table in docs/protocols/lovt.md.
        instead: the alternative, in words.
        recipe, other_recipe: changes of the small recipe, as published and instead.
        other_protocol: fields of the protocol instead.
        patch: makes the alternative where no field does.
        encoders: measured with.
    """

    number: int
    instead: str
    task: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    other_recipe: Mapping[str, Any] = field(default_factory=dict)
    other_protocol: Mapping[str, Any] = field(default_factory=dict)
    patch: Callable[[pytest.MonkeyPatch], None] = lambda patching: None
    encoders: Sequence[str] = tuple(ENCODERS)


def first_anchor_like_the_others(patching: pytest.MonkeyPatch) -> None:
    ((_, height), *first), *scales = yolov3.ANCHORS_224
    patching.setattr(yolov3, "ANCHORS_224", (((62.64, height), *first), *scales))


def shapes_without_the_added_pixel(patching: pytest.MonkeyPatch) -> None:
    def shape_iou(sizes: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
        shared = torch.minimum(sizes[..., None, :], anchors).prod(dim=-1)
        return shared / (sizes.prod(dim=-1)[..., None] + anchors.prod(dim=-1) - shared + 1e-16)

    patching.setattr(yolov3_targets, "_shape_iou", shape_iou)


def one_anchor_of_all_scales(patching: pytest.MonkeyPatch) -> None:
    every = torch.tensor([size for scale in yolov3.ANCHORS_224 for size in scale]) * SIZE / yolov3.ANCHOR_FRAME

    def assign(targets, anchors_wh, *where):
        nearest = every[yolov3_targets._shape_iou(targets.boxes_xywh[..., 2:].float(), every).argmax(dim=-1)]
        here = torch.isclose(nearest[..., None, :], anchors_wh.to(nearest)).all(dim=-1).any(dim=-1)
        owned = yolov3_targets.assign(replace(targets, box_valid=targets.box_valid & here), anchors_wh, *where)
        return replace(owned, background=yolov3_targets.assign(targets, anchors_wh, *where).background)

    patching.setattr(yolov3, "assign", assign)


def no_step_without_a_gradient(patching: pytest.MonkeyPatch) -> None:
    made = loop.optimiser_of

    def optimiser_of(*given) -> torch.optim.Optimizer:
        optimiser = made(*given)
        step = optimiser.step

        def step_if_any(*arguments, **named) -> None:
            if any(p.grad is not None and p.grad.any() for group in optimiser.param_groups for p in group["params"]):
                step(*arguments, **named)

        optimiser.step = step_if_any
        return optimiser

    for module in (loop, together):
        patching.setattr(module, "optimiser_of", optimiser_of)


RATES = (0.03, 0.01, 0.003)
KEPT = (
    Kept(4, "a first anchor of 62.64 pixels", YOLO, patch=first_anchor_like_the_others, encoders=(BEST,)),
    Kept(5, "IoU of shapes without the added pixel", YOLO, patch=shapes_without_the_added_pixel, encoders=(BEST,)),
    Kept(5, "one positive anchor of all scales", YOLO, patch=one_anchor_of_all_scales, encoders=(BEST,)),
    Kept(6, "a grid that ends with 0.001", RSNA_LINEAR, recipe={"grid": (*RATES, 0.0001)}, other_recipe={"grid": (*RATES, 0.001)}),
    Kept(11, "histograms as they are", COVID_LINEAR, other_protocol={"equalise": "never"}),
    Kept(12, "no step after a batch without a positive pixel", RSNA_LINEAR, patch=no_step_without_a_gradient),
    Kept(16, "the whole validation list", RSNA_LINEAR, recipe={"validation_subset": 0.4}, other_recipe={"validation_subset": 1.0}),
    Kept(
        17,
        "the incomplete batch kept",
        COVID_LINEAR,
        recipe={"batch_size": 7},
        other_recipe={"batch_size": 7, "drop_last": False},
    ),
)
N_ORDERS = 100


@dataclass(frozen=True)
class Effect:
    """Test scores of the same seeds as published and otherwise, as fractions, by encoder.

    Attributes:
        name: the switch or the number of the quirk.
        setting: what stands in the place of what.
    """

    name: str
    setting: str
    task: str
    metric: str
    published: dict[str, tuple[float, ...]]
    other: dict[str, tuple[float, ...]]

    @property
    def points(self) -> str:
        """Of the mean over encoders, run by run."""
        if not any(value for side in (self.published, self.other) for values in side.values() for value in values):
            return f"{numbers.DASH} (nothing scored within this budget: not measured)"
        found = difference(*(Scores(np.array(by_run(side)), None, None) for side in (self.other, self.published)), "shared")
        return numbers.signed_points(100 * found.value, None if found.half_width is None else 100 * found.half_width)

    @property
    def tau(self) -> str:
        """Kendall's, of the encoders' order by mean score under both settings; undefined where there is one, or all score the same."""
        orders = [[numbers.mean(values) for values in side.values()] for side in (self.published, self.other)]
        found = float(kendalltau(*orders).statistic) if len(self.published) > 1 else math.nan
        return numbers.DASH if math.isnan(found) else f"{found:+.2f}"

    @property
    def line(self) -> str:
        means = " → ".join(f"{100 * numbers.mean(by_run(side)):.1f}" for side in (self.published, self.other))
        return f"| {self.name} | {self.setting} | {self.task} | {self.metric} | {means} | {self.points} | {self.tau} |"


def by_run(side: Mapping[str, Sequence[float]]) -> list[float]:
    return [numbers.mean(run) for run in zip(*side.values(), strict=True)]


class Laboratory:
    """Phantom corpora, encoders, and the records made on them; every arm is trained once."""

    def __init__(self, folder: Path):
        self.data, self.cache = folder / "data", folder / "cache"
        for name, n_patients in PATIENTS.items():
            write_corpus(CorpusPlan(dataset=name, n_patients=n_patients, seed=11), self.data / registry.dataset(name).folder, workers=CORES)
        corpus = folder / "pretraining"
        write_corpus(CorpusPlan("rsna", PRETRAINING_PATIENTS, 2002, positive_share=0.5), corpus, workers=CORES)
        self.encoders = {}
        for name, images in ENCODERS.items():
            weights = folder / f"{name}.safetensors"
            if images:
                text_pretraining.pretrain(corpus, weights, SIZE, images, CORES, progress=lambda done, total: None)
            source = "torchvision:resnet18" + (f"@{weights}" if images else "")
            self.encoders[name] = resolve.backbone(source, self.cache)
        self._known: dict[tuple[str, str, str], list[Record]] = {}

    def records(self, task: str, switches: Mapping[str, str], encoder: str = ONE) -> list[Record]:
        """Final runs of a task under `published` with these switches changed."""
        arm = (task, repr(sorted(switches.items())), encoder)
        if arm not in self._known:
            self._known[arm] = self.train(small(task), with_switches(switches), encoder)
        return self._known[arm]

    def scores(self, task: str, switches: Mapping[str, str], encoders: Sequence[str] = tuple(ENCODERS)) -> dict[str, tuple[float, ...]]:
        return {encoder: reported(self.records(task, switches, encoder)) for encoder in encoders}

    def train(self, task: TaskCard, protocol: Protocol, encoder: str) -> list[Record]:
        """Final runs; nothing is remembered."""
        card = registry.dataset(task.dataset)
        dataset = resolve.dataset(card, self.data / card.folder, protocol, limit=LIMITS[task.id], cache=self.cache)
        backbone = self.encoders[encoder]
        settings = Settings(runs=RUNS, limit=LIMITS[task.id], threads=CORES)
        jobs = plan([task], [backbone.named], {card.name: dataset.ref}, protocol, settings)
        inputs = resolve.inputs(backbone, dataset, self.cache)
        events = InlineExecutor().run(Schedule(units(jobs, {job.key: inputs for job in jobs})))
        records = {event.record.key: event.record for event in events if isinstance(event, Finished)}
        assert all(record.status == "ok" for record in records.values()), [record.failure for record in records.values()]
        return sorted((r for r in records.values() if r.job.experiment.role is Role.FINAL), key=lambda r: r.job.labels.run)


def reported(records: Sequence[Record]) -> tuple[float, ...]:
    return tuple(record.metrics[record.job.experiment.report] for record in records)


def small(task: str, changed: Mapping[str, Any] | None = None) -> TaskCard:
    card = registry.task(task)
    if card.head == "yolov3":  # so few steps leave no box above LoVT's cut of 0.2
        card = card.model_copy(update={"select": "froc_full", "report": "froc_full"})
    recipe = card.recipe.model_copy(update={**BUDGETS[task], "grid": (), "validation_subset": 1.0, **(changed or {})})
    return card.model_copy(update={"recipe": recipe, "frame_size": SIZE})


def with_switches(changed: Mapping[str, str]) -> Protocol:
    return PUBLISHED.model_copy(update={"switches": PUBLISHED.switches.model_copy(update=dict(changed))})


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    return Laboratory(tmp_path_factory.mktemp("quirks"))


@pytest.fixture(scope="module")
def effects(laboratory: Laboratory) -> dict[str, Effect]:
    measured = {}
    for switch, task in ACTS_ON.items():
        metric = metric_title(laboratory.records(task, {})[0].job)
        setting = f"{getattr(PUBLISHED.switches, switch)} → {getattr(CORRECTED.switches, switch)}"
        corrected = {switch: getattr(CORRECTED.switches, switch)}
        sides = laboratory.scores(task, {}), laboratory.scores(task, corrected)
        measured[switch] = Effect(f"`{switch}`", setting, task, metric, *sides)
    return measured


@dataclass(frozen=True)
class Alternatives:
    """Attributes:
    effects: one per entry of `KEPT`.
    same_curves: whether every run trained exactly as published, by the same order.
    """

    effects: tuple[Effect, ...]
    same_curves: tuple[bool, ...]


@pytest.fixture(scope="module")
def alternatives(laboratory: Laboratory) -> Alternatives:
    effects, same = [], []
    for quirk in KEPT:
        published, other = {}, {}
        for encoder in quirk.encoders:
            published[encoder] = (
                laboratory.train(small(quirk.task, quirk.recipe), PUBLISHED, encoder)
                if quirk.recipe
                else laboratory.records(quirk.task, {}, encoder)
            )
            with pytest.MonkeyPatch.context() as patching:
                quirk.patch(patching)
                protocol = PUBLISHED.model_copy(update=dict(quirk.other_protocol))
                other[encoder] = laboratory.train(small(quirk.task, quirk.other_recipe), protocol, encoder)
        metric = metric_title(next(iter(published.values()))[0].job)
        sides = [{encoder: reported(records) for encoder, records in side.items()} for side in (published, other)]
        effects.append(Effect(str(quirk.number), quirk.instead, quirk.task, metric, *sides))
        same.append(all(a.curve == b.curve for encoder in quirk.encoders for a, b in zip(published[encoder], other[encoder], strict=True)))
    return Alternatives(tuple(effects), tuple(same))


@dataclass(frozen=True)
class Ties:
    """Attributes:
    share: of detections that share their confidence with another one.
    lowest, highest: LoVT's mAP over orders of equal confidences.
    """

    share: float
    lowest: float
    highest: float


@pytest.fixture(scope="module")
def ties(laboratory: Laboratory) -> Ties:
    """True boxes of phantoms moved about, among boxes of nothing, with confidences as half precision leaves them."""
    draw = np.random.default_rng(7)
    reader = open_reader(registry.dataset("rsna"), laboratory.data / "rsna")
    boxes = [reader.sample(i).boxes_xywh for i in reader.ids]
    n_images, true = len(boxes), np.concatenate(boxes)
    image = np.repeat(np.arange(n_images), [len(one) for one in boxes])
    truth = Boxes(image, true, np.zeros(len(true), np.int64), n_images, "original")
    hits = true + draw.normal(0, 0.1, true.shape) * np.tile(true[:, 2:], 2)
    nothing = true[draw.permutation(len(true))]
    found = np.concatenate([hits, nothing])
    where = np.concatenate([image, draw.integers(n_images, size=len(nothing))])
    label = np.zeros(len(found), np.int64)
    confidence = np.concatenate([draw.beta(5, 3, len(hits)), draw.beta(3, 5, len(nothing))]).astype(np.float16).astype(np.float64)
    _, times = np.unique(confidence, return_counts=True)
    scored = []
    for _ in range(N_ORDERS):
        ordered = confidence + draw.uniform(0, 1e-9, len(confidence))  # far less than a step of half precision
        scored.append(lovt_map(Detections(where, found, label, n_images, "original", ordered), truth).mean)
    return Ties(float(times[times > 1].sum() / len(confidence)), min(scored), max(scored))


def test_the_list_of_switches_is_closed():
    fields = type(PUBLISHED.switches).model_fields
    assert set(ACTS_ON) == {name for name in fields if getattr(PUBLISHED.switches, name) != getattr(CORRECTED.switches, name)}


@pytest.mark.parametrize("switch", [name for name in ACTS_ON if name != "data_order"])
def test_a_switch_changes_the_training_it_is_about(laboratory: Laboratory, effects: dict[str, Effect], switch: str):
    """Scores of a small test split may agree by chance; the training curves may not."""
    task = ACTS_ON[switch]
    corrected = laboratory.records(task, {switch: getattr(CORRECTED.switches, switch)})
    assert all(a.curve != b.curve for a, b in zip(laboratory.records(task, {}), corrected, strict=True))
    assert {r.key for r in corrected}.isdisjoint(r.key for r in laboratory.records(task, {}))


def test_the_order_of_the_first_run_is_that_of_all_published_runs(laboratory: Laboratory, effects: dict[str, Effect]):
    shared, own = laboratory.records(COVID_LINEAR, {}), laboratory.records(COVID_LINEAR, {"data_order": "per-run"})
    assert (shared[0].metrics, shared[0].curve) == (own[0].metrics, own[0].curve)
    assert all(a.curve != b.curve for a, b in zip(shared[1:], own[1:], strict=True))


def test_switches_of_fine_tuning_change_no_digit_of_a_frozen_task(laboratory: Laboratory):
    changed = {switch: getattr(CORRECTED.switches, switch) for switch in ("plateau_after_warmup", "batchnorm_at_unfreezing")}
    plain, switched = laboratory.records(COVID_LINEAR, {}), laboratory.records(COVID_LINEAR, changed)
    assert [(r.metrics, r.curve) for r in plain] == [(r.metrics, r.curve) for r in switched]


def test_an_alternative_trains_otherwise(alternatives: Alternatives):
    """But for a grid or a validation list, which change what is chosen and not how it is trained."""
    trained_alike = {quirk.number for quirk, same in zip(KEPT, alternatives.same_curves, strict=True) if same}
    assert trained_alike <= {6, 16}


def test_half_precision_makes_equal_confidences_and_their_order_moves_the_score(ties: Ties):
    assert ties.share > 0
    assert ties.lowest < ties.highest


def test_the_tables_of_effects_are_written(effects: dict[str, Effect], alternatives: Alternatives, ties: Ties, record_property):
    for effect in (*effects.values(), *alternatives.effects):
        record_property(
            f"{effect.name} ({effect.setting})", f"{effect.points} points of {effect.metric} on {effect.task}, tau {effect.tau}"
        )
    record_property("order of equal confidences", f"mAP from {100 * ties.lowest:.2f} to {100 * ties.highest:.2f}")
    PAGE.write_text(page(effects, alternatives.effects, ties), encoding="utf-8")
    written = PAGE.read_text(encoding="utf-8")
    assert all(f"`{switch}`" in written for switch in ACTS_ON)
    assert all(quirk.instead in written for quirk in KEPT)


def page(effects: Mapping[str, Effect], alternatives: Sequence[Effect], ties: Ties) -> str:
    budgets = [
        f"- {task}: at most {LIMITS[task]} images per split, "
        + ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in budget.items())
        for task, budget in BUDGETS.items()
    ]
    n, trained = len(ENCODERS), ", ".join(f"{images:,}" for images in ENCODERS.values() if images)
    return "\n".join(
        [
            "# What each switch does, on phantoms",
            "",
            "Written by `tests/verify/test_quirk_effects.py`, part of `make studies`; do not edit.",
            "",
            f"`published` against the same protocol with one switch corrected, paired by seed. Generated images at {SIZE} pixels,",
            f"{len(ENCODERS)} encoders (ResNet-18, random and after {trained} images of text pre-training), {RUNS} runs, one",
            "learning rate and the budgets below. Scores are means over encoders; the interval covers seeds alone. Kendall's tau compares",
            f"the order of the encoders under both settings: one exchanged pair is {1 - 4 / (n * (n - 1)):+.2f}, which chance can do here.",
            "It shows that a switch acts and how such an effect is read; sign and size on real data are not measured.",
            "",
            "| Switch | `published` → corrected | Task | Metric | Mean score (%) | Difference (points, 95 % interval) | Kendall's tau |",
            "|:--|:--|:--|:--|--:|--:|--:|",
            *(effect.line for effect in effects.values()),
            "",
            "`object_cxr_shapes` changes the ground truth as well: its two scores are measured against different masks. `data_order`",
            "leaves the first run as it is; its purpose is an interval that covers the order, not another mean.",
            "",
            "## What has no switch",
            "",
            "LOBE offers no alternative to these; the one measured here exists in this check alone. The difference is the alternative",
            f"minus `published`. Quirks of the detector are measured with one encoder, that of {ENCODERS[BEST]:,} images.",
            "",
            "| Quirk | Instead | Task | Metric | Mean score (%) | Difference (points, 95 % interval) | Kendall's tau |",
            "|--:|:--|:--|:--|--:|--:|--:|",
            *(effect.line for effect in alternatives),
            "",
            f"Quirk 19: of moved true boxes among boxes of nothing, with confidences in half precision, {100 * ties.share:.0f} %",
            f"share their confidence with another one; over {N_ORDERS} orders of equal ones LoVT's mAP lies between",
            f"{100 * ties.lowest:.2f} % and {100 * ties.highest:.2f} %. For quirk 16 the published share of 20 % of the validation list",
            "is 40 % here, where the list is short; for quirk 6 the grid is that of task 7, on all labels.",
            "",
            "## Budgets",
            "",
            *budgets,
            "",
        ]
    )
