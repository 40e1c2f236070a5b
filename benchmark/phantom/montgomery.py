"""The layout of Montgomery (docs/sources.md, Montgomery): PNG images, and one PNG mask of each lung.

As far as is known, one image a patient.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.errors import UsageError
from benchmark.phantom.anatomy import SIDES, Scene
from benchmark.phantom.base import CorpusPlan, Listing, Shot, Written, patient_id, patient_of, shots_of, stream_of
from benchmark.phantom.boxed import opacity
from benchmark.phantom.findings import Finding
from benchmark.phantom.radiograph import Radiograph, compose, develop, enlarge
from benchmark.phantom.seeds import number_of

DEFAULT_POSITIVE_SHARE = 58 / 138  # images of tuberculosis, docs/sources.md, Montgomery
HEIGHT, WIDTH = 402, 489  # a tenth of the release's
NUMBERS = range(1_000, 10_000)  # four digits; the release's are below


def shots(plan: CorpusPlan) -> list[Shot]:
    """One image a patient: the plan's images per patient are ignored."""
    if plan.n_patients > len(NUMBERS):
        raise UsageError(f"{plan.dataset}: file names have four digits: at most {len(NUMBERS):,} patients, not {plan.n_patients:,}.")
    return shots_of(replace(plan, images_per_patient=(1, 1)), DEFAULT_POSITIVE_SHARE)


def write_image(plan: CorpusPlan, shot: Shot, root: Path) -> Written:
    rng = stream_of(plan, shot)
    radiograph = lungs_of(plan, shot, rng, WIDTH / HEIGHT)
    name = f"MCUCXR_{number(plan, shot):04d}_{int(shot.positive)}"
    pictures = {"CXR_png": develop(radiograph, HEIGHT, WIDTH, rng)}
    for side in SIDES:
        inside = enlarge(radiograph.scene.lungs[side].astype(np.float32), HEIGHT, WIDTH) > 0.5
        pictures[f"ManualMask/{side}Mask"] = inside.astype(np.uint8) * 255
    for folder, picture in pictures.items():
        place = root / "MontgomerySet" / folder
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{name}.png", compress_level=1)
    return Written(shot, name, patient_id(plan, shot), radiograph.report)


def write_labels(plan: CorpusPlan, written: list[Written], root: Path) -> Listing:
    """There is no table: files are the labels."""
    (root / "MontgomerySet").mkdir(exist_ok=True)
    positive = sum(one.shot.positive for one in written)
    counts = {"images": len(written), "tuberculosis_images": positive, "normal_images": len(written) - positive}
    return Listing(tuple(sorted(one.id for one in written)), counts)


def number(plan: CorpusPlan, shot: Shot) -> int:
    """Of four digits; corpora of other seeds begin elsewhere."""
    return NUMBERS[(number_of(plan.dataset, plan.seed, below=len(NUMBERS)) + shot.patient) % len(NUMBERS)]


def lungs_of(plan: CorpusPlan, shot: Shot, rng: np.random.Generator, aspect: float) -> Radiograph:
    """The shot's radiograph: patches in one lung where it is positive."""

    def findings(scene: Scene) -> list[Finding]:
        return [opacity(scene, SIDES[int(rng.integers(2))], rng)] if shot.positive else []

    return compose(patient_of(plan, shot), rng, findings, aspect=aspect)
