"""Where pairs come from: any reader that gives texts. What more a reader can tell of reports and studies is asked through two protocols.

No dataset is known by name: its card names the images to pretrain on, its reader gives their texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from benchmark.cards import DatasetCard, SplitRule
from benchmark.cards.own_split import OWN_SPLIT
from benchmark.errors import DataError
from benchmark.pretraining.reading import WHOLE
from benchmark.readers.base import Reader
from benchmark.readers.kit.image_reader import ImageReader

SPLIT = "pretraining"


@runtime_checkable
class TellsSections(Protocol):
    """A reader that tells the sections of a report apart."""

    def sections_of(self, sample_id: str) -> Mapping[str, str]:
        """Name -> text, `findings` and `impression` among them where the report has them; never logged."""


@runtime_checkable
class TellsStudies(Protocol):
    """A reader that knows which images one report is of."""

    def study_of(self, sample_id: str) -> str:
        """Equal for images of one study."""


def rule_of(card: DatasetCard) -> SplitRule:
    """The split whose training and validation images backbones may be pretrained on.

    Raises:
        DataError: the card has none.
    """
    rule = card.splits.get(SPLIT) or card.splits.get(OWN_SPLIT)
    if rule is None:
        raise DataError(f"{card.name}: its card has no split `{SPLIT}`, which names the images that backbones may be pretrained on.")
    return rule


def images_of(reader: Reader) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Images to pretrain on, and to validate on, of the split `pretraining`, or of one's own data's own. Test images are never among them.

    Raises:
        DataError: the card names no such images, or test images among them.
    """
    parts = reader.split(rule_of(reader.card))
    if refused := {*parts["test"]} & {*parts["train"], *parts["validation"]}:
        raise DataError(f"{reader.card.name}: {len(refused):,} test images are among those to pretrain on. Mend `split` of the card.")
    return parts["train"], parts["validation"]


def sections_of(reader: Reader, sample_id: str) -> Mapping[str, str]:
    """Sections of an image's report; a reader that does not tell them apart gives the whole as one."""
    if isinstance(reader, TellsSections):
        return reader.sections_of(sample_id)
    return {WHOLE: reader.sample(sample_id).report or ""}


def patient_of(reader: Reader, sample_id: str) -> str:
    """An image is a patient where the reader knows none. No report is read for it where the reader answers by image."""
    known = reader.patient_of(sample_id) if isinstance(reader, ImageReader) else reader.sample(sample_id).patient_id
    return known or sample_id


def study_of(reader: Reader, sample_id: str) -> str:
    """An image is a study where the reader knows none."""
    return reader.study_of(sample_id) if isinstance(reader, TellsStudies) else sample_id
