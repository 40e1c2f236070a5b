"""The layout of MS-CXR 1.1.0 over MIMIC-CXR-JPG (docs/sources.md, MS-CXR): a row per box, a phrase of several boxes in several rows.

Columns are those of the release; what else its JSON says of an image or itself is not documented and left out. Images without a finding are
in MIMIC-CXR-JPG's folder and in no table, as most of its images are.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import numpy as np
from PIL import Image

from benchmark.phantom.anatomy import SIDES, Scene
from benchmark.phantom.base import CorpusPlan, Listing, Shot, Written, patient_of, scaled_box, shots_of, stream_of
from benchmark.phantom.findings import Finding, atelectasis, draw_opacities, effusion, interstitial, pneumothorax
from benchmark.phantom.mimic_cxr import JPG, place_of
from benchmark.phantom.radiograph import GRID, compose, develop

DEFAULT_POSITIVE_SHARE = 1.0
FOLDER, NAME = "ms-cxr/1.1.0", "MS_CXR_Local_Alignment_v1.1.0"
HEIGHT, WIDTH = 400, 330  # MIMIC-CXR-JPG keeps full resolution, about 3056 x 2544
PAIRS = {  # image-sentence pairs of each finding, docs/sources.md, MS-CXR
    "Atelectasis": 61,
    "Cardiomegaly": 333,
    "Consolidation": 117,
    "Edema": 46,
    "Lung Opacity": 82,
    "Pleural Effusion": 96,
    "Pneumonia": 182,
    "Pneumothorax": 245,
}
SECOND_SHARE = (1_162 - 1_047) / 1_047  # images with a second phrase, docs/sources.md, MS-CXR
SPLITS = ("test", "val", "train")
TEST_SHARE, VAL_SHARE = 0.4, 0.2  # of the patients; the release's shares are not documented
LEAST_SIDE = 6.0  # pixels of the picture: a smaller box is no box a reader would draw
COLUMNS = ("category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height", "dicom_id", "split")

_WORDS = {
    "Atelectasis": "plate-like atelectasis",
    "Consolidation": "dense consolidation",
    "Edema": "reticular pattern",
    "Lung Opacity": "patchy opacity",
    "Pleural Effusion": "pleural effusion",
    "Pneumonia": "patchy opacities",
    "Pneumothorax": "pneumothorax",
}
_HEART = ("enlarged cardiac silhouette", "the heart is enlarged")


class _Phrase(TypedDict):
    """Words about one finding of an image; its boxes as `Written.boxes_xywh`."""

    category: str
    text: str
    boxes: list[tuple[float, float, float, float]]


def shots(plan: CorpusPlan) -> list[Shot]:
    """Roles are the splits: whole patients belong to one."""
    n_test, n_val = max(1, round(TEST_SHARE * plan.n_patients)), round(VAL_SHARE * plan.n_patients)

    def subset(patient: int) -> str:
        return SPLITS[int(patient >= n_test) + int(patient >= n_test + n_val)]

    return [Shot(one.patient, one.index, one.positive, subset(one.patient)) for one in shots_of(plan, DEFAULT_POSITIVE_SHARE)]


def write_image(plan: CorpusPlan, shot: Shot, root: Path) -> Written:
    rng = stream_of(plan, shot)
    names = _draw_names(rng) if shot.positive else []
    drawn: dict[str, list[Finding]] = {}

    def findings(scene: Scene) -> list[Finding]:
        for name in names:
            if name in _DRAW:
                drawn[name] = _DRAW[name](scene, rng)
        return [finding for listed in drawn.values() for finding in listed]

    patient = patient_of(plan, shot)
    radiograph = compose(patient, rng, findings, heart_enlarged="Cardiomegaly" in names, aspect=WIDTH / HEIGHT)
    place = place_of(plan, shot, "ms-cxr")
    (root / JPG / place.path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(develop(radiograph, HEIGHT, WIDTH, rng)).save(root / JPG / place.path, quality=92)

    phrases: list[_Phrase] = []
    for name in names:
        seen = [(one, scaled_box(one.box(), GRID, HEIGHT, WIDTH)) for one in drawn.get(name, [_heart(radiograph.scene)])]
        seen = [(one, box) for one, box in seen if min(box[2:]) >= LEAST_SIDE]
        if seen:
            phrases.append({"category": name, "text": _phrase(name, [one for one, _ in seen], rng), "boxes": [box for _, box in seen]})
    boxes = tuple(box for phrase in phrases for box in phrase["boxes"])
    return Written(shot, place.dicom, str(place.subject), radiograph.report, boxes, {"path": place.path, "phrases": phrases})


def write_labels(plan: CorpusPlan, written: list[Written], root: Path) -> Listing:
    (root / FOLDER).mkdir(parents=True)
    listed = [one for one in written if one.label["phrases"]]
    with (root / FOLDER / f"{NAME}.csv").open("w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle, lineterminator="\n")
        table.writerow(COLUMNS)
        for one in listed:
            for phrase in one.label["phrases"]:
                for box in phrase["boxes"]:
                    whole = [int(value) for value in box]
                    row = (phrase["category"], phrase["text"], one.label["path"], *whole, WIDTH, HEIGHT, one.id, one.shot.role)
                    table.writerow(row)
    (root / FOLDER / f"{NAME}.json").write_text(json.dumps(_coco(listed)) + "\n", encoding="utf-8", newline="\n")
    counts = {
        "images": len(listed),
        "phrases": sum(len(one.label["phrases"]) for one in listed),
        "boxes": sum(len(one.boxes_xywh) for one in listed),
        "patients": len({one.patient_id for one in listed}),
    }
    counts |= {
        f"{'validation' if subset == 'val' else subset}_images": sum(one.shot.role == subset for one in listed)
        for subset in reversed(SPLITS)
    }
    return Listing(tuple(one.id for one in listed), counts)


def _draw_names(rng: np.random.Generator) -> list[str]:
    share = np.array(list(PAIRS.values()), dtype=float)
    n = 2 if rng.random() < SECOND_SHARE else 1
    return [str(name) for name in rng.choice(list(PAIRS), n, replace=False, p=share / share.sum())]


def _phrase(name: str, seen: list[Finding], rng: np.random.Generator) -> str:
    """What and where, in two wordings; side and zone stand alone, so that a hard negative is one word away."""
    if name == "Cardiomegaly":
        return _HEART[int(rng.integers(2))]
    places = " and ".join(f"{one.side} {one.zone} zone" for one in seen)
    return f"{_WORDS[name]} in the {places}" if rng.random() < 0.5 else f"{_WORDS[name]}, {places}"


def _heart(scene: Scene) -> Finding:
    """The heart as something with a box; nothing is added to the picture."""
    return Finding("heart", "left", "lower", np.zeros(scene.shape, np.float32), scene.heart)


def _visible_air(scene: Scene, rng: np.random.Generator) -> list[Finding]:
    side = SIDES[int(rng.integers(2))]
    while True:
        finding = pneumothorax(scene, side, rng)
        if min(finding.box()[2:]) * HEIGHT / GRID > 2 * LEAST_SIDE:
            return [finding]


def _coco(listed: list[Written]) -> dict:
    """The same phrases as a COCO file: categories, images and annotations."""
    annotations: list[dict[str, object]] = []
    for image_id, one in enumerate(listed, start=1):
        for phrase in one.label["phrases"]:
            for box in phrase["boxes"]:
                about = {"image_id": image_id, "category_id": list(PAIRS).index(phrase["category"]) + 1}
                annotations.append({"id": len(annotations) + 1, **about, "bbox": [int(v) for v in box], "label_text": phrase["text"]})
    images = [
        {"id": k, "file_name": f"{one.id}.jpg", "path": one.label["path"], "width": WIDTH, "height": HEIGHT}
        for k, one in enumerate(listed, start=1)
    ]
    categories = [{"id": k, "name": name} for k, name in enumerate(PAIRS, start=1)]
    return {"info": {}, "licenses": [], "categories": categories, "images": images, "annotations": annotations}


_DRAW: dict[str, Callable[[Scene, np.random.Generator], list[Finding]]] = {
    "Atelectasis": lambda scene, rng: [atelectasis(scene, SIDES[int(rng.integers(2))], rng)],
    "Consolidation": lambda scene, rng: draw_opacities(scene, 1, rng, kind="consolidation", strength=1.3),
    "Edema": lambda scene, rng: [interstitial(scene, side, rng) for side in SIDES],
    "Lung Opacity": lambda scene, rng: draw_opacities(scene, 1, rng),
    "Pleural Effusion": lambda scene, rng: [effusion(scene, SIDES[int(rng.integers(2))], rng)],
    "Pneumonia": lambda scene, rng: draw_opacities(scene, 2, rng),
    "Pneumothorax": _visible_air,
}
