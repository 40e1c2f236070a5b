"""GLoRIA's local similarity: every word looks for its regions, and a text is as near as its words are to what they found.

Source: GLoRIA's released code at 416466a. Training adds the words up, zero-shot takes the best one; both are here, under their names.
Which vectors of a text count as words is the encoder's to say (`TextEmbedding.mask`).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.errors import UsageError

REGION_SHARPNESS = 4.0  # gamma 1: softmax over regions
WORD_SHARPNESS = 5.0  # gamma 2: words into a text
EPSILON = 1e-8  # smallest product of lengths in a cosine


def attention(regions: Tensor, words: Tensor) -> Tensor:
    """(N, W, M) how much each word looks at each region; sums to 1 over the regions.

    Args:
        regions: (N, D, M) projected region vectors.
        words: (D, W) word vectors of one text.
    """
    among_words = torch.einsum("ndm,dw->nmw", regions, words).softmax(dim=2)
    return (REGION_SHARPNESS * among_words.transpose(1, 2)).softmax(dim=2)


def word_cosines(regions: Tensor, words: Tensor) -> Tensor:
    """(N, W) cosine of each word with the mean of its regions; 0 for a word that is a zero vector."""
    found = torch.einsum("nwm,ndm->nwd", attention(regions, words), regions)
    return F.cosine_similarity(found, words.T.expand_as(found), dim=2, eps=EPSILON)


def local_similarity(regions: Tensor, words: Tensor, over_words: Literal["max", "sum"]) -> Tensor:
    """(N,) similarity of N images with one text: log of the largest, or of the sum, of exp(5 cosine) over its words.

    Raises:
        UsageError: the text has no word, or widths differ.
    """
    if words.shape[1] == 0:
        raise UsageError("A text without a word has no local similarity.")
    if regions.shape[1] != words.shape[0]:
        raise UsageError(f"Regions of width {regions.shape[1]} and words of width {words.shape[0]} have no similarity.")
    scaled = WORD_SHARPNESS * word_cosines(regions, words)
    return scaled.amax(dim=1) if over_words == "max" else scaled.logsumexp(dim=1)


def best_words(regions: Tensor, words: Tensor, mask: Tensor) -> Tensor:
    """(N, M) float32 zero-shot similarity of N images with M texts, one text at a time: all at once would not fit.

    A text without a word (a cleaned prompt may lose them all) scores 0, as a word that is found nowhere does.

    Args:
        regions: (N, D, h, w) or (N, D, R) projected region vectors.
        words: (M, D, T).
        mask: (M, T) bool, the vectors that count as words.
    """
    regions = regions.flatten(2).float()
    each = [
        local_similarity(regions, own[:, counted].float(), "max") if counted.any() else regions.new_zeros(len(regions))
        for own, counted in zip(words, mask, strict=True)
    ]
    return torch.stack(each, dim=1)


def combined(global_cosine: Tensor, local: Tensor) -> Tensor:
    """Mean of cosine (-1 to 1) and local similarity (-5 to 5), as released: the local part weighs more."""
    return (global_cosine + local) / 2
