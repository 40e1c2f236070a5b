"""CheXpert v1.0, full or small: frontal images with five findings, uncertain labels decided by the card, official validation set as test.

Where the official test labels (groundtruth.csv, by study) and the folder `test` lie beside the tables, the test set can be that one. The
label table is read once, row by row, because the published 5x200 sets are rules over its rows (`chexpert_5x200`).
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmark.cards import SplitRule, canonical_json
from benchmark.errors import DataError, SplitError
from benchmark.imaging.person import age_decade, sex_of
from benchmark.metrics.classification import UNKNOWN
from benchmark.observations import CHEXPERT_OBSERVATIONS
from benchmark.readers.base import Check
from benchmark.readers.kit.checks import first_image_check, release_checks, split_checks
from benchmark.readers.kit.chexpert_5x200 import PER_CLASS, fewest_candidates, gloria_set, interleaved, mgca_set, prior_set
from benchmark.readers.kit.holdout import hold_out, sampled
from benchmark.readers.kit.image_reader import UnnamedReader
from benchmark.readers.kit.splits import Splits, only_tested, require_rule
from benchmark.readers.kit.tables import cells_of, read_table, require_columns, require_inside, rows_by_name
from benchmark.readers.kit.walk import files_in

COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT_OBSERVATIONS)
ARCHIVES = ("CheXpert-v1.0", "CheXpert-v1.0-small")
TRAIN_TABLE, VALID_TABLE, TEST_TABLE = "train.csv", "valid.csv", "groundtruth.csv"
RULE, TEST_RULE = "chexpert", "chexpert, official test"
DRAWN = {"5x200 mgca": mgca_set, "5x200 gloria": gloria_set}
PRIOR_RULE, PRIOR_LIST = "5x200 prior", "chexpert_5x200.json"
N_VALIDATION, N_TRAIN = 5_000, 223_414
POSITIVE, NEGATIVE, UNCERTAIN, BLANK = 1, 0, -1, 2
# As GLoRIA and MGCA count them, and the shipped card does.
RELEASED: dict[str, Literal["positive", "negative"]] = {
    **dict.fromkeys(("Atelectasis", "Edema", "Pleural Effusion"), "positive"),
    **dict.fromkeys(("Cardiomegaly", "Consolidation"), "negative"),
}

_VALUES = {"1.0": POSITIVE, "1": POSITIVE, "0.0": NEGATIVE, "0": NEGATIVE, "-1.0": UNCERTAIN, "-1": UNCERTAIN, "": BLANK}
_FRONTAL = re.compile(r"view.*_frontal\.jpg")


@dataclass(frozen=True, slots=True)
class Study:
    """One row of a label table.

    Attributes:
        path: without its first component, which names the archive: the image's id.
        values: finding -> POSITIVE, NEGATIVE, UNCERTAIN or BLANK; one object for all rows that say the same.
        table, number: which sentences name in place of the image; the number is of a line, or of a study.
    """

    path: str
    frontal: bool
    view: str | None
    values: Mapping[str, int]
    table: str = ""
    number: int = 0
    counted: Literal["line", "study"] = "line"
    sex: str | None = None
    age_decade: int | None = None

    @property
    def where(self) -> str:
        return f"{self.table} {self.counted} {self.number:,}"

    @property
    def patient(self) -> str:
        return self.path.split("/")[1]


class DatasetReader(UnnamedReader):
    """CheXpert's frontal images. Ids are paths below the archive; patients are known."""

    listed_files = "frontal images"

    def open(self) -> None:
        self._base = base = self.folder_with(TRAIN_TABLE)
        self._train, archive = read_studies(base / TRAIN_TABLE, self.card.name)
        self._valid, _ = read_studies(base / VALID_TABLE, self.card.name)
        self._tested = read_test_studies(base / TEST_TABLE, self.card.name) if (base / TEST_TABLE).is_file() else {}
        self._test = images_of_test(base, self._tested)
        self._studies = {study.path: study for study in (*self._train, *self._valid, *self._test) if study.frontal}
        self.images = {path: base / path for path in self._studies}
        optional = (base / name for name in (PRIOR_LIST, TEST_TABLE))
        self.tables = (base / TRAIN_TABLE, base / VALID_TABLE, *(path for path in optional if path.is_file()))
        self.release = f"{archive}, labels of train.csv and valid.csv" + (f" and {TEST_TABLE}" if self._tested else "")

    def patient_of(self, sample_id: str) -> str:
        return self._studies[sample_id].patient

    def view_of(self, sample_id: str) -> str | None:
        return self._studies[sample_id].view

    def sex_of(self, sample_id: str) -> str | None:
        return self._studies[sample_id].sex

    def age_decade_of(self, sample_id: str) -> int | None:
        return self._studies[sample_id].age_decade

    def labels_of(self, sample_id: str) -> np.ndarray:
        return labels_of(self._studies[sample_id], self.card.classes, self.card.uncertain)

    def decided(self) -> str:
        """What uncertain labels count as, where it is not as released."""
        return "" if self.card.uncertain == RELEASED else canonical_json({"uncertain": self.card.uncertain})

    def where_of(self, sample_id: str) -> str:
        return f"{self.card.name}: {self._studies[sample_id].where}"

    def split(self, rule: SplitRule) -> Splits:
        if rule.rule in DRAWN:
            most = PER_CLASS if self.phantom is None else min(PER_CLASS, max(fewest_candidates(self._train), 1))
            return only_tested(interleaved(DRAWN[rule.rule](self._train, most)))
        if rule.rule == PRIOR_RULE:
            return only_tested(interleaved(tuple(self._prior_list())))
        numbers = require_rule(rule, (RULE, TEST_RULE, *DRAWN, PRIOR_RULE), "seed", dataset=self.card.name)
        drawn = mgca_split(self._train, self._valid, numbers.seed)
        return drawn if rule.rule == RULE else drawn | {"test": self._official_test()}

    def checks(self) -> Iterable[Check]:
        train = [s for s in self._train if s.frontal]
        counts = {
            "images": len(self.ids),
            "train_rows": len(self._train),
            "train_frontal": len(train),
            "train_patients": len({s.patient for s in self._train}),
            "valid_rows": len(self._valid),
            "valid_frontal": sum(s.frontal for s in self._valid),
        }
        for name in self.card.classes:
            counts[f"{name} positive"] = sum(s.values[name] == POSITIVE for s in self._train)
            counts[f"{name} uncertain"] = sum(s.values[name] == UNCERTAIN for s in self._train)
        if self._tested:
            counts |= {"test_studies": len(self._tested), "test_studies with an image": len(self._test)}
            for name in self.card.classes:
                counts[f"{name} test positive"] = sum(values[name] == POSITIVE for values in self._tested.values())
        expected = {what: n for what, n in self.card.expected.items() if "test" not in what or self._tested}
        yield from release_checks(self, counts, "Is this the complete, unedited v1.0?", expected)
        yield from split_checks(self, patient_of=self.patient_of)
        yield first_image_check(self)

    def _official_test(self) -> tuple[str, ...]:
        """One frontal image of every study of the official test set."""
        if not self._tested:
            raise SplitError(
                f"{self.card.name}: {TEST_TABLE}, the official test labels, is not beside {TRAIN_TABLE}. It is in "
                "rajpurkarlab/cheXpert-test-set-labels; the images come from Stanford AIMI."
            )
        if len(self._test) < len(self._tested):
            n = len(self._tested) - len(self._test)
            raise SplitError(
                f"{self.card.name}: {n:,} of {len(self._tested):,} studies of {TEST_TABLE} have no frontal image in {self._base / 'test'}."
            )
        return tuple(study.path for study in self._test)

    def _prior_list(self) -> dict[str, int]:
        path = self._base / PRIOR_LIST
        if not path.is_file():
            raise SplitError(f"{self.card.name}: PRIOR's list {PRIOR_LIST} is not beside {TRAIN_TABLE}. It is in PRIOR's repository.")
        listed = prior_set(path, PER_CLASS if self.phantom is None else None)
        foreign = [i for i in listed if i not in self._studies]
        if foreign:
            raise SplitError(f"{self.card.name}: {len(foreign):,} of {len(listed):,} images of {PRIOR_LIST} are not in {TRAIN_TABLE}.")
        return listed


