"""Which words a report uses, and a small network that reads them off a feature map."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

CHANNELS, GRID = 128, 4
LONGEST_RUN = 4  # words
COMMON, RARE = 0.6, 0.02  # words in more or fewer reports than this teach nothing


class WordReader(nn.Module):
    """Word logits of a feature map: averaged to a 4 x 4 grid, with a weight per word, channel and cell.

    Attributes:
        words: that have a logit, W of them; their spelling is among the tensors, so that a file of these is whole.
        usual: (1, C, 4, 4) the mean grid of images; zero until `settle`.
    """

    usual: torch.Tensor
    spelling: torch.Tensor

    def __init__(self, channels: int, words: Sequence[str]):
        super().__init__()
        self.reduce = nn.Conv2d(channels, CHANNELS, 1)
        self.words_of_cells = nn.Linear(CHANNELS * GRID**2, len(words))
        self.register_buffer("usual", torch.zeros(1, CHANNELS, GRID, GRID))
        self.register_buffer("spelling", torch.tensor(list("\n".join(words).encode()), dtype=torch.uint8))

    @property
    def words(self) -> tuple[str, ...]:
        return spelt(self.spelling)

    def grid(self, features: torch.Tensor) -> torch.Tensor:
        """(B, 128, 4, 4) of a feature map (B, C, h, w)."""
        return nn.functional.adaptive_avg_pool2d(self.reduce(features).relu(), GRID)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, W) logits."""
        return self.words_of_cells(self.grid(features).flatten(1))

    def by_place(self, features: torch.Tensor) -> torch.Tensor:
        """(B, W, 4, 4): what each place adds to each logit, beyond what it adds in the usual image."""
        weight = self.words_of_cells.weight.view(-1, CHANNELS, GRID, GRID)
        return torch.einsum("bcij,wcij->bwij", self.grid(features) - self.usual, weight)

    def settle(self, features: torch.Tensor) -> None:
        """Takes the mean grid of these images as the usual one."""
        self.usual.copy_(self.grid(features).mean(dim=0, keepdim=True))


def spelt(spelling: torch.Tensor) -> tuple[str, ...]:
    """The words that a reader's tensor `spelling` holds."""
    return tuple(bytes(spelling.tolist()).decode().split("\n"))


def reader_file(weights: Path) -> Path:
    """Where the reader of words of a weights file lies."""
    return weights.with_name(f"{weights.stem}.words{weights.suffix}")


def vocabulary(reports: Sequence[str]) -> list[str]:
    """Runs of one to four words, inside a sentence, that are neither common nor rare.

    "right lower zone opacity" tells one place; "right" and "lower" alone may belong to two. Of runs that always occur together one is kept.
    """
    counts = Counter(run for report in reports for run in set(_runs(report)))
    kept = sorted(run for run, n in counts.items() if RARE * len(reports) <= n <= COMMON * len(reports))
    _, first = np.unique(word_targets(reports, kept), axis=1, return_index=True)
    return [kept[i] for i in sorted(first)]


def word_targets(texts: Sequence[str], words: Sequence[str]) -> np.ndarray:
    """(N, W) float32: 1 where a text uses a word, which may be a run of several."""
    used = [set(_runs(text)) for text in texts]
    return np.array([[word in runs for word in words] for runs in used], np.float32)


def _runs(report: str) -> list[str]:
    runs = []
    for sentence in re.split(r"[.:;\n]", report.lower()):
        words = re.findall(r"[a-z]+", sentence)
        runs += [" ".join(words[i : i + n]) for n in range(1, LONGEST_RUN + 1) for i in range(len(words) - n + 1)]
    return runs
