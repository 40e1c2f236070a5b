"""Phantoms as a test of the benchmark: a better backbone must score better, and one without places must score like none at all.

Source: science section 10, properties (a), (c), (d) and (h), on the linear tasks of RSNA and COVID Rural.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmark import registry
from benchmark.api import Request, evaluate
from benchmark.cards import Record
from benchmark.phantom.corpus import Plan, write_corpus
from benchmark.report import numbers
from benchmark.training.predictions import read_masks
from benchmark.training.text_pretraining import pretrain

pytestmark = pytest.mark.slow

TASKS = ("rsna-linear-frozen-demo", "covid-rural-linear-frozen-demo")
RUNS = 3
SHORT, LONG = 320, 2_560  # images shown in pre-training

# The long-pretrained encoder with its places destroyed: every position holds the mean, or positions are shuffled within each image.
PLACELESS = """
import torch
from benchmark.cards import BackboneRef
from benchmark.encoders.base import Backbone
from benchmark.encoders.build import build_backbone
from benchmark.encoders.checkpoints import load_checkpoint


class Placeless(Backbone):
    def __init__(self, destroy):
        super().__init__()
        self.inner, _ = build_backbone(BackboneRef(family="torchvision", model="resnet18", digest=None), None, init_seed=0)
        load_checkpoint(self.inner.network, {weights!r}, "torchvision", 1.0)
        self.spec, self.destroy = self.inner.spec, destroy

    def pyramid(self, images, strides=None):
        return {{stride: self.destroy(level) for stride, level in self.inner.pyramid(images, strides).items()}}

    def pooled(self, images):
        return self.inner.pooled(images)


def mean_of(level):
    return level.mean((2, 3), keepdim=True).expand_as(level).contiguous()


def shuffle_of(level):
    shuffled = []
    for image in level:
        seed = int(image.double().abs().sum().item() * 1e6) % 2**31
        order = torch.randperm(image[0].numel(), generator=torch.Generator().manual_seed(seed))
        shuffled.append(image.flatten(1)[:, order].view_as(image))
    return torch.stack(shuffled)


def averaged():
    return Placeless(mean_of)


def shuffled():
    return Placeless(shuffle_of)
"""


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[Record]]]:
    """task -> rung -> records of the same seeds."""
    root = tmp_path_factory.mktemp("ladder")
    for name, patients in (("rsna", 100), ("covid-rural", 60)):
        share = 0.5 if name == "rsna" else None
        write_corpus(Plan(dataset=name, n_patients=patients, seed=11, positive_share=share), root / "data" / registry.dataset(name).folder)
    write_corpus(Plan(dataset="rsna", n_patients=250, seed=2002, positive_share=0.5), root / "pretraining")
    files = {"short": root / "short.safetensors", "long": root / "long.safetensors"}
    for rung, images in (("short", SHORT), ("long", LONG)):
        pretrain(root / "pretraining", files[rung], images, math.inf, processes=2, progress=lambda done, total: None)
    (root / "placeless.py").write_text(PLACELESS.format(weights=files["long"]))
    rungs = {
        "random": "torchvision:resnet18",
        "short": f"torchvision:resnet18@{files['short']}",
        "long": f"torchvision:resnet18@{files['long']}",
        "averaged": f"{root / 'placeless.py'}:averaged",
        "shuffled": f"{root / 'placeless.py'}:shuffled",
    }
    found: dict[str, dict[str, list[Record]]] = {}
    for rung, name in rungs.items():
        request = Request(
            backbones=[name],
            tasks=TASKS,
            data=[str(root / "data")],
            out=root / f"out-{rung}",
            cache=root / "cache",
            runs=RUNS,
            tracking=False,
            executor="inline",
        )
        for record in evaluate(request).records:
            assert record.status == "ok", record.failure
            found.setdefault(record.job.labels.task, {}).setdefault(rung, []).append(record)
    found["root"] = root  # type: ignore[assignment]
    return found


def values(ladder, task: str, rung: str) -> list[float]:
    return [r.metrics["opacity_dice"] for r in sorted(ladder[task][rung], key=lambda r: r.job.labels.run)]


@pytest.mark.parametrize("task", TASKS)
def test_a_better_backbone_scores_better(ladder, task: str, record_property):
    means = {rung: float(np.mean(values(ladder, task, rung))) for rung in ladder[task]}
    record_property("Dice in per cent", json.dumps({rung: round(mean * 100, 1) for rung, mean in means.items()}).replace('"', ""))
    gain = numbers.paired_difference(values(ladder, task, "long"), values(ladder, task, "random"))
    record_property("long minus random", str(gain))
    assert means["random"] < means["short"] <= means["long"] + 0.03
    assert means["random"] < means["long"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("rung", ["averaged", "shuffled"])
def test_a_backbone_without_places_scores_like_a_guess_by_image(ladder, task: str, rung: str, record_property):
    record = ladder[task]["long"][0]
    truth = _truth(ladder["root"], record)
    whole_images = truth.any(axis=(1, 2, 3))
    guess = 2 * truth.sum() / (truth.sum() + whole_images.sum() * truth[0].size)
    placeless = float(np.mean(values(ladder, task, rung)))
    record_property("Dice in per cent: placeless, guess by image", f"{placeless * 100:.1f}, {guess * 100:.1f}")
    assert placeless <= guess + 0.05
    assert placeless < float(np.mean(values(ladder, task, "long")))


def _truth(root: Path, record: Record) -> np.ndarray:
    """Ground-truth masks of the record's test images, (N, C, S, S) bool."""
    from benchmark import resolve
    from benchmark.training.data import load_part
    from benchmark.training.place import Place

    card = registry.dataset(record.job.experiment.dataset.name)
    dataset = resolve.dataset(card, root / "data" / card.folder, registry.protocol("published"))
    place = Place(card, dataset.root, root / "cache" / "images", "none", None, dataset.release, dataset.phantom, dataset.known_release)
    part = load_part(record.job.experiment, place, "test")
    masks, names, _ = read_masks(root / "out-long" / "predictions" / record.key / "masks.json")
    assert names == part.ids
    assert masks.shape[0] == len(part)
    return part.masks(np.arange(len(part)))
