"""Your own data: one typed block for each generic reader. Paths are relative to the dataset's folder.

A card with such a block needs no more than its name, its classes and the block: the rest has defaults here (docs/your-data.md). No block is
in a job's reference to its dataset; what it decides enters the dataset's digest (`benchmark.readers.kit.own`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import ValidationError, field_validator, model_validator

from benchmark.cards.base import Card, Later, Target
from benchmark.cards.own_split import OWN_SPLIT, OwnSplit, SplitName

MaskSource = Literal["masks", "boxes", "none"]
EVEN = {"mean": (0.5,), "std": (0.2887,)}  # of an even histogram, which equalising gives
_BRACED = re.compile(r"\{([^{}]*)\}")


class OwnData(Card):
    """What the blocks of all generic readers have in common.

    Attributes:
        images: folder of the images.
        patient_pattern: regular expression; its one group, found in an image's path below `images`, is the patient.
        leave_out: images that are not read, by their path below `images`.
        gives: kinds of ground truth.
    """

    images: str = "."
    patient_pattern: str = ""
    leave_out: tuple[str, ...] = ()

    gives: ClassVar[tuple[Target, ...]] = ()

    @field_validator("patient_pattern")
    @classmethod
    def _one_group(cls, pattern: str) -> str:
        if pattern:
            try:
                groups = re.compile(pattern).groups
            except re.error as error:
                raise ValueError(f"no regular expression ({error})") from None
            if groups != 1:
                raise ValueError(f"{groups} groups in parentheses; the one group is the patient")
        return pattern

    @field_validator("images", "annotations", "masks", "labels", "table", "texts", check_fields=False)
    @classmethod
    def _inside(cls, given: Any) -> Any:
        for path in given.values() if isinstance(given, Mapping) else [given]:
            if isinstance(path, str) and (path.startswith(("/", "\\", "~")) or ".." in re.split(r"[/\\]", path)):
                raise ValueError("paths are relative to the dataset's folder and lead nowhere else")
        return given

    @property
    def targets(self) -> tuple[Target, ...]:
        return self.gives

    @property
    def mask_source(self) -> MaskSource:
        return "none"

    @property
    def names_patients(self) -> bool:
        return bool(self.patient_pattern)


class CocoData(OwnData):
    """COCO's JSON: boxes, polygons and run-length codes.

    Attributes:
        annotations: the file, or one for each split, which is then how images are split unless the card's `split` says otherwise.
        masks: what masks are made of: filled boxes, or `segmentation`.
        categories: name of a category in the file -> class of the card; several may become one. Empty: the names are the classes.
        patient_key: key of an image's entry that names the patient.
    """

    annotations: str | dict[SplitName, str]
    masks: Literal["boxes", "segmentation"] = "boxes"
    categories: dict[str, str] = {}
    patient_key: str = ""

    gives = ("masks", "boxes")

    @property
    def mask_source(self) -> MaskSource:
        return "boxes" if self.masks == "boxes" else "masks"

    @property
    def names_patients(self) -> bool:
        return bool(self.patient_pattern or self.patient_key)


class MaskData(OwnData):
    """Masks as pictures of their image's size.

    Attributes:
        masks: where a mask lies, without the ending: `{stem}` is the image's path below `images` without its ending, `{folder}` and
            `{name}` its first folder and last part, `{class}` a class of the card, for one file per class.
        values: class -> pixel values that mean it, where one file holds all classes; empty: everything but zero is the mask.
        background: beside 0, pixel values that mean no class, where `values` says which do; any other value stops the reader.
        without_mask: an image without a mask file is left out, or has an empty mask.
    """

    masks: str = "masks/{stem}"
    values: dict[str, int | tuple[int, ...]] = {}
    background: Later[tuple[int, ...]] = ()
    without_mask: Literal["left out", "empty"] = "left out"

    gives = ("masks",)

    @field_validator("masks")
    @classmethod
    def _pattern(cls, pattern: str) -> str:
        return _require_places(pattern, "class")

    @model_validator(mode="after")
    def _one_way(self) -> MaskData:
        if self.values and "{class}" in self.masks:
            raise ValueError("`values` is for one file with all classes, and `masks` names one file per class: choose one")
        if self.background and not self.values:
            raise ValueError("`background` goes with `values`: without them everything but zero is the mask")
        listed = [*self.background, *(v for values in self.values.values() for v in ((values,) if isinstance(values, int) else values))]
        if len(set(listed)) < len(listed) or any(not 0 < value < 65_536 for value in listed):
            raise ValueError("`values` and `background` are whole numbers from 1 to 65,535, each listed once; 0 is the background")
        return self

    @property
    def mask_source(self) -> MaskSource:
        return "masks"


class BoxColumns(Card):
    """Four columns that hold a box.

    Attributes:
        columns: in the order that `form` says.
        form: left, top, width, height; left, top, right, bottom; or centre x, centre y, width, height.
        unit: pixels of the image, or fractions of its width and height.
    """

    columns: tuple[str, str, str, str]
    form: Literal["xywh", "xyxy", "cxcywh"] = "xywh"
    unit: Literal["pixels", "fractions"] = "pixels"


class CsvData(OwnData):
    """A table with a row for each image, finding or box.

    Attributes:
        table: comma-, semicolon- or tab-separated, with a header; UTF-8.
        image: column with the image's path below `images`, with or without its ending.
        labels: class -> column with its value; whole-image labels, one row an image.
        finding: column that names the class of a row; several are joined by `|`.
        boxes: where a row's box stands; rows without numbers say that the image is there.
        findings: value of `finding` -> class of the card; empty: the values are the classes.
        nothing: values of `finding` that say that there is none.
        positive, negative, unknown: values of a label's column.
        patient: column that names the patient.
    """

    table: str
    image: str
    labels: dict[str, str] = {}
    finding: str = ""
    boxes: BoxColumns | None = None
    findings: dict[str, str] = {}
    nothing: tuple[str, ...] = ("", "No finding", "No Finding", "Normal", "normal", "none", "None")
    positive: tuple[str, ...] = ("1", "1.0", "true", "True", "TRUE", "yes", "Yes", "positive", "Positive")
    negative: tuple[str, ...] = ("0", "0.0", "false", "False", "FALSE", "no", "No", "negative", "Negative")
    unknown: tuple[str, ...] = ("", "-1", "-1.0", "nan", "NaN", "NA", "N/A")
    patient: str = ""

    @model_validator(mode="after")
    def _one_way(self) -> CsvData:
        if bool(self.labels) == bool(self.finding or self.boxes):
            raise ValueError(
                "say either `labels` (a column for each class), or `finding` (a column that names the class), `boxes`, or both"
            )
        return self

    @property
    def targets(self) -> tuple[Target, ...]:
        return ("labels",) if self.boxes is None else ("masks", "boxes")

    @property
    def mask_source(self) -> MaskSource:
        return "none" if self.boxes is None else "boxes"

    @property
    def names_patients(self) -> bool:
        return bool(self.patient_pattern or self.patient)


class YoloData(OwnData):
    """A text file for each image, a line for each object: class number, then a box or a polygon in fractions of the image.

    Attributes:
        labels: where an image's text file lies, without the ending .txt; `{stem}` as in `MaskData`. An image without one has no object.
        names: names of the classes by number; empty: the card's classes in their order.
        masks: what masks are made of: filled boxes, or the polygons of lines that have one.
    """

    labels: str = "labels/{stem}"
    names: tuple[str, ...] = ()
    masks: Literal["boxes", "segmentation"] = "boxes"

    gives = ("masks", "boxes")

    @field_validator("labels")
    @classmethod
    def _pattern(cls, pattern: str) -> str:
        return _require_places(pattern)

    @property
    def mask_source(self) -> MaskSource:
        return "boxes" if self.masks == "boxes" else "masks"


class PairData(OwnData):
    """Images with a caption each, which stands for its report.

    Attributes:
        table: with columns for both; empty: captions are text files of their own.
        image, caption, patient: columns of the table.
        sections: in place of `caption`: name of a report's section (`findings`, `impression`) -> its column, in the order they are read.
        texts: where an image's text file lies, without the ending .txt; `{stem}` as in `MaskData`.
    """

    table: str = ""
    image: str = ""
    caption: str = ""
    patient: str = ""
    texts: str = ""
    sections: Later[dict[str, str]] = {}

    gives = ("reports",)

    @field_validator("texts")
    @classmethod
    def _pattern(cls, pattern: str) -> str:
        return _require_places(pattern) if pattern else pattern

    @model_validator(mode="after")
    def _one_way(self) -> PairData:
        if bool(self.table) == bool(self.texts):
            raise ValueError("say either `table` with `image` and `caption`, or `texts`")
        if self.table and not (self.image and bool(self.caption) != bool(self.sections)):
            raise ValueError("`table` needs the columns `image` and `caption`, or `sections` in place of `caption`")
        if self.sections and not self.table:
            raise ValueError("`sections` are columns of a `table`")
        return self

    @property
    def names_patients(self) -> bool:
        return bool(self.patient_pattern or self.patient)


BLOCKS: dict[str, type[OwnData]] = {"coco": CocoData, "masks": MaskData, "csv": CsvData, "yolo": YoloData, "pairs": PairData}
"""Generic readers by name; a card's block goes by the same name."""


