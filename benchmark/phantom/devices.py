"""Things that are not the patient: tubes, wires and pacemakers, and the foreign objects of Object-CXR.

All are drawn with a pen at twice the scene's grid and averaged down, so that thin lines keep their weight. Positions follow the anatomy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from benchmark.phantom.anatomy import SIGN, Scene, Side
from benchmark.phantom.projection import to_pixels

DeviceName = Literal["electrodes", "pacemaker", "central line", "endotracheal tube", "surgical clips", "sternal wires"]


@dataclass(frozen=True)
class Device:
    """A support device: its name as reports write it and its attenuation, (H, W) float32."""

    name: DeviceName
    added: np.ndarray


@dataclass(frozen=True)
class ForeignObject:
    """An object with its annotation, both on the scene's grid.

    Attributes:
        shape: 0 rectangle, 1 ellipse, 2 polygon (docs/sources.md, Object-CXR).
        points: (n, 2) columns and rows; two opposite corners for rectangle and ellipse.
        added: (H, W) float32 attenuation.
    """

    shape: Literal[0, 1, 2]
    points: np.ndarray
    added: np.ndarray


def draw_devices(scene: Scene, rng: np.random.Generator) -> list[Device]:
    """Support devices as often as a bedside (AP) or an upright (PA) image would have them; each is drawn independently."""
    bedside = scene.pose.view == "AP"
    chances: list[tuple[Callable[[_Pen, np.random.Generator], None], DeviceName, float]] = [
        (_electrodes, "electrodes", 0.45 if bedside else 0.06),
        (_central_line, "central line", 0.30 if bedside else 0.04),
        (_endotracheal_tube, "endotracheal tube", 0.18 if bedside else 0.0),
        (_pacemaker, "pacemaker", 0.08),
        (_clips, "surgical clips", 0.07),
        (_sternal_wires, "sternal wires", 0.08),
    ]
    devices = []
    for draw, name, chance in chances:
        if rng.random() < chance:
            pen = _Pen(scene)
            draw(pen, rng)
            devices.append(Device(name, pen.attenuation(rng.uniform(0.5, 0.9))))
    return devices


def draw_foreign_object(scene: Scene, side: Side, rng: np.random.Generator) -> ForeignObject:
    """A button (ellipse), a clasp (rectangle) or a chain (polygon) over one lung."""
    left, top, right, bottom = scene.boxes[side]
    unit = scene.shape[0] / 320
    while True:
        centre = np.array([rng.uniform(left, right), rng.uniform(top, bottom)])
        if scene.lungs[side][int(centre[1]), int(centre[0])] > 0.6:
            break
    pen = _Pen(scene)
    kind = rng.choice(["button", "clasp", "chain"], p=[0.55, 0.25, 0.20])
    if kind == "button":
        radii = unit * rng.uniform(5.0, 13.0) * np.array([1.0, rng.uniform(0.75, 1.0)])
        pen.ellipse(centre, radii, fill=170)
        pen.ellipse(centre, radii * 0.72, fill=110)
        for dx in (-0.22, 0.22):
            pen.ellipse(centre + radii * [dx, 0], radii * 0.12, fill=0)
        return ForeignObject(1, np.array([centre - radii, centre + radii]), pen.attenuation(rng.uniform(0.5, 1.0)))
    if kind == "clasp":
        half = unit * np.array([rng.uniform(4.0, 11.0), rng.uniform(5.0, 16.0)])
        pen.rectangle(centre - half, centre + half, fill=220, hole=0.5)
        return ForeignObject(0, np.array([centre - half, centre + half]), pen.attenuation(rng.uniform(0.6, 1.1)))
    angle, steps = rng.uniform(0, 2 * np.pi), int(rng.integers(9, 24))
    path = [centre]
    for _ in range(steps):
        angle += rng.normal(0, 0.35)
        path.append(path[-1] + 4.2 * unit * np.array([np.cos(angle), np.sin(angle)]))
    beads = np.clip(np.array(path), [left, top], [right, bottom])
    for bead in beads:
        pen.ellipse(bead, np.array([2.0, 2.0]) * unit, fill=235)
    normal = np.gradient(beads, axis=0)[:, ::-1] * [-1, 1]
    normal *= 3.0 * unit / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    return ForeignObject(2, np.concatenate([beads + normal, (beads - normal)[::-1]]), pen.attenuation(rng.uniform(0.6, 1.1)))


class _Pen:
    """A canvas at twice the scene's grid. Positions are pixels of the scene's grid, or points of the patient frame via `at`."""

    def __init__(self, scene: Scene):
        self.scene = scene
        height, width = scene.shape
        self.unit = height / 320
        self.picture = Image.new("L", (2 * width, 2 * height))
        self.pen = ImageDraw.Draw(self.picture)

    def at(self, *points: tuple[float, float]) -> np.ndarray:
        return to_pixels(self.scene.pose, np.array(points, dtype=float), *self.scene.shape)

    def curve(self, points: np.ndarray, width: float, fill: int) -> None:
        """A smooth line through control points, `width` in pixels of the scene's grid."""
        t = np.linspace(0, 1, len(points))
        fine = np.linspace(0, 1, 40)
        degree = min(3, len(points) - 1)
        smooth = np.stack([np.polyval(np.polyfit(t, points[:, axis], degree), fine) for axis in (0, 1)], axis=1)
        self.pen.line((2 * smooth).reshape(-1).tolist(), fill=fill, width=max(1, round(2 * width * self.unit)), joint="curve")

    def ellipse(self, centre: np.ndarray, radii: np.ndarray, fill: int) -> None:
        self.pen.ellipse([*(2 * (centre - radii)), *(2 * (centre + radii))], fill=fill)

    def rectangle(self, low: np.ndarray, high: np.ndarray, fill: int, hole: float = 0.0) -> None:
        self.pen.rectangle([*(2 * low), *(2 * high)], fill=fill)
        if hole > 0:
            shrink = (high - low) * (1 - hole) / 2
            self.pen.rectangle([*(2 * (low + shrink)), *(2 * (high - shrink))], fill=fill // 5)

    def attenuation(self, strength: float) -> np.ndarray:
        return np.asarray(self.picture.reduce(2), dtype=np.float32) * np.float32(strength / 255)


def _electrodes(pen: _Pen, rng: np.random.Generator) -> None:
    """Discs on the skin with wires that leave the picture below."""
    for _ in range(int(rng.integers(2, 5))):
        sign = rng.choice([-1.0, 1.0])
        x, y = sign * rng.uniform(0.25, 0.75), rng.uniform(-0.55, 0.5)
        start, end = (x, y), (x * rng.uniform(0.6, 1.5), 1.15)
        bend = ((x + end[0]) / 2 + rng.normal(0, 0.12), (y + 1.15) / 2 + rng.normal(0, 0.1))
        pen.curve(pen.at(start, bend, end), 0.8, 150)
        pen.ellipse(pen.at(start)[0], np.array([3.6, 3.6]) * pen.unit, fill=200)


def _central_line(pen: _Pen, rng: np.random.Generator) -> None:
    sign = SIGN["right"] if rng.random() < 0.75 else SIGN["left"]
    pen.curve(pen.at((sign * 0.28, -1.05), (sign * 0.24, -0.75), (-0.06, -0.45), (-0.075, rng.uniform(-0.1, 0.12))), 1.0, 190)


def _endotracheal_tube(pen: _Pen, rng: np.random.Generator) -> None:
    tip = rng.uniform(-0.42, -0.30)
    for offset in (-0.014, 0.014):
        pen.curve(pen.at((offset, -1.1), (offset + rng.normal(0, 0.004), -0.7), (offset, tip)), 0.7, 210)


def _pacemaker(pen: _Pen, rng: np.random.Generator) -> None:
    sign = SIGN["left"] if rng.random() < 0.85 else SIGN["right"]
    place = pen.at((sign * rng.uniform(0.46, 0.6), rng.uniform(-0.42, -0.3)))[0]
    pen.ellipse(place, np.array([13.0, 15.0]) * pen.unit, fill=255)
    pen.ellipse(place + np.array([2.0, 3.0]) * pen.unit, np.array([8.0, 9.0]) * pen.unit, fill=215)
    start = pen.at((sign * 0.5, -0.45), (sign * 0.3, -0.6), (0.0, -0.25), (0.12, rng.uniform(0.3, 0.45)))
    pen.curve(start, 0.9, 235)


def _clips(pen: _Pen, rng: np.random.Generator) -> None:
    x, y = rng.uniform(-0.25, 0.25), rng.uniform(-0.3, 0.2)
    for _ in range(int(rng.integers(3, 9))):
        place = np.array([x, y]) + rng.normal(0, 0.07, 2)
        turn = rng.uniform(0, np.pi)
        step = 0.014 * np.array([np.cos(turn), np.sin(turn)])
        pen.curve(pen.at(tuple(place - step), tuple(place + step)), 1.2, 255)


def _sternal_wires(pen: _Pen, rng: np.random.Generator) -> None:
    for y in np.arange(-0.35, 0.35, 0.14):
        middle = pen.at((rng.normal(0, 0.006), y))[0]
        radii = np.array([3.0, 2.2]) * pen.unit * rng.uniform(0.8, 1.2)
        pen.ellipse(middle, radii, fill=255)
        pen.ellipse(middle, radii * 0.6, fill=0)
