"""The layout of PAX-Ray++ (docs/sources.md, PAX-Ray): two COCO files, frontal and lateral PNG images of one size.

Of the card's ten classes the three that this phantom's anatomy holds have masks; a lateral image is a frontal one that no mask belongs to.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from benchmark.phantom.base import CorpusPlan, Listing, Shot, Written, patient_id, patient_of, shots_of, stream_of
from benchmark.phantom.radiograph import compose, develop, enlarge
from benchmark.phantom.seeds import apart, number_of

DEFAULT_POSITIVE_SHARE = 0.0  # no findings: every image shows anatomy
TEST_SHARE = 1_475 / 14_753  # docs/sources.md, PAX-Ray
SIDE = 512
CATEGORIES = (
    *("spine", "right lung", "left lung", "heart", "cardiomediastinum", "aortic arch", "trachea", "clavicle left", "clavicle right"),
    *("right hemidiaphragm", "left hemidiaphragm"),
)  # some of 159, and one that no card asks for


def shots(plan: CorpusPlan) -> list[Shot]:
    """Roles are the files."""
    planned = shots_of(plan, DEFAULT_POSITIVE_SHARE)
    n_test = max(2, round(TEST_SHARE * len(planned)))
    return [replace(one, role="test" if k < n_test else "train") for k, one in enumerate(planned)]


def write_image(plan: CorpusPlan, shot: Shot, root: Path) -> Written:
    rng = stream_of(plan, shot)
    radiograph = compose(patient_of(plan, shot), rng, lambda scene: [])
    stem = f"phantom{_numbers(plan)[shot.patient][shot.index]:09d}"
    (root / "images_patlas").mkdir(exist_ok=True)
    picture = Image.fromarray(develop(radiograph, SIDE, SIDE, rng))
    for view in ("frontal", "lateral"):
        picture.save(root / "images_patlas" / f"{stem}_{view}.png", compress_level=1)
    scene = radiograph.scene
    inside = {"heart": scene.heart, **{f"{side} lung": lung for side, lung in scene.lungs.items()}}
    codes = {}
    for name, membership in inside.items():
        mask = (enlarge(membership.astype(np.float32), SIDE, SIDE) > 0.5).astype(np.uint8)
        codes[name] = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
    return Written(shot, f"{stem}_frontal.png", patient_id(plan, shot), radiograph.report, (), {"stem": stem, "codes": codes})


@cache
def _numbers(plan: CorpusPlan) -> list[list[int]]:
    """By patient and image."""
    most = plan.images_per_patient[1]
    drawn = (number_of("pax-ray", plan.seed, patient, index, below=10**9) for patient in range(plan.n_patients) for index in range(most))
    numbers = apart(drawn, 10**9)
    return [numbers[first : first + most] for first in range(0, len(numbers), most)]


def write_labels(plan: CorpusPlan, written: list[Written], root: Path) -> Listing:
    order = []
    for subset, name in (("train", "paxray_train_val.json"), ("test", "paxray_test.json")):
        ones = [one for one in written if one.shot.role == subset]
        order += ones
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for one in ones:
            for view in ("frontal", "lateral"):
                images.append({"id": len(images), "file_name": f"{one.label['stem']}_{view}.png", "height": SIDE, "width": SIDE})
            annotations += [
                {
                    "id": len(annotations) + k,
                    "image_id": len(images) - 2,
                    "category_id": CATEGORIES.index(what),
                    "segmentation": {"size": [SIDE, SIDE], "counts": counts},
                    "iscrowd": 0,
                }
                for k, (what, counts) in enumerate(one.label["codes"].items())
            ]
        categories = [{"id": k, "name": f"{what} "} for k, what in enumerate(CATEGORIES)]  # some of the release's names end in a blank
        content = {"categories": categories, "images": images, "annotations": annotations}
        (root / name).write_text(json.dumps(content) + "\n", encoding="utf-8", newline="\n")
    counts = {"images": 2 * len(written), "frontal_images": len(written)}
    counts |= {f"{subset}_frontal": sum(one.shot.role == subset for one in written) for subset in ("train", "test")}
    counts |= {name: len(written) if name in ("heart", "right lung", "left lung") else 0 for name in CATEGORIES[1:]}
    return Listing(tuple(one.id for one in order), counts)
