"""Reports as tokens: every sentence is tokenised once, and a pair's sentences are put together anew each time it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from benchmark.encoders.text import Tokenizer

SWAPS = 0.4  # of the geometric distribution of how often two sentences change places, LoVT's
UNKNOWN = "[UNK]"


@dataclass(frozen=True)
class Tokenised:
    """Tokens of one report, sentence by sentence, without special ones.

    Attributes:
        starts: which begin a word.
        bracketed: which begin with the bracket of a special token, as an unknown word does.
    """

    ids: tuple[tuple[int, ...], ...]
    starts: tuple[tuple[bool, ...], ...]
    bracketed: tuple[tuple[bool, ...], ...]


@dataclass(frozen=True)
class Batch:
    """(b, T) int64 tokens, and what `objectives.kit.base.EncodedTexts` has of them: mask, word, sentence, and unknown words of a text."""

    ids: Tensor
    mask: Tensor
    word: Tensor
    sentence: Tensor
    unknown: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, one.name).to(device) for one in fields(self)))


Pieces = tuple[tuple[int, ...], tuple[bool, ...], tuple[bool, ...]]
Row = tuple[list[int], list[int], list[int], int]


class Words:
    """Tokenised reports.

    Args:
        tokenizer: of the text tower, cut at its limit.
        reports: sentences of each.
        joined: see `PairsCard.joined`.
        padded_to: see `TextTowerCard.padded_to`.

    Raises:
        EnvironmentProblem: the tokenizer puts another number of special tokens around a text than two.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        reports: Sequence[Sequence[str]],
        joined: Literal["tokens", "text"] = "tokens",
        padded_to: Literal["longest", "limit"] = "longest",
    ):
        self.limit, self.said, self.joined, self.padded_to = tokenizer.max_length, reports, joined, padded_to
        self.wider = copy(tokenizer)
        self.wider.max_length += 1  # of a text that is cut before its last special token, one more piece is read
        self.first, self.last = tokenizer.pair().ids[0].tolist()
        known = {one: _pieces(tokenizer, one) for one in {sentence for report in reports for sentence in report}}
        self.reports = [Tokenised(*zip(*(known[sentence] for sentence in report), strict=True)) for report in reports]

    def batch(self, index: Sequence[int], how: str, keys: Sequence[int]) -> Batch:
        """Tokens of the reports, as long as the longest or the limit; what is drawn of each comes from its key.

        Args:
            how: see `PairsCard.sentences`.
        """
        row_of = self._row if self.joined == "tokens" else self._row_of_text
        rows = [row_of(i, chosen(len(self.reports[i].ids), how, key)) for i, key in zip(index, keys, strict=True)]
        longest = self.limit if self.padded_to == "limit" else max((len(row[0]) for row in rows), default=2)
        filled = [np.full((len(rows), longest), empty) for empty in (0, -1, -1)]
        mask = np.zeros((len(rows), longest), bool)
        for k, row in enumerate(rows):
            mask[k, : len(row[0])] = True
            for table, values in zip(filled, row[:3], strict=True):
                table[k, : len(values)] = values
        ids, word, sentence = (torch.from_numpy(table.astype(np.int64)) for table in filled)
        unknown = torch.tensor([row[3] for row in rows], dtype=torch.int64)
        return Batch(ids, torch.from_numpy(mask), word, sentence, unknown)

    def _row(self, number: int, order: Sequence[int]) -> Row:
        report = self.reports[number]
        ids, word, sentence, n_words, n_unknown = [self.first], [0], [-1], 0, 0
        for place, which in enumerate(order):
            pieces = report.ids[which]
            if len(ids) + len(pieces) + 1 > self.limit:
                if place > 0:
                    break
                pieces = pieces[: self.limit - len(ids) - 1]  # a first sentence that is too long by itself is cut
            for piece, starts, bracketed in zip(pieces, report.starts[which], report.bracketed[which], strict=False):
                n_words += starts or n_words == 0
                n_unknown += starts and bracketed
                ids.append(piece)
                word.append(n_words)
                sentence.append(place)
        return [*ids, self.last], [*word, n_words + 1], [*sentence, -1], n_unknown

    def _row_of_text(self, number: int, order: Sequence[int]) -> Row:
        """PRIOR's: tokens of the sentences' text without blanks between, cut where it is full; owners by each sentence's own tokens.

        Where two sentences are fused into other tokens, later owners are wrong, as in the released code.
        """
        ids, starts, bracketed = _pieces(self.wider, "".join(self.said[number][which] for which in order))
        owners = [place for place, which in enumerate(order) for _ in self.reports[number].ids[which]]
        tokens = [self.first, *ids, self.last][: self.limit]
        word, n_words = [0], 0
        for one in [*starts, True]:
            n_words += one or n_words == 0
            word.append(n_words)
        owned = [-1, *owners, *[-1] * len(tokens)]
        n_unknown = sum(one and other for one, other in zip(starts[: self.limit - 1], bracketed, strict=False))
        return tokens, word[: len(tokens)], owned[: len(tokens)], n_unknown


def _pieces(tokenizer: Tokenizer, text: str) -> Pieces:
    """Tokens of a text without special ones, which of them begin a word, and which begin with a bracket."""
    tokens = tokenizer([text])
    pieces = tokens.pieces[0][1:-1]
    starts = tuple(not piece.startswith("##") for piece in pieces)
    return tuple(tokens.ids[0, 1:-1].tolist()), starts, tuple(piece.startswith("[") for piece in pieces)


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
