"""Phantoms as a test of the benchmark: a better backbone must score better, and one without places must score like none at all.

A recorded study over one frozen task per head and dataset, three seeds, intervals over seeds and test patients.
Writes docs/phantom-study.md, which says for every task whether the two backbones are told apart.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from torch import nn

from benchmark import own_code, registry, resolve
from benchmark.api import Request, evaluate
from benchmark.cards import BackboneRef, Record
from benchmark.encoders.build import build_backbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.heads.base import seeded_init
from benchmark.heads.networks.dice_loss import dice_loss_of, dice_sums
from benchmark.imaging.prepare import prepare_image
from benchmark.kinds.base import Part
from benchmark.metrics.grid_oracle import grid_oracle
from benchmark.phantom.corpus import CorpusPlan, write_corpus
from benchmark.readers.base import open_reader
from benchmark.report import differences, resampling
from benchmark.report.rows import Row, metric_title, rows_of
from benchmark.store import Store
from benchmark.training import text_pretraining
from benchmark.training.data import load_part
from benchmark.training.inputs import Inputs

pytestmark = [pytest.mark.slow, pytest.mark.study]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "phantom-study.md"
CARDS = Path(__file__).parent / "cards"
PATIENTS = {"rsna": 200, "covid-rural": 104, "siim": 90, "object-cxr": 120, "nih-cxr": 200}
IMAGES_PER_PATIENT = (1, 2)  # another patient tells more than another image of the same one
EVALUATION_SEED, PRETRAINING_SEED, PRETRAINING_PATIENTS = 11, 2002, 660
KEPT = "LOBE_VERIFY_FOLDER"  # names a folder where a study that was stopped goes on; without it, everything is computed
SIZE = 160  # of the frame, as in the cards
SHORT, LONG = 960, 8_000  # images shown in pre-training

LINEAR, LINEAR_COVID = "rsna-linear-frozen-study", "covid-rural-linear-frozen-study"
# COVID Rural's U-Net is no rung: with all labels the decoder, larger than the encoder, learns by itself, and not even the oracle helps it.
OF_EVERY_HEAD = (LINEAR, "rsna-unet-frozen-10-study", "rsna-yolov3-frozen-study")
RUNGS = ("random", "short", "long", "oracle")
PLACELESS_RUNGS = ("averaged", "shuffled")
PREVALENCE_PATIENTS = 330

# The long-pretrained encoder with its places destroyed: every position holds the mean, or positions are shuffled within each image.
PLACELESS = """
import zlib
from pathlib import Path

import torch
from benchmark.cards import BackboneRef
from benchmark.encoders.base import Backbone
from benchmark.encoders.build import build_backbone
from benchmark.encoders.checkpoints import load_checkpoint


class Placeless(Backbone):
    def __init__(self, destroy):
        super().__init__()
        self.inner, _ = build_backbone(BackboneRef(family="torchvision", model="resnet18", digest=None), None, init_seed=0)
        load_checkpoint(self.inner.network, Path({weights!r}), "torchvision", 1.0)
        self.spec, self.destroy = self.inner.spec, destroy

    def pyramid(self, images, strides=None):
        return {{stride: self.destroy(level, images) for stride, level in self.inner.pyramid(images, strides).items()}}

    def pooled(self, images):
        return self.inner.pooled(images)


def mean_of(level, images):
    return level.mean((2, 3), keepdim=True).expand_as(level).contiguous()


def shuffle_of(level, images):
    shuffled = []
    for features, image in zip(level, images):
        # An order of its own for every image, and the same in every batch: the pixels decide, not features with their rounding.
        seed = zlib.crc32(image.contiguous().numpy().tobytes())
        order = torch.randperm(features[0].numel(), generator=torch.Generator().manual_seed(seed))
        shuffled.append(features.flatten(1)[:, order].view_as(features))
    return torch.stack(shuffled)


def averaged():
    return Placeless(mean_of)


def shuffled():
    return Placeless(shuffle_of)
