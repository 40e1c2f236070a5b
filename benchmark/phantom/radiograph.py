"""One phantom image: a patient, a pose, findings and devices become grey levels and a report.

The scene is made on a grid of `GRID` rows and enlarged to the release's size with film noise on top; findings keep their outlines on the
grid and are scaled where a writer needs them. File formats live in the writers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from benchmark.phantom.anatomy import SIDES, Patient, Scene, draw_pose
from benchmark.phantom.devices import Device, ForeignObject, draw_devices
from benchmark.phantom.findings import Finding, apply, parenchyma, smooth_shadow
from benchmark.phantom.projection import project
from benchmark.phantom.reports import Seen, write_report
from benchmark.phantom.seeds import stream

GRID = 320  # rows of the internal grid; a 224-pixel frame still sees every detail made on it
SHADOW_SHARE = 0.45  # images with smooth look-alikes, with and without findings alike
CARDIOMEGALY = (1.18, 1.38)  # heart scale when enlarged


@dataclass(frozen=True)
class Radiograph:
    """Attributes:
    scene: with findings and devices applied, on the internal grid.
    findings: those the labels speak of, look-alikes excluded.
    """

    scene: Scene
    findings: tuple[Finding, ...]
    shadows: tuple[Finding, ...]
    devices: tuple[Device, ...]
    objects: tuple[ForeignObject, ...]
    heart_enlarged: bool
    report: str


def compose(
    patient: Patient,
    rng: np.random.Generator,
    make_findings: Callable[[Scene], list[Finding]],
    *,
    make_objects: Callable[[Scene], list[ForeignObject]] = lambda scene: [],
    heart_enlarged: bool = False,
    aspect: float = 1.0,
) -> Radiograph:
    """An image of `patient`.

    Args:
        make_findings: gives the labelled findings for the bare scene.
        make_objects: gives foreign objects, annotated by Object-CXR only.
        aspect: width over height.
    """
    scale = rng.uniform(*CARDIOMEGALY) if heart_enlarged else 1.0
    bare = project(patient, draw_pose(patient, rng), GRID, round(GRID * aspect), scale)
    findings = make_findings(bare)
    shadows = [smooth_shadow(bare, SIDES[int(rng.integers(2))], rng) for _ in range(int(rng.integers(1, 3)))]
    shadows = shadows if rng.random() < SHADOW_SHARE else []
    devices = draw_devices(bare, rng)
    objects = make_objects(bare)
    scene = apply(bare, [*findings, *shadows, *devices, *objects, parenchyma(bare, rng)])
    seen = [Seen(one.kind, one.side, one.zone) for one in [*findings, *shadows]]
    names = [device.name for device in devices] + (["foreign object"] if objects else [])
    report = write_report(seen, heart_enlarged, names, rng)
    return Radiograph(scene, tuple(findings), tuple(shadows), tuple(devices), tuple(objects), heart_enlarged, report)


def develop(radiograph: Radiograph, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Grey levels (height, width) uint8: exposure, tone, enlargement, film noise, side marker and sometimes a collimator's edge."""
    usual = stream("exposure", radiograph.scene.patient.key)  # the same ward and machine, set a little differently each time
    exposure = np.float32(usual.uniform(1.35, 2.2) * rng.uniform(0.95, 1.05))
    gamma = np.float32(usual.uniform(0.85, 1.35) * rng.uniform(0.97, 1.03))
    black, white = usual.uniform(0, 14), usual.uniform(228, 254)
    tone = (1 - np.exp(-exposure * radiograph.scene.attenuation)) ** gamma
    tone *= np.float32((white - black) / float(tone.max()))
    tone += np.float32(black)
    picture = Image.fromarray(tone).resize((width, height), Image.Resampling.BICUBIC)
    grey = np.array(picture, dtype=np.float32)
    grain = rng.integers(0, 256, (height, width), dtype=np.uint8).astype(np.float32)
    grain -= np.float32(127.5)
    grey += grain * np.float32(rng.uniform(0.015, 0.05))
    grey = np.clip(grey, 0, 255).astype(np.uint8)
    return _finish(grey, rng)


def enlarge(density: np.ndarray, height: int, width: int) -> np.ndarray:
    """A map of the scene's grid, (H, W) float32, at the size of the picture."""
    return np.asarray(Image.fromarray(density).resize((width, height), Image.Resampling.BILINEAR))


def _finish(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = grey.shape
    if rng.random() < 0.2:  # collimator: black borders
        border = (rng.uniform(0.0, 0.03, 4) * [height, height, width, width]).astype(int)
        grey[: border[0]] = 0
        grey[height - border[1] :] = 0
        grey[:, : border[2]] = 0
        grey[:, width - border[3] :] = 0
    if rng.random() < 0.75:  # the letter L beside the patient's left shoulder
        picture = Image.fromarray(grey)
        size = height * rng.uniform(0.02, 0.035)
        x, y = width * rng.uniform(0.88, 0.94), height * rng.uniform(0.03, 0.10)
        points = [(x, y), (x, y + 2 * size), (x + size, y + 2 * size)]
        ImageDraw.Draw(picture).line(points, fill=int(rng.integers(200, 250)), width=max(2, round(size / 4)))
        grey = np.array(picture)
    return grey
