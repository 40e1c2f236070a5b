"""What a backbone owes, and the sealed wrapper through which the harness uses it.

An author writes a `Backbone` that returns feature maps. Everything that can be silently wrong (normalisation, channels, freezing with its
BatchNorm mode, device, precision) is applied by `SealedEncoder` and cannot be forgotten.
Module `benchmark/encoders/<family>.py` offers `build(model) -> Backbone`; weights are loaded by `checkpoints`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.cards import BackboneSpec
from benchmark.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from benchmark.encoders.text import Tokenizer, Tokens
    from benchmark.own.modules import Kept


class Backbone(nn.Module):
    """An image encoder.

    Attributes:
        spec: name, channels by stride, own normalisation, pretraining data.
        network (optional): the library's model inside, whose tensors a weights file names; default the backbone itself.
        input_multiple (optional): side of a patch; inputs are resized to the nearest multiple.
        own_modules: the modules of an author's own file; only on what `python_file` built.
    """

    spec: BackboneSpec
    own_modules: Kept

    @abstractmethod
    def pyramid(self, images: Tensor, strides: tuple[int, ...] | None = None) -> Mapping[int, Tensor]:
        """Feature maps.

        Args:
            images: (N, 3, H, W) float, already resized and normalised by the harness.
            strides: levels wanted; None = all. Stages deeper than the deepest wanted level are not run.

        Returns:
            stride -> (N, C, H / stride, W / stride).
        """

    @abstractmethod
    def pooled(self, images: Tensor) -> Tensor:
        """(N, embed_dim) image embedding."""


@dataclass(frozen=True)
class ImageEmbedding:
    """Images in the joint space: `global_` (N, D); `local` (N, D, h, w), one vector per place of the image."""

    global_: Tensor
    local: Tensor


@dataclass(frozen=True)
class TextEmbedding:
    """Texts in the joint space: `global_` (M, D); `local` (M, D, T), words or sentences; `mask` (M, T) bool, True where a vector counts as
    one. `n_truncated` texts did not fit and were cut."""

    global_: Tensor
    local: Tensor
    mask: Tensor
    n_truncated: int = 0


def mean_of_parts(text: TextEmbedding) -> Tensor:
    """(M, D) means of each text's words or sentences, zero where it has none."""
    return text.local.masked_fill(~text.mask[:, None], 0.0).sum(dim=2) / text.mask.sum(dim=1).clamp(min=1)[:, None]


class VisionLanguageBackbone(Backbone):
    """An image encoder with its text side.

    Attributes:
        tokenizer: given after building, `backbone.tokenizer = Tokenizer(folder, max_tokens)`: checkpoints hold no vocabulary.
        max_tokens: tokens of a text that the text side reads at most, special ones included.
    """

    max_tokens: int
    _tokenizer: Tokenizer | None = None

    @property
    def tokenizer(self) -> Tokenizer | None:
        """None until it is given.

        Raises:
            EnvironmentProblem: one is given that has not the entries for which the text encoder was built.
        """
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, given: Tokenizer | None) -> None:
        from benchmark.encoders.text import Tokenizer, token_rows

        if isinstance(given, Tokenizer) and (n_rows := token_rows(self)) is not None:
            given.require_fits(n_rows, f"the text encoder of {type(self).__name__} is built for")
        self._tokenizer = given

    @abstractmethod
    def embed_images(self, images: Tensor) -> ImageEmbedding:
        """Images as `pyramid` takes them."""

    @abstractmethod
    def embed_texts(self, texts: Sequence[str]) -> TextEmbedding:
        """Texts as they are; cleaning that belongs to a method is done inside."""

    def embed_prompts(self, texts: Sequence[str]) -> TextEmbedding:
        """Prompts as the method's released zero-shot code reads them, where that is another way than for reports."""
        return self.embed_texts(texts)

    def among_places(self, text: TextEmbedding) -> Tensor:
        """(M, D) vectors of texts to compare with an image's places: the global ones, unless no loss brought these near to places."""
        return text.global_

    def similarity(self, image: ImageEmbedding, text: TextEmbedding) -> Tensor:
        """(N, M) cosine of the global embeddings."""
        return F.normalize(image.global_, dim=-1) @ F.normalize(text.global_, dim=-1).T

    def _images_alone(self, name: str) -> UsageError:
        """What to raise for words where only the image half was built; `name` is that of the whole."""
        return UsageError(f"{self.spec.name} was built for images alone. For words name it with its text encoder: {name}.")

    @property
    def required_tokenizer(self) -> Tokenizer:
        """The tokenizer that was given.

        Raises:
            UsageError: none was.
        """
        if self.tokenizer is None:
            raise UsageError(
                f"{self.spec.name} has no tokenizer: name its folder behind the weights, #tokenizer=FOLDER, or in a card. In a file of "
                "your own, set `tokenizer` to the one that its text encoder was trained with (docs/your-backbone.md, Text)."
            )
        return self.tokenizer

    def tokenise(self, texts: Sequence[str], *, pad_to_limit: bool = False) -> Tokens:
        """Tokens on the backbone's device.

        Raises:
            UsageError: no tokenizer was given.
        """
        tokens = self.required_tokenizer(texts, pad_to_limit=pad_to_limit)
        device = next(self.parameters()).device
        return type(tokens)(tokens.ids.to(device), tokens.mask.to(device), tokens.pieces, tokens.n_truncated)


def named_towers(family: str, model: str, known: Collection[str]) -> tuple[str, bool]:
    """The architecture that a model's name asks for, and whether it asks for the text tower (`NAME+text`).

    Raises:
        UnknownName: not one of the known architectures, or something else behind the plus.
    """
    name, _, text = model.partition("+")
    if name not in known or text not in ("", "text"):
        raise UnknownName("backbone", f"{family}:{model}", [f"{family}:{one}{end}" for one in known for end in ("", "+text")])
    return name, bool(text)
