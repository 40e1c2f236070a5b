"""What most readers share: a sample put together from answers about one image, asked by its id.

A reader derives from `ImageReader`, sets what `Reader` asks for when it opens, and overrides the questions that its release answers. Boxes:
`boxed`; run-length codes: `coded`. `UnnamedReader` is for data whose agreement lets no id leave.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from benchmark.imaging.picture import GreyRule, read_grey
from benchmark.readers.base import Reader, Sample
from benchmark.readers.kit.boxes import require_size
from benchmark.readers.kit.unnamed import read_unnamed


class ImageReader(Reader):
    """Base of readers that answer by image.

    Attributes:
        side: rows and columns of every image, in pixels; None where images come in every size.
        drawn: what of the labels is in pixels of that size, for sentences.
        masked: whether images have masks.
        view: of every image, where the release has one only.
        grey: how coloured pictures become grey.
    """

    side: ClassVar[int | None] = None
    drawn: ClassVar[str] = "boxes"
    masked: ClassVar[bool] = False
    view: ClassVar[str | None] = None
    grey: ClassVar[GreyRule] = GreyRule.LUMA

    def sample(self, sample_id: str) -> Sample:
        files, labels = self.files_of(sample_id), self.labels_of(sample_id)
        return Sample(
            id=sample_id,
            patient_id=self.patient_of(sample_id),
            image=partial(self.image, sample_id),
            files=files,
            masks=partial(self.masks, sample_id) if self.masked else None,
            positive=self.is_positive(sample_id) if labels is None else bool((labels == 1).any()),
            report=self.report_of(sample_id),
            view=self.view_of(sample_id),
            sex=self.sex_of(sample_id),
            age_decade=self.age_decade_of(sample_id),
            labels=labels,
        )

    def files_of(self, sample_id: str) -> tuple[Path, ...]:
        return (self.path_of(sample_id),)

    def patient_of(self, sample_id: str) -> str | None:
        """None where the release carries no patients."""
        return None

    def view_of(self, sample_id: str) -> str | None:
        return self.view

    def sex_of(self, sample_id: str) -> str | None:
        """As `Sample.sex`."""
        return None

    def age_decade_of(self, sample_id: str) -> int | None:
        """As `Sample.age_decade`."""
        return None

    def report_of(self, sample_id: str) -> str | None:
        """Never logged; None for datasets without reports."""
        return None

    def labels_of(self, sample_id: str) -> np.ndarray | None:
        """(C,) int8 of 1, 0 and -1 in the card's class order, as `Sample.labels`; they also say whether an image is positive."""
        return None

    def is_positive(self, sample_id: str) -> bool | None:
        """Whether an image without whole-image labels has a finding; None where only its masks tell."""
        return None

    def where_of(self, sample_id: str) -> str:
        """What finds the image for those who hold it, for sentences."""
        return f"{self.images[sample_id]} (id {sample_id})"

    def decode(self, sample_id: str) -> np.ndarray:
        """(H, W) uint8 or uint16 as the file has it."""
        return read_grey(self.images[sample_id], sample_id, self.grey)

    def image(self, sample_id: str) -> np.ndarray:
        """`decode`, of the size that the labels are drawn on. Raises ImageError where it is not."""
        pixels = self.decode(sample_id)
        self.require_frame(sample_id, pixels.shape)
        return pixels

    def masks(self, sample_id: str, shape: tuple[int, int]) -> np.ndarray:
        """(C, H, W) bool of an image of that shape, where images are `masked`. Raises ImageError for a shape that is not the image's."""
        raise NotImplementedError(f"{type(self).__name__} is masked and draws no masks")

    def require_frame(self, sample_id: str, shape: tuple[int, ...]) -> None:
        """Raises ImageError for a shape (H, W, in pixels) that is not `side`."""
        if self.side is not None:
            require_size(shape, (self.side, self.side), self.where_of(sample_id), of=self.drawn)


class UnnamedReader(ImageReader):
    """Base of readers whose errors name the row that lists an image, never the image."""

    @abstractmethod
    def where_of(self, sample_id: str) -> str: ...

    def decode(self, sample_id: str) -> np.ndarray:
        return read_unnamed(partial(read_grey, rule=self.grey), self.images[sample_id], self.where_of(sample_id))
