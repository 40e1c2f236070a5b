"""The task's frame: pad to a square, resize. Images, masks and boxes go there by one object, and boxes come back.

The order is LoVT's (docs/sources.md, LoVT): masks to the image's size, zero padding, resize. All of it through Pillow, whose
bilinear filter antialiases; another library's resize gives other pixels. Maps of probabilities come back by OpenCV, which does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import PIL.Image
from PIL.Image import Resampling


@dataclass(frozen=True)
class Frame:
    """How one image lies in its padded square frame.

    Attributes:
        height, width: of the original image in pixels.
        pad_left, pad_top: zeros added on the left and as many on the right; on top and as many at the bottom.
        size: side of the frame in pixels.
    """

    height: int
    width: int
    pad_left: int
    pad_top: int
    size: int

    @classmethod
    def of(cls, height: int, width: int, size: int) -> Frame:
        """Padding rounded down, as LoVT: after an odd difference the padded image is one pixel short of square."""
        if height < 1 or width < 1 or size < 1:
            raise ValueError(f"a frame needs positive sizes, not {height} x {width} -> {size}")
        side = max(height, width)
        return cls(height, width, (side - width) // 2, (side - height) // 2, size)

    @property
    def padded_height(self) -> int:
        return self.height + 2 * self.pad_top

    @property
    def padded_width(self) -> int:
        return self.width + 2 * self.pad_left

    @property
    def scale_x(self) -> float:
        """Frame pixels per original pixel along a row."""
        return self.size / self.padded_width

    @property
    def scale_y(self) -> float:
        """Frame pixels per original pixel along a column; differs from `scale_x` after an odd difference."""
        return self.size / self.padded_height

    @property
    def name(self) -> str:
        return f"padded-{self.size}"

    def to_frame(self, boxes_xywh: np.ndarray) -> np.ndarray:
        """(n, 4) float64 boxes in original pixels -> in frame pixels."""
        boxes = np.asarray(boxes_xywh, dtype=np.float64).reshape(-1, 4)
        return (boxes + self._offset) * self._scale

    def to_original(self, boxes_xywh: np.ndarray) -> np.ndarray:
        """(n, 4) float64 boxes in frame pixels -> in original pixels; not cut at the image's edge."""
        boxes = np.asarray(boxes_xywh, dtype=np.float64).reshape(-1, 4)
        return boxes / self._scale - self._offset

    def place_image(self, grey: np.ndarray) -> np.ndarray:
        """(height, width) uint8 -> (size, size) uint8, bilinear."""
        if grey.shape != (self.height, self.width) or grey.dtype != np.uint8:
            raise ValueError(f"expected uint8 ({self.height}, {self.width}), not {grey.dtype} {grey.shape}")
        return self._place(grey, Resampling.BILINEAR)

    def place_masks(self, masks: np.ndarray) -> np.ndarray:
        """(C, H, W) bool -> (C, size, size) bool, nearest; masks of another size than the image are first resized to it, nearest."""
        placed = np.empty((len(masks), self.size, self.size), dtype=bool)
        for channel, mask in enumerate(self.at_image_size(masks)):
            placed[channel] = self._place(mask.view(np.uint8), Resampling.NEAREST) > 0
        return placed

    def at_image_size(self, masks: np.ndarray) -> np.ndarray:
        """(C, H, W) bool masks of any size -> (C, height, width) bool, nearest; the same array where they have it."""
        if masks.ndim != 3 or masks.dtype != np.bool_:
            raise ValueError(f"expected bool (C, H, W), not {masks.dtype} {masks.shape}")
        if masks.shape[1:] == (self.height, self.width):
            return masks
        sized = [PIL.Image.fromarray(mask.astype(np.uint8)).resize((self.width, self.height), Resampling.NEAREST) for mask in masks]
        return np.stack([np.asarray(one) > 0 for one in sized]) if sized else np.zeros((0, self.height, self.width), bool)

    def masks_to_original(self, masks: np.ndarray) -> np.ndarray:
        """(C, size, size) bool masks of the frame -> (C, height, width) bool: each original pixel takes the frame pixel it lies in."""
        if masks.ndim != 3 or masks.dtype != np.bool_ or masks.shape[1:] != (self.size, self.size):
            raise ValueError(f"expected bool (C, {self.size}, {self.size}), not {masks.dtype} {masks.shape}")
        rows = (np.arange(self.height) + self.pad_top + 0.5) * self.scale_y
        columns = (np.arange(self.width) + self.pad_left + 0.5) * self.scale_x
        found: np.ndarray = masks[:, rows.astype(np.int64)[:, None], columns.astype(np.int64)]
        return found

    def map_to_original(self, values: np.ndarray) -> np.ndarray:
        """(size, size) float32 map of the frame -> (height, width) float32: bilinear between pixel centres, the padding cut off.

        No value leaves the range of the map, which is the map itself where image and frame have one size.
        """
        import cv2  # what only plans and reports has no use for it

        if values.dtype != np.float32 or values.shape != (self.size, self.size):
            raise ValueError(f"expected float32 ({self.size}, {self.size}), not {values.dtype} {values.shape}")
        whole = cv2.resize(values, (self.padded_width, self.padded_height), interpolation=cv2.INTER_LINEAR)
        image = whole[self.pad_top : self.pad_top + self.height, self.pad_left : self.pad_left + self.width]
        return np.clip(image, values.min(), values.max())  # sums of weights round, so that a flat map would not stay flat

    @property
    def _offset(self) -> np.ndarray:
        return np.array([self.pad_left, self.pad_top, 0, 0], dtype=np.float64)

    @property
    def _scale(self) -> np.ndarray:
        return np.array([self.scale_x, self.scale_y, self.scale_x, self.scale_y])

    def _place(self, grey: np.ndarray, resampling: Resampling) -> np.ndarray:
        if self.pad_left or self.pad_top:
            grey = np.pad(grey, ((self.pad_top, self.pad_top), (self.pad_left, self.pad_left)))
        return np.asarray(PIL.Image.fromarray(grey).resize((self.size, self.size), resampling))
