"""How one's own images are split: what a card says of it. The draw itself: `benchmark.readers.kit.own_splits`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from benchmark.cards.base import Card

SplitName = Literal["train", "validation", "test"]
OWN_SPLIT = "own"  # the split's name, for `--split` and task cards
CALLED: dict[SplitName, tuple[str, ...]] = {
    "train": ("train", "training", "trn"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "tst"),
}
_BY_WORD: dict[str, SplitName] = {word: split for split, words in CALLED.items() for word in words}


class OwnSplit(Card):
    """How the images are split. Splits that nothing names are drawn from the training images, by patient where patients are known.

    Attributes:
        by: "rule" draws all three; "column" reads a column of the table; "lists" reads text files with a file name in each line; "folder"
            goes by a folder of the image's path, or by the annotation file that lists it.
        column: for "column".
        lists: split -> text file, for "lists".
        names: split -> values of the column, or names of folders, that mean it; beside those of `CALLED`, and before them.
        seed: of every draw.
        validation_share, test_share: of all images, where that split is drawn.
    """

    by: Literal["rule", "column", "lists", "folder"] = "rule"
    column: str = ""
    lists: dict[SplitName, str] = {}
    names: dict[SplitName, tuple[str, ...]] = {}
    seed: int = Field(default=0, ge=0, lt=2**32)
    validation_share: float = Field(default=0.15, gt=0, lt=1)
    test_share: float = Field(default=0.15, gt=0, lt=1)

    @model_validator(mode="after")
    def _complete(self) -> OwnSplit:
        if (self.by == "column") != bool(self.column):
            raise ValueError("`column` names the column for `by: column`, and for nothing else")
        if (self.by == "lists") != bool(self.lists):
            raise ValueError("`lists` names text files for `by: lists`, and for nothing else")
        if self.by == "lists" and "train" not in self.lists:
            raise ValueError("`lists` has no file for train")
        if self.validation_share + self.test_share >= 1:
            raise ValueError("`validation_share` and `test_share` leave nothing to train on")
        meant: dict[str, SplitName] = {}
        for split, words in self.names.items():
            for word in words:
                if meant.setdefault(_own_word(word), split) != split:
                    raise ValueError(f"`names` has {word!r} under {meant[_own_word(word)]} and under {split}: a name means one split")
        return self

    @property
    def rule(self) -> dict[str, Any]:
        """The split as the rule of a dataset card (`SplitRule`)."""
        by = f"own: by {self.by}{f' {self.column}' if self.column else ''}"
        return {"rule": by, "seed": self.seed, "validation_share": self.validation_share, "test_share": self.test_share}

    @property
    def says(self) -> tuple[SplitName, ...]:
        """Splits whose images the card names, by list, value or folder: none of these is drawn."""
        named = self.names if self.by in ("column", "folder") else {}
        return (*self.lists, *(split for split, words in named.items() if words))

    @property
    def overrules(self) -> bool:
        """Whether the card gives a word of `CALLED` to another split."""
        return any(_BY_WORD.get(word, split) != split for word, split in self._meant.items())

    def split_of(self, name: str) -> SplitName | None:
        """The split that a value of the column, or a folder of that name, means; None for any other. What the card says comes first."""
        word = _own_word(name)
        return self._meant.get(word) or _BY_WORD.get(word)

    @property
    def _meant(self) -> dict[str, SplitName]:
        return {_own_word(word): split for split, words in self.names.items() for word in words}


def _own_word(name: str) -> str:
    """A word of `CALLED` in small letters, as it is in any case; another name as it is."""
    word = name.strip().lower()
    return word if word in _BY_WORD else name
