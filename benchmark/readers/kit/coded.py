"""What readers of run-length codes share: masks drawn from several codes an image, and the lines that those stand in. The code: `rle`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from benchmark.readers.base import Check
from benchmark.readers.kit.image_reader import ImageReader
from benchmark.readers.kit.rle import code_check, union_of


class CodedReader(ImageReader):
    """Base of readers whose masks of one class are run-length codes over square images of `side` pixels.

    Attributes:
        codes: id -> (line, code) of each mask, in table order; none for an image without a finding.
    """

    drawn, masked = "masks", True
    side: ClassVar[int]  # a code cannot be drawn without it
    codes: dict[str, Sequence[tuple[int, str]]]

    @abstractmethod
    def row_of(self, line: int, sample_id: str) -> str:
        """Dataset, table and line, for sentences."""

    def masks(self, sample_id: str, shape: tuple[int, int]) -> np.ndarray:
        """(1, H, W) bool: the union of the image's masks, which may overlap."""
        self.require_frame(sample_id, shape)
        return union_of(self._codes_of(sample_id), self.side)[None]

    def is_positive(self, sample_id: str) -> bool:
        return bool(self.codes[sample_id])

    def check_codes(self) -> Check:
        """Whether every code of the table is one, without drawing masks."""
        return code_check([code for sample_id in self.codes for code in self._codes_of(sample_id)], self.side)

    def _codes_of(self, sample_id: str) -> list[tuple[str, str]]:
        return [(self.row_of(line, sample_id), code) for line, code in self.codes[sample_id]]
