"""Pre-training a small image tower and a small text tower on images with their reports, in minutes: which sentence belongs to which image.

It exists so that phantoms can test the tasks with words: true pairs must teach what they ask, and the same pairs shuffled must not.
It sees images and report text, never boxes, masks or labels. The image tower is eight convolutions and no ResNet-18: a contrast of pairs
needs every image many times, and a ResNet-18 shows a CPU fewer than 20 images of 112 pixels a second.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import json_files, registry
from benchmark.cards import BackboneSpec, Normalisation
from benchmark.encoders.base import ImageEmbedding, TextEmbedding, VisionLanguageBackbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.encoders.text import sentences
from benchmark.errors import DataError
from benchmark.heads.base import seeded_init
from benchmark.imaging.prepare import prepare_image
from benchmark.readers.base import open_reader
from benchmark.training.determinism import prepare_process

SIDE = 80  # pixels the image tower looks at, for every frame size: fewer show more images in the same time
WIDTHS = {2: 16, 4: 32, 8: 64, 16: 128}
GRID, REDUCED, JOINT = 4, 64, 64
BATCH = 16
PEAK_RATE, WORDS_RATE = 2e-3, 1e-2  # a word's vector is moved only by the sentences that use it
SHIFT = 4  # pixels an image is moved by at most
FEWEST_REPORTS = 5  # a word or pair of words in fewer is not in the vocabulary
FEWEST_SENTENCES = 2  # reports that must use a sentence for it to be asked about


@dataclass(frozen=True)
class Pairs:
    """Images (N, SIDE, SIDE) uint8, and the report of each."""

    images: np.ndarray
    reports: tuple[str, ...]


class TwoTowers(VisionLanguageBackbone):
    """Convolutions with a weight per channel and place, and the mean of word vectors; both end in one space of `JOINT` numbers.

    Attributes:
        vocabulary: words and pairs of neighbouring words the text tower knows; others are read over.
    """

    def __init__(self, vocabulary: Sequence[str]):
        super().__init__()
        half = Normalisation(mean=(0.5,), std=(0.5,))
        self.spec = BackboneSpec(name="two towers", strides=WIDTHS, embed_dim=WIDTHS[16], normalisation=half, pretraining=())
        self.vocabulary = tuple(vocabulary)
        self._column = {gram: k for k, gram in enumerate(self.vocabulary)}
        self.stages = nn.ModuleDict()
        incoming = 3
        for stride, width in WIDTHS.items():
            self.stages[str(stride)] = nn.Sequential(*_convolution(incoming, width, 2), *_convolution(width, width, 1))
            incoming = width
        self.reduce = nn.Conv2d(incoming, REDUCED, 1)
        self.places = nn.Linear(REDUCED * GRID**2, JOINT)
        self.words = nn.Linear(len(self.vocabulary), JOINT, bias=False)
        nn.init.normal_(self.words.weight)

    def pyramid(self, images: Tensor, strides: tuple[int, ...] | None = None) -> Mapping[int, Tensor]:
        maps, level = {}, images
        for stride in WIDTHS:
            if strides is not None and stride > max(strides):
                break
            level = maps[stride] = self.stages[str(stride)](level)
        return {stride: maps[stride] for stride in strides or WIDTHS}

    def pooled(self, images: Tensor) -> Tensor:
        return self.pyramid(images, (16,))[16].mean(dim=(2, 3))

    def embed_images(self, images: Tensor) -> ImageEmbedding:
        """`local` are the parts of the whole that come from each of 4 x 4 places: "right" and "left" are told apart by where."""
        if images.shape[-1] != SIDE:
            images = F.interpolate(images, size=(SIDE, SIDE), mode="area")
        cells = F.adaptive_avg_pool2d(self.reduce(self.pyramid(images, (16,))[16]).relu(), GRID).flatten(2)
        local = torch.einsum("ncp,dcp->ndp", cells, self.places.weight.view(JOINT, REDUCED, GRID**2))
        return ImageEmbedding(local.sum(dim=2) + self.places.bias, local.unflatten(2, (GRID, GRID)))

    def embed_texts(self, texts: Sequence[str]) -> TextEmbedding:
        """`local` are sentences of unit length; the whole is their mean."""
        split = [grams(text) or [[]] for text in texts]
        longest = max(map(len, split))
        mask = torch.tensor([[k < len(one) for k in range(longest)] for one in split], device=self.words.weight.device)
        local = self.words.weight.new_zeros(*mask.shape, JOINT)
        local[mask] = self.embed_sentences([sentence for one in split for sentence in one])
        return TextEmbedding(local.sum(dim=1) / mask.sum(dim=1, keepdim=True), local.transpose(1, 2), mask)

    def embed_sentences(self, split: Sequence[Sequence[str]]) -> Tensor:
        """(M, JOINT) unit vectors of sentences given as their words and pairs of words; zero where none is known."""
        return self.embed_counts(self.counts(split).to(self.words.weight.device))

    def counts(self, split: Sequence[Sequence[str]]) -> Tensor:
        """(M, V) float32: how often each sentence uses each word and pair of the vocabulary."""
        counts = torch.zeros(len(split), len(self.vocabulary))
        for row, sentence in enumerate(split):
            for gram in sentence:
                if gram in self._column:
                    counts[row, self._column[gram]] += 1
        return counts

    def embed_counts(self, counts: Tensor) -> Tensor:
        """(M, JOINT) unit vectors of sentences given as `counts`."""
        return F.normalize(self.words(counts), dim=1)


def pretrain(
    pairs: Pairs,
    weights: Path,
    images: int,
    processes: int,
    progress: Callable[[int, int], None] | None = None,
    seed: int = 7,
) -> dict[str, float]:
    """Trains both towers from random numbers and writes them with their vocabulary.

    A sigmoid contrast: each image of a batch meets every sentence of the corpus, and the logit is a scaled cosine plus the sentence's log
    odds in the corpus. How frequent a sentence is teaches nothing, then; only which image it belongs to.

    Args:
        weights: safetensors file to write.
        images: how many to show, with repetition; the weights depend on nothing but pairs, seed and thread count.
        processes: CPU threads.
        progress: called with images shown and to show.

    Returns:
        Last mean loss, the loss that the log odds alone would have, number of sentences and of words.
    """
    prepare_process(processes)
    words = vocabulary(pairs.reports)
    towers = seeded_init(lambda: TwoTowers(words), seed)
    encoder = SealedEncoder(towers, towers.spec.normalisation)
    encoder.set_mode("training")
    asked, belongs = sentence_targets(pairs.reports)
    counts = towers.counts(asked)  # the same in every step
    odds = torch.logit(belongs.mean(dim=0))
    log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
    rest = [parameter for name, parameter in towers.named_parameters() if name != "words.weight"]
    groups = [{"params": [*rest, log_scale], "peak": PEAK_RATE}, {"params": [towers.words.weight], "peak": WORDS_RATE}]
    optimiser = torch.optim.AdamW(groups, lr=PEAK_RATE, weight_decay=1e-2, fused=True)
    stored = torch.from_numpy(pairs.images)
    order = torch.Generator().manual_seed(seed)
    seen, mean, chance, waiting = 0, math.nan, math.nan, torch.empty(0, dtype=torch.long)
    while seen < images:
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * _schedule(seen / images)
        while len(waiting) < BATCH:
            waiting = torch.cat([waiting, torch.randperm(len(stored), generator=order)])
        index, waiting = waiting[:BATCH], waiting[BATCH:]
        image = F.normalize(encoder.embed_images(_moved(stored[index], order)).global_, dim=1)
        logits = log_scale.exp() * image @ towers.embed_counts(counts).T + odds
        loss = _per_image(logits, belongs[index])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        seen += len(index)
        mean = _running(mean, loss.item())
        chance = _running(chance, _per_image(odds.expand_as(logits), belongs[index]).item())
        if progress is not None:
            progress(min(seen, images), images)
    save(towers, weights)
    return {"loss": mean, "loss of log odds": chance, "sentences": float(len(asked)), "words": float(len(words))}


def load_pairs(dataset: str, corpus: Path) -> Pairs:
    """Images and reports of a dataset's folder; images without a report are left out.

    Raises:
        DataError: no image has a report.
    """
    reader = open_reader(registry.dataset(dataset), corpus)
    samples = [reader.sample(i) for i in reader.ids]
    told = [replace(sample, masks=None) for sample in samples if (sample.report or "").strip()]
    if not told:
        raise DataError(f"{dataset}: none of {len(samples):,} images in {corpus} has a report, so there are no pairs to learn from.")
    images = np.stack([prepare_image(sample, reader.card.intensity, SIDE)[0] for sample in told])
    return Pairs(images, tuple(sample.report or "" for sample in told))


def shuffled(pairs: Pairs, seed: int) -> Pairs:
    """The same images and reports, each report with another image than its own: what a text side learns without knowing any image.

    One cycle through a random order, so that no image keeps its report.
    """
    order = np.random.default_rng(seed).permutation(len(pairs.reports))
    reports = list(pairs.reports)
    for image, giver in zip(order, np.roll(order, 1), strict=True):
        reports[image] = pairs.reports[giver]
    return Pairs(pairs.images, tuple(reports))


def vocabulary(reports: Sequence[str]) -> list[str]:
    """Words and pairs of neighbouring words inside a sentence that enough reports use, sorted."""
    used = Counter(gram for report in reports for gram in {gram for sentence in grams(report) for gram in sentence})
    return sorted(gram for gram, n in used.items() if n >= FEWEST_REPORTS)


def sentence_targets(reports: Sequence[str]) -> tuple[list[list[str]], Tensor]:
    """Sentences more than one report uses, as `grams`, and (N, S) float32: which report uses which. What all of them say is left out."""
    split = [[tuple(sentence) for sentence in grams(report)] for report in reports]
    used = Counter(sentence for one in split for sentence in set(one))
    asked = sorted(sentence for sentence, n in used.items() if FEWEST_SENTENCES <= n < len(reports))
    belongs = torch.tensor([[float(sentence in one) for sentence in asked] for one in split])
    return [list(sentence) for sentence in asked], belongs


def grams(report: str) -> list[list[str]]:
    """Sentences, each as its words in small letters followed by its pairs of neighbouring words."""
    split = [re.findall(r"[a-z]+", sentence.lower()) for sentence in sentences(report)]
    return [words + [" ".join(words[k : k + 2]) for k in range(len(words) - 1)] for words in split if words]


def save(towers: TwoTowers, weights: Path) -> None:
    """Both towers, with the vocabulary in the file's metadata."""
    temporary = weights.with_suffix(".part")
    tensors = {name: tensor.contiguous() for name, tensor in towers.state_dict().items()}
    save_file(tensors, temporary, metadata={"vocabulary": json.dumps(towers.vocabulary)})
    temporary.replace(weights)


def load(weights: Path) -> TwoTowers:
    """Towers as they were saved."""
    with safe_open(weights, framework="pt") as stored:
        towers = TwoTowers(json_files.parse(stored.metadata()["vocabulary"], list))
        towers.load_state_dict({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118 - the file is no mapping
    return towers


def _convolution(incoming: int, width: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(incoming, width, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]


def _moved(images: Tensor, order: torch.Generator) -> Tensor:
    """The batch moved by a few pixels, black where nothing comes in."""
    down, right = torch.randint(2 * SHIFT + 1, (2,), generator=order).tolist()
    return F.pad(images, (SHIFT,) * 4)[:, down : down + SIDE, right : right + SIDE]


def _per_image(logits: Tensor, belongs: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, belongs, reduction="none").sum(dim=1).mean()


def _running(mean: float, value: float) -> float:
    return value if math.isnan(mean) else 0.95 * mean + 0.05 * value


def _schedule(share: float) -> float:
    """Linear warm-up over the first tenth, then a half cosine to zero."""
    return share / 0.1 if share < 0.1 else 0.5 * (1 + math.cos(math.pi * (share - 0.1) / 0.9))