"""


@dataclass(frozen=True)
class Study:
    """Attributes:
    rows: by (task, rung).
    weights: of the pre-trained rungs.
    """

    root: Path
    records: list[Record]
    rows: dict[tuple[str, str], Row]
    weights: dict[str, Path]

    def compare(self, task: str, first: str, second: str) -> differences.Compared:
        return differences.compare(self.rows[task, first], self.rows[task, second])

    def part(self, task: str, name: str) -> Part:
        """Images and truth of a task's split."""
        job = next(r.job for r in self.records if r.job.labels.task == task)
        card = registry.dataset(job.experiment.dataset.name)
        dataset = resolve.dataset(card, self.root / "data" / card.folder, registry.protocol("published"))
        release = (dataset.release, dataset.phantom, dataset.known_release)
        inputs = Inputs(card, dataset.root, self.root / "cache" / "images", "none", None, *release)
        return load_part(job.experiment, inputs, name)

    def truth(self, task: str, name: str) -> np.ndarray:
        """(N, C, S, S) bool."""
        part = self.part(task, name)
        return part.masks(np.arange(len(part)))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    before = list(registry._included)
    registry.include(CARDS)
    kept = os.environ.get(KEPT)
    # Another package, study or recipe is another folder: nothing computed by older code may pass for this one's.
    made_by = hashlib.sha256(own_code.digest().encode() + Path(__file__).read_bytes() + (CARDS / "tasks" / "study.yaml").read_bytes())
    root = Path(kept) / f"study-{made_by.hexdigest()[:12]}" if kept else tmp_path_factory.mktemp("study")
    root.mkdir(parents=True, exist_ok=True)
    workers = os.cpu_count() or 1
    for name, patients in PATIENTS.items():
        share = 0.5 if name == "rsna" else None
        plan = CorpusPlan(name, patients, EVALUATION_SEED, IMAGES_PER_PATIENT, share)
        corpus_at(root / "data" / registry.dataset(name).folder, plan, workers)
    corpus = root / "pretraining"
    corpus_at(corpus, CorpusPlan("rsna", PRETRAINING_PATIENTS, PRETRAINING_SEED, IMAGES_PER_PATIENT, 0.5), workers)
    weights = {rung: root / f"{rung}.safetensors" for rung in RUNGS[1:]}
    for rung, images in (("short", SHORT), ("long", LONG)):
        if weights[rung].exists():
            continue
        text_pretraining.pretrain(corpus, weights[rung], SIZE, images, workers, progress=lambda done, total: None)
    if not weights["oracle"].exists():
        train_on_masks(corpus, weights["oracle"], LONG)
    (root / "placeless.py").write_text(PLACELESS.format(weights=str(weights["long"])))

    suite = registry.suite("study").tasks
    names = {"random": "torchvision:resnet18"} | {rung: f"torchvision:resnet18@{file}" for rung, file in weights.items()}
    placeless = {rung: f"{root / 'placeless.py'}:{rung}" for rung in PLACELESS_RUNGS}
    asked = [([names["random"], names["long"]], suite), ([names["short"], names["oracle"]], OF_EVERY_HEAD)]
    asked.append(([*placeless.values()], (LINEAR, LINEAR_COVID)))
    for backbones, tasks in asked:
        evaluate(
            Request(backbones=backbones, tasks=tasks, data=[str(root / "data")], out=root / "out", cache=root / "cache", tracking=False)
        )
    yield stored(root, weights)
    registry._included[:] = before
    for cached in (registry.tasks, registry.suites):
        cached.cache_clear()


@pytest.fixture(scope="module")
def as_released(study: Study) -> Study:
    """RSNA at the release's prevalence, where guessing costs what it costs there, with the encoders of the study."""
    root = study.root / "as-released"
    corpus_at(root / "data" / "rsna", CorpusPlan("rsna", PREVALENCE_PATIENTS, EVALUATION_SEED + 1, IMAGES_PER_PATIENT), os.cpu_count() or 1)
    backbones = [f"torchvision:resnet18@{study.weights[rung]}" for rung in ("long", "oracle")]
    data, out, cache = [str(root / "data")], root / "out", root / "cache"
    evaluate(Request(backbones=backbones, tasks=(LINEAR,), data=data, out=out, cache=cache, tracking=False))
    return stored(root, study.weights)


def stored(root: Path, weights: dict[str, Path]) -> Study:
    """What lies in `root / "out"`."""
    records = Store(root / "out").all()
    rows = {}
    for row in rows_of(records, resampled=functools.partial(resampling.of_record, out=root / "out")):
        rung = "random" if row.random else next(name for name in (*RUNGS[1:], *PLACELESS_RUNGS) if name in row.label)
        rows[row.task, rung] = row
    return Study(root, records, rows, weights)


def corpus_at(folder: Path, plan: CorpusPlan, workers: int) -> None:
    if not (folder / "PHANTOM.json").exists():
        write_corpus(plan, folder, workers=workers)


