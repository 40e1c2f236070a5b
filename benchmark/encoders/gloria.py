"""GLoRIA: a ResNet with a global and a local projection, and Bio_ClinicalBERT whose word vectors attend to image regions.

`network` has the names of the released file without its `gloria.`. Feature levels are the ResNet's at the size given, as the paper's
segmentation and MGCA's detection use it; the embeddings resize to 299 pixels first, as the released forward pass does.
Source: GLoRIA's released code (docs/sources.md, GLoRIA).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig

from benchmark.cards import BackboneSpec, Normalisation
from benchmark.encoders.base import ImageEmbedding, TextEmbedding, VisionLanguageBackbone, named_towers
from benchmark.encoders.text import SPECIAL, bert, bert_states, sum_words
from benchmark.encoders.torchvision import ARCHITECTURES, resnet, run_levels
from benchmark.errors import UsageError
from benchmark.heads.networks.local_similarity import best_words, combined, local_similarity

DEFAULT_LAYOUT = "gloria"
HALF = Normalisation(mean=(0.5,), std=(0.5,))
SIDE = 299
JOINT = 768  # the text encoder's width: texts are not projected
LAST_LAYERS = 4
MAX_TOKENS = 97
FEWEST_WORDS = 2  # of a sentence that is kept


def build(model: str) -> Gloria:
    """`resnet50` for images alone, `resnet50+text` with the text encoder.

    Raises:
        UnknownName: another architecture.
    """
    name, has_text = named_towers("gloria", model, ("resnet50",))
    return Gloria(name, BertConfig(vocab_size=28996) if has_text else None)


class Gloria(VisionLanguageBackbone):
    max_tokens = MAX_TOKENS

    def __init__(self, model: str, text: BertConfig | None = None):
        super().__init__()
        self.levels = ARCHITECTURES[model]
        self.network = _Network(model, text)
        strides = {level.stride: level.channels for level in self.levels}
        self.spec = BackboneSpec(name=f"gloria {model}", strides=strides, embed_dim=strides[32], normalisation=HALF, pretraining=())

    def pyramid(self, images: Tensor, strides: tuple[int, ...] | None = None) -> Mapping[int, Tensor]:
        return run_levels(self.network.img_encoder.model, self.levels, images, self.spec.strides if strides is None else strides)

    def pooled(self, images: Tensor) -> Tensor:
        return self.pyramid(_resized(images), (32,))[32].mean(dim=(2, 3))

    def embed_images(self, images: Tensor) -> ImageEmbedding:
        """Local: (N, 768, 19, 19)."""
        maps, encoder = self.pyramid(_resized(images), (16, 32)), self.network.img_encoder
        return ImageEmbedding(encoder.global_embedder(maps[32].mean(dim=(2, 3))), encoder.local_embedder(maps[16]))

    def embed_texts(self, texts: Sequence[str]) -> TextEmbedding:
        """Local: [CLS], the words of each cleaned text, [SEP], and zeros up to 97. The mask holds the words alone.

        So begins the released zero-shot code: behind [CLS], which only training counts among the words (`training_similarity`). A text
        without a sentence of two words has no word.
        """
        tokens = self.tokenise([clean(text) for text in texts], pad_to_limit=True)
        if self.network.text_encoder is None:
            raise self._images_alone("gloria:resnet50+text")
        states = bert_states(self.network.text_encoder.model, tokens, LAST_LAYERS)
        words, _ = sum_words(states * tokens.mask[None, :, :, None], tokens.pieces)
        mask = torch.zeros_like(tokens.mask)
        for row, pieces in enumerate(tokens.pieces):
            mask[row, 1 : 1 + sum(not piece.startswith("##") and piece not in SPECIAL for piece in pieces)] = True
        return TextEmbedding(words.mean(dim=2).sum(dim=0), words.sum(dim=0).transpose(1, 2), mask, tokens.n_truncated)

    def embed_prompts(self, texts: Sequence[str]) -> TextEmbedding:
        """As the released zero-shot code: as many vectors behind [CLS] count as words as the prompt has characters.

        It takes the length of the prompt for its number of words, so that [SEP] and the zeros behind it count too. Opening brackets are
        not counted.

        Raises:
            UsageError: a prompt has more characters than there are vectors, where the released code stops as well.
        """
        embedded = self.embed_texts(texts)
        there = embedded.mask.shape[1] - 1
        mask = torch.zeros_like(embedded.mask)
        for row, text in enumerate(texts):
            n_characters = len(text) - text.count("[")
            if n_characters > there:
                raise UsageError(
                    f"A prompt of {n_characters} characters takes more than the {there} vectors there are. GLoRIA's released code counts "
                    "characters and stops here too; the protocol `corrected` counts words."
                )
            mask[row, 1 : 1 + n_characters] = True
        return TextEmbedding(embedded.global_, embedded.local, mask, embedded.n_truncated)

    def similarity(self, image: ImageEmbedding, text: TextEmbedding) -> Tensor:
        """(N, M) float32: the mean of the best word's and the global similarity, as in the released zero-shot code."""
        return combined(super().similarity(image, text).float(), best_words(image.local, text.local, text.mask))

    def training_similarity(self, image: ImageEmbedding, text: TextEmbedding) -> Tensor:
        """(N, M) local similarity of the released loss: log of the summed exponentials over [CLS] and the words."""
        mask = text.mask.clone()
        mask[:, 0] = True
        regions = image.local.flatten(2)
        return torch.stack([local_similarity(regions, own[:, m], "sum") for own, m in zip(text.local, mask, strict=True)], dim=1)


class _Network(nn.Module):
    def __init__(self, model: str, text: BertConfig | None):
        super().__init__()
        self.img_encoder = _ImageEncoder(model, JOINT if text is None else text.hidden_size)
        self.text_encoder = None if text is None else _TextEncoder(text)


class _TextEncoder(nn.Module):
    def __init__(self, text: BertConfig):
        super().__init__()
        self.model = bert(text)


class _ImageEncoder(nn.Module):
    def __init__(self, model: str, joint: int):
        super().__init__()
        self.model = resnet(model)
        channels = {level.stride: level.channels for level in ARCHITECTURES[model]}
        self.global_embedder = nn.Linear(channels[32], joint)
        self.local_embedder = nn.Conv2d(channels[16], joint, kernel_size=1, bias=False)


def clean(text: str) -> str:
    """GLoRIA's rule for reports and prompts: sentences of at least two words, lower case, ASCII letters and digits, in one line.

    A text of one word becomes empty, a decimal number loses what stands before its point, a sentence in another script leaves a blank.
    """
    kept = []
    for part in re.split(r"[0-9]+\.", text.replace("\n", " ")):
        for sentence in part.split("."):
            words = re.findall(r"\w+", sentence.replace("\ufffd\ufffd", " ").lower())
            if len(words) < FEWEST_WORDS:
                continue
            ascii_words = (word.encode("ascii", "ignore").decode("ascii") for word in words)
            kept += [" ".join(word for word in ascii_words if word)]
    return " ".join(kept)


def _resized(images: Tensor) -> Tensor:
    return F.interpolate(images, size=(SIDE, SIDE), mode="bilinear", align_corners=True)
