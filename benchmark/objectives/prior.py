"""PRIOR: whole images and reports, places and sentences in both directions, sentence prototypes, and in the end the pair made anew.

Source: PRIOR's released code at 086bf2e (docs/sources.md, PRIOR). Three stages: contrast; the same with prototypes in place of sentences;
with image and report made anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.objectives.kit.base import Encoded, EncodedTexts, Objective, Widths, as_map, places, sentence_means
from benchmark.objectives.kit.decoders import ImageDecoder, SentenceDecoder, matched
from benchmark.objectives.kit.group import Group
from benchmark.objectives.kit.layers import SigmoidAttention
from benchmark.objectives.kit.losses import alike, contrast_sum, within_report
from benchmark.objectives.kit.pooling import AttentionPool

GREATEST_LOG_SCALE = math.log(100)


@dataclass(frozen=True)
class Options:
    """
    Attributes:
        stages: shares of the budget after which the second and the third stage begin.
        prototypes: 0 leaves out the bank, and with it the second stage and what the third makes of sentences.
        laid_out: how the map becomes rows: the released code reshapes it without transposing, so that rows are no places.
        put_back: which order decoded sentences take: that of the assignment, as released, or its inverse, which is the matching's.
        causal: see `SentenceDecoder`.
        is_clamped: scales end at 100.
        noise: when prototypes are chosen with noise; released, always, so that an evaluation gives another number each time.
    """

    stride: int = 32
    side: int = 7
    joint: int = 768
    heads: int = 8
    prototypes: int = 512
    queries: int = 16
    decoder_layers: int = 8
    decoder_heads: int = 12
    decoder_blocks: int = 5
    log_scale: float = GREATEST_LOG_SCALE
    temperature: float = 0.9
    stages: tuple[float, float] = (0.13, 0.33)
    laid_out: Literal["raw", "places"] = "places"
    put_back: Literal["assignment", "inverse"] = "inverse"
    causal: bool = False
    is_clamped: bool = True
    noise: Literal["training", "always"] = "training"


def build(widths: Widths, options: Options) -> Objective:
    return Prior(widths, options)


def turns(options: Options) -> tuple[float, ...]:
    """When its second and third stage begin."""
    return options.stages


class Prior(Objective):
    def __init__(self, widths: Widths, options: Options):
        super().__init__()
        self.options, self.strides = options, (options.stride,)
        width, joint = widths.maps[options.stride], options.joint
        self.image_encoder = _ImageEncoder(AttentionPool(width, options.side**2, options.heads))
        self.global_text_attention = AttentionPool(joint, heads=options.heads)
        self.global_image_projection, self.local_image_projection = nn.Linear(width, joint), nn.Linear(width, joint)
        self.local_text_projection = nn.Linear(widths.text, joint)
        self.local_cross_attention = SigmoidAttention(joint)
        first = nn.Linear(joint, joint // 2)
        self.predictor = nn.Sequential(first, nn.ReLU(), nn.Linear(joint // 2, joint))
        for layer in (self.global_image_projection, self.local_image_projection, self.local_text_projection, first):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(options.log_scale))
        self.local_logit_scale = nn.Parameter(torch.tensor(options.log_scale))
        if options.prototypes:
            self.sentence_bank = _SentenceBank(options.prototypes, joint)
            self.sentence_decoder: nn.Module = SentenceDecoder(
                joint, options.queries, options.decoder_layers, options.decoder_heads, causal=options.causal
            )
        channels = [2 * joint // 2**k for k in range(options.decoder_blocks + 1)]
        self.image_decoder, self.dropped = ImageDecoder(tuple(channels)), nn.Dropout2d(0.5)

    def forward(self, encoded: Encoded, group: Group, done: float) -> dict[str, Tensor]:
        options, maps = self.options, encoded.maps[self.options.stride]
        each, mask = sentence_means(encoded.texts, group)
        rows = places(maps) if options.laid_out == "places" else maps.reshape(len(maps), -1, maps.shape[1])
        image, regions = self._image(maps), self.local_image_projection(rows)
        return self.losses(image, regions, self.local_text_projection(each) * mask[..., None], mask, encoded, group, self._stage(done))

    def image_vectors(self, maps: Mapping[int, Tensor], group: Group) -> Tensor:
        return self._image(maps[self.options.stride])

    def text_vectors(self, texts: EncodedTexts, keys: Tensor, group: Group, done: float) -> Tensor:
        return self.global_text_attention(*self.part_vectors(texts, keys, group, done))

    def place_vectors(self, maps: Mapping[int, Tensor], group: Group) -> Tensor:
        """Of places, also where the released code reads rows that are none."""
        return as_map(self.local_image_projection(places(maps[self.options.stride])), maps[self.options.stride])

    def part_vectors(self, texts: EncodedTexts, keys: Tensor, group: Group, done: float) -> tuple[Tensor, Tensor]:
        """Sentences, or from the second stage on their prototypes."""
        each, mask = sentence_means(texts, group)
        each = self.local_text_projection(each) * mask[..., None]
        has_bank = self.options.prototypes and self._stage(done) > 1
        return self.prototypes(each, mask, keys, 0) if has_bank else each, mask

    def losses(
        self, image: Tensor, regions: Tensor, each: Tensor, mask: Tensor, encoded: Encoded, group: Group, stage: int
    ) -> dict[str, Tensor]:
        """The stage's losses of projected images (b, D), regions (b, N, D) and sentences (b, S, D) with their mask (b, S)."""
        has_bank = bool(self.options.prototypes) and stage > 1
        if stage == 3:
            each, mask = each[:, : self.options.queries], mask[:, : self.options.queries]
        told, losses = each, dict[str, Tensor]()
        if has_bank:
            told = self.prototypes(each, mask, encoded.keys, 0)
            losses["prototypes"] = 10 * _mean_of_sentences((told - each).abs().mean(dim=2), mask, group)
        report, scale = self.global_text_attention(told, mask), self.logit_scale.exp()
        heard, seen = self.local_cross_attention(regions, told, mask)
        losses["images and reports"] = (10 if stage == 3 else 1) * contrast_sum(image, report, scale, group) / 2
        losses["regions"] = group.mean(alike(self.predictor, regions, heard))
        losses["sentences"] = group.mean(within_report(seen, told, mask, self.local_logit_scale.exp()))
        if stage == 3:
            made = self.image_decoder(torch.cat([self.dropped(self._map(regions)), self._map(heard)], dim=1))
            losses["image anew"] = group.mean((made - encoded.images[:, :1]).abs().mean(dim=(1, 2, 3)))
            if has_bank:
                losses |= self._sentences_anew(regions, each, told, mask, report, scale, encoded, group)
        return losses

    def _sentences_anew(
        self, regions: Tensor, each: Tensor, told: Tensor, mask: Tensor, report: Tensor, scale: Tensor, encoded: Encoded, group: Group
    ) -> dict[str, Tensor]:
        drawn = self.sentence_decoder(regions)
        wanted = F.pad(told, (0, 0, 0, drawn.shape[1] - told.shape[1])) * F.pad(mask, (0, drawn.shape[1] - mask.shape[1]))[..., None]
        order = matched(drawn.detach(), wanted.detach(), self.options.put_back)
        drawn = drawn.gather(1, order[..., None].expand_as(drawn))
        losses = {"report anew": 10 * group.mean((drawn - wanted).abs().mean(dim=(1, 2)))}
        drawn = drawn[:, : each.shape[1]]
        table = self.sentence_bank.embed.weight
        true, found = (F.log_softmax(one @ table.T, dim=2) for one in (each, drawn))
        losses["prototypes anew"] = _mean_of_sentences((true.exp() * (true - found)).sum(dim=2), mask, group)
        pooled = self.global_text_attention(self.prototypes(drawn, mask, encoded.keys, 1), mask)
        losses["reports anew"] = contrast_sum(pooled, report, scale, group) / 2
        return losses

    def prototypes(self, each: Tensor, mask: Tensor, keys: Tensor, use: int) -> Tensor:
        """(b, S, D) mixtures of prototypes for sentences, zero where there is none; Gumbel noise in training."""
        table = self.sentence_bank.embed.weight
        logits = each @ table.T
        if self.training or self.options.noise == "always":
            logits = logits + self.noise(mask, keys, use).to(logits)
        return ((logits / self.options.temperature).softmax(dim=2) @ table) * mask[..., None]

    def noise(self, mask: Tensor, keys: Tensor, use: int) -> Tensor:
        """(b, S, prototypes) Gumbel noise, each pair's from its own key."""
        drawn = torch.zeros(*mask.shape, self.options.prototypes)
        for row, key in zip(drawn, keys.tolist(), strict=True):
            generator = np.random.default_rng([key, use])
            row.copy_(-torch.from_numpy(generator.standard_exponential(tuple(row.shape), np.float32)).log())
        return drawn

    def after_step(self) -> None:
        if self.options.is_clamped:
            with torch.no_grad():
                self.logit_scale.clamp_(max=GREATEST_LOG_SCALE)
                self.local_logit_scale.clamp_(max=GREATEST_LOG_SCALE)

    def _image(self, maps: Tensor) -> Tensor:
        return self.global_image_projection(self.image_encoder.atten_pool(places(maps)))

    def _stage(self, done: float) -> int:
        return 1 + sum(done >= share for share in self.options.stages)

    def _map(self, rows: Tensor) -> Tensor:
        side = round(rows.shape[1] ** 0.5)
        laid = rows.transpose(1, 2) if self.options.laid_out == "places" else rows
        return laid.reshape(len(rows), rows.shape[2], side, side)


class _ImageEncoder(nn.Module):
    def __init__(self, pool: AttentionPool):
        super().__init__()
        self.atten_pool = pool


class _SentenceBank(nn.Module):
    def __init__(self, n_prototypes: int, joint: int):
        super().__init__()
        self.embed = nn.Embedding(n_prototypes, joint)


def _mean_of_sentences(per_sentence: Tensor, mask: Tensor, group: Group) -> Tensor:
    """This process's part of the mean over all sentences of the group."""
    return (per_sentence * mask).sum() / group.total(mask.sum().to(per_sentence.dtype)).clamp(min=1)
