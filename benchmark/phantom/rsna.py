"""The layout of the RSNA Pneumonia Detection Challenge, stage 2 (docs/sources.md, RSNA): DICOM files and two label files.

As in the release, ids are per image and name no patient, positives have one row per box, and rows run through two ascending runs of ids.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmark.phantom.anatomy import SIDES, Scene
from benchmark.phantom.base import CorpusPlan, Listing, Shot, Written, patient_id, patient_of, scaled_box, shots_of, stream_of, write_lines
from benchmark.phantom.findings import POSITIVE_SHARE, Finding, atelectasis, draw_count, draw_opacities, nodule, pneumothorax
from benchmark.phantom.radiograph import GRID, compose, develop
from benchmark.phantom.secondary_capture import HeaderValues, uids, write_secondary_capture
from benchmark.phantom.seeds import number_of, uuid_of

DEFAULT_POSITIVE_SHARE = POSITIVE_SHARE
SIZE = 1024
NOT_NORMAL_SHARE = 11_821 / 20_672  # of the images without opacity
SECOND_RUN_SHARE = 1_000 / 26_684  # ids of the second ascending run
UNLABELLED_SHARE = 0.02  # the release has 3,000 test images beside 26,684; nobody scores them, so a few stand for them
TRAIN_FOLDER, TEST_FOLDER = "stage_2_train_images", "stage_2_test_images"


def shots(plan: CorpusPlan) -> list[Shot]:
    """Labelled images, then unlabelled test images of further patients."""
    labelled = shots_of(plan, DEFAULT_POSITIVE_SHARE)
    n_unlabelled = max(1, round(UNLABELLED_SHARE * len(labelled)))
    return labelled + [Shot(plan.n_patients + k, 0, k % 3 == 0, "unlabelled") for k in range(n_unlabelled)]


def write_image(plan: CorpusPlan, shot: Shot, root: Path) -> Written:
    rng = stream_of(plan, shot)
    patient = patient_of(plan, shot)
    image_class = "Lung Opacity" if shot.positive else "No Lung Opacity / Not Normal" if rng.random() < NOT_NORMAL_SHARE else "Normal"
    heart_enlarged = image_class != "Normal" and rng.random() < 0.35
    n_opacities = draw_count(rng) if shot.positive else 0

    def findings(scene: Scene) -> list[Finding]:
        if n_opacities:
            return draw_opacities(scene, n_opacities, rng)
        return _other_finding(scene, rng) if image_class != "Normal" and not heart_enlarged else []

    radiograph = compose(patient, rng, findings, heart_enlarged=heart_enlarged)
    name = uuid_of("rsna", plan.seed, shot.patient, shot.index)
    folder = root / (TRAIN_FOLDER if shot.role == "labelled" else TEST_FOLDER)
    folder.mkdir(exist_ok=True)
    study, series, instance = uids("rsna", plan.seed, shot.patient, shot.index)
    spacing = (0.115, 0.1988)[0] + (0.1988 - 0.115) * rng.random()
    identity = HeaderValues(name, patient.sex, patient.age, radiograph.scene.pose.view, round(spacing, 4), study, series, instance)
    write_secondary_capture(folder / f"{name}.dcm", develop(radiograph, SIZE, SIZE, rng), identity)
    boxes = tuple(scaled_box(one.box(), GRID, SIZE, SIZE) for one in radiograph.findings if one.kind == "opacity")
    return Written(shot, name, patient_id(plan, shot), radiograph.report, boxes, {"class": image_class})


def write_labels(plan: CorpusPlan, written: list[Written], root: Path) -> Listing:
    labelled = {one.id: one for one in written if one.shot.role == "labelled"}
    ids = _two_runs(list(labelled))
    boxes, classes = ["patientId,x,y,width,height,Target"], ["patientId,class"]
    for name in ids:
        one = labelled[name]
        boxes += [f"{name},{x:.1f},{y:.1f},{w:.1f},{h:.1f},1" for x, y, w, h in one.boxes_xywh] or [f"{name},,,,,0"]
        classes += [f"{name},{one.label['class']}"] * max(1, len(one.boxes_xywh))
    write_lines(root / "stage_2_train_labels.csv", boxes)
    write_lines(root / "stage_2_detailed_class_info.csv", classes)
    unlabelled = sorted(one.id for one in written if one.shot.role == "unlabelled")
    write_lines(root / "stage_2_sample_submission.csv", ["patientId,PredictionString", *(f"{name},0.5 0 0 100 100" for name in unlabelled)])
    counts = {
        "images": len(ids),
        "label_rows": len(boxes) - 1,
        "boxes": sum(len(one.boxes_xywh) for one in labelled.values()),
        "positives": sum(bool(one.boxes_xywh) for one in labelled.values()),
        "patients": len({one.patient_id for one in labelled.values()}),
        "unlabelled_images": len(unlabelled),
    }
    return Listing(tuple(ids), counts)


def _other_finding(scene: Scene, rng: np.random.Generator) -> list[Finding]:
    """What makes an image "Not Normal" without an opacity."""
    side = SIDES[int(rng.integers(2))]
    choice = rng.choice(["nodule", "atelectasis", "pneumothorax", "none"], p=[0.35, 0.25, 0.15, 0.25])
    if choice == "nodule":
        return [nodule(scene, side, rng, (16, 44))]
    if choice == "atelectasis":
        return [atelectasis(scene, side, rng)]
    if choice == "pneumothorax":
        return [pneumothorax(scene, side, rng)]
    return []


def _two_runs(ids: list[str]) -> list[str]:
    """The release's order: one sorted run, then a second, shorter one (stage 1's test images)."""
    n_second = round(SECOND_RUN_SHARE * len(ids)) or (1 if len(ids) > 1 else 0)
    second = set(sorted(ids, key=lambda name: number_of("run", name, below=2**63))[:n_second])
    return sorted(set(ids) - second) + sorted(second)
