"""A job that trains nothing, as its kind sees it: images and texts go through the backbone in blocks, and are compared.

What a similarity is worth is decided in `heads`; which images meet which texts, by the kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.cards import Experiment, Job, Words
from benchmark.encoders.base import ImageEmbedding, TextEmbedding, VisionLanguageBackbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.encoders.text_contract import require_image_embedding, require_text_embedding
from benchmark.errors import UsageError
from benchmark.heads.networks.local_similarity import best_words, combined
from benchmark.kinds.base import Part
from benchmark.kinds.kit.untrained import words_of

TEXT_BATCH = 32


@dataclass(frozen=True)
class UntrainedJob:
    """A job that trains nothing, ready to be answered.

    Attributes:
        parts: split -> images; "test", and "validation" where the rule has one.
        most: images that pass at once.
        embed: embeds the given images of a part, or reads what it kept of them; None embeds whenever it is asked.
    """

    job: Job
    encoder: SealedEncoder
    parts: Mapping[str, Part]
    device: torch.device
    autocast: Callable[[], AbstractContextManager[object]]
    most: int
    embed: Callable[[Part, np.ndarray], ImageEmbedding] | None = None

    @property
    def experiment(self) -> Experiment:
        return self.job.experiment

    @property
    def words(self) -> Words:
        return words_of(self.job)

    @property
    def backbone(self) -> VisionLanguageBackbone:
        """Raises UsageError for a backbone without a text side."""
        backbone = self.encoder.backbone
        if not isinstance(backbone, VisionLanguageBackbone):
            raise UsageError(f"{backbone.spec.name} has no text side.")
        return backbone

    @property
    def is_plain_cosine(self) -> bool:
        """Whether the similarity that the task names is no more than the cosine of global embeddings."""
        kind = self.words.similarity
        return kind == "global" or (kind == "own" and type(self.backbone).similarity is VisionLanguageBackbone.similarity)

    def images(self, part: Part) -> Iterator[tuple[np.ndarray, ImageEmbedding]]:
        """Indices and embeddings of consecutive images."""
        for index in consecutive(len(part), self.most):
            found = (self.embed or self._embed)(part, index)
            require_image_embedding(found, len(index), self.backbone)
            yield index, found

    def text_blocks(self, texts: Sequence[str]) -> Iterator[tuple[slice, TextEmbedding]]:
        """Places and embeddings of consecutive texts."""
        yield from self._blocks(texts, self.backbone.embed_texts)

    def texts(self, texts: Sequence[str]) -> TextEmbedding:
        """All texts as one embedding; words of shorter texts are padded."""
        return _joined([block for _, block in self.text_blocks(texts)])

    def prompts(self, texts: Sequence[str]) -> TextEmbedding:
        """As `texts`, read as the task asks: as any text, or as the method's released zero-shot code reads prompts."""
        as_released = self.words.prompts_read == "as-released"
        read = self.backbone.embed_prompts if as_released else self.backbone.embed_texts
        return _joined([block for _, block in self._blocks(texts, read)])

    def similarity(self, image: ImageEmbedding, text: TextEmbedding) -> Tensor:
        """(N, M) float32 by the rule the task names."""
        kind = self.words.similarity
        if kind == "own":
            return self.backbone.similarity(image, text).float()
        whole = (F.normalize(image.global_, dim=-1) @ F.normalize(text.global_, dim=-1).T).float()
        if kind == "global":
            return whole
        local = best_words(image.local, text.local, text.mask)
        return local if kind == "local" else combined(whole, local)

    def _embed(self, part: Part, index: np.ndarray) -> ImageEmbedding:
        with self.autocast():
            return self.encoder.embed_images(part.images(index).to(self.device))

    def _blocks(self, texts: Sequence[str], read: Callable[[list[str]], TextEmbedding]) -> Iterator[tuple[slice, TextEmbedding]]:
        for start in range(0, len(texts), TEXT_BATCH):
            yield slice(start, min(start + TEXT_BATCH, len(texts))), self._block(texts[start : start + TEXT_BATCH], read)

    def _block(self, texts: Sequence[str], read: Callable[[list[str]], TextEmbedding]) -> TextEmbedding:
        with self.autocast():
            found = read(list(texts))
        require_text_embedding(found, len(texts), self.backbone)
        return found


def consecutive(n_images: int, most: int) -> Iterator[np.ndarray]:
    """Indices of images that pass together."""
    for start in range(0, n_images, most):
        yield np.arange(start, min(start + most, n_images))


def _joined(blocks: Sequence[TextEmbedding]) -> TextEmbedding:
    longest = max(block.local.shape[2] for block in blocks)
    return TextEmbedding(
        torch.cat([block.global_ for block in blocks]),
        torch.cat([F.pad(block.local, (0, longest - block.local.shape[2])) for block in blocks]),
        torch.cat([F.pad(block.mask, (0, longest - block.mask.shape[1])) for block in blocks]),
        sum(block.n_truncated for block in blocks),
    )
