"""MIMIC-CXR-JPG with the reports of MIMIC-CXR: one frontal image of each study that says something, for matching images with words.

Tables are read when opened, reports one at a time when asked. No text, id or path of a report ever enters an error message.
"""

from __future__ import annotations

import csv
import re
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from pathlib import Path

import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import DataError, SplitError
from benchmark.files import read_bytes, require_regular
from benchmark.metrics.classification import UNKNOWN
from benchmark.readers.base import Check
from benchmark.readers.kit.checks import first_image_check, release_checks
from benchmark.readers.kit.image_reader import UnnamedReader
from benchmark.readers.kit.sections import FINDINGS, IMPRESSION, read_sections, report_text
from benchmark.readers.kit.splits import Splits, only_tested, require_rule
from benchmark.readers.kit.tables import require_inside
from benchmark.readers.kit.text import open_text
from benchmark.readers.kit.walk import the_one, the_one_needed

FRONTAL = ("PA", "AP")
TABLES = ("split", "metadata", "chexpert")
PREFIX = "mimic-cxr-2.0.0-"  # also in release 2.1.0
REPORTS_ZIP = "mimic-cxr-reports.zip"
IMAGE_FOLDERS = ("", "mimic-cxr-jpg", "mimic-cxr-jpg/2.0.0", "mimic-cxr-jpg/2.1.0", "2.0.0", "2.1.0")
BESIDE = "mimic-cxr"  # folder of the release, beside those of what others annotated on its images
REPORT_FOLDERS = ("", "mimic-cxr", "mimic-cxr/2.0.0", "mimic-cxr/2.1.0")
SPLIT_COLUMNS = ("dicom_id", "study_id", "subject_id", "split")
VIEW_COLUMNS = ("dicom_id", "ViewPosition")
TEST_REPORTS, PER_CLASS_RULE, PRETRAINING = "test reports", "5x200", "pretraining"
PER_CLASS = 200

_VALUES = {"1.0": 1, "1": 1, "0.0": 0, "0": 0, "-1.0": UNKNOWN, "-1": UNKNOWN, "": 0}


_SUSPECT = re.compile(r"[/\\\0]|(?:^|\n)\.{0,2}(?:\n|$)")  # of names below each other: any that may be more than a part of a path


@dataclass(frozen=True, slots=True)
class Image:
    """One frontal image: the tables' row of it, and its place among such rows, from 1."""

    place: int
    dicom: str
    study: str
    subject: str
    split: str
    view: str

    @property
    def folder(self) -> str:
        """Of the study, within the release."""
        patient = f"files/p{self.subject[:2]}/p{self.subject}"
        return f"{patient}/s{self.study}"

    @property
    def report(self) -> str:
        return f"{self.folder}.txt"