def train_on_masks(corpus: Path, weights: Path, images: int, seed: int = 7) -> None:
    """What pre-training could at best teach: the same encoder, data and number of images, taught where the opacities are."""
    pictures, _ = text_pretraining.load(corpus, SIZE)
    reader = open_reader(registry.dataset("rsna"), corpus)
    masks = torch.from_numpy(np.stack([prepare_image(reader.sample(i), reader.card.intensity, SIZE)[2] for i in reader.ids]))
    backbone, _ = build_backbone(BackboneRef(family="torchvision", model="resnet18", digest=None), None, init_seed=seed)
    encoder = SealedEncoder(backbone, registry.dataset("rsna").statistics)
    encoder.set_mode("training")
    classify = seeded_init(lambda: nn.Conv2d(backbone.spec.strides[32], 1, 1), seed)
    parameters = [*encoder.parameters(), *classify.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=text_pretraining.PEAK_RATE, weight_decay=1e-2)
    steps = images // text_pretraining.BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, text_pretraining.PEAK_RATE, total_steps=steps, pct_start=0.1)
    order = torch.Generator().manual_seed(seed)
    for step in range(steps):
        index = torch.randint(len(masks), (text_pretraining.BATCH,), generator=order)
        look = torch.randint(2, (len(index),), generator=order)
        size = text_pretraining.SMALL if step < text_pretraining.SMALL_SHARE * steps else SIZE
        batch, truth = (at_size(images, size) for images in (pictures[look, index] / 255, masks[index].float()))
        logits = nn.functional.interpolate(classify(encoder.pyramid(batch, (32,))[32]), size=(size, size), mode="bilinear")
        loss = dice_loss_of(dice_sums(logits, truth)) + nn.functional.binary_cross_entropy_with_logits(logits, truth)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    unfinished = weights.with_suffix(".part")
    save_file({name: tensor.contiguous() for name, tensor in text_pretraining.torchvision_state(encoder).items()}, unfinished)
    unfinished.replace(weights)


def at_size(images: torch.Tensor, size: int) -> torch.Tensor:
    """(B, 1, size, size) of B square images."""
    return nn.functional.interpolate(images.reshape(len(images), 1, *images.shape[-2:]), size=(size, size), mode="area")


def test_every_job_of_the_study_completed(study: Study, record_property):
    record_property("jobs", len(study.records))
    assert [(r.job.labels.task, r.job.labels.backbone, r.failure) for r in study.records if r.status != "ok"] == []


def test_pretrained_against_random_on_one_task_per_head_and_dataset(study: Study, record_property):
    found = {task: study.compare(task, "long", "random") for task in registry.suite("study").tasks}
    PAGE.write_text(page(study, found), encoding="utf-8")
    record_property("not told apart", [task for task, one in found.items() if one.reading.startswith("not told apart")])
    assert all(one.difference.half_width is not None and one.paired for one in found.values())
    assert {task: found[task].text for task in (*OF_EVERY_HEAD, LINEAR_COVID) if found[task].difference.value <= 0} == {}


@pytest.mark.parametrize("task", OF_EVERY_HEAD)
def test_the_ladder_holds(study: Study, task: str, record_property):
    """In the mean over what was shown for long, and for no pair of neighbours is the opposite shown by the paired interval."""
    means = {rung: study.rows[task, rung].mean for rung in RUNGS}
    record_property("per cent", {rung: round(100 * mean, 1) for rung, mean in means.items()})
    for below, above in itertools.pairwise(RUNGS):
        found = study.compare(task, above, below)
        record_property(f"{above} minus {below}", found.text)
        assert found.difference.value + found.difference.half_width > 0, f"{above} is worse than {below}"
    record_property("oracle minus random", study.compare(task, "oracle", "random").text)
    assert means["random"] < means["long"] < means["oracle"]


@pytest.mark.parametrize("task", [LINEAR, LINEAR_COVID])
@pytest.mark.parametrize("rung", ["averaged", "shuffled"])
def test_a_backbone_without_places_scores_like_a_guess_by_image(study: Study, task: str, rung: str, record_property):
    truth = study.truth(task, "test")
    positives = truth.any(axis=(1, 2, 3))
    guess = 2 * truth.sum() / (truth.sum() + positives.sum() * truth[0].size)  # every pixel of every positive image
    placeless = study.rows[task, rung].mean
    record_property("Dice in per cent: placeless, guess by image", f"{placeless * 100:.1f}, {guess * 100:.1f}")
    record_property("long minus placeless", study.compare(task, "long", rung).text)
    assert placeless <= guess + 0.05
    assert placeless < study.rows[task, "long"].mean


def test_a_backbone_without_places_still_classifies(study: Study, record_property):
    train, test = study.part(LINEAR, "train"), study.part(LINEAR, "test")
    file = study.weights["long"]
    ref = BackboneRef(family="torchvision", model="resnet18", digest=hashlib.sha256(file.read_bytes()).hexdigest())
    backbone, _ = build_backbone(ref, file, init_seed=None)
    encoder = SealedEncoder(backbone, registry.dataset("rsna").statistics)
    encoder.set_mode("frozen")
    scope: dict[str, Callable] = {}
    exec(PLACELESS.format(weights=str(file)), scope)
    found = {}
    for name, destroy in (("kept", lambda level, images: level), ("averaged", scope["mean_of"]), ("shuffled", scope["shuffle_of"])):
        sides = []
        for part in (train, test):
            pictures = part.images(np.arange(len(part)))[:, None].float() / 255
            with torch.no_grad():
                levels = [destroy(encoder.pyramid(chunk, (32,))[32], chunk).mean((2, 3)) for chunk in pictures.split(16)]
            sides.append((torch.cat(levels).numpy(), np.array([len(boxes) > 0 for boxes in part.boxes])))
        (x, y), (x_test, y_test) = sides
        scaler = StandardScaler().fit(x)
        model = LogisticRegression(C=0.01, max_iter=1000).fit(scaler.transform(x), y)
        found[name] = float(roc_auc_score(y_test, model.decision_function(scaler.transform(x_test))))
    record_property("AUROC in per cent", {name: round(100 * value, 1) for name, value in found.items()})
    assert found["averaged"] == pytest.approx(found["kept"], abs=0.01)
    assert found["shuffled"] == pytest.approx(found["kept"], abs=0.01)
    assert found["kept"] > 0.6


