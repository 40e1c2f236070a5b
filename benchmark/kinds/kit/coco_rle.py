"""COCO's run-length code as predictions are stored in it; reading and checking it is `benchmark.imaging.coco_rle`."""

from __future__ import annotations

import numpy as np
from pycocotools import mask as coco_mask

from benchmark.imaging.coco_rle import decode, parts

__all__ = ["decode", "encode", "parts"]


def encode(masks: np.ndarray) -> list[bytes]:
    """COCO's compressed text of each class of one image; `masks`: (C, S, S) bool."""
    return [code["counts"] for code in coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))]
