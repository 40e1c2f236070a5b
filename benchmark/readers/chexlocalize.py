"""CheXlocalize: pixel masks of ten findings on CheXpert's validation and test images. Nobody trains on it but for a few images' sake.

The release lists every image in a label table and gives masks, as COCO's run-length codes, of those with a finding; an image without any is
a true negative. Its agreement lets no id leave: an error names table and line, or the place of an entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import DataError, ImageError, UsageError
from benchmark.imaging import coco_rle
from benchmark.readers.base import Check, Sample
from benchmark.readers.kit.boxed import boxes_of
from benchmark.readers.kit.boxes import require_size
from benchmark.readers.kit.checks import first_sample_check, release_checks, split_checks
from benchmark.readers.kit.holdout import hold_out
from benchmark.readers.kit.image_reader import UnnamedReader
from benchmark.readers.kit.splits import Splits, by_patient, only_tested, require_rule
from benchmark.readers.kit.tables import read_table, rows_by_name
from benchmark.readers.kit.text import read_json
from benchmark.readers.kit.walk import the_one_needed, walk

SUBSETS = ("val", "test")
TEST_RULE, FEW_RULE, BOTH_RULE = "test images", "validation images train", "validation images choose"
MASKS, TABLE = "gt_segmentations_{}.json", "{}_labels.csv"
HINT = "The file was edited or cut; fetch it again from the source in the card."

_PATH = re.compile(r"(patient\d+)/(study\d+)/(view\d+_(?:frontal|lateral))\.jpg")


@dataclass(frozen=True)
class _Outlined:
    """The masks of one image.

    Attributes:
        size: rows and columns of its original.
        codes: class index -> COCO's run-length code of a mask that is not empty.
        boxes: (n, 4) and (n,) extents and classes of these masks.
    """

    where: str
    size: tuple[int, int]
    codes: dict[int, dict[str, Any]]
    boxes: tuple[np.ndarray, np.ndarray]


class DatasetReader(UnnamedReader):
    """Images of both tables, lateral ones among them. An id is the path below the folder of images; patients are known."""

    masked, drawn = True, "masks"
    listed_files = "images of the label tables"

    def open(self) -> None:
        files = {path.name: path for path in walk(self.root) if path.suffix in (".json", ".csv")}
        named = [form.format(subset) for form in (MASKS, TABLE) for subset in SUBSETS]
        missing = [name for name in named if name not in files]
        if missing:
            raise DataError(f"{self.card.name}: {missing[0]} is nowhere in {self.root}. Expected {', '.join(self.card.files)}.")
        self.tables = tuple(self._only(name) for name in named)
        self._line: dict[str, tuple[str, int]] = {}
        self._outlined: dict[str, _Outlined] = {}
        self.images = {}
        for subset in SUBSETS:
            listed = self._listed(subset, files[TABLE.format(subset)])
            self.images |= listed
            self._outlined |= self._masks_of(subset, files[MASKS.format(subset)], listed)
        self.release = "masks of validation and test"

    def sample(self, sample_id: str) -> Sample:
        outlined = self._outlined.get(sample_id)
        boxes, labels = boxes_of([]) if outlined is None else outlined.boxes
        return replace(super().sample(sample_id), boxes_xywh=boxes, box_labels=labels)

    def patient_of(self, sample_id: str) -> str:
        return sample_id.split("/")[1]

    def view_of(self, sample_id: str) -> str | None:
        return "LATERAL" if sample_id.endswith("_lateral.jpg") else None

    def is_positive(self, sample_id: str) -> bool:
        return sample_id in self._outlined and bool(self._outlined[sample_id].codes)

    def where_of(self, sample_id: str) -> str:
        table, line = self._line[sample_id]
        return f"{self.card.name}: {table} line {line:,}"

    def require_frame(self, sample_id: str, shape: tuple[int, ...]) -> None:
        if sample_id in self._outlined:
            require_size(shape, self._outlined[sample_id].size, self.where_of(sample_id), of=self.drawn)

    def masks(self, sample_id: str, shape: tuple[int, int]) -> np.ndarray:
        """(C, H, W) bool."""
        self.require_frame(sample_id, shape)
        masks = np.zeros((len(self.card.classes), *shape), bool)
        if (outlined := self._outlined.get(sample_id)) is not None:
            for label, code in outlined.codes.items():
                try:
                    masks[label] = coco_rle.decode(code, outlined.size, outlined.where)
                except UsageError as error:  # pragma: no cover: every code was checked when the file was opened
                    raise ImageError(str(error)) from None
        return masks

    def split(self, rule: SplitRule) -> Splits:
        """`test images`: nothing trains, and `validation images choose` for what learned elsewhere. `validation images train`: a share of
        their patients validates. The test images test."""
        test = tuple(i for i in self.images if i.startswith("test/"))
        if rule.rule == TEST_RULE:
            return only_tested(test)
        if rule.rule == BOTH_RULE:
            return only_tested(test) | {"validation": tuple(i for i in self.images if i.startswith("val/"))}
        numbers = require_rule(rule, (TEST_RULE, BOTH_RULE, FEW_RULE), "seed", "validation_share", dataset=self.card.name)
        images = by_patient([i for i in self.images if i.startswith("val/")], self.patient_of)
        kept, held = hold_out(sorted(images), round(numbers.validation_share * len(images)), numbers.seed)
        parts = {"train": kept, "validation": held}
        return {name: tuple(i for patient in patients for i in images[patient]) for name, patients in parts.items()} | {"test": test}

    def checks(self) -> Iterable[Check]:
        counts = {"images": len(self.images)}
        for subset in SUBSETS:
            ids = [i for i in self.images if i.startswith(f"{subset}/")]
            counts |= {
                f"{subset}_images": len(ids),
                f"{subset}_patients": len({self.patient_of(i) for i in ids}),
                f"{subset}_segmented": sum(i in self._outlined for i in ids),
                f"{subset}_masks": sum(len(self._outlined[i].codes) for i in ids if i in self._outlined),
            }
        yield from release_checks(self, counts, HINT)
        yield from split_checks(self, patient_of=self.patient_of)
        yield first_sample_check(self)

    # ------------------------------------------------------------------------------------------------------------ reading

    def _only(self, name: str) -> Path:
        found = (path for path in walk(self.root) if path.name == name)
        return the_one_needed(self.card.name, name, found, f"{name} is missing.")

    def _listed(self, subset: str, path: Path) -> dict[str, Path]:
        """Images by id, in the order of the table."""
        found: dict[str, Path] = {}
        for line, row in rows_by_name(read_table(path, self.card.name), ("Path",), self.card.name):
            named = _PATH.fullmatch("/".join(row["Path"].split("/")[-3:]))
            if named is None:
                raise DataError(f"{self.card.name}: {path.name} line {line:,}: the path ends with no patient, study and view.")
            sample_id = f"{subset}/{named[0]}"
            if sample_id in found:
                raise DataError(f"{self.card.name}: {path.name} line {line:,}: the same image as in line {self._line[sample_id][1]:,}.")
            found[sample_id] = path.parent / sample_id
            self._line[sample_id] = path.name, line
        return found

    def _masks_of(self, subset: str, path: Path, listed: Mapping[str, Path]) -> dict[str, _Outlined]:
        try:
            entries = read_json(path, self.card.name, dict)
        except ValueError as error:
            raise DataError(f"{self.card.name}: {path.name} is no readable JSON ({error}). Fetch the file again.") from None
        ids = {i.removeprefix(f"{subset}/").removesuffix(".jpg").replace("/", "_"): i for i in listed}
        found: dict[str, _Outlined] = {}
        for number, (name, masks) in enumerate(entries.items(), start=1):
            where = f"{self.card.name}: {path.name} entry {number:,}"
            if name not in ids:
                raise DataError(f"{where}: {TABLE.format(subset)} lists no such image. Do both files belong together?")
            found[ids[name]] = self._parsed(masks, where)
        return found

    def _parsed(self, masks: Any, where: str) -> _Outlined:
        if not isinstance(masks, dict) or set(masks) != set(self.card.classes):
            listed = ", ".join(masks) if isinstance(masks, dict) else type(masks).__name__
            raise DataError(f"{where}: masks of {listed[:200]}; expected one of each of {', '.join(self.card.classes)}.")
        sizes: set[tuple[int, int]] = set()
        codes: dict[int, dict[str, Any]] = {}
        boxes: list[tuple[int, tuple[float, ...]]] = []
        for label, name in enumerate(self.card.classes):
            try:
                size, _ = coco_rle.parts(masks[name], 0, f"{where}, {name}")
                rows, columns = size if len(size) == 2 and min(size) > 0 else (0, 0)
                extent = coco_rle.extent(coco_rle.runs(masks[name], (rows, columns), f"{where}, {name}"), rows)
            except UsageError as error:
                raise DataError(f"{error} {HINT}") from None
            sizes.add((rows, columns))
            if extent is not None:
                codes[label] = masks[name]
                boxes.append((label, extent))
        if len(sizes) > 1:
            raise DataError(f"{where}: masks of {len(sizes)} sizes on one image. {HINT}")
        return _Outlined(where, sizes.pop(), codes, boxes_of(boxes))
