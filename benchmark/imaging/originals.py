"""Ground truth of images in their own pixels, for predictions that are mapped back from the frame before they are scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.imaging.geometry import Frame
from benchmark.metrics.boxes import Boxes

FRAME = "original"  # its name, as boxes and exported files say it
DrawMasks = Callable[[tuple[int, int]], np.ndarray]


@dataclass(frozen=True)
class Originals:
    """
    Attributes:
        frames: how each image lies in the frame.
        boxes: per image (k, 4) float64 xywh.
        draw_masks: per image, call with its height and width for (C, H, W) bool; None for images without masks.
    """

    frames: Sequence[Frame]
    boxes: Sequence[np.ndarray]
    draw_masks: Sequence[DrawMasks | None]

    def truth(self, labels: Sequence[np.ndarray]) -> Boxes:
        """All boxes.

        Args:
            labels: per image (k,) int64.
        """
        counts = [len(boxes) for boxes in self.boxes]
        return Boxes(
            image=np.repeat(np.arange(len(counts)), counts).astype(np.int64),
            xywh=np.concatenate([*self.boxes, np.zeros((0, 4))]).astype(np.float64),
            label=np.concatenate([*labels, np.zeros(0, np.int64)]).astype(np.int64),
            n_images=len(counts),
            frame=FRAME,
        )

    def masks(self, image: int) -> np.ndarray:
        """(C, height, width) bool of one image, drawn anew. Raises ValueError where it has none."""
        draw, frame = self.draw_masks[image], self.frames[image]
        if draw is None:
            raise ValueError(f"image {image} has no masks")
        return frame.at_image_size(draw((frame.height, frame.width)))
