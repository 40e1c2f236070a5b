"""Pre-training a small encoder on images with report text, in a minute: predict which words the report uses, from the image.

It exists so that the demo has a backbone that has learned something, and so that phantoms can be tested as a ladder (random < pre-trained).
It sees images and report text, never boxes or masks. Reports say side and zone, so the predictor of words sees where a feature lies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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
from benchmark.training.word_reader import WordReader, reader_file, vocabulary, word_targets

REPORTS_FILE = "phantom_reports.csv"
SMALL, SMALL_SHARE = 80, 0.9  # fewer pixels show more images in the same time; the rest fits BatchNorm to the size in use
BATCH = 8
PEAK_RATE = 5e-4
SETTLING = 128  # images whose mean grid is the usual one


def pretrain(
    corpus: Path,
    weights: Path,
    size: int,
    images: int,
    processes: int,
    progress: Callable[[int, int], None],
    seed: int = 7,
) -> dict[str, float]:
    """Trains a ResNet-18 on an RSNA phantom's images and reports and writes a torchvision state dict, and its reader of words beside it.

    Args:
        corpus: folder with images and `phantom_reports.csv`.
        weights: safetensors file to write; that of the reader is `reader_file(weights)`.
        size: side of the images the encoder will be used on, in pixels.
        images: how many to show, with repetition. The weights depend on nothing but them, corpus, seed and thread count.
        processes: CPU threads.

    Returns:
        Last mean loss, images seen, number of words.
    """
    prepare_process(processes)
    pictures, reports = load(corpus, size)
    words = vocabulary(reports)
    targets = torch.from_numpy(word_targets(reports, words))
    backbone, _ = build_backbone(BackboneRef(family="torchvision", model="resnet18", digest=None), None, init_seed=seed)
    encoder = SealedEncoder(backbone, registry.dataset("rsna").statistics, channels_last=True)
    encoder.set_mode("training")
    reader = seeded_init(lambda: WordReader(backbone.spec.strides[32], words), seed)
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
    encoder.set_mode("eval")
    with torch.no_grad():
        shown = _at_size(pictures[0, :SETTLING], size)
        reader.settle(backbone.pyramid(encoder.normalise(shown), (32,))[32])
    _save(reader.state_dict(), reader_file(weights))
    _save(torchvision_state(encoder), weights)  # last: with it everything is there
    return {"loss": mean, "images": float(seen), "words": float(len(words))}


def load(corpus: Path, size: int) -> tuple[torch.Tensor, list[str]]:
    """A phantom with reports: images (2, N, size, size) uint8, as stored and equalised, and the N reports."""
    reader = open_reader(registry.dataset("rsna"), corpus)
    with open_regular(corpus / REPORTS_FILE) as table:
        reports = pd.read_csv(table, dtype=str, keep_default_na=False).set_index("id")["report"]
    without_masks = (replace(reader.sample(i), masks=None) for i in reader.ids)
    stored = [prepare_image(sample, reader.card.intensity, size)[0] for sample in without_masks]
    # Four of LoVT's five datasets are equalised: an encoder for all of them has to know both looks.
    images = np.stack([stored, [equalise(image) for image in stored]])
    return torch.from_numpy(images), [reports[i] for i in reader.ids]


def torchvision_state(encoder: SealedEncoder) -> dict[str, torch.Tensor]:
    """The encoder's tensors under torchvision's names."""
    network = getattr(encoder.backbone, "network", None)
    if not isinstance(network, nn.Module):
        raise TypeError(f"{type(encoder.backbone).__name__} has no `network`: it is no backbone of torchvision.")
    return network.state_dict()


def _at_size(images: torch.Tensor, size: int) -> torch.Tensor:
    """(B, 1, size, size) float32 in [0, 1] of (B, S, S) uint8."""
    return nn.functional.interpolate(images[:, None].float() / 255, size=(size, size), mode="area")


def _save(state: Mapping[str, torch.Tensor], file: Path) -> None:
    temporary = file.with_suffix(".part")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, temporary)
    temporary.replace(file)


def _schedule(share: float) -> float:
    """Linear warm-up over the first tenth, then a half cosine to zero."""
    return share / 0.1 if share < 0.1 else 0.5 * (1 + math.cos(math.pi * (share - 0.1) / 0.9))
