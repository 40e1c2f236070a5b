"""What readers of boxes share: the sample of an image with its boxes, masks filled from them, and which images have a finding.

A reader of such a release derives from `BoxedReader`, sets `boxes` and `subset` when it opens, and overrides what is otherwise there.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import numpy as np

from benchmark.imaging.picture import GreyRule, read_grey
from benchmark.readers.base import Reader, Sample
from benchmark.readers.kit.boxes import box_masks, require_size


class BoxedReader(Reader):
    """Base of readers whose images have boxes.

    Attributes:
        side: rows and columns of every image, in pixels; None where images come in every size.
        drawn: what of the labels is in pixels of that size, for sentences.
        view: of every image, where the release has one only.
        boxes: id -> (n, 4) float64 xywh in pixels of the original image, and (n,) int64 index into the card's classes.
        subset: id -> the release's own list that the image stands in, in label-file order; of releases without lists, empty.
    """

    side: ClassVar[int | None] = None
    drawn: ClassVar[str] = "boxes"
    view: ClassVar[str | None] = None
    boxes: dict[str, tuple[np.ndarray, np.ndarray]]
    subset: dict[str, str]

    def sample(self, sample_id: str) -> Sample:
        path = self.path_of(sample_id)
        boxes, labels = self.boxes[sample_id]
        return Sample(
            id=sample_id,
            patient_id=self.patient_of(sample_id),
            image=partial(self.image, sample_id),
            masks=partial(self.masks, sample_id),
            boxes_xywh=boxes,
            box_labels=labels,
            files=(path,),
            positive=self.is_positive(sample_id),
            view=self.view,
        )

    def patient_of(self, sample_id: str) -> str | None:
        """None where the release carries no patients."""
        return None

    def decode(self, sample_id: str) -> np.ndarray:
        """(H, W) uint8 or uint16 as the file has it; of coloured pictures the luma."""
        return read_grey(self.images[sample_id], sample_id, GreyRule.LUMA)

    def image(self, sample_id: str) -> np.ndarray:
        """`decode`, of the size that the labels are drawn on. Raises ImageError where it is not."""
        pixels = self.decode(sample_id)
        self.require_frame(sample_id, pixels.shape)
        return pixels

    def masks(self, sample_id: str, shape: tuple[int, int]) -> np.ndarray:
        """(C, H, W) bool: filled boxes, united by class. Raises ImageError for a shape that the labels are not drawn on."""
        self.require_frame(sample_id, shape)
        boxes, labels = self.boxes[sample_id]
        return box_masks(boxes, labels, len(self.card.classes), shape)

    def require_frame(self, sample_id: str, shape: tuple[int, ...]) -> None:
        """Raises ImageError for a shape (H, W, in pixels) that is not `side`."""
        if self.side is not None:
            require_size(shape, (self.side, self.side), f"{self.images[sample_id]} (id {sample_id})", of=self.drawn)

    def n_boxes(self, sample_id: str) -> int:
        return len(self.boxes[sample_id][1])

    def is_positive(self, sample_id: str) -> bool:
        return self.n_boxes(sample_id) > 0

    def kind_of(self, sample_id: str) -> str:
        """What hold-outs are stratified by."""
        return "with a finding" if self.is_positive(sample_id) else "normal"

    def ids_of(self, subset: str) -> tuple[str, ...]:
        """Ids of one of the release's own lists, in label-file order."""
        return tuple(i for i, other in self.subset.items() if other == subset)

    def counts_of(self, subset: str) -> dict[str, int]:
        """Images, images with a finding, and boxes of a subset, under the names that cards expect."""
        ids = self.ids_of(subset)
        n_boxes = [self.n_boxes(i) for i in ids]
        return {
            f"{subset}_images": len(ids),
            f"{subset}_positives": sum(n > 0 for n in n_boxes),
            f"{subset}_boxes": sum(n_boxes),
        }


def boxes_of(listed: list[tuple[int, tuple[float, ...]]]) -> tuple[np.ndarray, np.ndarray]:
    """(n, 4) float64 and (n,) int64 of (label, box) pairs, also of none."""
    boxes = np.array([box for _, box in listed], dtype=np.float64).reshape(-1, 4)
    return boxes, np.array([label for label, _ in listed], dtype=np.int64)
