"""GLoRIA: every word of a text looks for its regions, and whole images and texts find each other.

Source: GLoRIA's released code at 416466a (docs/sources.md, GLoRIA). All images of the group meet all words of all its texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from benchmark.heads.networks.local_similarity import local_similarity
from benchmark.objectives.kit.base import Encoded, EncodedTexts, Objective, Widths, as_map, places
from benchmark.objectives.kit.group import Group
from benchmark.objectives.kit.losses import among, contrast


@dataclass(frozen=True)
class Options:
    """
    Attributes:
        stride: of the map whose places are the regions.
        deepest: stride of the map whose mean is the image.
        sharpness: what both similarities are multiplied by.
        local: weight of the local losses; 0 leaves words out.
        unknown: whether a word that the vocabulary does not have counts; released, it shortens the text, and its last word falls out.
    """

    stride: int = 16
    deepest: int = 32
    sharpness: float = 10.0
    local: float = 1.0
    unknown: Literal["counts", "shortens"] = "counts"


def build(widths: Widths, options: Options) -> Objective:
    return Gloria(widths, options)


class Gloria(Objective):
    """Texts are not projected: the joint space is the text encoder's."""

    n_layers = 4

    def __init__(self, widths: Widths, options: Options):
        super().__init__()
        self.options, self.strides = options, tuple(sorted({options.stride, options.deepest}))
        self.global_embedder = nn.Linear(widths.maps[options.deepest], widths.text)
        self.local_embedder = nn.Conv2d(widths.maps[options.stride], widths.text, kernel_size=1, bias=False)

    def forward(self, encoded: Encoded, group: Group, done: float) -> dict[str, Tensor]:
        options = self.options
        there, back = contrast(*self.embed(encoded, group, done), options.sharpness, group)
        losses = {"image to text": there, "text to image": back}
        if options.local:
            words, counted = word_vectors(encoded.texts, group)
            if options.unknown == "shortens":
                counted = shortened(counted, encoded.texts)
            regions = self.place_vectors(encoded.maps, group).flatten(2)
            there, back = local_losses(regions, words, counted, options.sharpness, group)
            losses |= {"regions to text": options.local * there, "words to image": options.local * back}
        return losses

    def image_vectors(self, maps: Mapping[int, Tensor], group: Group) -> Tensor:
        return self.global_embedder(maps[self.options.deepest].mean(dim=(2, 3)))

    def text_vectors(self, texts: EncodedTexts, keys: Tensor, group: Group, done: float) -> Tensor:
        return whole_texts(texts)

    def place_vectors(self, maps: Mapping[int, Tensor], group: Group) -> Tensor:
        if not self.options.local:  # nothing trained the projection of regions
            deepest = maps[self.options.deepest]
            return as_map(self.global_embedder(places(deepest)), deepest)
        return self.local_embedder(maps[self.options.stride])

    def part_vectors(self, texts: EncodedTexts, keys: Tensor, group: Group, done: float) -> tuple[Tensor, Tensor]:
        """Words without [CLS], as the released zero-shot code begins behind it."""
        words, counted = word_vectors(texts, group)
        numbers = torch.arange(words.shape[2], device=words.device)
        return words.transpose(1, 2), (numbers[None] > 0) & (numbers[None] < counted[:, None])


def whole_texts(texts: EncodedTexts) -> Tensor:
    """(b, W) the sum of the layers read, as a mean over all tokens and as many more as the longest text has: a cosine sees no factor."""
    return (texts.states.sum(dim=0) * texts.mask[..., None]).sum(dim=1) / texts.mask.shape[1]


def word_vectors(texts: EncodedTexts, group: Group) -> tuple[Tensor, Tensor]:
    """Words (b, W, n), sums of their pieces and of the layers read, zeros behind, and how many count, (b,): [CLS] and the words."""
    states = texts.states.sum(dim=0)
    counted = texts.word.amax(dim=1)  # [SEP], which has the largest number, does not
    numbers = torch.arange(group.longest(counted), device=states.device)
    owned = (texts.word[:, None] == numbers[None, :, None]).to(states.dtype)
    return (owned @ states).transpose(1, 2), counted


def shortened(counted: Tensor, texts: EncodedTexts) -> Tensor:
    """(b,) words that count in the released code, which takes an unknown word for a special token."""
    assert texts.unknown is not None
    return counted - texts.unknown


def local_losses(regions: Tensor, words: Tensor, counted: Tensor, sharpness: float, group: Group) -> tuple[Tensor, Tensor]:
    """Cross-entropies over images' texts and over texts' images, of the similarity of their words and regions.

    Products of vectors that are not normalised overflow in half precision: all is computed in float32 or better.

    Args:
        regions: (b, D, M).
        words: (b, D, n), as wide on every process.
        counted: (b,) int64, words of each text that count.
    """
    with torch.autocast(regions.device.type, enabled=False):
        regions, words = (one.float() if one.dtype in (torch.float16, torch.bfloat16) else one for one in (regions, words))
        words, counted = group.gather(words), group.gather(counted)
        each = [local_similarity(regions, one[:, :n], "sum") for one, n in zip(words, counted.tolist(), strict=True)]
        scores = sharpness * torch.stack(each, dim=1)
        return among(scores, group), among(group.gather(scores)[:, group.rows].T, group)
