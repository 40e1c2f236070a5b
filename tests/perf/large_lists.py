"""A release as long as MIMIC-CXR, made without drawing: its tables, checksums and reports, and one small picture under every name.

Only planning is measured on it. Images of a patient are links to one file, so that 377,110 names need little room.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.phantom.mimic_cxr import CLASSES, JPG, PREFIX, TEXT
from benchmark.readers.kit.generated import PHANTOM_FILE
from benchmark.readers.kit.identity import CHECKSUMS

N_IMAGES = 377_110  # MIMIC-CXR-JPG 2.0.0
IMAGES_A_STUDY, STUDIES_A_PATIENT = 377_110 / 227_835, 227_835 / 65_379
VIEWS, VIEW_SHARES = ("PA", "AP", "LATERAL", "LL"), (0.26, 0.39, 0.22, 0.13)
PARTS, PART_SHARES = ("train", "validate", "test"), (0.978, 0.008, 0.014)
VALUES, VALUE_SHARES = ("", "1.0", "0.0", "-1.0"), (0.80, 0.13, 0.04, 0.03)
REPORT = " FINDINGS: \n \n The lungs are clear. There is no effusion.\n \n IMPRESSION: \n \n No acute process.\n" + " " * 500
LINKS = 60_000  # names of one file, below what file systems allow


@dataclass(frozen=True)
class _Row:
    dicom: str
    study: int
    subject: int
    part: str
    view: str

    @property
    def study_folder(self) -> str:
        return f"files/p{str(self.subject)[:2]}/p{self.subject}/s{self.study}"

    @property
    def image(self) -> str:
        return f"{self.study_folder}/{self.dicom}.jpg"


def mimic_tables(folder: Path, n_images: int = N_IMAGES) -> Path:
    """Writes such a release of so many images into `folder`, of which about two thirds are frontal, and returns its root."""
    root = folder / "mimic-cxr"
    base = root / JPG
    base.mkdir(parents=True)
    rows = _rows(n_images)
    parts = ((r.dicom, r.study, r.subject, r.part) for r in rows)
    _packed(base / f"{PREFIX}split.csv.gz", ("dicom_id", "study_id", "subject_id", "split"), parts)
    _packed(
        base / f"{PREFIX}metadata.csv.gz",
        ("dicom_id", "subject_id", "study_id", "ViewPosition", "Rows", "Columns", "StudyDate"),
        ((r.dicom, r.subject, r.study, r.view, 3056, 2544, 21800506) for r in rows),
    )
    studies = {r.study: r for r in rows}
    labels = np.random.default_rng(3).choice(VALUES, (len(studies), len(CLASSES)), p=VALUE_SHARES)
    table = ((one.subject, one.study, *values) for one, values in zip(studies.values(), labels.tolist(), strict=True))
    _packed(base / f"{PREFIX}chexpert.csv.gz", ("subject_id", "study_id", *CLASSES), table)
    digest = _pictures(base, rows)
    (base / CHECKSUMS).write_text("".join(f"{digest} {r.image}\n" for r in rows))
    (root / TEXT).mkdir(parents=True)
    with zipfile.ZipFile(root / TEXT / "mimic-cxr-reports.zip", "w") as archive:
        for one in studies.values():
            archive.writestr(zipfile.ZipInfo(f"{one.study_folder}.txt"), REPORT)
    _manifest(root, rows, len(studies))
    return root


def _rows(n_images: int) -> list[_Row]:
    """In the order of the release's table: by patient, then by study."""
    rng = np.random.default_rng(1)
    study = np.sort(rng.integers(0, max(round(n_images / IMAGES_A_STUDY), 1), n_images))
    patient = (study / STUDIES_A_PATIENT).astype(int)
    parts = rng.choice(PARTS, int(patient.max()) + 1, p=PART_SHARES)
    parts[:1] = "test"  # a small one has an official test set as well
    views = rng.choice(VIEWS, n_images, p=VIEW_SHARES)
    views[0] = "PA"
    names = [rng.bytes(20).hex() for _ in range(n_images)]
    return [
        _Row("-".join(name[k : k + 8] for k in range(0, 40, 8)), 70_000_000 + s, 30_000_000 + p, str(parts[p]), view)
        for name, s, p, view in zip(names, study.tolist(), patient.tolist(), views.tolist(), strict=True)
    ]


def _pictures(base: Path, rows: list[_Row]) -> str:
    """The same small picture under every name; its SHA-256."""
    raw = io.BytesIO()
    Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)).save(raw, "JPEG")
    made: set[str] = set()
    source = ""
    for number, one in enumerate(rows):
        if one.study_folder not in made:
            (base / one.study_folder).mkdir(parents=True)
            made.add(one.study_folder)
        path = os.path.join(base, one.image)
        if number % LINKS == 0:
            Path(path).write_bytes(raw.getvalue())
            source = path
        else:
            os.link(source, path)
    return hashlib.sha256(raw.getvalue()).hexdigest()


def _manifest(root: Path, rows: list[_Row], n_studies: int) -> None:
    """What marks a generated release, so that an unlimited plan is made of it."""
    ids = [r.dicom for r in rows if r.view in ("PA", "AP")]
    counts = {"images": len(rows), "frontal_images": len(ids), "studies": n_studies, "labelled_studies": n_studies}
    digests = {"ids_sha256_ordered": hashlib.sha256("\n".join(ids).encode()).hexdigest()}
    (root / PHANTOM_FILE).write_text(json.dumps({"dataset": "mimic-cxr", "counts": counts, "digests": digests}))


def _packed(path: Path, header: tuple[str, ...], rows: Iterable[tuple]) -> None:
    with gzip.open(path, "wt", compresslevel=1, newline="") as packed:
        lines = csv.writer(packed, lineterminator="\n")
        lines.writerow(header)
        lines.writerows(rows)
