"""CheXpert's training images with their labels, and CheXlocalize's images with masks to validate and test on.

A transfer (`readers.transfer`) whose two sides have another ground truth: labels on one, masks on the other. CheXlocalize's images are
CheXpert's own validation and test images, and the numbers of patients are one set, so that a patient on both sides is refused.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import cast

import numpy as np

from benchmark import registry
from benchmark.cards import DatasetCard, SplitRule
from benchmark.errors import CardError, SplitError
from benchmark.observations import CHEXPERT_OBSERVATIONS
from benchmark.readers import transfer
from benchmark.readers.base import Sample
from benchmark.readers.kit.image_reader import ImageReader
from benchmark.readers.kit.splits import Splits, check_disjoint


class DatasetReader(transfer.DatasetReader):
    """Trains on the first dataset's labels; validates and tests on the second, where a finding is there whose mask is not empty."""

    def sample(self, sample_id: str) -> Sample:
        reader, own_id = self._release_of(sample_id)
        sample = reader.sample(own_id)
        patient = None if sample.patient_id is None else f"{self._patients}/{sample.patient_id}"
        if reader is self._releases["train"]:
            assert sample.labels is not None
            labels = np.array([sample.labels[k] for (k,) in self._names["train"]], np.int8)
            return replace(sample, id=sample_id, patient_id=patient, labels=labels, positive=bool((labels == 1).any()))
        boxes, box_labels = self._merged_boxes("test", sample)
        labels = np.isin(np.arange(len(self.card.classes)), box_labels).astype(np.int8)
        return replace(
            sample,
            id=sample_id,
            patient_id=patient,
            masks=partial(self._masks, "test", sample),
            boxes_xywh=boxes,
            box_labels=box_labels,
            labels=labels,
            positive=bool(labels.any()),
        )

    def split(self, rule: SplitRule) -> Splits:
        """`train A, test B`: the training images of split A, and the validation and test images of split B.

        Raises:
            SplitError: another rule, or a patient of the training images among the others.
        """
        made = self._both_sides(rule)
        self._require_other_patients(made["train"]["train"], (*made["test"]["validation"], *made["test"]["test"]))
        splits = {
            "train": self._all_marked("train", made["train"]["train"]),
            "validation": self._all_marked("test", made["test"]["validation"]),
            "test": self._all_marked("test", made["test"]["test"]),
        }
        check_disjoint(splits)
        return splits

    @property
    def _patients(self) -> str:
        """The release whose numbers of patients both sides have."""
        return registry.dataset(self.card.parts["test"]).patients_of

    def _as_strict(self, card: DatasetCard) -> DatasetCard:
        """The card of the labels asks for every finding that this card has; the tables have more than that card asks for."""
        strict = super()._as_strict(card)
        if card.name != self.card.parts["train"]:
            return strict
        wanted = {name for one in self.card.classes for name in (one, *self.card.merged.get(one, ()))}
        return strict.model_copy(update={"classes": tuple(name for name in CHEXPERT_OBSERVATIONS if name in wanted)})

    def _classes_of(self, card: DatasetCard) -> tuple[tuple[int, ...], ...]:
        found = super()._classes_of(card)
        if card.name == self.card.parts["train"] and any(len(indices) > 1 for indices in found):
            raise CardError(f"{self.card.name}: a class has several labels of {card.name}; mend `merged`.")
        return found

    def _require_other_patients(self, train: tuple[str, ...], others: tuple[str, ...]) -> None:
        sides = {"train": train, "test": others}
        of = {side: cast("ImageReader", self._releases[side]).patient_of for side in transfer.ROLES}
        learned, shown = ({of[side](i) for i in sides[side]} for side in transfer.ROLES)
        if learned & shown:
            raise SplitError(
                f"{self.card.name}: {len(learned & shown):,} patients of the training images are among those validated and tested on. "
                f"{self.card.parts['test']} is drawn on the validation and test images of {self.card.parts['train']}, which no training "
                "table has: is train.csv the official one?"
            )
