"""Report text for vision-language backbones: tokens with their truncation, words out of word pieces, sentences out of reports, BERT towers.

Tokenizers come from a local folder or the hub's cache; nothing of a text enters a log or an error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from benchmark import json_files
from benchmark.errors import EnvironmentProblem
from benchmark.files import require_regular, require_regular_in

ATTENTION = "sdpa"  # what transformers chooses by itself today; digits of eager attention differ
BIO_CLINICAL_BERT = "emilyalsentzer/Bio_ClinicalBERT"  # BERT base, cased, of GLoRIA, LoVT, PRIOR and G2D
_ROUNDED_UP_TO = (8, 16, 32, 64, 100)  # rows of an embedding, for the hardware's sake; DeBERTa-v3 has 128,100 for 128,001 entries
_VOCABULARIES = ("vocab.txt", "vocab.json", "tokenizer.json")
# Names under which BERT, RoBERTa, CLIP, GPT-2 and T5 keep the vectors of their tokens, here and in transformers.
_TOKEN_VECTORS = frozenset({"word_embeddings", "token_embedding", "embed_tokens", "wte", "shared"})
# A tokenizer's own tokens, of BERT, CLIP, RoBERTa and SigLIP 2; an unknown word is a word.
SPECIAL = frozenset({"[CLS]", "[SEP]", "[PAD]", "<|startoftext|>", "<|endoftext|>", "<s>", "</s>", "<pad>", "<bos>", "<eos>"})
PADDING = ("[PAD]", "<pad>", "<|endoftext|>")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9_\[(])|\n\s*\n")
_NUMBERING = re.compile(r"^\s*\d+[.)]\s+", re.M)


@dataclass(frozen=True)
class Tokens:
    """A batch of tokenised texts.

    Attributes:
        ids: (M, T) int64.
        mask: (M, T) bool, False on padding.
        pieces: the word pieces of each text, special tokens included, padding not.
        n_truncated: texts that did not fit and were cut.
    """

    ids: Tensor
    mask: Tensor
    pieces: tuple[tuple[str, ...], ...]
    n_truncated: int

    @property
    def words(self) -> Tensor:
        """(M, T) bool, True on what stands in the texts: a tokenizer's own tokens are no words."""
        found = torch.zeros_like(self.mask)
        for row, pieces in enumerate(self.pieces):
            found[row, : len(pieces)] = torch.tensor([piece not in SPECIAL for piece in pieces], device=found.device)
        return found


