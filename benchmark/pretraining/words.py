"""Reports as tokens: every sentence is tokenised once, and a pair's sentences are put together anew each time it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmark.encoders.text import Tokenizer

SWAPS = 0.4  # of the geometric distribution of how often two sentences change places, LoVT's
UNKNOWN = "[UNK]"


@dataclass(frozen=True)
class Tokenised:
    """Tokens of one report, sentence by sentence, without special ones; `starts` says which begin a word."""

    ids: tuple[tuple[int, ...], ...]
    starts: tuple[tuple[bool, ...], ...]


@dataclass(frozen=True)
class Batch:
    """(b, T) int64 tokens, and of each the mask, the word and the sentence as `objectives.base.EncodedTexts` has them."""

    ids: Tensor
    mask: Tensor
    word: Tensor
    sentence: Tensor


class Words:
    """Tokenised reports.

    Args:
        tokenizer: of the text tower, cut at its limit.
        reports: sentences of each.
    """

    def __init__(self, tokenizer: Tokenizer, reports: Sequence[Sequence[str]]):
        self.limit = tokenizer.max_length
        known: dict[str, tuple[tuple[int, ...], tuple[bool, ...]]] = {}
        empty = tokenizer([""])
        self.first, self.last = int(empty.ids[0, 0]), int(empty.ids[0, -1])
        for one in {sentence for report in reports for sentence in report}:
            tokens = tokenizer([one])
            known[one] = tuple(tokens.ids[0, 1:-1].tolist()), tuple(not piece.startswith("##") for piece in tokens.pieces[0][1:-1])
        self.reports = [Tokenised(*zip(*(known[sentence] for sentence in report), strict=True)) for report in reports]

    def batch(self, index: Sequence[int], how: str, keys: Sequence[int]) -> Batch:
        """Tokens of the reports, as long as the longest; what is drawn of each comes from its key.

        Args:
            how: see `PairsCard.sentences`.
        """
        rows = [self._row(self.reports[i], how, key) for i, key in zip(index, keys, strict=True)]
        longest = max((len(row[0]) for row in rows), default=2)
        filled = [np.full((len(rows), longest), empty) for empty in (0, -1, -1)]
        mask = np.zeros((len(rows), longest), bool)
        for k, row in enumerate(rows):
            mask[k, : len(row[0])] = True
            for table, values in zip(filled, row, strict=True):
                table[k, : len(values)] = values
        ids, word, sentence = (torch.from_numpy(table.astype(np.int64)) for table in filled)
        return Batch(ids, torch.from_numpy(mask), word, sentence)

    def _row(self, report: Tokenised, how: str, key: int) -> tuple[list[int], list[int], list[int]]:
        ids, word, sentence, n_words = [self.first], [0], [-1], 0
        for number, which in enumerate(chosen(len(report.ids), how, key)):
            pieces = report.ids[which]
            if len(ids) + len(pieces) + 1 > self.limit:
                if number > 0:
                    break
                pieces = pieces[: self.limit - len(ids) - 1]  # a first sentence that is too long by itself is cut
            for piece, starts in zip(pieces, report.starts[which], strict=False):
                n_words += starts or n_words == 0
                ids.append(piece)
                word.append(n_words)
                sentence.append(number)
        return [*ids, self.last], [*word, n_words + 1], [*sentence, -1]


def chosen(n: int, how: str, key: int) -> list[int]:
    """Which of n sentences are read, in which order."""
    order, draws = list(range(n)), np.random.default_rng([key, 1])
    if how == "one":
        return [int(draws.integers(n))]
    if how == "shuffled":
        return draws.permutation(n).tolist()
    if how == "swapped" and n > 1:
        for _ in range(draws.geometric(SWAPS) - 1):
            one, other = draws.choice(n, 2, replace=False)
            order[one], order[other] = order[other], order[one]
    return order


def write_vocabulary(reports: Sequence[Sequence[str]], folder: Path) -> None:
    """The words of the reports as a BERT tokenizer's folder, most of them one token each: for small text towers."""
    from transformers import BertTokenizer

    plain = BertTokenizer(vocab={"[PAD]": 0, UNKNOWN: 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4})
    split = plain.backend_tokenizer
    text = "\n".join(sorted({sentence for report in reports for sentence in report}))
    found = {word for word, _ in split.pre_tokenizer.pre_tokenize_str(split.normalizer.normalize_str(text))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", UNKNOWN, "[CLS]", "[SEP]", "[MASK]", *sorted(found)]) + "\n", encoding="utf-8")
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
