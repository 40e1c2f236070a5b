"""NIH ChestX-ray14, the 880 images with boxes and a sample of normal ones: boxes of eight classes, masks filled from them.

Whole-image labels are read only to find images without a finding. The box list's header has more names than its rows have cells, so every
table here is read by position.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import DataError, SplitError
from benchmark.readers.base import SPLITS, Check
from benchmark.readers.kit import nih_tables as nih
from benchmark.readers.kit.boxed import BoxedReader, boxes_of
from benchmark.readers.kit.boxes import require_box
from benchmark.readers.kit.checks import first_sample_check, made_splits, release_checks, split_checks, tolerated
from benchmark.readers.kit.nih_tables import NORMAL, TEST_LIST, TRAIN_VAL_LIST, patient_of
from benchmark.readers.kit.splits import Splits, by_patient, require_rule, shared_patients, variant_of
from benchmark.readers.kit.tables import Table, class_index, locate, read_table

SIDE = 1024  # boxes are in pixels of the released 1024 x 1024 images
RULE = "patients-and-normals"

# LoVT adds 100 images without a finding to 880 with boxes; a smaller release keeps the proportion.
N_NORMAL, N_BOXED = 100, 880

BOX_TABLE = "BBox_List_2017.csv"
OTHER_NAMES = {"Infiltration": "Infiltrate"}  # label table -> box list

_N_BOX_CELLS = 6


class DatasetReader(BoxedReader):
    """The box part of ChestX-ray14, however its image archives were unpacked. Patients are known: the number before the underscore."""

    side = SIDE

    def open(self) -> None:
        self._base = self.folder_with(BOX_TABLE)
        self._entries, entry_path = nih.read_entries(self._base, self.card.name)
        self.warnings += nih.earlier_table(entry_path, self.card.name)
        self._boxed = self._read_boxes(read_table(self._base / BOX_TABLE, self.card.name))
        self._test_list = nih.read_list(self._base / TEST_LIST, self.card.name, "LoVT's normal images are drawn from it.")
        listed = set(self._test_list)
        self._normal = tuple(i for i, e in self._entries.items() if e.findings == (NORMAL,) and i in listed)
        self.boxes = dict.fromkeys(self._normal, boxes_of([])) | self._boxed
        self.images = self._find_images()
        paths = (self._base / BOX_TABLE, entry_path, self._base / TEST_LIST, self._base / TRAIN_VAL_LIST)
        self.tables = tuple(path for path in paths if path.exists())
        self.release = f"labels of {nih.year_of(entry_path)}, images {nih.layout(self._base, self.images)}"

    @property
    def ids(self) -> tuple[str, ...]:
        """Images with boxes in order of first appearance, then images of the official test list without a finding, in table order.

        Of the latter some may have no file: only those that a split draws are needed.
        """
        return (*self._boxed, *self._normal)

    def patient_of(self, sample_id: str) -> str:
        return patient_of(sample_id)

    def view_of(self, sample_id: str) -> str | None:
        return self._entries[sample_id].view

    def sex_of(self, sample_id: str) -> str | None:
        return self._entries[sample_id].sex

    def age_decade_of(self, sample_id: str) -> int | None:
        return self._entries[sample_id].age_decade

    def split(self, rule: SplitRule) -> Splits:
        """LoVT's split, optionally followed by ", patient-disjoint" or its control ", size-matched"."""
        known = (RULE, f"{RULE}, patient-disjoint", f"{RULE}, size-matched")
        numbers = require_rule(rule, known, "seed", "validation_share", "test_share", dataset=self.card.name)
        shares = numbers.validation_share, numbers.test_share
        splits = split_with_normals(tuple(self._boxed), self._normal, numbers.seed, *shares)
        locate([i for split in SPLITS for i in splits[split]], {i: (p,) for i, p in self.images.items()}, self.card.name, "the split")
        return variant_of(splits, rule, patient_of)

    def checks(self) -> Iterable[Check]:
        hint = "The file was edited or cut; fetch it again from the NIH."
        yield from release_checks(self, self._counts(), hint, ids=tuple(self._entries))
        yield from split_checks(self, self.n_boxes, self.is_positive, patient_of)
        for name, _, splits in made_splits(self):
            if name == "lovt":
                for (one, other), n_shared in shared_patients(splits, patient_of).items():
                    yield tolerated(self.card, f"patients in both {one} and {other}", n_shared)
        yield first_sample_check(self)
        yield tolerated(self.card, "boxes whose class is not among the image's labels", sum(self._contradictions()))
        yield tolerated(self.card, "images with boxes outside the official test list", len(set(self._boxed) - set(self._test_list)))

    def _read_boxes(self, table: Table) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        header = [name.strip().lower() for name in table.header]
        if header[:2] != ["image index", "finding label"] or not header[2:] or not header[2].startswith("bbox"):
            raise nih.header_error(table, "Image Index, Finding Label, Bbox [x", self.card.name)
        boxes: dict[str, dict[int, tuple[float, ...]]] = {}
        lines: dict[str, int] = {}
        for line, cells in table.rows:
            where = f"{self.card.name}: {table.path.name} line {line:,}"
            if len(cells) < _N_BOX_CELLS or any(cell.strip() for cell in cells[_N_BOX_CELLS:]):
                raise DataError(f"{where} has {len(cells)} cells, expected {_N_BOX_CELLS}: image, class, x, y, width, height.")
            sample_id = nih.id_of(cells[0], where)
            finding = cells[1].strip()
            label = class_index(OTHER_NAMES.get(finding, finding), self.card.classes, where)
            if label in boxes.setdefault(sample_id, {}):
                raise DataError(f"{where} ({sample_id}): a second {self.card.classes[label]} box. The release has one per image and class.")
            boxes[sample_id][label] = _box(cells[2:_N_BOX_CELLS], f"{where} ({sample_id})")
            lines.setdefault(sample_id, line)
        for sample_id, line in lines.items():
            where = f"{self.card.name}: {table.path.name} line {line:,} ({sample_id})"
            if sample_id not in self._entries:
                raise DataError(f"{where}: the image has no row in the Data_Entry table. Do the two files belong together?")
            if NORMAL in self._entries[sample_id].findings:
                raise DataError(f"{where}: the image has a box and the label {NORMAL!r}. Do the two files belong together?")
        return {sample_id: boxes_of(list(found.items())) for sample_id, found in boxes.items()}

    def _find_images(self) -> dict[str, Path]:
        found = nih.find_images(self._base)
        images = locate(self._boxed, found, self.card.name, BOX_TABLE)
        # Normal images outside the drawn sample may be missing: the split asks for those it draws.
        return images | locate([i for i in self._normal if i in found], found, self.card.name, TEST_LIST)

    def _contradictions(self) -> Iterator[int]:
        """Boxes per image whose class its whole-image labels do not name."""
        for sample_id, (_, labels) in self._boxed.items():
            findings = {OTHER_NAMES.get(f, f) for f in self._entries[sample_id].findings}
            yield sum(self.card.classes[label] not in findings for label in labels)

    def _counts(self) -> dict[str, int]:
        counts = {
            "images": len(self._entries),
            "patients": len({patient_of(i) for i in self._entries}),
            "boxes": sum(map(self.n_boxes, self._boxed)),
            "boxed_images": len(self._boxed),
            "positives": len(self._boxed),
            "boxed_patients": len({patient_of(i) for i in self._boxed}),
            "normal_test_images": len(self._normal),
            "test_list": len(self._test_list),
        }
        if (self._base / TRAIN_VAL_LIST).exists():
            counts["train_val_list"] = len(nih.read_list(self._base / TRAIN_VAL_LIST, self.card.name))
        per_class = Counter(int(label) for _, labels in self._boxed.values() for label in labels)
        counts |= {f"boxes_{name.lower()}": per_class[k] for k, name in enumerate(self.card.classes)}
        return counts | nih.label_counts(self._entries.values())


