"""PAX-Ray++: anatomy on images projected from CT volumes, with masks that a program drew; frontal images, and the card's classes alone.

Two COCO files name images, categories and masks as run-length codes of 512 x 512 pixels. The training file is large: it is read whole, and
only what the card asks for is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import DataError, UsageError
from benchmark.imaging import coco_rle
from benchmark.readers.base import Check
from benchmark.readers.kit.checks import first_sample_check, release_checks, split_checks
from benchmark.readers.kit.holdout import hold_out
from benchmark.readers.kit.image_reader import ImageReader
from benchmark.readers.kit.splits import Splits, check_disjoint, require_rule
from benchmark.readers.kit.tables import locate, released
from benchmark.readers.kit.text import read_json
from benchmark.readers.kit.walk import find_files

FILES = {"train": "paxray_train_val.json", "test": "paxray_test.json"}
SIDE = 512
FRONTAL = "_frontal.png"
RULE = "official test, validation held out"

Code = dict[str, Any]


class DatasetReader(ImageReader):
    """Frontal images of both files. An id is a file name; patients are not known."""

    side, drawn, masked = SIDE, "masks", True

    def open(self) -> None:
        base = self.folder_with(FILES["test"])
        self._subset: dict[str, str] = {}
        self._codes: dict[str, dict[int, list[Code]]] = {}
        self._n_lateral = 0
        self.tables = tuple(self._read(subset, released(base, name, self.card.name)) for subset, name in FILES.items())
        found = {f"{stem}.png": paths for stem, paths in find_files(base, ".png").items()}
        self.images = locate(self._subset, found, self.card.name, " and ".join(FILES.values()))
        self.release = "COCO files, automatic masks"

    def is_positive(self, sample_id: str) -> bool:
        return bool(self._codes[sample_id])

    def masks(self, sample_id: str, shape: tuple[int, int]) -> np.ndarray:
        """(C, 512, 512) bool; masks of one class are united."""
        self.require_frame(sample_id, shape)
        masks = np.zeros((len(self.card.classes), SIDE, SIDE), bool)
        for label, codes in self._codes[sample_id].items():
            for code in codes:
                masks[label] |= coco_rle.decode(code, SIDE, f"{self.where_of(sample_id)}, {self.card.classes[label]}")
        return masks

    def split(self, rule: SplitRule) -> Splits:
        """The official test file, and a share of the other one's sorted images for validation; the rest trains."""
        numbers = require_rule(rule, (RULE,), "seed", "validation_share", dataset=self.card.name)
        listed = sorted(self._ids_of("train"))
        kept, held = hold_out(listed, round(numbers.validation_share * len(listed)), numbers.seed)
        splits = {"train": tuple(kept), "validation": tuple(held), "test": self._ids_of("test")}
        check_disjoint(splits)
        return splits

    def checks(self) -> Iterable[Check]:
        counts = {"images": len(self._subset) + self._n_lateral, "frontal_images": len(self._subset)}
        counts |= {f"{subset}_frontal": len(self._ids_of(subset)) for subset in FILES}
        counts |= {name: sum(k in codes for codes in self._codes.values()) for k, name in enumerate(self.card.classes)}
        yield from release_checks(self, counts, "The file was edited or cut; fetch it again.")
        yield from split_checks(self)
        yield first_sample_check(self)

    def _ids_of(self, subset: str) -> tuple[str, ...]:
        return tuple(i for i, other in self._subset.items() if other == subset)

    def _read(self, subset: str, path: Path) -> Path:
        where = f"{self.card.name}: {path.name}"
        try:
            content = read_json(path, self.card.name, dict)
            names = {one["id"]: str(one["name"]).strip() for one in content["categories"]}
            images = {one["id"]: str(one["file_name"]).rpartition("/")[2] for one in content["images"]}
            annotations = content["annotations"]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{where} is no COCO file with categories, images and annotations ({error}). Fetch it again.") from None
        absent = [name for name in self.card.classes if name not in names.values()]
        if absent:
            shown = ", ".join(list(names.values())[:5])
            raise DataError(f"{where} has no category {absent[0]!r}. Its {len(names)} categories begin with {shown}.")
        label = {key: self.card.classes.index(name) for key, name in names.items() if name in self.card.classes}
        frontal = {key: name for key, name in images.items() if name.endswith(FRONTAL)}
        self._n_lateral += len(images) - len(frontal)
        for name in frontal.values():
            if name in self._subset:
                raise DataError(f"{where}: image {name} is listed a second time, in one file or in both.")
            self._subset[name], self._codes[name] = subset, {}
        for number, one in enumerate(annotations, start=1):
            if not isinstance(one, dict) or one.get("image_id") not in images or one.get("category_id") not in names:
                raise DataError(f"{where}: annotation {number:,} names an image or a category that the file does not have.")
            if one["image_id"] in frontal and one["category_id"] in label:
                code: Any = one.get("segmentation")
                try:
                    coco_rle.runs(code, (SIDE, SIDE), f"{where}, annotation {number:,}")
                except UsageError as error:
                    raise DataError(str(error)) from None
                self._codes[frontal[one["image_id"]]].setdefault(label[one["category_id"]], []).append(code)
        return path
