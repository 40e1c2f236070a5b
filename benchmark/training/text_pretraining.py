"""Pre-training a small encoder on images with report text, in a minute: predict which words the report uses, from the image.

It exists so that the demo has a backbone that has learned something, and so that phantoms can be tested as a ladder (random < pre-trained).
It sees images and report text, never boxes or masks. Word maps are pooled by a smooth maximum, so that a word must be found somewhere.
"""

from __future__ import annotations

import math
import re
import time
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
from benchmark.heads.base import seeded_init
from benchmark.imaging.equalise import equalise
from benchmark.imaging.prepare import prepare_image
from benchmark.readers.base import open_reader
from benchmark.training.determinism import prepare_process

REPORTS_FILE = "phantom_reports.csv"
SIZE = 224
SMALL, SMALL_SHARE = 112, 0.75  # a quarter of the pixels for most of the time shows four times as many images
BATCH = 8
PEAK_RATE = 1e-3
SHARPNESS = 4.0  # of the smooth maximum over positions
COMMON, RARE = 0.6, 0.02  # words in more or fewer reports than this teach nothing


def pretrain(
    corpus: Path, weights: Path, seconds: float, processes: int, progress: Callable[[int, int], None], seed: int = 7
) -> dict[str, float]:
    """Trains a ResNet-18 on an RSNA phantom's images and reports and writes a torchvision state dict.

    Args:
        corpus: folder with images and `phantom_reports.csv`.
        weights: safetensors file to write.
        seconds: time budget of training; the schedule is stretched to it, so a faster machine sees more images.
        processes: CPU threads.

    Returns:
        Last mean loss, images seen, number of words.
    """
    prepare_process(processes)
    images, targets = load(corpus)
    backbone, _ = build_backbone(BackboneRef(family="torchvision", model="resnet18", digest=None), None, init_seed=seed)
    encoder = SealedEncoder(backbone, registry.dataset("rsna").statistics)
    encoder.set_mode("training")
    words = seeded_init(lambda: nn.Conv2d(backbone.spec.strides[32], targets.shape[1], 1), seed)
    parameters = [*encoder.parameters(), *words.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=PEAK_RATE, weight_decay=1e-2)
    weight = ((1 - targets.mean(0)) / targets.mean(0)).sqrt()
    order = torch.Generator().manual_seed(seed)
    started, seen, mean = time.monotonic(), 0, math.nan
    while (elapsed := time.monotonic() - started) < seconds:
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * _schedule(elapsed / seconds)
        index = torch.randint(len(targets), (BATCH,), generator=order)
        equalised = torch.randint(2, (BATCH,), generator=order)
        batch = _at_size(images[equalised, index], SMALL if elapsed < SMALL_SHARE * seconds else SIZE)
        pyramid = encoder.pyramid(batch, (32,))
        maps = words(pyramid[32]).flatten(2)
        logits = (torch.logsumexp(SHARPNESS * maps, 2) - math.log(maps.shape[2])) / SHARPNESS
        loss = nn.functional.binary_cross_entropy_with_logits(logits, targets[index], pos_weight=weight)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        seen += BATCH
        mean = loss.item() if math.isnan(mean) else 0.95 * mean + 0.05 * loss.item()
        progress(min(int(elapsed), int(seconds)), int(seconds))
    progress(int(seconds), int(seconds))
    temporary = weights.with_suffix(".part")
    save_file({name: tensor.contiguous() for name, tensor in torchvision_state(encoder).items()}, temporary)
    temporary.replace(weights)
    return {"loss": mean, "images": float(seen), "words": float(targets.shape[1])}


def load(corpus: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (2, N, S, S) uint8, as stored and with equalised histogram, and word targets (N, W) float32 of a phantom with reports."""
    reader = open_reader(registry.dataset("rsna"), corpus)
    reports = pd.read_csv(corpus / REPORTS_FILE, dtype=str, keep_default_na=False).set_index("id")["report"]
    without_masks = (replace(reader.sample(i), masks=None) for i in reader.ids)
    stored = [prepare_image(sample, reader.card.intensity, SIZE)[0] for sample in without_masks]
    # Four of LoVT's five datasets are equalised: an encoder for all of them has to know both looks.
    images = np.stack([stored, [equalise(image) for image in stored]])
    targets = word_targets([reports[i] for i in reader.ids])
    return torch.from_numpy(images), torch.from_numpy(targets)


def word_targets(reports: Sequence[str]) -> np.ndarray:
    """(N, W) float32: which words and pairs of words, inside a sentence, each report uses; W counts those neither common nor rare."""
    used = [set(_runs(report)) for report in reports]
    counts = Counter(run for runs in used for run in runs)
    kept = sorted(run for run, n in counts.items() if RARE * len(reports) <= n <= COMMON * len(reports))
    return np.array([[run in runs for run in kept] for runs in used], np.float32)


def torchvision_state(encoder: SealedEncoder) -> dict[str, torch.Tensor]:
    """The encoder's tensors under torchvision's names."""
    return encoder.backbone.network.state_dict()


def _runs(report: str) -> list[str]:
    runs = []
    for sentence in re.split(r"[.:;\n]", report.lower()):
        words = re.findall(r"[a-z]+", sentence)
        runs += [" ".join(words[i : i + n]) for n in (1, 2) for i in range(len(words) - n + 1)]
    return runs


def _at_size(images: torch.Tensor, size: int) -> torch.Tensor:
    """(B, 1, size, size) float32 in [0, 1] of (B, S, S) uint8."""
    return nn.functional.interpolate(images[:, None].float() / 255, size=(size, size), mode="area")


def _schedule(share: float) -> float:
    """Linear warm-up over the first tenth, then a half cosine to zero."""
    return share / 0.1 if share < 0.1 else 0.5 * (1 + math.cos(math.pi * (share - 0.1) / 0.9))
