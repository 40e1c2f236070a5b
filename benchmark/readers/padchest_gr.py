"""PadChest-GR: sentences of reports with boxes on PadChest's frontal images, for asking where an image is near to words.

Boxes are shares of the image's sides, so its size is read from the file's header when a sample is asked for. Its agreement lets nothing
leave: an error names the place of an entry, and quotes no sentence.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import DataError
from benchmark.imaging.person import sex_of
from benchmark.imaging.picture import size_of
from benchmark.readers.base import SPLITS, Check, Phrase, Sample
from benchmark.readers.kit.checks import as_warning, first_image_check, release_checks, split_checks
from benchmark.readers.kit.image_reader import UnnamedReader
from benchmark.readers.kit.splits import Splits, check_disjoint, require_rule
from benchmark.readers.kit.tables import locate, read_table, rows_by_name
from benchmark.readers.kit.text import read_json
from benchmark.readers.kit.unnamed import read_unnamed
from benchmark.readers.kit.walk import find_files

REPORTS, TABLE = "grounded_reports_20240819.json", "master_table.csv"
SAID = "grounded_reports"  # in sentences: the date in the file's name looks like an id, which none may name
COLUMNS = ("StudyID", "ImageID", "PatientID", "PatientSex_DICOM", "split")
LABEL, GROUP = "label", "label_group"  # where the table has both, it says which group each label belongs to
RULE = "split column"
STATED = "The number is stated by the release's paper; a difference may be the copy's."

_NAME = re.compile(r"[\w.-]+\.png")
_GROUP_NAME = re.compile(r"[^\W\d_][\w ,/()&'-]{0,59}")  # groups name columns, which leave the data folder: no sentence, no number


@dataclass(frozen=True)
class _Sentence:
    """A positive sentence; `boxes` are (left, top, right, bottom) as shares of the sides."""

    text: str
    boxes: tuple[tuple[float, ...], ...]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Patient:
    line: int
    patient: str
    sex: str | None
    split: str


class DatasetReader(UnnamedReader):
    """Images of the grounded reports. An id is an ImageID; patients are known. A phrase is a positive sentence with its boxes."""

    def open(self) -> None:
        base = self.folder_with(REPORTS)
        self.tables = (base / TABLE, base / REPORTS)
        self._groups: dict[str, set[str]] = {}
        self._patients = self._read_table(base / TABLE)
        self._place: dict[str, int] = {}
        self._n = {"sentences": 0, "positive_sentences": 0, "extra_boxes": 0}
        self._sentences = self._read_reports(base / REPORTS)
        found = {f"{stem}.png": paths for stem, paths in find_files(base, ".png").items()}
        self.images = locate(self._sentences, found, self.card.name, SAID, named=False)
        self.release = "reports of 2024-08-19"

    def sample(self, sample_id: str) -> Sample:
        sentences = self._sentences.get(sample_id, ())
        sample = super().sample(sample_id)
        if not sentences:
            return sample
        height, width = read_unnamed(size_of, self.images[sample_id], self.where_of(sample_id))
        scale = np.array([width, height, width, height], np.float64)
        phrases = []
        for one in sentences:
            corners = np.array(one.boxes, np.float64) * scale
            boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
            groups = sorted({group for label in one.labels for group in self._groups.get(label, ())})
            phrases.append(Phrase(one.text, boxes, self.card.classes[0], tuple(groups)))
        every = np.concatenate([phrase.boxes_xywh for phrase in phrases])
        return replace(sample, boxes_xywh=every, box_labels=np.zeros(len(every), np.int64), phrases=tuple(phrases))

    def patient_of(self, sample_id: str) -> str:
        return self._patients[sample_id].patient

    def sex_of(self, sample_id: str) -> str | None:
        return self._patients[sample_id].sex

    def is_positive(self, sample_id: str) -> bool:
        return bool(self._sentences[sample_id])

    def where_of(self, sample_id: str) -> str:
        return f"{self.card.name}: {SAID}, entry {self._place[sample_id]:,}"

    def split(self, rule: SplitRule) -> Splits:
        """The release's own, by patient."""
        require_rule(rule, (RULE,), dataset=self.card.name)
        splits = {split: tuple(i for i in self.images if self._patients[i].split == split) for split in SPLITS}
        check_disjoint(splits)
        return splits

    def checks(self) -> Iterable[Check]:
        counts = {
            "images": len(self.images),
            "patients": len({self.patient_of(i) for i in self.images}),
            "positive_images": sum(map(self.is_positive, self.images)),
            "phrases": sum(map(len, self._sentences.values())),
            "boxes": sum(len(one.boxes) for listed in self._sentences.values() for one in listed),
            "label_groups": len({group for groups in self._groups.values() for group in groups}),
            "labels in several groups": sum(len(groups) > 1 for groups in self._groups.values()),
            "phrases of no label group": sum(not self._is_grouped(one) for listed in self._sentences.values() for one in listed),
            **self._n,
        }
        counts |= {f"{split}_images": sum(self._patients[i].split == split for i in self.images) for split in SPLITS}
        for line in release_checks(self, counts, STATED):
            yield as_warning(line, STATED) if self.phantom is None else line
        yield from split_checks(self, patient_of=self.patient_of)
        yield first_image_check(self)

    # ------------------------------------------------------------------------------------------------------------ reading

    def _read_table(self, path: Path) -> dict[str, _Patient]:
        """A row per study and label: rows of one image say the same of its patient and split. They also say the groups of labels."""
        found: dict[str, _Patient] = {}
        for line, row in rows_by_name(read_table(path, self.card.name), COLUMNS, self.card.name):
            where = f"{self.card.name}: {TABLE} line {line:,}"
            if row["split"] not in SPLITS or not row["PatientID"]:
                raise DataError(f"{where}: the split is none of {', '.join(SPLITS)}, or the PatientID is empty. Are the columns shifted?")
            self._note_group(row, where)
            one = _Patient(line, row["PatientID"], sex_of(row["PatientSex_DICOM"]), row["split"])
            known = found.setdefault(row["ImageID"], one)
            if (known.patient, known.split) != (one.patient, one.split):
                raise DataError(f"{where}: another patient or split of the image than in line {known.line:,}.")
        return found

    def _note_group(self, row: Mapping[str, str], where: str) -> None:
        label, group = row.get(LABEL, "").lower(), row.get(GROUP, "")
        if not label or not group:
            return
        if not _GROUP_NAME.fullmatch(group):
            raise DataError(f"{where}: the {GROUP} is no name of a few words. Are the columns shifted?")
        self._groups.setdefault(label, set()).add(group)

    def _is_grouped(self, sentence: _Sentence) -> bool:
        return any(label in self._groups for label in sentence.labels)

    def _read_reports(self, path: Path) -> dict[str, tuple[_Sentence, ...]]:
        try:
            entries = read_json(path, self.card.name, list)
        except ValueError as error:
            raise DataError(f"{self.card.name}: the {SAID} are no readable JSON ({error}). Fetch the file again.") from None
        found: dict[str, tuple[_Sentence, ...]] = {}
        for number, entry in enumerate(entries, start=1):
            where = f"{self.card.name}: {SAID}, entry {number:,}"
            name = entry.get("ImageID") if isinstance(entry, dict) else None
            if not isinstance(name, str) or not _NAME.fullmatch(name) or not isinstance(entry.get("findings"), list):
                raise DataError(f"{where}: no ImageID that names a PNG file, or no list of findings. Fetch the file again.")
            if name in found:
                raise DataError(f"{where}: the same image as in entry {self._place[name]:,}.")
            if name not in self._patients:
                raise DataError(f"{where}: {TABLE} has no row of the image. Do both files belong together?")
            sentences = [self._sentence(one, f"{where}, finding {k}") for k, one in enumerate(entry["findings"], start=1)]
            found[name] = tuple(one for one in sentences if one is not None)
            self._place[name] = number
        return found

    def _sentence(self, finding: Any, where: str) -> _Sentence | None:
        """A positive sentence with boxes; None for a negative one, and for one without a box."""
        said = (finding.get("sentence_en"), finding.get("abnormal")) if isinstance(finding, dict) else (None, None)
        if not isinstance(said[0], str) or not isinstance(said[1], bool):
            raise DataError(f"{where}: no sentence_en, or abnormal is neither true nor false.")
        self._n["sentences"] += 1
        if not finding["abnormal"]:
            return None
        self._n["positive_sentences"] += 1
        boxes = _boxes(finding, "boxes", where)
        self._n["extra_boxes"] += len(_boxes(finding, "extra_boxes", where))
        labels = finding.get("labels") or []
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise DataError(f"{where}: labels is no list of texts.")
        named = tuple(label.strip().lower() for label in labels)
        return _Sentence(finding["sentence_en"], boxes, named) if boxes and finding["sentence_en"].strip() else None


def _boxes(finding: Mapping[str, Any], key: str, where: str) -> tuple[tuple[float, ...], ...]:
    listed = finding.get(key) or []
    if not isinstance(listed, list):
        raise DataError(f"{where}: {key} is no list.")
    for number, box in enumerate(listed, start=1):
        whole = isinstance(box, list) and len(box) == 4 and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in box)
        if not whole or not all(map(math.isfinite, box)) or not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
            raise DataError(
                f"{where}, {key} {number}: not 0 <= left < right <= 1 and 0 <= top < bottom <= 1, as shares of the image's sides. Were "
                "boxes turned into pixels, or given as width and height?"
            )
    return tuple(tuple(map(float, box)) for box in listed)
