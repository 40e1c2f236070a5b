"""What an objective is: layers over the towers' outputs, and named losses of a group of pairs.

A method's module has `Options`, `build(widths, options)` and, where training changes on the way, `turns(options)`: shares of the budget at
which it does. The towers (an image encoder and a BERT) are the loop's.
b pairs of this process, T tokens, W width of the text encoder, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.objectives.kit.group import Group


@dataclass(frozen=True)
class Widths:
    """
    Attributes:
        maps: stride -> channels of the image encoder.
        text: of the text encoder's states.
    """

    maps: Mapping[int, int]
    text: int


@dataclass(frozen=True)
class EncodedTexts:
    """Texts as the text encoder gives them.

    Attributes:
        states: (L, b, T, W) of the last L layers, deepest last; [CLS] comes first.
        mask: (b, T) bool, False on padding.
        word: (b, T) int64, number of the word that a piece belongs to; [CLS] is word 0, [SEP] the last, -1 for padding.
        sentence: (b, T) int64, number of the sentence; -1 for special tokens and padding.
        attention: (b, T) of [CLS] in the last layer, the mean over heads; None where nobody asked for it.
        unknown: (b,) int64, words of each text that the vocabulary does not have; None where nobody counted them.
    """

    states: Tensor
    mask: Tensor
    word: Tensor
    sentence: Tensor
    attention: Tensor | None = None
    unknown: Tensor | None = None


@dataclass(frozen=True)
class Encoded:
    """
    Attributes:
        images: (b, channels, H, W) as the image encoder saw them.
        maps: stride -> (b, C, h, w).
        keys: (b,) int64, one for every pair and visit: what is random of a pair is drawn from it, on whichever process it lies.
    """

    images: Tensor
    maps: Mapping[int, Tensor]
    texts: EncodedTexts
    keys: Tensor


class Objective(nn.Module):
    """One method's layers and losses.

    Attributes:
        strides: image maps that it reads.
        n_layers: of the text encoder that it reads, counted from the last.
        reads_attention: whether it asks for the text encoder's attention.
    """

    strides: tuple[int, ...]
    n_layers: int = 1
    reads_attention: bool = False

    def forward(self, encoded: Encoded, group: Group, done: float) -> dict[str, Tensor]:
        """This process's part of each loss, already weighted: the step minimises their sum.

        Args:
            done: share of the budget that lies behind, 0 to 1; picks the stage.
        """
        raise NotImplementedError

    def embed(self, encoded: Encoded, group: Group, done: float) -> tuple[Tensor, Tensor]:
        """(b, D) whole images and (b, D) whole reports in the joint space, whose cosine the method compares."""
        return self.image_vectors(encoded.maps, group), self.text_vectors(encoded.texts, encoded.keys, group, done)

    def image_vectors(self, maps: Mapping[int, Tensor], group: Group) -> Tensor:
        """(b, D) whole images in the joint space."""
        raise NotImplementedError

    def text_vectors(self, texts: EncodedTexts, keys: Tensor, group: Group, done: float) -> Tensor:
        """(b, D) whole texts in the joint space."""
        raise NotImplementedError

    def place_vectors(self, maps: Mapping[int, Tensor], group: Group) -> Tensor:
        """(b, D, h, w) the image's places as the method's local losses read them, else by the projection of whole images."""
        raise NotImplementedError

    def part_vectors(self, texts: EncodedTexts, keys: Tensor, group: Group, done: float) -> tuple[Tensor, Tensor]:
        """(b, n, D) words or sentences as the method's local losses read them, else by the projection of whole texts, and (b, n) bool where
        there is one."""
        raise NotImplementedError

    @property
    def aligns_parts_alone(self) -> bool:
        """Whether places have a projection that only losses of words or sentences train: a whole text lies in another space than they."""
        return False

    def after_step(self) -> None:
        """What has to hold again after the optimiser moved the parameters."""


def places(maps: Tensor) -> Tensor:
    """(b, h w, C) vectors of the places of (b, C, h, w), row by row."""
    return maps.flatten(2).transpose(1, 2)


def as_map(rows: Tensor, like: Tensor) -> Tensor:
    """(b, D, h, w) of (b, h w, D) places of the map `like`, (b, C, h, w)."""
    return rows.transpose(1, 2).unflatten(2, like.shape[2:])


def sentence_means(texts: EncodedTexts, group: Group) -> tuple[Tensor, Tensor]:
    """(b, S, W) the mean of each sentence's tokens in the last layer, zero where (b, S) bool says that there is none.

    S is the same on all processes that share the group.
    """
    belongs, mask = _belongs(texts, group)
    states = texts.states[-1]
    share = belongs.to(states.dtype) / belongs.sum(dim=2, keepdim=True).clamp(min=1)
    return share @ states, mask


def sentence_maxima(texts: EncodedTexts, group: Group) -> tuple[Tensor, Tensor]:
    """As `sentence_means`, the largest value of each channel."""
    belongs, mask = _belongs(texts, group)
    states = texts.states[-1]
    spread = states[:, None].masked_fill(~belongs[..., None], torch.finfo(states.dtype).min)
    return spread.amax(dim=2).where(mask[..., None], 0.0), mask


def text_maxima(texts: EncodedTexts) -> Tensor:
    """(b, W) the largest value of each channel over the tokens of all sentences; zero for a text without any."""
    states, counted = texts.states[-1], said(texts)
    largest = states.masked_fill(~counted[..., None], torch.finfo(states.dtype).min).amax(dim=1)
    return largest.where(counted.any(dim=1, keepdim=True), 0.0)


def said(texts: EncodedTexts) -> Tensor:
    """(b, T) bool, True on tokens of a sentence: [CLS], [SEP] and padding are of none."""
    return texts.sentence >= 0


def _belongs(texts: EncodedTexts, group: Group) -> tuple[Tensor, Tensor]:
    """(b, S, T) whether a token belongs to a sentence, and (b, S) whether there is one."""
    numbers = torch.arange(group.longest(texts.sentence.amax(dim=1) + 1), device=texts.sentence.device)
    belongs = texts.sentence[:, None] == numbers[None, :, None]
    return belongs, belongs.any(dim=2)