def test_what_needs_no_backbone_stays_far_below_the_best(as_released: Study, record_property):
    trivial, best = trivial_and_best(as_released, LINEAR)
    record_property("per cent", {name: round(100 * value, 1) for name, value in (trivial | {"best": best}).items()})
    assert max(trivial.values()) < 0.4 * best


def test_where_nearly_every_image_is_positive_a_guess_of_the_place_is_still_below_the_best(study: Study, record_property):
    trivial, best = trivial_and_best(study, LINEAR_COVID)
    record_property("per cent", {name: round(100 * value, 1) for name, value in (trivial | {"best": best}).items()})
    assert max(trivial.values()) < best


def trivial_and_best(study: Study, task: str) -> tuple[dict[str, float], float]:
    """Dice of predictors that look at no feature, each at the best threshold on the test images themselves, and of the best encoder."""
    train, test = study.truth(task, "train")[:, 0], study.truth(task, "test")[:, 0]
    part = study.part(task, "test")
    pictures = part.images(np.arange(len(part))).numpy()
    prior = np.broadcast_to(gaussian_filter(train.mean(axis=0, dtype=np.float32), 4), test.shape)
    trivial = {"everything": micro_dice(np.ones_like(test), test), "place": best_dice(prior, test), "brightness": best_dice(pictures, test)}
    return trivial, max(study.rows[task, rung].mean for rung in RUNGS if (task, rung) in study.rows)


def test_the_best_score_leaves_room_and_is_no_accident(as_released: Study, record_property):
    ceiling = float(grid_oracle(as_released.truth(LINEAR, "test"), SIZE // 32).mean())
    best = max(row.mean for (task, _), row in as_released.rows.items() if task == LINEAR)
    record_property("best, ceiling of the linear head's grid in per cent", f"{best * 100:.1f}, {ceiling * 100:.1f}")
    assert 0.3 < best / ceiling < 0.8


def micro_dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    return float(2 * np.count_nonzero(predicted & truth) / (np.count_nonzero(predicted) + np.count_nonzero(truth)))


def best_dice(scores: np.ndarray, truth: np.ndarray) -> float:
    """Best micro Dice over 100 thresholds of a score map, chosen on the test images themselves: a bound, not a method."""
    edges = np.unique(np.percentile(scores[:, ::4, ::4], np.linspace(0, 100, 101)))
    return max(micro_dice(scores > edge, truth) for edge in edges)


def page(study: Study, found: dict[str, differences.Compared]) -> str:
    lines = [
        "# Pre-trained against random, on phantoms",
        "",
        "Written by `tests/verify/test_study.py`, part of `make studies`; do not edit. Generated images: this shows that the benchmark",
        "tells backbones apart and how such a difference is read, and nothing about real data.",
        "",
        f"ResNet-18, pre-trained on the report text of {PRETRAINING_PATIENTS} other phantom patients ({LONG:,} images shown), against",
        f"random initialisation, at {SIZE} pixels (RSNA's U-Net at 96, on a tenth of the labels: with all of them its decoder, larger than",
        "the encoder, learns by itself). Frozen encoder, three runs, budgets in `tests/verify/cards/tasks/study.yaml`.",
        "The reports speak of opacities, heart and devices; nodules and pneumothoraces are nothing the encoder was taught.",
        "",
        "| Task | Metric | Random (%) | Pre-trained (%) | Difference (points, 95 %) | Reading | The interval covers |",
        "|:--|:--|--:|--:|--:|:--|:--|",
    ]
    for task, one in found.items():
        random, long = study.rows[task, "random"], study.rows[task, "long"]
        job = next(r.job for r in study.records if r.job.labels.task == task)
        lines.append(f"| {task} | {metric_title(job)} | {random.text} | {long.text} | {one.text} | {one.reading} | {one.covers} |")
    lines += ["", 'A row that says "not told apart" is no evidence that the two are equal; it says what this many images can show.', ""]
    return "\n".join(lines)
