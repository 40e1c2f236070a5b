"""A patient's chest as numbers: what persists between images (`Patient`), what differs (`Pose`), and the projected chest (`Scene`).

Two images of one patient share ribs, vessels, outline and, nearly, the way the patient is placed. `projection` computes the scene;
findings, devices and grey levels live elsewhere; nothing here knows file formats.

Frame of the patient: y runs from -1 (top edge) to 1 (bottom edge), x has the same unit with 0 at the midline; the patient's right side is
at negative x (left in the picture). Attenuation is 0 in air and about 1 in the mediastinum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from benchmark.phantom.seeds import stream

Side = Literal["right", "left"]
SIDES: tuple[Side, Side] = ("right", "left")
SIGN = {"right": -1.0, "left": 1.0}

MALE_SHARE = 15_166 / 26_684  # docs/sources.md, RSNA
AP_SHARE = 12_173 / 26_684  # docs/sources.md, RSNA
USUAL_VIEW = 0.75  # of a patient's images that are taken in the usual view; the rest is drawn anew


@dataclass(frozen=True)
class Patient:
    """Persistent anatomy. Lengths in the patient frame, pairs are (right, left)."""

    key: str
    sex: Literal["M", "F"]
    age: int
    habitus: float
    lung_width: tuple[float, float]
    apex: float
    base: tuple[float, float]
    dome: float
    medial: float
    heart_size: float
    heart_tilt: float
    knob: float
    scoliosis: float
    rib_spacing: float
    rib_slope: float
    rib_width: float
    rib_offset: tuple[float, float]
    rib_contrast: float
    clavicle_y: float
    clavicle_rise: float
    shoulder: float
    breast: float
    breast_y: float
    hilum_y: tuple[float, float]
    hilum_size: float
    vessel_contrast: float
    stomach_bubble: float


@dataclass(frozen=True)
class Pose:
    """What differs between two images of one patient."""

    view: Literal["PA", "AP"]
    rotation: float
    shift: tuple[float, float]
    scale: float
    inspiration: float
    heart_magnification: float


@dataclass(frozen=True)
class Scene:
    """One projected chest before findings.

    Attributes:
        x, y: (H, W) float32, patient frame of every pixel.
        attenuation: (H, W) float32.
        detail: (H, W) float32, the part of `attenuation` that is vessels; a pneumothorax removes it.
        lungs: membership in [0, 1] per side, (H, W) float32; heart and diaphragm excluded.
        heart: (H, W) float32 membership.
        boxes: per side the lung's extent (left, top, right, bottom) in pixels of this grid.
    """

    patient: Patient
    pose: Pose
    x: np.ndarray
    y: np.ndarray
    attenuation: np.ndarray
    detail: np.ndarray
    lungs: dict[Side, np.ndarray]
    heart: np.ndarray
    boxes: dict[Side, tuple[float, float, float, float]]

    @property
    def shape(self) -> tuple[int, int]:
        return self.attenuation.shape


def draw_patient(key: str) -> Patient:
    """The patient of that key; the same key always gives the same chest."""
    rng = stream("anatomy", key)
    sex: Literal["M", "F"] = "M" if rng.random() < MALE_SHARE else "F"
    width = rng.uniform(0.60, 0.74)
    base = rng.uniform(0.50, 0.66)
    return Patient(
        key=key,
        sex=sex,
        age=int(np.clip(rng.normal(48, 17), 5, 92)),
        habitus=float(np.clip(rng.normal(1.0, 0.14), 0.75, 1.4)),
        lung_width=(width, width * rng.uniform(0.93, 1.02)),
        apex=rng.uniform(-0.80, -0.68),
        base=(base, base + rng.uniform(0.01, 0.08)),
        dome=rng.uniform(0.10, 0.20),
        medial=rng.uniform(0.075, 0.105),
        heart_size=rng.uniform(0.82, 1.10),
        heart_tilt=rng.uniform(0.35, 0.80),
        knob=rng.uniform(0.055, 0.095),
        scoliosis=rng.normal(0, 0.015),
        rib_spacing=rng.uniform(0.150, 0.185),
        rib_slope=rng.uniform(0.10, 0.30),
        rib_width=rng.uniform(0.21, 0.29),
        rib_offset=(rng.uniform(0, 1), rng.uniform(0, 1)),
        rib_contrast=rng.uniform(0.09, 0.16),
        clavicle_y=rng.uniform(-0.66, -0.54),
        clavicle_rise=rng.uniform(0.02, 0.16),
        shoulder=rng.uniform(-0.98, -0.86),
        breast=float(rng.uniform(0.10, 0.34)) if sex == "F" else float(rng.uniform(0.0, 0.05)),
        breast_y=rng.uniform(0.28, 0.45),
        hilum_y=(rng.uniform(-0.04, 0.06), rng.uniform(-0.09, 0.01)),
        hilum_size=rng.uniform(0.07, 0.11),
        vessel_contrast=rng.uniform(0.13, 0.24),
        stomach_bubble=float(rng.uniform(0.08, 0.2)) if rng.random() < 0.6 else 0.0,
    )


def draw_pose(patient: Patient, rng: np.random.Generator) -> Pose:
    """Near the pose this patient usually has in that view, so that images of one patient can be recognised as such."""
    usual_view = _draw_view(stream("view", patient.key))
    view = usual_view if rng.random() < USUAL_VIEW else _draw_view(rng)
    usual = _usual_pose(view, stream("pose", patient.key, view))
    return replace(
        usual,
        rotation=usual.rotation + rng.normal(0, 0.006),
        shift=(usual.shift[0] + rng.normal(0, 0.008), usual.shift[1] + rng.normal(0, 0.008)),
        scale=usual.scale * rng.uniform(0.99, 1.01),
        inspiration=usual.inspiration + rng.normal(0, 0.010),
    )


def _draw_view(rng: np.random.Generator) -> Literal["PA", "AP"]:
    return "AP" if rng.random() < AP_SHARE else "PA"


def _usual_pose(view: Literal["PA", "AP"], rng: np.random.Generator) -> Pose:
    """An anteroposterior image has a larger heart and a higher diaphragm."""
    bedside = view == "AP"
    return Pose(
        view=view,
        rotation=rng.normal(0, 0.035 if bedside else 0.015),
        shift=(rng.normal(0, 0.030), rng.normal(0, 0.030)),
        scale=rng.uniform(0.96, 1.12) if bedside else rng.uniform(0.94, 1.06),
        inspiration=rng.uniform(-0.16, -0.02) if bedside else rng.uniform(-0.04, 0.05),
        heart_magnification=rng.uniform(1.05, 1.2) if bedside else rng.uniform(0.97, 1.03),
    )
