"""The layout of MIMIC-CXR-JPG 2.0.0 with MIMIC-CXR's reports (docs/sources.md, MIMIC-CXR): JPEG files by patient and study, packed tables.

A study has one frontal image and sometimes a lateral row without a file of interest. Some reports have neither findings nor impression.
"""

from __future__ import annotations

import gzip
import io
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image

from benchmark.observations import CHEXPERT_OBSERVATIONS
from benchmark.phantom.base import CorpusPlan, Listing, Shot, Written, patient_key, shots_of, stream_of
from benchmark.phantom.chexpert import DRAWN, draw_named
from benchmark.phantom.radiograph import develop
from benchmark.phantom.seeds import apart, number_of

DEFAULT_POSITIVE_SHARE = 0.7
SPLITS = ("test", "validate", "train")
TEST_SHARE, VALIDATE_SHARE = 0.5, 0.1  # of the patients; the release has 1.4 % and 0.8 % of its images there
SIZE = 320  # the release keeps full resolution, about 3056 x 2544
SILENT_SHARE = 0.08  # reports without findings and impression
UNCERTAIN_SHARE = 0.15
CLASSES = tuple(sorted(CHEXPERT_OBSERVATIONS))
PREFIX = "mimic-cxr-2.0.0-"
JPG, TEXT = "mimic-cxr-jpg/2.0.0", "mimic-cxr/2.0.0"


@dataclass(frozen=True)
class Place:
    """Where an image lies in the release: numbers of patient and study, and the image's own name."""

    subject: int
    study: int
    dicom: str

    @property
    def path(self) -> str:
        return f"files/p{str(self.subject)[:2]}/p{self.subject}/s{self.study}/{self.dicom}.jpg"


def shots(plan: CorpusPlan) -> list[Shot]:
    """Roles are the official splits: whole patients belong to one."""
    planned = shots_of(plan, DEFAULT_POSITIVE_SHARE)
    n_test, n_validate = max(1, round(TEST_SHARE * plan.n_patients)), round(VALIDATE_SHARE * plan.n_patients)

    def subset(patient: int) -> str:
        return SPLITS[int(patient >= n_test) + int(patient >= n_test + n_validate)]

    return [Shot(one.patient, one.index, one.positive, subset(one.patient)) for one in planned]


def write_image(plan: CorpusPlan, shot: Shot, root: Path) -> Written:
    rng = stream_of(plan, shot)
    names = [str(name) for name in rng.choice(DRAWN, int(rng.choice([1, 2], p=[0.8, 0.2])), replace=False)] if shot.positive else []
    _, radiograph = draw_named(plan, shot, names, rng)
    place = place_of(plan, shot)
    subject, study, dicom = place.subject, place.study, place.dicom
    (root / JPG / place.path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(develop(radiograph, SIZE + 60, SIZE, rng)).save(root / JPG / place.path, quality=92)
    silent = rng.random() < SILENT_SHARE
    labels = {name: "1.0" if rng.random() >= UNCERTAIN_SHARE else "-1.0" for name in names}
    label = {
        "subject": subject,
        "study": study,
        "labels": labels,
        "view": radiograph.scene.pose.view,
        "text": _text(radiograph.report, silent),
    }
    return Written(shot, dicom, str(subject), radiograph.report, (), label)


@cache
def _first_studies(plan: CorpusPlan, word: str) -> list[int]:
    """By patient: a study stands for one patient, and hashes of a few thousand would meet."""
    drawn = (number_of(f"{word} study", patient_key(plan, patient), below=20_000_000) for patient in range(plan.n_patients))
    return apart(drawn, 20_000_000, plan.images_per_patient[1])


def place_of(plan: CorpusPlan, shot: Shot, word: str = "mimic") -> Place:
    """Numbers in the release's form and outside its range; another `word` gives other numbers for the same shot."""
    subject = 30_000_000 + number_of(word, plan.seed, below=60_000_000) + shot.patient  # the release's numbers begin with 10 to 19
    study = 70_000_000 + _first_studies(plan, word)[shot.patient] + shot.index
    number = f"{number_of(f'{word} dicom', patient_key(plan, shot.patient), shot.index, below=16**16):016x}"
    return Place(subject, study, "-".join([number[:8], number[8:], number[4:12], number[2:10], f"{shot.index:08x}"]))


def write_labels(plan: CorpusPlan, written: list[Written], root: Path) -> Listing:
    base = root / JPG
    rows = [f"{one.id},{one.label['study']},{one.label['subject']},{one.shot.role}" for one in written]
    _packed(base / f"{PREFIX}split.csv.gz", ["dicom_id,study_id,subject_id,split", *rows])
    columns = (
        "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime,"
        "ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning"
    )
    rows = [
        f"{one.id},{one.label['subject']},{one.label['study']},CHEST,{one.label['view']},{SIZE + 60},{SIZE},21800506,213014.5,CHEST,,Erect"
        for one in written
    ]
    _packed(base / f"{PREFIX}metadata.csv.gz", [columns, *rows])
    rows = []
    for one in written:
        known = {"No Finding": "1.0"} if not one.label["labels"] and not one.shot.positive else one.label["labels"]
        rows.append(f"{one.label['subject']},{one.label['study']},{','.join(known.get(name, '') for name in CLASSES)}")
    _packed(base / f"{PREFIX}chexpert.csv.gz", [f"subject_id,study_id,{','.join(CLASSES)}", *rows])
    (root / TEXT).mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(root / TEXT / "mimic-cxr-reports.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for one in written:
            subject, study = one.label["subject"], one.label["study"]
            # A fixed date: the same plan gives the same bytes.
            archive.writestr(zipfile.ZipInfo(f"files/p{str(subject)[:2]}/p{subject}/s{study}.txt"), one.label["text"])
    counts = {
        "images": len(written),
        "frontal_images": len(written),
        "studies": len({one.label["study"] for one in written}),
        "patients": len({one.patient_id for one in written}),
        "labelled_studies": len(written),
    }
    counts |= {f"{subset}_images": sum(one.shot.role == subset for one in written) for subset in SPLITS}
    return Listing(tuple(one.id for one in written), counts)


def _text(report: str, silent: bool) -> str:
    """In the release's style: a title block, headers after one blank, de-identified spans as underscores."""
    head = (
        "                                 FINAL REPORT\n EXAMINATION:  CHEST (PA AND LAT)\n \n INDICATION:  ___ year old with cough.\n \n"
    )
    if silent:
        return f"{head} COMPARISON:  None.\n"
    findings, _, impression = report.partition("\nIMPRESSION: ")
    return f"{head} FINDINGS: \n \n {findings.removeprefix('FINDINGS: ')}\n \n IMPRESSION: \n \n {impression}\n"


def _packed(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = io.BytesIO()
    with gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as packed:
        packed.write("".join(f"{line}\n" for line in lines).encode())
    path.write_bytes(raw.getvalue())