def read_studies(path: Path, dataset: str) -> tuple[tuple[Study, ...], str]:
    """All rows of a label table in file order, and the archive its paths name.

    Raises:
        DataError: other columns, a value that is no label, or a path of no archive, with its line.
    """
    table = read_table(path, dataset)
    require_columns(table, COLUMNS, dataset)
    studies: list[Study] = []
    archives: set[str] = set()
    known: dict[tuple[str, ...], Mapping[str, int]] = {}  # of 223,414 rows there are few that say something else
    for line, cells in cells_of(table, len(COLUMNS), dataset):
        archive, _, rest = cells[0].strip().partition("/")
        if archive not in ARCHIVES or rest.count("/") < 3:
            raise DataError(f"{dataset}: {path.name} line {line:,}: the path does not start with {' or '.join(ARCHIVES)}.")
        require_inside(rest, f"{dataset}: {path.name} line {line:,}")
        archives.add(archive)
        if cells[5:] not in known:
            known[cells[5:]] = _values_of(cells[5:], f"{dataset}: {path.name} line {line:,}")
        frontal, view = cells[3].strip() == "Frontal", sys.intern(cells[4].strip()) or None
        sex, decade = sex_of(cells[1]), age_decade(cells[2])
        studies.append(Study(rest, frontal, view, known[cells[5:]], path.name, line, sex=sex, age_decade=decade))
    return tuple(studies), " and ".join(sorted(archives))


