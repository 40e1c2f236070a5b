"""The layout of PadChest (docs/sources.md, PadChest): 16-bit PNG in numbered folders, one table with label lists as Python writes them.

Labels are the two that the section names. Some lists hold blanks and empty texts, some cells nothing, and some images are lateral, as in
the release; columns that the section elides are left out, and reports are English.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.phantom.base import CorpusPlan, Listing, Shot, Written, shots_of, stream_of
from benchmark.phantom.chexpert import draw_named
from benchmark.phantom.radiograph import develop
from benchmark.phantom.seeds import number_of, stream

TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
DEFAULT_POSITIVE_SHARE = 0.4  # made up
SIZE, BRIGHTEST = 512, (4_095, 65_535)  # the true depth varies
NAMES = {"Cardiomegaly": "cardiomegaly", "Pleural Effusion": "pleural effusion"}
LATERAL_SHARE, SILENT_SHARE = 0.1, 0.05
PHYSICIAN_SHARE = 0.5  # of the labels; 0.27 in the release, of which a small corpus would leave too few to test with
N_PLACES = 3
COLUMNS = (
    *("", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM", "ViewPosition_DICOM"),
    *("Projection", "MethodProjection", "Pediatric", "Modality_DICOM", "Manufacturer_DICOM", "PhotometricInterpretation_DICOM"),
    *("ReportID", "Report", "MethodLabel", "Labels", "Localizations", "LabelsLocalizationsBySentence", "labelCUIS", "LocalizationsCUIS"),
)


def shots(plan: CorpusPlan) -> list[Shot]:
    """Roles are what an image is to the reader: "Physician" or "RNN_model" by who labels it, "lateral", or "silent" without labels."""
    planned = shots_of(plan, DEFAULT_POSITIVE_SHARE)
    rng = stream("roles", plan.dataset, plan.seed)
    found = []
    for one in planned:
        labelled = "Physician" if rng.random() < PHYSICIAN_SHARE else "RNN_model"
        kind = rng.random()
        role = "lateral" if kind < LATERAL_SHARE else "silent" if kind < LATERAL_SHARE + SILENT_SHARE else labelled
        found.append(replace(one, role=labelled if one.positive else role))
    return found


def write_image(plan: CorpusPlan, shot: Shot, root: Path) -> Written:
    rng = stream_of(plan, shot)
    names = [str(name) for name in rng.choice(list(NAMES), int(rng.integers(1, 3)), replace=False)] if shot.positive else []
    patient, radiograph = draw_named(plan, shot, names, rng)
    number = number_of("padchest", plan.seed, shot.patient, shot.index, below=10**18)
    name, place = f"{number:018d}_{shot.patient}_{shot.index}.png", str(shot.patient % N_PLACES)
    (root / place).mkdir(exist_ok=True)
    brightest = int(rng.choice(BRIGHTEST))
    pixels = np.rint(develop(radiograph, SIZE, SIZE, rng) / 255 * brightest).astype(np.uint16)
    Image.fromarray(pixels).save(root / place / name, compress_level=1)
    patient_id = f"{number_of('padchest patient', plan.seed, shot.patient, below=10**30):030d}"
    view = radiograph.scene.pose.view
    labels = "" if shot.role == "silent" else str([NAMES[n] if k % 2 == 0 else f" {NAMES[n]}" for k, n in enumerate(names)] + [""])
    row = {
        "ImageID": name,
        "ImageDir": place,
        "StudyID": f"{patient_id}_{shot.index}",
        "PatientID": patient_id,
        "PatientSex_DICOM": patient.sex,
        "Projection": "L" if shot.role == "lateral" else view,
        "PhotometricInterpretation_DICOM": "MONOCHROME2",
        "Report": radiograph.report.replace("\n", " "),
        "MethodLabel": "RNN_model" if shot.role in ("lateral", "silent") else shot.role,
        "Labels": labels,
    }
    return Written(shot, name, patient_id, radiograph.report, (), {"row": row, "names": [NAMES[n] for n in names]})


def write_labels(plan: CorpusPlan, written: list[Written], root: Path) -> Listing:
    with (root / TABLE).open("w", encoding="utf-8", newline="") as handle:
        table = csv.DictWriter(handle, COLUMNS, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows({"": k, **one.label["row"]} for k, one in enumerate(written))
    read = [one for one in written if one.shot.role not in ("lateral", "silent")]
    counts = {
        "rows": len(written),
        "patients": len({one.patient_id for one in written}),
        "images": len(read),
        "frontal": sum(one.shot.role != "lateral" for one in written),
        "frontal_without_labels": sum(one.shot.role == "silent" for one in written),
        "physician": sum(one.shot.role == "Physician" for one in read),
    }
    counts |= {f"positive_{name.replace(' ', '_')}": sum(name in one.label["names"] for one in read) for name in NAMES.values()}
    return Listing(tuple(one.id for one in read), counts)