class Tokenizer:
    """A tokenizer of a folder, a file `tokenizer.json` or a repository, cut at `max_length` tokens, special ones included.

    Raises:
        EnvironmentProblem: not on this machine and not to be had, its files are malformed, or it has not the entries that the
            configuration beside it promises: a vocabulary cut between two lines reads the lost words as pieces or as unknown.
    """

    def __init__(self, source: str | Path, max_length: int):
        self._source, promised = source, None
        try:
            if Path(source).is_dir():
                require_regular_in(source)
                promised = _promised_entries(Path(source))
            if Path(source).is_file():
                self._tokenizer: Any = _of_one_file(Path(source))
            else:
                self._tokenizer = AutoTokenizer.from_pretrained(str(source), trust_remote_code=False)
            self.max_length = max_length
            self._try()
        except Exception as error:  # malformed files fail in as many ways as there are keys; some only when a text comes
            reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
            sentence = f"The tokenizer {source} cannot be read ({reason}). Give a local folder with its whole vocabulary."
            raise EnvironmentProblem(sentence) from None
        if promised is not None:
            self.require_fits(promised, "the config.json beside it says")

    @property
    def n_entries(self) -> int:
        """Rows that an embedding needs."""
        return max(self._tokenizer.get_vocab().values()) + 1

    def save(self, folder: Path) -> None:
        """Writes the files that `Tokenizer(folder, ...)` reads."""
        self._tokenizer.save_pretrained(folder)

    def require_fits(self, n_rows: int, said: str) -> None:
        """Holds the entries to the rows of an embedding; fewer are right where the rows were padded to a multiple of eight.

        Args:
            said: words before the number of rows in the sentence.

        Raises:
            EnvironmentProblem: too few, or more than there are rows.
        """
        entries = self._tokenizer.get_vocab()
        mask = self._tokenizer.mask_token
        if entries.get(mask, -1) >= self._tokenizer.vocab_size:
            del entries[mask]  # the library adds one to a vocabulary without it, and no report holds it
        n_absent = n_rows - len(entries)
        is_padding = any(n_rows % step == 0 and n_absent < step for step in _ROUNDED_UP_TO)
        if max(entries.values()) < n_rows and (n_absent <= 0 or is_padding):
            return
        n_found = max(len(entries), max(entries.values()) + 1) if n_absent <= 0 else len(entries)
        here = [name for name in _VOCABULARIES if (Path(self._source) / name).is_file()]
        why = "Its end is missing, or it belongs to another model" if n_absent > 0 else "It belongs to another model"
        raise EnvironmentProblem(
            f"The tokenizer {self._source} ({', '.join(here) or 'from the hub'}) has {n_found:,} entries, and {said} {n_rows:,}. {why}: "
            "fetch the tokenizer that the text encoder was trained with, whole."
        )

    def _try(self) -> None:
        """A text of known and unknown words, cut and padded, as reports will be.

        Raises:
            ValueError: special tokens are missing, so that texts of several lengths make no batch, or words are taken for special ones; or
                padding comes first, where the places of words are counted from the left.
        """
        tokens = self(["No effusion.", "\u2603 cardiomegaly " * 3], pad_to_limit=True)
        if tokens.ids.shape != (2, self.max_length) or not tokens.mask.any(dim=1).all():
            raise ValueError(f"it does not cut and pad texts to {self.max_length} tokens")
        if int(tokens.ids.min()) < 0:  # pragma: no cover: a guard; no tokenizer of the pinned library counts below zero
            raise ValueError("it gives negative tokens")
        if not tokens.mask[:, 0].all():
            raise ValueError("it pads texts on the left")
        if not self._tokenizer("")["input_ids"]:
            raise ValueError("it puts no special tokens around a text")

    def pair(self) -> Tokens:
        """The two special tokens between which a text stands: those of an empty text.

        Raises:
            EnvironmentProblem: there are fewer or more, and words would be taken for them.
        """
        found = self([""])
        if found.ids.shape[1] != 2:
            raise EnvironmentProblem(
                f"The tokenizer {self._source} puts {found.ids.shape[1]} special tokens around a text, and sentences are joined between "
                "two. Give one of BERT's kind, with a token before a text and one behind it."
            )
        return found

    def __call__(self, texts: Sequence[str], *, pad_to_limit: bool = False) -> Tokens:
        whole = self._tokenizer(list(texts))["input_ids"]
        cut = self._tokenizer(
            list(texts),
            max_length=self.max_length,
            truncation=True,
            padding="max_length" if pad_to_limit else "longest",
            return_tensors="pt",
        )
        mask = cut["attention_mask"].bool()
        pieces = tuple(
            tuple(self._tokenizer.convert_ids_to_tokens(row[keep].tolist())) for row, keep in zip(cut["input_ids"], mask, strict=True)
        )
        return Tokens(cut["input_ids"], mask, pieces, sum(len(ids) > self.max_length for ids in whole))


def _of_one_file(path: Path) -> PreTrainedTokenizerFast:
    """Of `tokenizer.json`, which does not say what pads: by the names that BERT, RoBERTa and CLIP give it."""
    require_regular(path)
    made = PreTrainedTokenizerFast(tokenizer_file=str(path))
    known = made.get_vocab()
    made.pad_token = next((name for name in PADDING if name in known), None)
    return made


def token_rows(module: nn.Module) -> int | None:
    """Rows of the embedding of tokens in a text encoder; None where none is known by its name, or several differ."""
    found = {
        part.num_embeddings
        for name, part in module.named_modules()
        if name.rpartition(".")[2] in _TOKEN_VECTORS and isinstance(part, nn.Embedding)
    }
    return found.pop() if len(found) == 1 else None


def _promised_entries(folder: Path) -> int | None:
    """`vocab_size` of the folder's configuration, also of its text half; None where it leaves its library's default.

    Raises:
        ValueError: the configuration is no JSON object.
    """
    file = folder / "config.json"
    if not file.is_file():
        return None
    config = json_files.read(file)
    half = config.get("text_config")
    found = config.get("vocab_size", half.get("vocab_size") if isinstance(half, dict) else None)
    return found if type(found) is int else None