def completed(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """A card of one's own data with its defaults; cards without a block are left as they are."""
    blocks = [name for name in BLOCKS if given.get(name) is not None] or [name for name in BLOCKS if given.get("reader") == name]
    if len(blocks) != 1:
        return given
    (name,) = blocks
    block = _valid(BLOCKS[name], given.get(name) or {})
    asked = given.get("split") or {}
    if isinstance(block, CocoData) and isinstance(block.annotations, Mapping) and isinstance(asked, Mapping):
        asked = {"by": "folder", **asked}  # a file for each split says which image is in which
    split = _valid(OwnSplit, asked)
    called = given.get("name", "?")
    defaults = {
        "title": called,
        "reader": name,
        "source": "own data",
        "licence": "not stated",
        "redistribution": "none",
        "folder": called,
        "targets": () if block is None else block.targets,
        "mask_source": "none" if block is None else block.mask_source,
        "intensity": "equalised",
        "statistics": EVEN,
        "patients_known": block is not None and block.names_patients,
        "splits": {} if split is None else {OWN_SPLIT: split.rule},
    }
    if name == "pairs":
        defaults["classes"] = ()
    return {**defaults, **given, name: block or given.get(name) or {}, "split": split or given.get("split")}


def _valid(model: type[Card], given: Any) -> Any:
    """The card; None for what is none, which is told with its place where the field itself is looked at."""
    try:
        return model.model_validate(given)
    except ValidationError:
        return None


def _require_places(pattern: str, *others: str) -> str:
    """Raises ValueError for a pattern that does not name the image, or holds other braces."""
    found, known = set(_BRACED.findall(pattern)), ("stem", "name", "folder", *others)
    if found - set(known) or not found & {"stem", "name"}:
        allowed = ", ".join(f"{{{name}}}" for name in known)
        raise ValueError(f"{pattern!r} needs {{stem}} or {{name}}, the image's path or name without its ending; allowed are {allowed}")
    return pattern
