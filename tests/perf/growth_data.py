"""What `lobe bench growth` runs on, made once for both sides: a corpus of each size, and MIMIC-CXR's list without its pixels."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

from benchmark import registry
from benchmark.machine import usable_cores
from benchmark.phantom import mimic_cxr
from benchmark.phantom.base import CorpusPlan, Shot, Written
from benchmark.phantom.corpus import write_corpus
from benchmark.phantom.mimic_cxr import JPG, place_of
from benchmark.readers.kit.generated import PHANTOM_FILE

IMAGES_A_LIMIT = 1.9  # of RSNA for each training image: 60 % of 6,080 fill a limit of 3,200 and leave 1,216 to test on
# MIMIC-CXR-JPG 2.0.0: 377,110 images, 5,159 of them in the official test split (datasets/mimic-cxr.yaml).
IMAGES_A_PATIENT, TEST_SHARE = 6, 0.014
WORTH_A_POOL = 100  # fewer images are drawn before a second process is there
FIRST_STUDY = 70_000_000
LINKS = 60_000  # names of one file, below what file systems allow
REPORT = "FINDINGS: The lungs are clear. There is no effusion.\nIMPRESSION: No acute process."


def rsna(folder: Path, limit: int, progress: Callable[[int, int], None] | None = None) -> Path:
    """The root that holds an RSNA corpus for one `--limit`, made when it is not there."""
    root = folder / f"rsna-{limit}"
    where = root / registry.dataset("rsna").folder
    if not where.exists():
        plan = CorpusPlan(dataset="rsna", n_patients=math.ceil(IMAGES_A_LIMIT * limit), seed=1, images_per_patient=(1, 1))
        write_corpus(plan, where, progress, workers=usable_cores() if limit >= WORTH_A_POOL else 1)
    return root


def mimic_list(folder: Path, n_images: int) -> Path:
    """The root that holds a release with so many frontal images of MIMIC-CXR-JPG, made when it is not there.

    Tables and reports are a generated corpus's; every image is a study of its own, and another name of one picture.
    """
    root = folder / f"mimic-{n_images}"
    where, part = root / registry.dataset("mimic-cxr").folder, root / ".making"
    if where.exists():
        return root
    n_patients = max(4, round(n_images / IMAGES_A_PATIENT))
    plan = CorpusPlan(dataset="mimic-cxr", n_patients=n_patients, seed=1)
    n_test = max(2, round(TEST_SHARE * n_patients))
    written = [_named(plan, number, n_images, n_patients, n_test) for number in range(n_images)]
    listing = mimic_cxr.write_labels(plan, written, part)
    _name_one_picture(plan, [part / JPG / one.label["path"] for one in written], root)
    (part / PHANTOM_FILE).write_text(json.dumps({"version": 1, "dataset": plan.dataset, "seed": plan.seed, "counts": listing.counts}))
    part.rename(where)
    return root


def _named(plan: CorpusPlan, number: int, n_images: int, n_patients: int, n_test: int) -> Written:
    """An image that nobody drew, in a study of its own; patients follow each other, with as many images each up to one."""
    patient = number * n_patients // n_images
    subject, study = place_of(plan, Shot(patient, 0, positive=False)).subject, FIRST_STUDY + number
    dicom = f"{number:08x}-{patient:08x}-{number:08x}-{patient:08x}-{number:08x}"
    label = {
        "subject": subject,
        "study": study,
        "labels": {},
        "view": "PA" if number % 3 else "AP",
        "text": REPORT,
        "path": f"files/p{str(subject)[:2]}/p{subject}/s{study}/{dicom}.jpg",
    }
    role = "test" if patient < n_test else "train"
    return Written(Shot(patient, number, positive=False, role=role), dicom, str(subject), REPORT, (), label)


def _name_one_picture(plan: CorpusPlan, names: list[Path], root: Path) -> None:
    drawn = mimic_cxr.write_image(plan, Shot(0, 0, positive=False), root / ".drawn")
    picture = root / ".drawn" / JPG / place_of(plan, drawn.shot).path
    for folder in {name.parent for name in names}:
        folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        if number % LINKS == 0:
            copy = root / f".picture-{number}"
            copy.write_bytes(picture.read_bytes())
        os.link(copy, name)
