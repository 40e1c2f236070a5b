"""GLoRIA: a ResNet with a global and a local projection, and Bio_ClinicalBERT whose word vectors attend to image regions.

`network` has the names of the released file without its `gloria.`. Feature levels are the ResNet's at the size given, as the paper's
segmentation and MGCA's detection use it; the embeddings resize to 299 pixels first, as the released forward pass does.
Source: reference of GLoRIA, sections 1 and 2 (commit 416466a).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig

from benchmark.cards import BackboneSpec, Normalisation
from benchmark.encoders.base import ImageEmbedding, TextEmbedding, VisionLanguageBackbone
from benchmark.encoders.text import bert, bert_states, sum_words
from benchmark.encoders.torchvision import ARCHITECTURES, resnet, run_levels
from benchmark.errors import UnknownName

DEFAULT_LAYOUT = "gloria"
HALF = Normalisation(mean=(0.5,), std=(0.5,))
SIDE = 299
JOINT = 768  # the text encoder's width: texts are not projected
LAST_LAYERS = 4
MAX_TOKENS = 97
GAMMA_ATTENTION, GAMMA_WORDS = 4.0, 5.0
_NO_WORD = frozenset({"[SEP]", "[PAD]"})


def build(model: str) -> Gloria:
    """`resnet50` for images alone, `resnet50+text` with the text encoder.

    Raises:
        UnknownName: another architecture.
    """
    name, _, text = model.partition("+")
    if name != "resnet50" or text not in ("", "text"):
        raise UnknownName("backbone", f"gloria:{model}", ["resnet50", "resnet50+text"])
    return Gloria(name, BertConfig(vocab_size=28996) if text else None)


class Gloria(VisionLanguageBackbone):
    def __init__(self, model: str, text: BertConfig | None = None):
        super().__init__()
        self.levels = ARCHITECTURES[model]
        self.network = nn.Module()
        self.network.img_encoder = _ImageEncoder(model, JOINT if text is None else text.hidden_size)
        if text is not None:
            self.network.text_encoder = nn.Module()
            self.network.text_encoder.model = bert(text)
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
        """Local: [CLS] and the words of each cleaned text; a text without a sentence of two words is [CLS] alone."""
        tokens = self.tokenise([clean(text) for text in texts], pad_to_limit=True)
        states = bert_states(self.network.text_encoder.model, tokens, LAST_LAYERS)
        words, _ = sum_words(states * tokens.mask[None, :, :, None], tokens.pieces)
        mask = torch.zeros_like(tokens.mask)
        for row, pieces in enumerate(tokens.pieces):
            mask[row, : sum(not piece.startswith("##") and piece not in _NO_WORD for piece in pieces)] = True
        return TextEmbedding(words.mean(dim=2).sum(dim=0), words.sum(dim=0).transpose(1, 2), mask, tokens.n_truncated)

    def similarity(self, image: ImageEmbedding, text: TextEmbedding) -> Tensor:
        """(N, M): the mean of the best word's and the global similarity, as in the released zero-shot code."""
        return (local_similarity(image.local, text.local, text.mask) + super().similarity(image, text)) / 2


class _ImageEncoder(nn.Module):
    def __init__(self, model: str, joint: int):
        super().__init__()
        self.model = resnet(model)
        channels = {level.stride: level.channels for level in ARCHITECTURES[model]}
        self.global_embedder = nn.Linear(channels[32], joint)
        self.local_embedder = nn.Conv2d(channels[16], joint, kernel_size=1, bias=False)


def clean(text: str) -> str:
    """GLoRIA's rule for reports and prompts: sentences of at least two words, lower case, ASCII letters and digits, in one line."""
    kept = []
    for part in re.split(r"\d+\.", text.replace("\n", " ")):
        for sentence in part.split("."):
            words = re.findall(r"\w+", sentence.replace("\ufffd\ufffd", " ").lower())
            if len(words) < 2:
                continue
            ascii_words = (word.encode("ascii", "ignore").decode("ascii") for word in words)
            kept += [" ".join(word for word in ascii_words if word)]
    return " ".join(kept)


def word_relevance(regions: Tensor, words: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """How well each word is found in an image.

    Args:
        regions: (N, D, h, w) or (N, D, R).
        words: (M, D, T).
        mask: (M, T) bool.

    Returns:
        (N, M, T) cosine of each word with the regions it attends to, and (N, M, T, R) the attention; undefined where masked.
    """
    regions = regions.flatten(2)
    scores = torch.einsum("ndr,mdt->nmtr", regions, words).masked_fill(~mask[None, :, :, None], float("-inf"))
    among_words = scores.softmax(dim=2)
    attention = (GAMMA_ATTENTION * among_words).softmax(dim=3)
    context = torch.einsum("nmtr,ndr->nmtd", attention, regions)
    return F.cosine_similarity(context, words.transpose(1, 2)[None], dim=-1, eps=1e-8), attention


def local_similarity(regions: Tensor, words: Tensor, mask: Tensor, *, best_word: bool = True) -> Tensor:
    """(N, M): 5 times the best word's relevance (zero-shot), or the log of the summed exponentials (training)."""
    relevance = GAMMA_WORDS * word_relevance(regions, words, mask)[0]
    relevance = relevance.masked_fill(~mask[None], float("-inf"))
    return relevance.amax(dim=2) if best_word else relevance.logsumexp(dim=2)


def _resized(images: Tensor) -> Tensor:
    return F.interpolate(images, size=(SIDE, SIDE), mode="bilinear", align_corners=True)
