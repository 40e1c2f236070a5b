"""The layout of JSRT with SCR's outlines (docs/sources.md, JSRT): raw big-endian 12-bit images, GIF masks in two folds.

Left out: clavicles, landmarks, the second observer and the clinical text, none of which is read. As far as is known, one image a patient.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.errors import UsageError
from benchmark.phantom.anatomy import SIDES, Scene
from benchmark.phantom.base import CorpusPlan, Listing, Shot, Written, patient_id, patient_of, shots_of, stream_of
from benchmark.phantom.findings import Finding, nodule
from benchmark.phantom.radiograph import compose, develop, enlarge
from benchmark.phantom.seeds import number_of

DEFAULT_POSITIVE_SHARE = 154 / 247  # images with a nodule, docs/sources.md, JSRT
SIDE, MASK_SIDE = 2048, 1024
NODULE_RADIUS = (14.0, 45.0)  # pixels of 1024
NUMBERS = range(200, 1000)  # three digits; the release's end with 154
IMAGE_FOLDER, OUTLINES = "All247images", "scr"


def shots(plan: CorpusPlan) -> list[Shot]:
    """One image a patient: the plan's images per patient are ignored."""
    if plan.n_patients > len(NUMBERS):
        raise UsageError(f"JSRT's file names have three digits: at most {len(NUMBERS)} patients, not {plan.n_patients}.")
    return shots_of(replace(plan, images_per_patient=(1, 1)), DEFAULT_POSITIVE_SHARE)


def write_image(plan: CorpusPlan, shot: Shot, root: Path) -> Written:
    rng = stream_of(plan, shot)

    def findings(scene: Scene) -> list[Finding]:
        return [nodule(scene, SIDES[int(rng.integers(2))], rng, NODULE_RADIUS)] if shot.positive else []

    radiograph = compose(patient_of(plan, shot), rng, findings)
    start = number_of("jsrt", plan.seed, below=len(NUMBERS))
    number = NUMBERS[(start + shot.patient) % len(NUMBERS)]
    name = f"JPC{'LN' if shot.positive else 'NN'}{number:03d}"
    (root / IMAGE_FOLDER).mkdir(exist_ok=True)
    # Film: the stored value is small where the picture is bright.
    bright = develop(radiograph, SIDE, SIDE, rng).astype(np.uint16) * 16 + rng.integers(0, 16, (SIDE, SIDE), dtype=np.uint16)
    (root / IMAGE_FOLDER / f"{name}.IMG").write_bytes((4095 - bright).astype(">u2").tobytes())
    scene = radiograph.scene
    fold = "fold1" if number % 2 else "fold2"
    for structure, membership in {"heart": scene.heart, **{f"{side} lung": scene.lungs[side] for side in SIDES}}.items():
        folder = root / OUTLINES / fold / "masks" / structure
        folder.mkdir(parents=True, exist_ok=True)
        mask = enlarge(membership.astype(np.float32), MASK_SIDE, MASK_SIDE) > 0.5
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{name}.gif", optimize=False)  # else 1 stands for 255
    return Written(shot, name, patient_id(plan, shot), radiograph.report, (), {"fold": fold})


def write_labels(plan: CorpusPlan, written: list[Written], root: Path) -> Listing:
    """There is no table: files are the labels."""
    for fold in ("fold1", "fold2"):
        (root / OUTLINES / fold / "masks").mkdir(parents=True, exist_ok=True)
    counts = {
        "images": len(written),
        "nodule_images": sum(one.shot.positive for one in written),
        "images_without_nodule": sum(not one.shot.positive for one in written),
    }
    counts |= {f"{fold}_images": sum(one.label["fold"] == fold for one in written) for fold in ("fold1", "fold2")}
    return Listing(tuple(sorted(one.id for one in written)), counts)
