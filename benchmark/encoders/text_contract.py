"""What a text side owes: the base class, and the types and shapes of what its two methods return. Said before a task asks in words."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmark.encoders.base import Backbone, ImageEmbedding, TextEmbedding, VisionLanguageBackbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.errors import ConformanceError, LobeError

OWED = (
    "derive it from benchmark.encoders.base.VisionLanguageBackbone; embed_images(images) returns an ImageEmbedding, `global_` (N, D) and "
    "`local` (N, D, h, w), and embed_texts(texts) a TextEmbedding, `global_` (M, D), `local` (M, D, T) and `mask` (M, T) of bool "
    "(docs/your-backbone.md, Text)"
)
_METHODS = ("embed_images", "embed_texts")


def require_text_side(backbone: Backbone, asked_by: str) -> VisionLanguageBackbone:
    """The backbone, if it has a text side.

    Raises:
        ConformanceError: it has none, or methods of its own that no base class vouches for; says which base class and types are needed.
    """
    if isinstance(backbone, VisionLanguageBackbone):
        return backbone
    if (said := misplaced(backbone)) is not None:
        raise ConformanceError(f"{said} {asked_by} needs it.")
    raise ConformanceError(
        f"{backbone.spec.name} has no text side, and {asked_by} compares images with words: {OWED}, or take a backbone that has one "
        "(docs/classification.md)."
    )


def misplaced(backbone: Backbone) -> str | None:
    """A sentence for methods of a text side on a class that is none; None where there are none or all is well."""
    own = [name for name in _METHODS if callable(getattr(backbone, name, None))]
    if isinstance(backbone, VisionLanguageBackbone) or not own:
        return None
    return f"{backbone.spec.name} has {' and '.join(own)}, but {type(backbone).__name__} is no vision-language backbone: {OWED}."


def fault(encoder: SealedEncoder, images: Tensor) -> str | None:
    """What is wrong with the text side, tried on images (N, S, S) uint8 and one word; None where nothing is, or there is none.

    A backbone without the folder of its tokenizer says so itself, in its own sentence.
    """
    backbone = encoder.backbone
    if not isinstance(backbone, VisionLanguageBackbone):
        return misplaced(backbone)
    try:
        with torch.no_grad():
            image = encoder.embed_images(images)
            require_image_embedding(image, len(images), backbone)
            text = backbone.embed_texts(["opacity"])
        require_text_embedding(text, 1, backbone)
        if text.global_.shape[1] != image.global_.shape[1]:
            return (
                f"{backbone.spec.name}: embed_images() gives vectors of width {image.global_.shape[1]}, embed_texts() of "
                f"{text.global_.shape[1]}: they share no space."
            )
    except LobeError as error:
        return str(error)
    except Exception as error:
        return f"{backbone.spec.name}: its text side failed with {type(error).__name__}: {error}"
    return None


def require_image_embedding(found: Any, n_images: int, backbone: Backbone) -> None:
    """
    Raises:
        ConformanceError: it is no ImageEmbedding of that many images.
    """
    if not isinstance(found, ImageEmbedding):
        _refuse(backbone, "embed_images", f"returned {_type(found)}, not an ImageEmbedding")
    _require_shape(backbone, "embed_images", "global_", found.global_, 2, n_images)
    _require_shape(backbone, "embed_images", "local", found.local, 4, n_images)


def require_text_embedding(found: Any, n_texts: int, backbone: Backbone) -> None:
    """
    Raises:
        ConformanceError: it is no TextEmbedding of that many texts.
    """
    if not isinstance(found, TextEmbedding):
        _refuse(backbone, "embed_texts", f"returned {_type(found)}, not a TextEmbedding")
    _require_shape(backbone, "embed_texts", "global_", found.global_, 2, n_texts)
    _require_shape(backbone, "embed_texts", "local", found.local, 3, n_texts)
    _require_shape(backbone, "embed_texts", "mask", found.mask, 2, n_texts)


def _require_shape(backbone: Backbone, method: str, field: str, found: Any, n_dimensions: int, n: int) -> None:
    if not isinstance(found, Tensor):
        _refuse(backbone, method, f"returned `{field}` as {_type(found)}, not a tensor")
    if found.dim() != n_dimensions or len(found) != n:
        _refuse(backbone, method, f"returned `{field}` of shape {tuple(found.shape)}; {n_dimensions} dimensions, {n} first, are expected")


def _refuse(backbone: Backbone, method: str, what: str) -> None:
    raise ConformanceError(f"{backbone.spec.name}: {method}() {what}. What is owed: {OWED}.")


def _type(found: Any) -> str:
    return type(found).__name__
