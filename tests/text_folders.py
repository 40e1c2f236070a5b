"""A tokenizer in a folder, as transformers saves one: for backbones with a text side that are made in a test."""

from __future__ import annotations

import json
from pathlib import Path

# The end has the largest number, by which CLIP's text tower finds it.
WORDS = ["[PAD]", "[UNK]", "[CLS]", "no", "mild", "edema", "effusion", ".", "[SEP]"]


def with_words(folder: Path) -> Path:
    """The folder, with a BERT tokenizer of `WORDS` in it."""
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return folder
