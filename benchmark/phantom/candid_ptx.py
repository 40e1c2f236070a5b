"""The layout of CANDID-PTX's pneumothorax part (docs/sources.md, CANDID-PTX): DICOM files without ending, and one table.

Codes are relative as SIIM-ACR's, which was not verified for the release, and neither was the JPEG inside the DICOM files. Left out: the
tables of tubes and fractures. As in the release, one image stands under two patients.
"""

from __future__ import annotations

import csv
from pathlib import Path

from benchmark.phantom.anatomy import SIDES, Scene
from benchmark.phantom.base import CorpusPlan, Listing, Shot, Written, patient_of, shots_of, stream_of
from benchmark.phantom.findings import OUTLINE, Finding
from benchmark.phantom.radiograph import compose, develop, enlarge
from benchmark.phantom.secondary_capture import HeaderValues, uids, write_secondary_capture
from benchmark.phantom.seeds import number_of, uuid_of
from benchmark.phantom.siim import SIZE, relative_run_lengths, visible_pneumothorax

DEFAULT_POSITIVE_SHARE = 1 / 6  # about one positive to five negatives, docs/sources.md, CANDID-PTX
BOTH_SIDES_SHARE = 0.15  # not documented
FOLDER, TABLE = "dataset", "Pneumothorax_reports.csv"
COLUMNS = ("filename", "SOPInstanceUID", "EncodedPixels", "Report")
SHARED = "of two patients"


def shots(plan: CorpusPlan) -> list[Shot]:
    """Labelled images, and one more that the table gives to two patients."""
    return [*shots_of(plan, DEFAULT_POSITIVE_SHARE), Shot(plan.n_patients, 0, False, SHARED)]


def write_image(plan: CorpusPlan, shot: Shot, root: Path) -> Written:
    rng = stream_of(plan, shot)
    patient = patient_of(plan, shot)
    first = int(rng.integers(2))
    sides = [SIDES[first], SIDES[1 - first]] if rng.random() < BOTH_SIDES_SHARE else [SIDES[first]]

    def findings(scene: Scene) -> list[Finding]:
        return [visible_pneumothorax(scene, side, rng) for side in sides] if shot.positive else []

    radiograph = compose(patient, rng, findings)
    study, series, instance = uids("candid-ptx", plan.seed, shot.patient, shot.index)
    name = uuid_of("candid-ptx", plan.seed, shot.patient, shot.index)
    identity = HeaderValues(name, patient.sex, patient.age, radiograph.scene.pose.view, 0.168, study, series, instance)
    (root / FOLDER).mkdir(exist_ok=True)
    write_secondary_capture(root / FOLDER / instance, develop(radiograph, SIZE, SIZE, rng), identity)
    codes = [relative_run_lengths(enlarge(one.density, SIZE, SIZE) > OUTLINE) for one in radiograph.findings]
    number = 100_000 + number_of("candid-ptx", plan.seed, below=800_000) + shot.patient  # the release's have four digits
    return Written(shot, instance, f"P{number}", radiograph.report, (), {"codes": codes})


def write_labels(plan: CorpusPlan, written: list[Written], root: Path) -> Listing:
    labelled = [one for one in written if one.shot.role != SHARED]
    labelled.sort(key=lambda one: number_of("row", one.id, below=2**63))
    with (root / TABLE).open("w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle, lineterminator="\n")
        table.writerow(COLUMNS)
        for one in labelled:
            for code in one.label["codes"] or ["-1"]:
                table.writerow((f"{one.patient_id}_{one.shot.index}", one.id, code, one.report))
        for one in written:
            if one.shot.role == SHARED:
                table.writerows((f"{patient}_0", one.id, "-1", one.report) for patient in (one.patient_id, labelled[0].patient_id))
    positives = sum(bool(one.label["codes"]) for one in labelled)
    counts = {
        "images": len(labelled),
        "positives": positives,
        "negatives": len(labelled) - positives,
        "masks": sum(len(one.label["codes"]) for one in labelled),
        "patients": len({one.patient_id for one in labelled}),
        "files_without_row": 0,
        "images_of_two_patients": len(written) - len(labelled),
    }
    return Listing(tuple(one.id for one in labelled), counts)
