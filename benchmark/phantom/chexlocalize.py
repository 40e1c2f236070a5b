"""The layout of CheXlocalize (docs/sources.md, CheXlocalize): label tables, JPEG files, and masks as COCO's run-length codes.

Of the ten findings the eight that this phantom can draw occur. Lateral images, polygons, heat maps and the human benchmark are left out.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from benchmark.observations import CHEXPERT_OBSERVATIONS
from benchmark.phantom.base import CorpusPlan, Listing, Shot, Written, patient_of, shots_of, stream_of, write_lines
from benchmark.phantom.boxed import CLASSES_PER_IMAGE, Look, dark_crescent, draw, draw_names, large_disc, opacity
from benchmark.phantom.findings import OUTLINE, atelectasis, effusion, interstitial
from benchmark.phantom.radiograph import develop, enlarge
from benchmark.phantom.seeds import number_of

DEFAULT_POSITIVE_SHARE = 187 / 234  # of the validation images, docs/sources.md, CheXlocalize
VAL_SHARE = 200 / 700  # of the patients
HEIGHT, WIDTH = 400, 330  # the release keeps full resolution
CLASSES = (
    *("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Lesion", "Airspace Opacity", "Edema", "Consolidation", "Atelectasis"),
    *("Pneumothorax", "Pleural Effusion", "Support Devices"),
)
HEART = "Cardiomegaly"
LOOKS: dict[str, Look] = {
    "Lung Lesion": large_disc,
    "Airspace Opacity": opacity,
    "Edema": interstitial,
    "Consolidation": opacity,
    "Atelectasis": atelectasis,
    "Pneumothorax": dark_crescent,
    "Pleural Effusion": effusion,
}
OBSERVED = {name: "Lung Opacity" if name == "Airspace Opacity" else name for name in (*LOOKS, HEART)}
EVEN = dict.fromkeys(OBSERVED, 1)  # how often each occurs in the release was not at hand


def shots(plan: CorpusPlan) -> list[Shot]:
    """Roles are the sets: whole patients belong to "val" or "test"."""
    n_val = max(1, round(VAL_SHARE * plan.n_patients))
    return [replace(one, role="val" if one.patient < n_val else "test") for one in shots_of(plan, DEFAULT_POSITIVE_SHARE)]


def write_image(plan: CorpusPlan, shot: Shot, root: Path) -> Written:
    rng = stream_of(plan, shot)
    names = draw_names(EVEN, CLASSES_PER_IMAGE, rng) if shot.positive else []
    radiograph, drawn = draw(patient_of(plan, shot), names, LOOKS, HEART, rng, aspect=WIDTH / HEIGHT)
    number = 90_000 + number_of("chexlocalize", plan.seed, below=5_000) + shot.patient
    path = f"{shot.role}/patient{number:05d}/study{shot.index + 1}/view1_frontal.jpg"
    (root / "CheXpert" / path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(develop(radiograph, HEIGHT, WIDTH, rng)).save(root / "CheXpert" / path, quality=92)
    masks = np.zeros((len(CLASSES), HEIGHT, WIDTH), np.uint8)
    for name, finding, _ in drawn:
        inside = radiograph.scene.heart > 0.5 if finding is None else finding.density > OUTLINE
        masks[CLASSES.index(name)] = enlarge(inside.astype(np.float32), HEIGHT, WIDTH) > 0.5
    there = [name for name, mask in zip(CLASSES, masks, strict=True) if mask.any()]
    codes = coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0)))
    texts = {name: {"size": [HEIGHT, WIDTH], "counts": code["counts"].decode()} for name, code in zip(CLASSES, codes, strict=True)}
    return Written(shot, path, f"patient{number:05d}", radiograph.report, (), {"names": there, "masks": texts})


def write_labels(plan: CorpusPlan, written: list[Written], root: Path) -> Listing:
    (root / "CheXlocalize").mkdir()
    (root / "CheXpert").mkdir(exist_ok=True)
    counts = {"images": len(written)}
    for subset in ("val", "test"):
        listed = [one for one in written if one.shot.role == subset]
        found = {_id(one): one.label["masks"] for one in listed if one.label["names"]}
        (root / "CheXlocalize" / f"gt_segmentations_{subset}.json").write_text(json.dumps(found) + "\n", encoding="utf-8", newline="\n")
        write_lines(root / "CheXpert" / f"{subset}_labels.csv", [",".join(("Path", *CHEXPERT_OBSERVATIONS)), *map(_row, listed)])
        counts |= {
            f"{subset}_images": len(listed),
            f"{subset}_patients": len({one.patient_id for one in listed}),
            f"{subset}_segmented": len(found),
            f"{subset}_masks": sum(len(one.label["names"]) for one in listed),
        }
    order = [one for subset in ("val", "test") for one in written if one.shot.role == subset]
    return Listing(tuple(one.id for one in order), counts)


def _id(one: Written) -> str:
    return one.id.partition("/")[2].removesuffix(".jpg").replace("/", "_")


def _row(one: Written) -> str:
    there = {OBSERVED[name] for name in one.label["names"]} or {"No Finding"}
    root = "CheXpert-v1.0/valid" if one.shot.role == "val" else "test"  # the two tables begin otherwise
    return ",".join((f"{root}/{one.id.partition('/')[2]}", *(f"{float(name in there)}" for name in CHEXPERT_OBSERVATIONS)))