def bert(config: BertConfig | None = None) -> BertModel:
    """A randomly initialised BERT, by default with Bio_ClinicalBERT's sizes; the pooler is kept, released files have it."""
    config = config or BertConfig(vocab_size=28996)
    config._attn_implementation = ATTENTION
    return BertModel(config)


def bert_states(model: BertModel, tokens: Tokens, n_layers: int = 1) -> Tensor:
    """(n_layers, M, T, width) states of the last layers, deepest last."""
    found = model(input_ids=tokens.ids, attention_mask=tokens.mask.long(), output_hidden_states=True)
    return torch.stack(found.hidden_states[-n_layers:])


def words_of(pieces: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Words of word pieces: a piece that starts with `##` joins the word before it.

    Returns:
        The words, special tokens as words of their own, and for each piece the number of its word.
    """
    words: list[str] = []
    owner: list[int] = []
    for piece in pieces:
        if piece.startswith("##") and words:
            words[-1] += piece[2:]
        else:
            words.append(piece)
        owner.append(len(words) - 1)
    return tuple(words), tuple(owner)


def sum_words(states: Tensor, pieces: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
    """Sums the vectors of each word's pieces.

    Args:
        states: (..., M, T, D).
        pieces: word pieces of each of the M texts, padding left out.

    Returns:
        (..., M, T, D) with words first and zeros behind, and (M, T) bool: True where there is a word.
    """
    summed = torch.zeros_like(states)
    mask = torch.zeros(states.shape[-3:-1], dtype=torch.bool, device=states.device)
    for text, own in enumerate(pieces):
        words, owner = words_of(own)
        index = torch.tensor(owner, device=states.device)
        summed[..., text, :, :] = summed[..., text, :, :].index_add(-2, index, states[..., text, : len(own), :])
        mask[text, : len(words)] = True
    return summed, mask


def sentences(report: str) -> list[str]:
    """Sentences of a report: cut after a full stop, question or exclamation mark before a capital, digit or blank, and at empty lines.

    Numbering at the start of a line is taken off; a decimal point ends nothing. Not the splitter of any paper (Stanza): LOBE's own.
    """
    text = _NUMBERING.sub("", report.replace("\r", ""))
    parts = (" ".join(part.split()) for part in _SENTENCE_END.split(text))
    return [part for part in parts if re.search(r"\w", part)]


def join_sentences(tokenizer: Tokenizer, reports: Sequence[Sequence[str]], *, whole_only: bool) -> tuple[Tokens, Tensor]:
    """Reports as one sequence each: the sentences' tokens one after the other between one pair of special tokens.

    Args:
        reports: sentences of each report.
        whole_only: sentences that no longer fit are dropped (LoVT); else the sequence is cut (PRIOR), last special token included.

    Returns:
        Tokens, and (M, T) int64: the number of each token's sentence, -1 for special tokens and padding.

    Raises:
        EnvironmentProblem: the tokenizer puts another number of special tokens around a text than two.
    """
    pair = tokenizer.pair()
    (first, last), (first_piece, last_piece) = pair.ids[0].tolist(), pair.pieces[0]
    rows, owners, pieces, n_truncated = [], [], [], 0
    for report in reports:
        each = [tokenizer([sentence]) for sentence in report]
        # A sentence may be too long by itself: it was cut when its tokens were made.
        ids, owner, own_pieces, cut = [first], [-1], [first_piece], any(tokens.n_truncated for tokens in each)
        for number, tokens in enumerate(each):
            inner = tokens.ids[0, 1:-1].tolist()
            if whole_only and len(ids) + len(inner) + 1 > tokenizer.max_length:
                cut = True
                break
            ids, owner, own_pieces = ids + inner, owner + [number] * len(inner), [*own_pieces, *tokens.pieces[0][1:-1]]
        ids, owner, own_pieces = [*ids, last], [*owner, -1], [*own_pieces, last_piece]
        cut |= len(ids) > tokenizer.max_length
        n_truncated += cut
        rows.append(ids[: tokenizer.max_length])
        owners.append(owner[: tokenizer.max_length])
        pieces.append(tuple(own_pieces[: tokenizer.max_length]))
    longest = max(map(len, rows))
    padded = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in rows])
    owner_of = torch.tensor([row + [-1] * (longest - len(row)) for row in owners])
    return Tokens(padded, mask, tuple(pieces), n_truncated), owner_of
