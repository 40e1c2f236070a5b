"""Pre-training a small encoder on images with report text, in a minute: predict which words the report uses, from the image.

It exists so that the demo has a backbone that has learned something, and so that phantoms can be tested as a ladder (random < pre-trained).
It sees images and report text, never boxes or masks. Reports say side and zone, so the predictor of words sees where a feature lies.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import nn

from benchmark import registry
from benchmark.cards import BackboneRef
from benchmark.encoders.build import build_backbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.files import open_regular
from benchmark.heads.base import seeded_init
from benchmark.imaging.equalise import equalise
from benchmark.imaging.prepare import prepare_image
from benchmark.readers.base import open_reader
from benchmark.training.determinism import prepare_process

REPORTS_FILE = "phantom_reports.csv"
SMALL, SMALL_SHARE = 80, 0.9  # fewer pixels show more images in the same time; the rest fits BatchNorm to the size in use
BATCH = 8
PEAK_RATE = 5e-4
READER_CHANNELS, READER_GRID = 128, 4
LONGEST_RUN = 4  # words
COMMON, RARE = 0.6, 0.02  # words in more or fewer reports than this teach nothing


class WordReader(nn.Module):
    """Word logits (B, W) of a feature map (B, C, h, w): averaged to a 4 x 4 grid, with a weight per word, channel and cell."""

    def __init__(self, channels: int, n_words: int):
        super().__init__()
        self.reduce = nn.Conv2d(channels, READER_CHANNELS, 1)
        self.words = nn.Linear(READER_CHANNELS * READER_GRID**2, n_words)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        cells = nn.functional.adaptive_avg_pool2d(self.reduce(features).relu(), READER_GRID)
        return self.words(cells.flatten(1))


def pretrain(
    corpus: Path,
    weights: Path,
    size: int,
    images: int,
    processes: int,
    progress: Callable[[int, int], None],
    seed: int = 7,
) -> dict[str, float]:
    """Trains a ResNet-18 on an RSNA phantom's images and reports and writes a torchvision state dict.

    Args:
        corpus: folder with images and `phantom_reports.csv`.
        weights: safetensors file to write.
        size: side of the images the encoder will be used on, in pixels.
        images: how many to show, with repetition. The weights depend on nothing but them, corpus, seed and thread count.
        processes: CPU threads.

    Returns:
        Last mean loss, images seen, number of words.
    """
    prepare_process(processes)
    pictures, targets = load(corpus, size)
    backbone, _ = build_backbone(BackboneRef(family="torchvision", model="resnet18", digest=None), None, init_seed=seed)
    encoder = SealedEncoder(backbone, registry.dataset("rsna").statistics, channels_last=True)
    encoder.set_mode("training")
    reader = seeded_init(lambda: WordReader(backbone.spec.strides[32], targets.shape[1]), seed)
    parameters = [*encoder.parameters(), *reader.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=PEAK_RATE, weight_decay=1e-2, fused=True)
    weight = ((1 - targets.mean(0)) / targets.mean(0)).sqrt()
    order = torch.Generator().manual_seed(seed)
    seen, mean, waiting = 0, math.nan, torch.empty(0, dtype=torch.long)
    while (done := seen / images) < 1:
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * _schedule(done)
        if len(waiting) < BATCH:
            waiting = torch.cat([waiting, torch.randperm(len(targets), generator=order)])
        index, waiting = waiting[:BATCH], waiting[BATCH:]
        equalised = torch.randint(2, (len(index),), generator=order)
        batch = _at_size(pictures[equalised, index], min(SMALL, size) if done < SMALL_SHARE else size)
        logits = reader(backbone.pyramid(encoder.normalise(batch), (32,))[32])
        loss = nn.functional.binary_cross_entropy_with_logits(logits, targets[index], pos_weight=weight)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        seen += len(index)
        mean = loss.item() if math.isnan(mean) else 0.95 * mean + 0.05 * loss.item()
        progress(min(seen, images), images)
    progress(images, images)
    temporary = weights.with_suffix(".part")
    save_file({name: tensor.contiguous() for name, tensor in torchvision_state(encoder).items()}, temporary)
    temporary.replace(weights)
    return {"loss": mean, "images": float(seen), "words": float(targets.shape[1])}


def load(corpus: Path, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A phantom with reports: images (2, N, size, size) uint8, as stored and equalised, and word targets (N, W) float32."""
    reader = open_reader(registry.dataset("rsna"), corpus)
    with open_regular(corpus / REPORTS_FILE) as table:
        reports = pd.read_csv(table, dtype=str, keep_default_na=False).set_index("id")["report"]
    without_masks = (replace(reader.sample(i), masks=None) for i in reader.ids)
    stored = [prepare_image(sample, reader.card.intensity, size)[0] for sample in without_masks]
    # Four of LoVT's five datasets are equalised: an encoder for all of them has to know both looks.
    images = np.stack([stored, [equalise(image) for image in stored]])
    targets = word_targets([reports[i] for i in reader.ids])
    return torch.from_numpy(images), torch.from_numpy(targets)


def word_targets(reports: Sequence[str]) -> np.ndarray:
    """(N, W) float32: which runs of one to four words, inside a sentence, each report uses; W counts those neither common nor rare.

    "right lower zone opacity" tells one place; "right" and "lower" alone may belong to two. Runs that always occur together count once.
    """
    used = [set(_runs(report)) for report in reports]
    counts = Counter(run for runs in used for run in runs)
    kept = sorted(run for run, n in counts.items() if RARE * len(reports) <= n <= COMMON * len(reports))
    targets = np.array([[run in runs for run in kept] for runs in used], np.float32)
    _, first = np.unique(targets, axis=1, return_index=True)
    return targets[:, np.sort(first)]


def torchvision_state(encoder: SealedEncoder) -> dict[str, torch.Tensor]:
    """The encoder's tensors under torchvision's names."""
    network = getattr(encoder.backbone, "network", None)
    if not isinstance(network, nn.Module):
        raise TypeError(f"{type(encoder.backbone).__name__} has no `network`: it is no backbone of torchvision.")
    return network.state_dict()


def _runs(report: str) -> list[str]:
    runs = []
    for sentence in re.split(r"[.:;\n]", report.lower()):
        words = re.findall(r"[a-z]+", sentence)
        runs += [" ".join(words[i : i + n]) for n in range(1, LONGEST_RUN + 1) for i in range(len(words) - n + 1)]
    return runs


def _at_size(images: torch.Tensor, size: int) -> torch.Tensor:
    """(B, 1, size, size) float32 in [0, 1] of (B, S, S) uint8."""
    return nn.functional.interpolate(images[:, None].float() / 255, size=(size, size), mode="area")


def _schedule(share: float) -> float:
    """Linear warm-up over the first tenth, then a half cosine to zero."""
    return share / 0.1 if share < 0.1 else 0.5 * (1 + math.cos(math.pi * (share - 0.1) / 0.9))