class DatasetReader(UnnamedReader):
    """Frontal images of MIMIC-CXR-JPG. Ids are DICOM ids; patients are known."""

    listed_files = "frontal images and reports"

    def open(self) -> None:
        self.published_in = self._base = self._image_base()
        self._paths = {name: self._table(name) for name in TABLES}
        views = {dicom: sys.intern(view) for dicom, view in self._read("metadata", VIEW_COLUMNS)}
        self._rows: dict[str, Image] = {}
        patients: set[str] = set()
        studies: set[str] = set()
        parts: Counter[str] = Counter()
        for line, cells in enumerate(self._read("split", SPLIT_COLUMNS), start=2):
            if _SUSPECT.search("\n".join(cells[:3])):
                self._require_names(line, cells)
            dicom, study, subject, part = cells[0], *map(sys.intern, cells[1:])
            studies.add(study)
            patients.add(subject)
            parts[part] += 1
            if views.get(dicom) in FRONTAL:
                known = self._rows.get(dicom)
                place = len(self._rows) + 1 if known is None else known.place
                self._rows[dicom] = Image(place, dicom, study, subject, part, views[dicom])
        if not self._rows:
            raise DataError(f"{self.card.name}: no frontal image (view {' or '.join(FRONTAL)}) in the tables of {self._base}.")
        self.images = {dicom: Path(f"{self._base}/{one.folder}/{dicom}.jpg") for dicom, one in self._rows.items()}
        said: dict[tuple[str, ...], tuple[str, ...]] = {}  # of 227,827 studies there are few that say something else
        labels = self._read("chexpert", ("study_id", *self.card.classes))
        self._labels = {sys.intern(study): said.setdefault(tuple(cells), tuple(cells)) for study, *cells in labels}
        self._counts = {"images": parts.total(), "frontal_images": len(self._rows)}
        self._counts |= {f"{part}_images": parts[part] for part in ("train", "validate", "test")}
        self._counts |= {"studies": len(studies), "patients": len(patients), "labelled_studies": len(self._labels)}
        self._reports = self._report_source()
        # The archive of reports decides as tables do; unpacked reports are files of their samples.
        self.tables = (*self._paths.values(), *((self._reports,) if self._reports.suffix == ".zip" else ()))
        self.release = f"tables {PREFIX}*, reports {'in the archive' if self._reports.suffix == '.zip' else 'unpacked'}"

    def patient_of(self, sample_id: str) -> str:
        return self._rows[sample_id].subject

    def view_of(self, sample_id: str) -> str:
        return self._rows[sample_id].view

    def where_of(self, sample_id: str) -> str:
        """The image by its place: no id leaves."""
        return f"{self.card.name}: frontal image {self._rows[sample_id].place:,} of {self._paths['split'].name}"

    def texts_of(self, sample_id: str) -> tuple[Path, ...]:
        """The report, where reports are unpacked and there is one; the archive of all is a label file."""
        report = self._reports / self._rows[sample_id].report
        return (report,) if self._reports.suffix != ".zip" and report.is_file() else ()

    def image_files(self) -> tuple[Path, ...]:
        """Frontal images; with them unpacked reports, whose sizes then enter the digest."""
        paths = list(self.images.values())
        if self._reports.suffix != ".zip":
            paths += [self._reports / report for report in dict.fromkeys(one.report for one in self._rows.values())]
        return tuple(paths)

    def split(self, rule: SplitRule) -> Splits:
        """Tasks only test here. Backbones are pretrained on the official training split, and never on its test split.

        `test reports`: the first frontal image of every study of the official test split that has findings or an impression.
        `pretraining`: all frontal images of the official training and validation splits.
        `5x200`: so of all studies, 200 that show one of the card's classes alone, drawn with the rule's seed; classes take turns.
        """
        if rule.rule == PRETRAINING:
            parts = {"train": "train", "validation": "validate"}
            found = {name: tuple(i for i, one in self._rows.items() if one.split == official) for name, official in parts.items()}
            return {**found, "test": ()}
        if rule.rule == TEST_REPORTS:
            return only_tested(self._with_text([one for one in self._first if one.split == "test"]))
        numbers = require_rule(rule, (PER_CLASS_RULE, TEST_REPORTS, PRETRAINING), "seed", dataset=self.card.name)
        return only_tested(self._five_by_two_hundred(numbers.seed))

    def checks(self) -> Iterable[Check]:
        yield from release_checks(self, self._counts, "Is this the complete release 2.0.0 or 2.1.0?")
        yield first_image_check(self)

    @cached_property
    def _first(self) -> tuple[Image, ...]:
        """The first frontal image of each study, in table order."""
        first: dict[str, Image] = {}
        for one in self._rows.values():
            first.setdefault(one.study, one)
        return tuple(first.values())

    def _five_by_two_hundred(self, seed: int) -> tuple[str, ...]:
        n_classes, drawn = len(self.card.classes), []
        alone: list[list[Image]] = [[] for _ in range(n_classes)]
        for one in self._first:
            labels = self.labels_of(one.dicom)
            if one.study in self._labels and (labels == 1).sum() == 1 and not (labels == UNKNOWN).any():
                alone[int(labels.argmax())].append(one)
        random = np.random.RandomState(seed)
        for candidates in alone:
            order = (candidates[i] for i in random.permutation(len(candidates)))
            drawn.append(self._with_text(order, PER_CLASS))
        # A phantom is small: it gives as many of each class as it has of the rarest.
        wanted = PER_CLASS if self.phantom is None else max(min(map(len, drawn)), 1)
        for name, chosen in zip(self.card.classes, drawn, strict=True):
            if len(chosen) < wanted:
                raise SplitError(f"{self.card.name}: {len(chosen)} studies have {name} alone and a report, {wanted} are needed.")
        return tuple(one for row in zip(*(chosen[:wanted] for chosen in drawn), strict=True) for one in row)

    def _with_text(self, images: Iterable[Image], at_most: int | None = None) -> tuple[str, ...]:
        kept: list[str] = []
        for one in images:
            if at_most is not None and len(kept) >= at_most:
                break
            if self.report_of(one.dicom):
                kept.append(one.dicom)
        return tuple(kept)

    def labels_of(self, sample_id: str) -> np.ndarray:
        """(C,) int8; a blank is negative, an uncertain label unknown, and so is every label of a study without a row."""
        row = self._labels.get(self._rows[sample_id].study)
        if row is None:
            return np.full(len(self.card.classes), UNKNOWN, np.int8)
        values = [cell.strip() for cell in row]
        if any(value not in _VALUES for value in values):
            raise DataError(f"{self.card.name}: a label of the table {self._paths['chexpert'].name} is none of 1.0, 0.0, -1.0 and blank.")
        return np.array([_VALUES[value] for value in values], np.int8)

    def report_of(self, sample_id: str) -> str:
        """Findings and impression of the image's study; empty where its report has neither, or is missing."""
        return report_text(self._text_of(sample_id))

    def sections_of(self, sample_id: str) -> dict[str, str]:
        """Findings and impression apart, blanks collapsed; without those that the report does not have."""
        found = read_sections(self._text_of(sample_id))
        return {name: " ".join(found[name].split()) for name in (FINDINGS, IMPRESSION) if found.get(name, "").strip()}

    def study_of(self, sample_id: str) -> str:
        return self._rows[sample_id].study

    def _text_of(self, sample_id: str) -> str:
        """The whole report; empty where it is missing."""
        report = self._rows[sample_id].report
        try:
            raw = self._archive.read(report) if self._reports.suffix == ".zip" else read_bytes(self._reports / report)
        except (KeyError, FileNotFoundError):
            return ""
        except (zipfile.BadZipFile, zlib.error):  # their own words name the report
            raise DataError(f"{self.card.name}: a report in {REPORTS_ZIP} is damaged. Fetch it again.") from None
        return raw.decode("utf-8-sig", errors="replace")

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        require_regular(self._reports)
        return zipfile.ZipFile(self._reports)

    def _image_base(self) -> Path:
        folders = [self.root / folder for folder in IMAGE_FOLDERS]
        holding = [folder for folder in folders if any((folder / f"{PREFIX}split.csv{end}").is_file() for end in ("", ".gz"))]
        otherwise = f"{PREFIX}split.csv.gz is neither in {self.root} nor in its mimic-cxr-jpg/2.0.0."
        return the_one_needed(self.card.name, f"{PREFIX}split.csv", holding, otherwise)

    def _report_source(self) -> Path:
        archives = [self.root / folder / REPORTS_ZIP for folder in REPORT_FOLDERS if (self.root / folder / REPORTS_ZIP).is_file()]
        archive = the_one(self.card.name, REPORTS_ZIP, archives)
        if archive is not None:
            if not zipfile.is_zipfile(archive):
                raise DataError(f"{self.card.name}: {REPORTS_ZIP} is not a readable archive. Fetch it again.")
            return archive
        first = next(iter(self._rows.values()))
        holding = [self.root / folder for folder in REPORT_FOLDERS if (self.root / folder / first.report).is_file()]
        otherwise = f"no reports. Expected {REPORTS_ZIP} of MIMIC-CXR in {self.root} or its mimic-cxr/2.0.0, or unpacked."
        return the_one_needed(self.card.name, "the folder files of MIMIC-CXR's reports", holding, otherwise)

    def _table(self, name: str) -> Path:
        for end in (".gz", ""):
            if (self._base / f"{PREFIX}{name}.csv{end}").is_file():
                return self._base / f"{PREFIX}{name}.csv{end}"
        raise DataError(f"{self.card.name}: {PREFIX}{name}.csv.gz is missing in {self._base}. It is part of MIMIC-CXR-JPG.")

    def _require_names(self, line: int, cells: Sequence[str]) -> None:
        """Raises DataError for the first of a row's names that is no part of a path, but a path itself."""
        where = f"{self.card.name}: {self._paths['split'].name} line {line:,}"
        for name, cell in zip(SPLIT_COLUMNS[:3], cells, strict=False):
            require_inside(cell, where)
            if "/" in cell:
                raise DataError(f"{where}: {name} holds a slash. Are the columns shifted?")

    def _read(self, name: str, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """Cells of these columns, row by row; blank lines are passed over."""
        path = self._paths[name]
        try:
            with open_text(path, self.card.name) as handle:
                rows = csv.reader(handle)
                header = next(rows, [])
                missing = sorted(set(columns) - set(header))
                if missing:
                    raise DataError(f"{self.card.name}: {path.name} has no column {missing[0]}. Is this the table of the release?")
                places = {column: place for place, column in enumerate(header)}  # of two columns of one name the last
                cells_of, last = itemgetter(*(places[column] for column in columns)), max(places[column] for column in columns)
                for line, row in enumerate(filter(None, rows), start=2):
                    if len(row) <= last:
                        raise DataError(f"{self.card.name}: {path.name} line {line:,} is cut off.")
                    yield cells_of(row)
        except (OSError, EOFError, zlib.error, csv.Error) as error:
            raise DataError(f"{self.card.name}: {path.name} is not a readable table ({type(error).__name__}). Fetch it again.") from None


def image_base(dataset: str, root: Path, first: str | Path) -> Path:
    """The folder with MIMIC-CXR-JPG's `files`, for releases that annotate its images: the one that holds `first`, if there is such a one.

    Args:
        root: of the dataset; the images lie in it or in MIMIC-CXR's folder beside it.
        first: path of an image of the dataset, within the release.

    Raises:
        DataError: there is none, or several hold the image.
    """
    folders = [place / folder for place in (root, root.parent / BESIDE) for folder in IMAGE_FOLDERS]
    with_files = [folder for folder in folders if (folder / "files").is_dir()]
    if not with_files:
        raise DataError(
            f"{dataset}: no images. Expected the folder files of MIMIC-CXR-JPG in {root} or its mimic-cxr-jpg/2.0.0, or in "
            f"the folder {BESIDE} beside it."
        )
    holding = [folder for folder in with_files if (folder / first).is_file()]
    return the_one(dataset, "the folder files of MIMIC-CXR-JPG", holding) or with_files[0]
