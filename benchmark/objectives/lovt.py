"""LoVT: whole images and reports find each other, and inside a pair regions and sentences find what the other side says about them.

Source: LoVT's released code at f548985 (docs/sources.md, LoVT). Negatives of the local losses are the other places of the same sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from benchmark.objectives.kit.base import Encoded, EncodedTexts, Objective, Widths, as_map, places, sentence_maxima, text_maxima
from benchmark.objectives.kit.group import Group
from benchmark.objectives.kit.layers import AttentionMean, Counted, Projection, RowNorm, softmax_over
from benchmark.objectives.kit.losses import contrast, cosines


@dataclass(frozen=True)
class Options:
    """
    Attributes:
        stride: of the image map whose places are the regions.
        weights: of the loss from image to text and from text to image.
        local: weight of each of the four local losses; 0 leaves out what only they need.
        reach: distance, as a share of the grid's diagonal, up to which a neighbour counts as the same place.
        fall: how fast a neighbour's share falls with that distance.
        counted: whether padded sentences count in BatchNorm and in the mean that asks.
        report: what stands for a report: its sentences, as attention weighs them, or the largest value over its tokens, as in the
            repository's CLIP; then all sentences weigh the same.
    """

    stride: int = 32
    hidden: int = 2048
    joint: int = 512
    heads: int = 8
    temperature: float = 0.1
    weights: tuple[float, float] = (0.75, 0.25)
    local: float = 0.375
    local_temperature: float = 0.3
    reach: float = 0.5
    fall: float = 1.0
    counted: Counted = "valid"
    report: Literal["attended", "largest"] = "attended"


def build(widths: Widths, options: Options) -> Objective:
    return Lovt(widths, options)


class Lovt(Objective):
    def __init__(self, widths: Widths, options: Options):
        super().__init__()
        self.options, self.strides = options, (options.stride,)
        self.model_a = _Side(widths.maps[options.stride], options)
        self.model_b = _Side(widths.text, options, attends=options.report == "attended")
        if options.local:
            self.ll_attention = CrossAttention(options.joint, options.counted)

    def forward(self, encoded: Encoded, group: Group, done: float) -> dict[str, Tensor]:
        options, maps = self.options, encoded.maps[self.options.stride]
        regions = places(maps)
        each, mask = sentence_maxima(encoded.texts, group)
        image, of_regions = self._whole(self.model_a, regions, None, group)
        report, of_sentences = self._report(encoded.texts, each, mask, group)
        there, back = contrast(image, report, 1 / options.temperature, group)
        losses = {"image to text": options.weights[0] * there, "text to image": options.weights[1] * back}
        if not options.local:
            return losses
        regions = self.model_a.project_local(regions, group)
        each = self.model_b.project_local(each, group, mask)
        heard, seen = self.ll_attention(regions, each, mask, group)
        nearby = neighbourhood(maps.shape[2], maps.shape[3], options.reach, options.fall).to(regions)
        same = torch.eye(each.shape[1]).to(each)
        everywhere = mask.new_ones(regions.shape[:2])
        for name, own, found, targets, weights, valid in (
            ("regions", regions, heard, nearby, of_regions, everywhere),
            ("sentences", each, seen, same, of_sentences, mask),
        ):
            found_of, own_of = local_losses(own, found, targets, weights, valid, options.local_temperature)
            losses[f"{name} to what they heard"] = options.local * group.mean(found_of)
            losses[f"what {name} heard to them"] = options.local * group.mean(own_of)
        return losses

    def image_vectors(self, maps: Mapping[int, Tensor], group: Group) -> Tensor:
        return self._whole(self.model_a, places(maps[self.options.stride]), None, group)[0]

    def text_vectors(self, texts: EncodedTexts, keys: Tensor, group: Group, done: float) -> Tensor:
        return self._report(texts, *sentence_maxima(texts, group), group)[0]

    def place_vectors(self, maps: Mapping[int, Tensor], group: Group) -> Tensor:
        return as_map(self._local(self.model_a)(places(maps[self.options.stride]), group), maps[self.options.stride])

    def part_vectors(self, texts: EncodedTexts, keys: Tensor, group: Group, done: float) -> tuple[Tensor, Tensor]:
        each, mask = sentence_maxima(texts, group)
        return self._local(self.model_b)(each, group, mask), mask

    @property
    def aligns_parts_alone(self) -> bool:
        return self.options.local != 0

    def _local(self, side: _Side) -> Projection:
        return side.project_local if self.options.local else side.project_global

    def _report(self, texts: EncodedTexts, each: Tensor, mask: Tensor, group: Group) -> tuple[Tensor, Tensor]:
        """(b, D) reports, and (b, S) weights of their sentences."""
        if self.options.report == "attended":
            return self._whole(self.model_b, each, mask, group)
        return self.model_b.project_global(text_maxima(texts), group), mask.to(each.dtype)

    def _whole(self, side: _Side, rows: Tensor, mask: Tensor | None, group: Group) -> tuple[Tensor, Tensor]:
        """(b, D) pooled and projected, and (b, N) weights of the rows."""
        pooled, weights = side.global_aggregator(rows, mask)
        return side.project_global(pooled, group), weights


class CrossAttention(nn.Module):
    """Each side reads the other with one head; both share keys, values, output and norm, and the other side's keys are what asks."""

    def __init__(self, joint: int, counted: Counted):
        super().__init__()
        self.key_projection, self.value_projection = nn.Linear(joint, joint), nn.Linear(joint, joint)
        self.output_projection = nn.Linear(joint, joint)
        self.norm = RowNorm(joint, counted)

    def forward(self, regions: Tensor, each: Tensor, mask: Tensor, group: Group) -> tuple[Tensor, Tensor]:
        """What each region heard of the sentences, (b, N, D), and what each sentence saw in the regions, (b, S, D).

        Args:
            regions: (b, N, D).
            each: (b, S, D) sentences.
            mask: (b, S) bool, False on padding.
        """
        of_sentences, of_regions = self.attention(regions, each, mask)
        heard = self.norm(self.output_projection(of_sentences @ self.value_projection(each)), group)
        seen = self.norm(self.output_projection(of_regions @ self.value_projection(regions)), group, mask)
        return heard, seen

    def attention(self, regions: Tensor, each: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(b, N, S) weights over a report's sentences, and (b, S, N) over regions; zero for a sentence that is padding."""
        asking, asked = self.key_projection(regions), self.key_projection(each)
        scores = asking @ asked.transpose(1, 2) / asking.shape[2] ** 0.5
        return softmax_over(scores, mask[:, None].expand_as(scores)), scores.transpose(1, 2).softmax(dim=2) * mask[..., None]


def local_losses(own: Tensor, found: Tensor, targets: Tensor, weights: Tensor, mask: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(b,) cross-entropies of finding, among what a sample's places found, what this place found, and of finding the place back.

    Args:
        own, found: (b, N, D).
        targets: (N, N), whose rows sum to 1: which places count as one. Both directions use it as it stands.
        weights: (b, N) of the places, detached here.
        mask: (b, N) bool, False on padding.
    """
    scores = cosines(own, found) / temperature
    wanted = targets * mask[:, None]
    wanted = wanted / wanted.sum(dim=2, keepdim=True).clamp(min=torch.finfo(wanted.dtype).tiny)
    shares = weights.detach() * mask
    shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=torch.finfo(shares.dtype).tiny)
    there, back = (
        (shares * (one.masked_fill(~mask[:, None], torch.finfo(one.dtype).min).logsumexp(dim=2) - (wanted * one).sum(dim=2))).sum(dim=1)
        for one in (scores, scores.transpose(1, 2))
    )
    return there, back


def neighbourhood(height: int, width: int, reach: float, fall: float) -> Tensor:
    """(N, N) float32 share of each place in each other's target; rows sum to 1."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    points = torch.stack([rows.flatten(), columns.flatten()], dim=1).double()
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist") / (height**2 + width**2) ** 0.5
    shares = torch.where(distances <= reach, (-fall * distances).exp(), 0.0)
    return (shares / shares.sum(dim=1, keepdim=True)).float()


class _Side(nn.Module):
    global_aggregator: AttentionMean
    project_local: Projection

    def __init__(self, width: int, options: Options, *, attends: bool = True):
        super().__init__()
        if attends:
            self.global_aggregator = AttentionMean(width, options.heads, options.counted)
        self.project_global = Projection(width, options.hidden, options.joint, options.counted)
        if options.local:
            self.project_local = Projection(width, options.hidden, options.joint, options.counted)
