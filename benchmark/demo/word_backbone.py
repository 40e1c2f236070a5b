"""The demo's encoder with the words that it learnt from reports, as a backbone that tasks may ask in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor

from benchmark import registry
from benchmark.cards import BackboneSpec
from benchmark.encoders.base import ImageEmbedding, TextEmbedding, VisionLanguageBackbone
from benchmark.encoders.torchvision import build
from benchmark.files import open_regular
from benchmark.training.word_reader import WordReader, reader_file, spelt, word_targets

PRETRAINED_ON = ("generated",)


class WordBackbone(VisionLanguageBackbone):
    """A ResNet-18 and its reader. The joint space has a dimension for every word: an image lies in it by how much more it speaks for each
    than the usual image does, a text by which of them it uses.
    """

    max_tokens = 2**16  # a text is read whole

    def __init__(self, words: Sequence[str]):
        super().__init__()
        self.encoder = build("resnet18")
        self.reader = WordReader(self.encoder.spec.strides[32], words)
        self.spec = BackboneSpec(
            name="resnet18-text-pretrained",
            strides=self.encoder.spec.strides,
            embed_dim=self.encoder.spec.embed_dim,
            normalisation=registry.dataset("rsna").statistics,
            pretraining=PRETRAINED_ON,
        )

    def pyramid(self, images: Tensor, strides: tuple[int, ...] | None = None) -> Mapping[int, Tensor]:
        return self.encoder.pyramid(images, strides)

    def pooled(self, images: Tensor) -> Tensor:
        return self.encoder.pooled(images)

    def embed_images(self, images: Tensor) -> ImageEmbedding:
        places = self.reader.by_place(self.encoder.pyramid(images, (32,))[32])
        return ImageEmbedding(places.sum(dim=(2, 3)), places)

    def embed_texts(self, texts: Sequence[str]) -> TextEmbedding:
        used = torch.from_numpy(word_targets(texts, self.reader.words)).to(self.reader.usual.device)
        return TextEmbedding(used, used[:, :, None], used.any(dim=1, keepdim=True))


def pretrained(weights: Path) -> WordBackbone:
    """The backbone of a file that `text_pretraining.pretrain` wrote, with the reader beside it.

    Raises:
        RuntimeError: tensors are missing or left over.
    """
    state = {f"encoder.network.{name}": tensor for name, tensor in _tensors(weights).items()}
    state |= {f"reader.{name}": tensor for name, tensor in _tensors(reader_file(weights)).items()}
    backbone = WordBackbone(spelt(state["reader.spelling"]))
    backbone.load_state_dict(state)
    return backbone


def _tensors(file: Path) -> dict[str, Tensor]:
    with open_regular(file, "rb") as handle:
        return load(handle.read())
