"""Text as GLoRIA reads it: sentences cleaned before the tokeniser, word pieces put together again after the language model.

Source: GLoRIA's released code at 416466a. Tokeniser and language model belong to the encoders.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmark.errors import UsageError

FEWEST_TOKENS = 2
SEPARATOR = "[SEP]"

_NUMBERED = re.compile(r"[0-9]+\.")
_TOKEN = re.compile(r"\w+")


def clean_sentences(report: str) -> list[str]:
    """The sentences of a report in small letters without punctuation; sentences of one token are dropped, foreign letters cut out."""
    sentences = []
    for part in _NUMBERED.split(report.replace("\n", " ")):
        for sentence in part.split("."):
            tokens = _TOKEN.findall(sentence.replace("\ufffd\ufffd", " ").lower())
            if len(tokens) < FEWEST_TOKENS:
                continue
            kept = [token.encode("ascii", "ignore").decode() for token in tokens]
            sentences.append(" ".join(token for token in kept if token))
    return [sentence for sentence in sentences if sentence]


def clean_text(report: str) -> str:
    """All sentences as one text.

    Raises:
        UsageError: nothing is left, as of a text of one word. The text itself is not repeated in the message: it may be a report.
    """
    cleaned = " ".join(clean_sentences(report))
    if not cleaned:
        raise UsageError(
            f"A text of {len(report)} characters is empty after cleaning: GLoRIA's rule drops sentences of fewer than {FEWEST_TOKENS} "
            "words and letters beyond ASCII."
        )
    return cleaned


def aggregate_words(states: Tensor, pieces: Sequence[str]) -> tuple[Tensor, list[str]]:
    """Sums the vectors of the pieces of each word.

    Args:
        states: (L, T, D) hidden states of L layers.
        pieces: T word pieces; one that begins with ## continues the word before it. Reading stops after the first [SEP].

    Returns:
        (L, T, D) with [CLS], the words and [SEP] first and zeros after them, and the words that stand there.
    """
    words: list[str] = []
    owner = []
    for piece in pieces:
        if piece.startswith("##") and words:
            words[-1] += piece[2:]
        else:
            words.append(piece)
        owner.append(len(words) - 1)
        if piece == SEPARATOR:
            break
    index = torch.tensor(owner, device=states.device)
    summed = torch.zeros_like(states).index_add_(1, index, states[:, : len(owner)])
    return summed, words


def text_features(states: Tensor, pieces: Sequence[str]) -> tuple[Tensor, Tensor, list[str]]:
    """GLoRIA's features of one text: (D,) mean over all T places, zeros included, and (T, D) words, both summed over the layers."""
    vectors, words = aggregate_words(states, pieces)
    return vectors.mean(dim=1).sum(dim=0), vectors.sum(dim=0), words
