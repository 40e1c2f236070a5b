"""What readers of boxes share: the sample of an image with its boxes, masks filled from them, and which images have a finding.

A reader of such a release derives from `BoxedReader`, sets `boxes` and `subset` when it opens, and overrides what is otherwise there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from benchmark.cards import SplitRule
from benchmark.readers.base import Sample
from benchmark.readers.kit.boxes import box_masks
from benchmark.readers.kit.holdout import official_test_and_holdout
from benchmark.readers.kit.image_reader import ImageReader
from benchmark.readers.kit.splits import Splits
from benchmark.readers.kit.tables import locate
from benchmark.readers.kit.walk import find_files


class BoxedReader(ImageReader):
    """Base of readers whose images have boxes.

    Attributes:
        boxes: id -> (n, 4) float64 xywh in pixels of the original image, and (n,) int64 index into the card's classes.
        subset: id -> the release's own list that the image stands in, in label-file order; of releases without lists, empty.
        rule: name of the split rule, for `split`.
        tested: the list that is the test set, for `split`.
        n_unlisted: image files that no list names, as `find_listed` counts them.
    """

    masked = True
    boxes: dict[str, tuple[np.ndarray, np.ndarray]]
    subset: dict[str, str]
    rule: ClassVar[str] = "official test, stratified holdout"
    tested: ClassVar[str] = "test"
    n_unlisted: int = 0

    def sample(self, sample_id: str) -> Sample:
        sample = super().sample(sample_id)
        boxes, labels = self.boxes[sample_id]
        return replace(sample, boxes_xywh=boxes, box_labels=labels)

    def masks(self, sample_id: str, shape: tuple[int, int]) -> np.ndarray:
        """(C, H, W) bool: filled boxes, united by class. Raises ImageError for a shape that the labels are not drawn on."""
        self.require_frame(sample_id, shape)
        boxes, labels = self.boxes[sample_id]
        return box_masks(boxes, labels, len(self.card.classes), shape)

    def split(self, rule: SplitRule) -> Splits:
        """The official test list, and a validation share of the official training list held out by kind, for releases with such lists.

        Raises:
            SplitError: another rule, or one without its numbers; fewer than two training images of a kind.
        """
        return official_test_and_holdout(self.ids_of("train"), self.ids_of(self.tested), self.kind_of, rule, self.rule, self.card.name)

    def find_listed(self, folder: Path, suffix: str, listed: Collection[str], table: str, listed_in: str = "") -> dict[str, Path]:
        """The image file of each listed id. Other files of the folder are counted and left out, with a warning.

        Args:
            suffix: of image files, in small letters.
            table: that lists the images, for sentences; `listed_in` where a missing image asks for more words.

        Raises:
            DataError, PartialRelease: as `locate`.
        """
        found = find_files(folder, suffix)
        located = locate(listed, found, self.card.name, listed_in or table, named=self.names_files)
        n_unlisted = len(found.keys() - located.keys())
        self.n_unlisted += n_unlisted
        if n_unlisted:
            self.warnings.append(f"{self.card.name}: {n_unlisted:,} images in {folder.name} have no row in {table} and are left out.")
        return located

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
