"""Small backbones with a text side, written to a folder as a user would: the papers' own architectures in little, and the smallest that
serves every head. Their BERTs read a vocabulary made of the words that reports and prompts use.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path

from benchmark import registry
from benchmark.heads.prompts import prompt_sets
from benchmark.phantom.corpus import REPORTS_FILE

OWN = {"gloria": "gloria", "prior": "prior", "g2d": "g2d", "lrclr": "region_clip"}  # suite -> function of the file; `small` for all others

_CODE = '''
from pathlib import Path

import torch
from torch import nn
from transformers import BertConfig

from benchmark.cards import BackboneSpec
from benchmark.encoders import clip, g2d as g2d_code, gloria as gloria_code, local_region_clip, prior as prior_code
from benchmark.encoders.base import ImageEmbedding, TextEmbedding, VisionLanguageBackbone
from benchmark.encoders.text import Tokenizer, bert, bert_states

HERE = Path(__file__).parent
N_WORDS = len((HERE / "vocab.txt").read_text(encoding="utf-8").splitlines())
WIDTHS = {2: 4, 4: 8, 8: 8, 16: 8, 32: 16}


def text():
    return BertConfig(vocab_size=N_WORDS, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16)


def ready(build, length):
    torch.manual_seed(5)
    backbone = build()
    backbone.tokenizer = Tokenizer(HERE, length)
    return backbone


class Small(VisionLanguageBackbone):
    """Five convolutions, and the mean of BERT's states."""

    def __init__(self):
        super().__init__()
        self.spec = BackboneSpec(name="small towers", strides=WIDTHS, embed_dim=WIDTHS[32], normalisation={"mean": (0.5,), "std": (0.25,)})
        self.stages = nn.ModuleDict()
        incoming = 3
        for stride, width in WIDTHS.items():
            self.stages[str(stride)] = nn.Sequential(nn.Conv2d(incoming, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU())
            incoming = width
        self.reader = bert(text())

    def pyramid(self, images, strides=None):
        maps = {}
        for stride in WIDTHS:
            images = maps[stride] = self.stages[str(stride)](images)
        return {stride: maps[stride] for stride in strides or WIDTHS}

    def pooled(self, images):
        return self.pyramid(images, (32,))[32].mean(dim=(2, 3))

    def embed_images(self, images):
        places = self.pyramid(images, (32,))[32]
        return ImageEmbedding(places.mean(dim=(2, 3)), places)

    def embed_texts(self, texts):
        tokens = self.tokenise(texts)
        states = bert_states(self.reader, tokens)[0] * tokens.mask[..., None]
        whole = states.sum(dim=1) / tokens.mask.sum(dim=1, keepdim=True)
        return TextEmbedding(whole, states.transpose(1, 2), tokens.mask, tokens.n_truncated)


def small():
    return ready(Small, 128)


def gloria():
    return ready(lambda: gloria_code.Gloria("resnet18", text()), gloria_code.MAX_TOKENS)


def prior():
    return ready(lambda: prior_code.Prior("resnet18", text()), 256)


def g2d():
    return ready(lambda: g2d_code.G2D("resnet18", decoder=True, text=text()), g2d_code.MAX_TOKENS)


def region_clip():
    shape = clip.ClipShape(
        patch=32, width=32, layers=2, joint=16, head_width=16, vocabulary=N_WORDS, context=77, text_width=32, text_layers=2
    )
    return ready(lambda: local_region_clip.LocalRegionClip(shape), shape.context)
'''


def write_towers(folder: Path, data: Path) -> Path:
    """The file with the functions of `OWN` and `small`, beside a BERT tokenizer of the words of all prompts and of `data`'s reports."""
    folder.mkdir(parents=True, exist_ok=True)
    words = vocabulary([*_prompts(), *_reports(data)])
    # The end token has the largest number, by which CLIP's text tower finds it.
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", *words, "[SEP]"]) + "\n", encoding="utf-8")
    (folder / "config.json").write_text('{"model_type": "bert"}\n', encoding="utf-8")
    file = folder / "towers.py"
    file.write_text(_CODE, encoding="utf-8")
    return file


def vocabulary(texts: Iterable[str]) -> list[str]:
    """Words in small letters and punctuation marks, sorted."""
    return sorted({piece for text in texts for piece in re.findall(r"[a-z]+|[^\w\s]", text.lower())})


def _prompts() -> list[str]:
    return [text for card in registry.prompts().values() for one in prompt_sets(card) for text in one.texts]


def _reports(data: Path) -> list[str]:
    found = []
    for file in sorted(data.glob(f"*/{REPORTS_FILE}")):
        with file.open(encoding="utf-8", newline="") as handle:
            found += [row["report"] for row in csv.DictReader(handle)]
    return found