def split_with_normals(
    boxed: Sequence[str], normal: Sequence[str], seed: int, validation_share: float, test_share: float
) -> dict[str, tuple[str, ...]]:
    """LoVT's split: images with boxes by patient, then a sample of normal images by patient, all drawn from one generator in this order.

    The two halves do not know of each other, so a patient may have a box image in one split and a normal one in another
    (docs/protocols/lovt.md, quirk 8).

    Args:
        boxed: images with boxes, in order of first appearance in the box list.
        normal: images of the official test list without a finding, in the order of the Data_Entry table.

    Raises:
        SplitError: fewer normal images than the sample needs.

    Source: LoVT's conversion and committed lists (docs/sources.md, LoVT).
    """
    n_normal = round(len(boxed) * N_NORMAL / N_BOXED)
    if n_normal > len(normal):
        raise SplitError(
            f"{len(normal):,} images of {TEST_LIST} have no finding, but {n_normal} are drawn for {len(boxed):,} images with boxes. "
            f"Are {TEST_LIST} and the Data_Entry table complete?"
        )
    random = np.random.RandomState(seed)
    first = _by_patient(boxed, random, validation_share, test_share)
    drawn = [normal[i] for i in random.permutation(len(normal))[:n_normal]]
    second = _by_patient(drawn, random, validation_share, test_share)
    return {split: first[split] + second[split] for split in SPLITS}


def _by_patient(ids: Sequence[str], random: np.random.RandomState, validation_share: float, test_share: float) -> Mapping[str, tuple]:
    """Whole patients in random order: test until it has its share of images, then validation, then train."""
    images = by_patient(ids, patient_of)
    patients = list(images)
    filled: dict[str, list[str]] = {"test": [], "validation": [], "train": []}
    full_at = {"test": round(test_share * len(ids)), "validation": round(validation_share * len(ids)), "train": len(ids)}
    waiting = [patients[i] for i in random.permutation(len(patients))]
    for split, n_images in full_at.items():
        while waiting and len(filled[split]) < n_images:
            filled[split].extend(images[waiting.pop(0)])
    return {split: tuple(listed) for split, listed in filled.items()}


def _box(cells: Sequence[str], where: str) -> tuple[float, ...]:
    try:
        x, y, width, height = (float(cell) for cell in cells)
    except ValueError:
        raise DataError(f"{where}: {', '.join(cells)} are not four numbers x, y, width, height.") from None
    require_box((x, y, width, height), SIDE, where)
    return x, y, width, height
