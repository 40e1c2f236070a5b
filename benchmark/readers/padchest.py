"""PadChest: frontal radiographs with label lists from reports, a part of them by physicians, the rest by a model; no official split.

Only what is known of the release is read: the columns below by name, labels as a list written in Python. Its agreement lets nothing leave,
so an error names table and line and quotes no cell.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import DataError, SplitError
from benchmark.readers.base import Check, Verdict
from benchmark.readers.kit.checks import as_warning, first_image_check, release_checks, tolerated
from benchmark.readers.kit.holdout import sampled
from benchmark.readers.kit.image_reader import UnnamedReader
from benchmark.readers.kit.splits import Splits, by_patient, check_disjoint, permutation_split, require_rule
from benchmark.readers.kit.tables import Table, read_table, rows_by_name
from benchmark.readers.kit.walk import names_in

TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
COLUMNS = ("ImageID", "ImageDir", "StudyID", "PatientID", "Projection", "MethodLabel", "Labels")
FRONTAL = ("PA", "AP", "AP_horizontal")
PHYSICIAN, METHODS = "Physician", ("Physician", "RNN_model")
RULE = "patients permuted, held out by physicians"
RECALLED = "The number is recalled, not verified; a difference may be the release's."


@dataclass(frozen=True, slots=True)
class FrontalImage:
    """A frontal image with labels.

    Attributes:
        names: labels, stripped, without empty ones.
        physician: whether a physician gave them.
    """

    line: int
    place: str
    patient: str
    view: str
    physician: bool
    names: frozenset[str]


class DatasetReader(UnnamedReader):
    """Frontal images with a label list and a file. An id is an ImageID; patients are known."""

    def open(self) -> None:
        base = self.folder_with(TABLE)
        self.tables = (base / TABLE,)
        self._totals = {"rows": 0, "studies": 0, "patients": 0, "frontal": 0, "frontal_without_labels": 0}
        self._n_other_methods = 0
        rows = self._read(read_table(base / TABLE, self.card.name))
        present = {place: names_in(base / place) for place in {row.place for row in rows.values()}}
        self._rows = {i: row for i, row in rows.items() if i in present.get(row.place, ())}
        self.images = {i: base / row.place / i for i, row in self._rows.items()}
        self._n_missing = len(rows) - len(self._rows)
        if not self._rows:
            raise DataError(
                f"{self.card.name}: none of the {len(rows):,} frontal images of {TABLE} lies in a folder 0, 1, … 54 beside it. "
                "Unpack the archives there, each into the folder of its number."
            )
        if self._totals["frontal_without_labels"]:
            n = self._totals["frontal_without_labels"]
            self.warnings.append(f"{self.card.name}: {n:,} frontal images have no label list and are left out.")
        if self._n_missing:
            self.warnings.append(f"{self.card.name}: {self._n_missing:,} of {len(rows):,} frontal images have no file and are left out.")
        self.release = "labels of 2019-02-01"

    def patient_of(self, sample_id: str) -> str:
        return self._rows[sample_id].patient

    def view_of(self, sample_id: str) -> str:
        return "PA" if self._rows[sample_id].view == "PA" else "AP"

    def labels_of(self, sample_id: str) -> np.ndarray:
        return np.array([name in self._rows[sample_id].names for name in self.card.classes], np.int8)

    def where_of(self, sample_id: str) -> str:
        return self._where(self._rows[sample_id].line)

    def split(self, rule: SplitRule) -> Splits:
        """LOBE's own, the release has none: sorted patients in random order, test first, then validation; all others train.

        Shares are of the patients of whom a physician labelled an image, and test and validation keep those images only: agreement with the
        release's model is not what is asked. Training keeps all, in the order MGCA draws its fractions from.

        Raises:
            SplitError: another rule, one without its numbers, or a part that is left without an image.
        """
        numbers = require_rule(rule, (RULE,), "seed", "validation_share", "test_share", dataset=self.card.name)
        images = by_patient(self._rows, self.patient_of)
        seen = sorted(patient for patient, ids in images.items() if any(self._rows[i].physician for i in ids))
        drawn = permutation_split(seen, numbers.seed, numbers.validation_share, numbers.test_share)
        held = {"test": drawn["test"], "validation": drawn["validation"]}
        away = {*held["test"], *held["validation"]}
        splits = {name: tuple(i for p in patients for i in images[p] if self._rows[i].physician) for name, patients in held.items()}
        splits = {"train": tuple(sampled([i for i, row in self._rows.items() if row.patient not in away])), **splits}
        empty = [split for split, ids in splits.items() if not ids]
        if empty:
            raise SplitError(
                f"{self.card.name}: no image is left for {' and '.join(empty)}: of {len(images):,} patients {len(seen):,} have an image "
                "that a physician labelled."
            )
        check_disjoint(splits)
        return splits

    def checks(self) -> Iterable[Check]:
        counts = self._counts()
        for line in release_checks(self, counts, RECALLED):
            yield as_warning(line, RECALLED) if self.phantom is None else line
        for name in self.card.classes:
            n = counts[f"positive_{name.replace(' ', '_')}"]
            hint = "" if n else "Are labels spelt otherwise in this copy? Nothing can be learnt of a class that nobody has."
            yield Check(f"images with {name}", "at least 1", f"{n:,}", "ok" if n else "error", hint)
        # Recalled values: another one is no error, but nobody knows who gave such labels, and they count as not a physician's.
        verdict: Verdict = "warning" if self._n_other_methods else "ok"
        yield Check(f"MethodLabel is {' or '.join(METHODS)}", "always", f"{self._n_other_methods:,} rows are not", verdict)
        yield tolerated(self.card, "frontal images without a file", self._n_missing)
        yield first_image_check(self)

    def _counts(self) -> dict[str, int]:
        counts = self._totals | {"images": len(self._rows), "physician": sum(row.physician for row in self._rows.values())}
        return counts | {f"positive_{c.replace(' ', '_')}": sum(c in row.names for row in self._rows.values()) for c in self.card.classes}

    def _read(self, table: Table) -> dict[str, FrontalImage]:
        """Frontal rows with labels by ImageID; totals are of all rows."""
        rows: dict[str, FrontalImage] = {}
        lines: dict[str, int] = {}
        known: dict[str, frozenset[str] | None] = {}  # of 110,000 cells far fewer say something else
        studies, patients = set(), set()
        for line, row in rows_by_name(table, COLUMNS, self.card.name):
            name, place, study, patient, projection, method, labels = (row[column] for column in COLUMNS)
            if not _IMAGE.fullmatch(name) or not _PLACE.fullmatch(place):
                raise DataError(f"{self._where(line)}: ImageID is no name of a PNG file or ImageDir no number. Are the columns shifted?")
            if name in lines:
                raise DataError(f"{self._where(line)}: the same ImageID as in line {lines[name]:,}. Each image has one row.")
            if not patient:
                raise DataError(f"{self._where(line)}: the PatientID is empty, so the image has no place in a split by patient.")
            lines[name] = line
            studies.add(study)
            patients.add(patient)
            if projection not in FRONTAL:
                continue
            self._totals["frontal"] += 1
            if labels not in known:
                known[labels] = self._names(labels, line)
            found = known[labels]
            if found is None:
                self._totals["frontal_without_labels"] += 1
                continue
            self._n_other_methods += method not in METHODS
            rows[name] = FrontalImage(line, place, patient, projection, method == PHYSICIAN, found)
        if not rows:
            raise DataError(f"{self.card.name}: {TABLE} has no frontal image with labels. Fetch the file again.")
        self._totals |= {"rows": len(lines), "studies": len(studies), "patients": len(patients)}
        return rows

    def _names(self, cell: str, line: int) -> frozenset[str] | None:
        """The labels of a cell such as `['cardiomegaly', ' pleural effusion', '']`; None for an empty cell."""
        if cell in ("", "nan"):
            return None
        try:
            listed = ast.literal_eval(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            listed = None
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise DataError(f"{self._where(line)}: Labels is no list of texts. Are the columns shifted, or was the table re-saved?")
        return frozenset(name.strip() for name in listed if name.strip())

    def _where(self, line: int) -> str:
        return f"{self.card.name}: {TABLE} line {line:,}"


_IMAGE = re.compile(r"[^/\\]+\.png")
_PLACE = re.compile(r"[0-9]+")
