"""Phrase grounding: where an image's places are near to a text, in pixels of the original image. Nothing is trained.

The map is the raw cosine of the text with every place, upsampled bilinearly; scores are in `metrics.grounding`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmark.errors import ConformanceError
from benchmark.imaging.geometry import Frame
from benchmark.metrics import grounding

if TYPE_CHECKING:
    from torch import Tensor


COLUMNS = grounding.COLUMNS


def similarity_maps(places: Tensor, texts: Tensor) -> Tensor:
    """(M, h, w) cosine of each text with every place of one image.

    Args:
        places: (D, h, w) local image embedding.
        texts: (M, D) texts as `VisionLanguageBackbone.among_places` gives them.

    Raises:
        ConformanceError: places and texts do not share a space.
    """
    import torch
    from torch.nn import functional as F

    if places.shape[0] != texts.shape[1]:
        raise ConformanceError(f"embed_images() gives places of width {places.shape[0]}, embed_texts() texts of width {texts.shape[1]}.")
    return torch.einsum("dhw,md->mhw", F.normalize(places.float(), dim=0), F.normalize(texts.float(), dim=1))


def to_original(similarity: Tensor, frame: Frame) -> np.ndarray:
    """(H, W) float32 in original pixels from a map (h, w) over the whole padded frame: bilinear, padding cut off."""
    from torch.nn import functional as F

    size = (frame.padded_height, frame.padded_width)
    whole = F.interpolate(similarity[None, None].float(), size=size, mode="bilinear", align_corners=False)[0, 0]
    top, left = frame.pad_top, frame.pad_left
    return whole[top : top + frame.height, left : left + frame.width].cpu().numpy()


def score_phrase(similarity: Tensor, boxes_xywh: np.ndarray, frame: Frame) -> np.ndarray:
    """Values of `COLUMNS` for one phrase: its map against the union of its boxes, and a baseline that points at the middle."""
    inside = grounding.union_of_boxes(boxes_xywh, (frame.height, frame.width))
    return _scored(to_original(similarity, frame), inside)


def score_mask(similarity: Tensor, inside: np.ndarray, frame: Frame) -> np.ndarray:
    """Values of `COLUMNS` and of `metrics.grounding.MASK_COLUMNS` for one finding: its map against its mask.

    Args:
        inside: (H, W) bool in original pixels, not empty.
    """
    whole = to_original(similarity, frame)
    return np.array([*_scored(whole, inside), *grounding.mask_overlap(whole, inside)])


def _scored(whole: np.ndarray, inside: np.ndarray) -> np.ndarray:
    found = grounding.ground(whole, inside)
    centre = grounding.ground(grounding.centre_prior(whole.shape), inside)
    return np.array([found.cnr, found.cnr_abs, found.miou, found.pointing, centre.cnr, centre.pointing])