def _values_of(cells: Sequence[str], where: str) -> dict[str, int]:
    values = {}
    for name, cell in zip(CHEXPERT_OBSERVATIONS, cells, strict=True):
        if cell.strip() not in _VALUES:
            raise DataError(f"{where}: {name} is {cell!r}; expected 1.0, 0.0, -1.0 or nothing.")
        values[name] = _VALUES[cell.strip()]
    return values


def read_test_studies(path: Path, dataset: str) -> dict[str, dict[str, int]]:
    """Study, without the archive's name, -> finding -> POSITIVE or NEGATIVE, in file order. Columns are read by name.

    Raises:
        DataError: a column is missing or there twice, a study is no test study or is there twice, or a value is not 0 or 1; with its line.
    """
    table = read_table(path, dataset)
    found: dict[str, dict[str, int]] = {}
    for line, row in rows_by_name(table, ("Study", *CHEXPERT_OBSERVATIONS), dataset):
        archive, _, study = row["Study"].partition("/")
        if archive not in ARCHIVES or not re.fullmatch(r"test/patient\d{5}/study\d+", study) or study in found:
            raise DataError(f"{dataset}: {path.name} line {line:,}: not the first row of a study of the test set.")
        bad = [name for name in CHEXPERT_OBSERVATIONS if row[name] not in ("0", "1")]
        if bad:
            raise DataError(f"{dataset}: {path.name} line {line:,}: {bad[0]} is {row[bad[0]]!r}; expected 0 or 1.")
        found[study] = {name: POSITIVE if row[name] == "1" else NEGATIVE for name in CHEXPERT_OBSERVATIONS}
    return found


def images_of_test(base: Path, tested: Mapping[str, Mapping[str, int]]) -> tuple[Study, ...]:
    """The first frontal image of each test study that has one: labels are given for studies, and every study counts once."""
    found = []
    for number, (study, values) in enumerate(tested.items(), start=1):
        names = sorted((path.name for path in files_in(base / study) if _FRONTAL.fullmatch(path.name)), key=lambda name: (len(name), name))
        found += [Study(f"{study}/{names[0]}", True, None, values, TEST_TABLE, number, "study")] if names else []
    return tuple(found)


def labels_of(study: Study, classes: Sequence[str], uncertain: Mapping[str, str]) -> np.ndarray:
    """(C,) int8: blank counts as negative, uncertain as the card says, else as unknown."""
    decided = {"positive": 1, "negative": 0}
    found = []
    for name in classes:
        value = study.values[name]
        found.append(decided.get(uncertain.get(name, ""), UNKNOWN) if value == UNCERTAIN else int(value == POSITIVE))
    return np.array(found, np.int8)


def mgca_split(train: Sequence[Study], valid: Sequence[Study], seed: int) -> Splits:
    """MGCA's sets without its mistake: the 5x200 images out, 5,000 rows drawn for validation, the rest trains, valid.csv tests.

    The released code draws rows by position and removes them by index, so that 4,907 of its 5,000 validation images stay in training. Here
    they leave. Frontal images only; training in the order its fractions are drawn. A smaller corpus keeps the proportions, with a fifth of
    its rows or 32 for validation where that is more.
    """
    share = min(len(train) / N_TRAIN, 1)
    taken = set(mgca_set(train, round(PER_CLASS * share)))
    rest = [study for study in train if study.path not in taken]
    n_validation = max(math.ceil(N_VALIDATION * share), min(32, len(rest) // 5))
    _, held = hold_out(rest, n_validation, seed)
    chosen = {study.path for study in held}
    return {
        "train": tuple(sampled([s.path for s in rest if s.frontal and s.path not in chosen])),
        "validation": tuple(s.path for s in held if s.frontal),
        "test": tuple(s.path for s in valid if s.frontal),
    }
