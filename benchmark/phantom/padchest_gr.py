"""The layout of PadChest-GR (docs/sources.md, PadChest-GR): 16-bit PNG, sentences with boxes as shares of the sides, a table of studies.

A finding has one sentence; some images have a negative one as well, without the keys that the release leaves out there too. Places that
need the release's lists are left out; groups of labels are made up, for the release's names were not at hand.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.phantom.base import CorpusPlan, Listing, Shot, Written, patient_of, shots_of, stream_of, write_lines
from benchmark.phantom.boxed import CLASSES_PER_IMAGE, LOOKS, draw, draw_names
from benchmark.phantom.findings import Finding
from benchmark.phantom.radiograph import GRID, develop
from benchmark.phantom.seeds import number_of

DEFAULT_POSITIVE_SHARE = 3_099 / 4_555  # docs/sources.md, PadChest-GR
SHARES = {"test": 0.4, "validation": 0.2}  # of the patients; the release's are not known. The rest trains
HEIGHT, WIDTH = 400, 360
HEART = "Cardiomegaly"
WORDS = {
    "Atelectasis": "Laminar atelectasis",
    "Consolidation": "Consolidation",
    "Effusion": "Pleural effusion",
    "Nodule": "Pulmonary nodule",
    "Pneumothorax": "Pneumothorax",
    HEART: "Cardiomegaly",
}
GROUPS = {  # label, as sentences and table have it, to group
    "atelectasis": "Volume loss",
    "consolidation": "Lung opacity",
    "effusion": "Pleura",
    "nodule": "Lung opacity",
    "pneumothorax": "Pleura",
    "cardiomegaly": "Heart",
}
DRAWN = {name: LOOKS[name] for name in WORDS if name != HEART}
HEADER = "StudyID,ImageID,label,PatientID,PatientSex_DICOM,label_group,split"


def shots(plan: CorpusPlan) -> list[Shot]:
    """Roles are the splits: whole patients belong to one."""
    n_test, n_held = (max(1, round(share * plan.n_patients)) for share in (SHARES["test"], sum(SHARES.values())))

    def split(patient: int) -> str:
        return "test" if patient < n_test else "validation" if patient < n_held else "train"

    return [replace(one, role=split(one.patient)) for one in shots_of(plan, DEFAULT_POSITIVE_SHARE)]


def write_image(plan: CorpusPlan, shot: Shot, root: Path) -> Written:
    rng = stream_of(plan, shot)
    patient = patient_of(plan, shot)
    names = draw_names(dict.fromkeys(WORDS, 1), CLASSES_PER_IMAGE, rng) if shot.positive else []
    radiograph, drawn = draw(patient, names, DRAWN, HEART, rng, aspect=WIDTH / HEIGHT)
    study = number_of("padchest-gr", plan.seed, shot.patient, shot.index, below=10**12)
    name = f"{study}_{shot.patient}_{shot.index}.png"
    (root / "PadChest_GR").mkdir(exist_ok=True)
    pixels = np.rint(develop(radiograph, HEIGHT, WIDTH, rng) / 255 * 65_535).astype(np.uint16)
    Image.fromarray(pixels).save(root / "PadChest_GR" / name, compress_level=1)
    findings = [_positive(what, finding, box) for what, finding, box in drawn]
    if not findings or rng.random() < 0.5:
        findings.append({"sentence_en": "No pleural effusion is seen.", "sentence_es": "Sin derrame pleural.", "abnormal": False})
    patient_id = f"{number_of('padchest-gr patient', plan.seed, shot.patient, below=10**20):020d}"
    entry = {"StudyID": str(study), "ImageID": name, "findings": findings}
    return Written(shot, name, patient_id, radiograph.report, (), {"entry": entry, "sex": patient.sex, "names": names})


def write_labels(plan: CorpusPlan, written: list[Written], root: Path) -> Listing:
    entries = [one.label["entry"] for one in written]
    (root / "grounded_reports_20240819.json").write_text(json.dumps(entries) + "\n", encoding="utf-8", newline="\n")
    rows = []
    for one in written:
        study, sex, split = one.label["entry"]["StudyID"], one.label["sex"], one.shot.role
        for label in map(str.lower, one.label["names"] or ["normal"]):
            rows.append(f"{study},{one.id},{label},{one.patient_id},{sex},{GROUPS.get(label, 'Normal')},{split}")
    write_lines(root / "master_table.csv", [HEADER, *rows])
    sentences = [finding for entry in entries for finding in entry["findings"]]
    positive = [finding for finding in sentences if finding["abnormal"]]
    counts = {
        "images": len(written),
        "patients": len({one.patient_id for one in written}),
        "positive_images": sum(bool(one.label["names"]) for one in written),
        "sentences": len(sentences),
        "positive_sentences": len(positive),
        "phrases": len(positive),
        "boxes": sum(len(finding["boxes"]) for finding in positive),
        "extra_boxes": 0,
        "label_groups": len({GROUPS.get(label, "Normal") for one in written for label in map(str.lower, one.label["names"] or ["normal"])}),
        "phrases of no label group": 0,
        "labels in several groups": 0,
    }
    counts |= {f"{split}_images": sum(one.shot.role == split for one in written) for split in ("train", "validation", "test")}
    return Listing(tuple(one.id for one in written), counts)


def _positive(name: str, finding: Finding | None, box: tuple[float, float, float, float]) -> dict:
    """A sentence with its box; what is written in Spanish repeats the English, for nobody reads it."""
    x, y, width, height = (value / GRID for value in box)
    across = HEIGHT / WIDTH  # the grid's unit is the image's height
    corners = [x * across, y, (x + width) * across, y + height]
    place = "" if finding is None else f" in the {finding.side} {finding.zone} zone"
    text = f"{WORDS[name]}{place}."
    boxes = [[round(min(max(value, 0.0), 1.0), 4) for value in corners]]
    about = {"boxes": boxes, "extra_boxes": [], "labels": [name.lower()], "locations": [], "progression": None}
    return {"sentence_en": text, "sentence_es": text, "abnormal": True, **about}
