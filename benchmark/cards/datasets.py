"""Datasets: a public release, what is in it, and how it is split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import model_validator

from benchmark.cards.backbones import Contamination, Normalisation
from benchmark.cards.base import Card, Later, Target
from benchmark.cards.own_data import BLOCKS, CocoData, CsvData, MaskData, OwnData, PairData, YoloData, completed
from benchmark.cards.own_split import OwnSplit


class SplitCounts(Card):
    """Expected size of one split and its digests, where known.

    Attributes:
        sha256_sorted: SHA-256 of the distinct ids, sorted, joined by a newline (docs/splits.md).
        sha256_ordered: the same in file order, for splits whose order matters.
    """

    n_images: int
    n_positive: int | None = None
    n_boxes: int | None = None
    n_patients: int | None = None
    sha256_sorted: str | None = None
    sha256_ordered: str | None = None


class SplitRule(Card):
    """How a split list follows from the public release: a rule's name with its numbers, or explicit patient lists.

    Lists of images given as files are the rule `lists DIGEST`; the files travel beside the job (`benchmark.readers.kit.lists`).
    """

    rule: str
    seed: int | None = None
    validation_share: float | None = None
    test_share: float | None = None
    patients: dict[str, tuple[str, ...]] | None = None
    expected: dict[str, SplitCounts] = {}

    @property
    def tests(self) -> bool:
        """Whether anything of it is tested; of the rule `pretraining` nothing is, in any dataset."""
        return self.rule != "pretraining"


class Deviation(Card):
    """A known blemish of a release that is tolerated up to a count."""

    what: str
    at_most: int
    why: str


class CollectionCard(Card):
    """Images that backbones are pre-trained on and that nobody is scored on here; what datasets share with it, they declare."""

    name: str


class DatasetCard(Card):
    """A public release: where it comes from, what is in it, and how it is split.

    Attributes:
        reader: module in `benchmark/readers`.
        folder: the release's own folder below the data folder. Cards of one folder are one release.
        shares_with: other dataset or collection -> what the release shares with it: source, images or labels. Either of a pair declares it,
            and what no card declares is not shared. None: nobody looked, and every pretraining counts as having seen it.
        redistribution: what may leave the output folder (docs/cluster.md).
        classes: mask and box classes, in channel order.
        targets: kinds of ground truth the reader gives.
        mask_source: "boxes" when masks are filled boxes, and their score is box-mask Dice; "none" for cards of whole-image labels.
        uncertain: for label files that say "uncertain": what such a label of a class counts as; unlisted classes leave the image out.
        intensity: pixel rule of LoVT's released conversion for this dataset.
        bits: a grey value of the release has at most, as its files are published.
        statistics: LoVT's training-split statistics, applied to every backbone in `published` and `corrected`.
        expected: counts of the public release by name ("images", "label_rows", "boxes", ...).
        terms: how the data is had: a free download, a free account whose terms one accepts there, or an agreement that is signed and
            granted. None: nobody looked.
        image_source: name of the source that the images come from, where others took theirs from it too: the releases are one family, which
            a mean over releases counts once. Empty: the release is a family of its own.
        patients_of: release whose names of patients these are, where the reader knows them: a patient of two such releases is one person.
        patients_known: False when the release carries no usable patient id; resampling is then by image.
        parts: for transfer: the dataset that is trained and validated on, and the one that is tested on; empty for every release.
        merged: for transfer: class -> names that it has in either part, beside its own.
        coco, masks, csv, yolo, pairs: what the generic reader of that name needs; a card has one of them or none.
        split: how a card with such a block splits its images.
    """

    name: str
    title: str
    reader: str
    source: str
    licence: str
    redistribution: Literal["open", "ids", "none"]
    folder: str
    shares_with: dict[str, Contamination] | None = None
    classes: tuple[str, ...]
    targets: tuple[Target, ...]
    mask_source: Literal["masks", "boxes", "none"]
    uncertain: dict[str, Literal["positive", "negative"]] = {}
    intensity: Literal["as-stored", "equalised"]
    bits: int = 8
    statistics: Normalisation
    terms: Literal["download", "account", "agreement"] | None = None
    image_source: str = ""
    patients_of: str = ""
    patients_known: bool
    files: dict[str, str] = {}
    expected: dict[str, int] = {}
    splits: dict[str, SplitRule]
    deviations: tuple[Deviation, ...] = ()
    parts: dict[Literal["train", "test"], str] = {}
    merged: dict[str, tuple[str, ...]] = {}
    coco: Later[CocoData | None] = None
    masks: Later[MaskData | None] = None
    csv: Later[CsvData | None] = None
    yolo: Later[YoloData | None] = None
    pairs: Later[PairData | None] = None
    split: Later[OwnSplit | None] = None
    notes: str = ""

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, given: Any) -> Any:
        return completed(given) if isinstance(given, Mapping) else given

    @model_validator(mode="after")
    def _one_block(self) -> DatasetCard:
        blocks = [name for name in BLOCKS if getattr(self, name) is not None]
        if self.reader in BLOCKS and blocks != [self.reader]:
            raise ValueError(f"the reader {self.reader} needs the block `{self.reader}:` and no other; found {', '.join(blocks) or 'none'}")
        if self.reader not in BLOCKS and blocks:
            raise ValueError(f"the block `{blocks[0]}:` is of the reader {blocks[0]}, and `reader` is {self.reader}")
        return self

    @property
    def own(self) -> OwnData | None:
        """The block of a generic reader; None for releases that have a reader of their own."""
        found: OwnData | None = getattr(self, self.reader, None) if self.reader in BLOCKS else None
        return found

    @property
    def family(self) -> str:
        """Name of the source family of its images."""
        return self.image_source or self.folder
