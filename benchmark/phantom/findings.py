"""Findings and their look-alikes: what changes the attenuation of a projected chest, and where.

An opacity is patchy (a texture that survives at 224 pixels); its look-alikes are as bright but smooth, so that neither brightness nor
position gives it away. Each function returns a `Finding` and changes nothing; `apply` adds findings to a scene's attenuation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from benchmark.phantom.anatomy import SIDES, SIGN, Scene, Side
from benchmark.phantom.seeds import stream

Zone = Literal["upper", "mid", "lower"]

POSITIVE_SHARE = 6_012 / 26_684  # docs/sources.md, RSNA
BOXES_PER_POSITIVE = {1: 2_614, 2: 3_266, 3: 119, 4: 13}  # docs/sources.md, RSNA
BOX_MIN_WH = (40.0, 45.0)  # pixels of 1024, docs/sources.md, RSNA
BOX_MAX_WH = (528.0, 942.0)
OUTLINE = 0.35  # density at which a reader would draw the outline

# Log-normal widths and heights of opacities in pixels of 1024: medians, log standard deviations, correlation.
# Set so that the *drawn* boxes, which the lung border cuts, meet RSNA's quartiles (w 177/217/259, h 203/298/438, correlation 0.61).
_SIZE_MEDIAN = np.array([200.0, 268.0])
_SIZE_LOG_SD = np.array([0.34, 0.60])
_SIZE_CORRELATION = 0.61
LASTING = 0.75  # of a patient's opacities that lie where the patient's others do; the rest is new


@dataclass(frozen=True)
class Finding:
    """One thing seen in the picture.

    Attributes:
        kind: word used by the writers ("opacity", "pneumothorax", "nodule", ...).
        side, zone: where its centre lies; the zone is a third of the lung's height.
        added: (H, W) float32 attenuation, may be negative.
        density: (H, W) float32 in [0, 1]; its outline is the level `OUTLINE`.
    """

    kind: str
    side: Side
    zone: Zone
    added: np.ndarray
    density: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool on the scene's grid."""
        return self.density > OUTLINE

    def box(self) -> tuple[float, float, float, float]:
        """Tight x, y, width, height of the outline in pixels of the scene's grid; width 0 when nothing is left of it."""
        mask = self.mask
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows) == 0:
            return 0.0, 0.0, 0.0, 0.0
        return float(columns[0]), float(rows[0]), float(columns[-1] + 1 - columns[0]), float(rows[-1] + 1 - rows[0])


class Addition(Protocol):
    """Anything with an attenuation map `added`, (H, W) float32."""

    @property
    def added(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Background:
    """Part of every image; never labelled."""

    added: np.ndarray


def apply(scene: Scene, additions: Sequence[Addition]) -> Scene:
    """The scene with everything added; attenuation stays non-negative."""
    attenuation = scene.attenuation
    for addition in additions:
        attenuation = attenuation + addition.added
    return replace(scene, attenuation=np.maximum(attenuation, np.float32(0)))


def zone_of(scene: Scene, side: Side, row: float) -> Zone:
    """Third of the lung's height in which a row (pixels of the scene's grid) lies."""
    _, top, _, bottom = scene.boxes[side]
    share = (row - top) / (bottom - top)
    return "upper" if share < 1 / 3 else "mid" if share < 2 / 3 else "lower"


def draw_count(rng: np.random.Generator) -> int:
    """Number of opacities on a positive image, as often as RSNA's boxes per positive image."""
    counts = np.array(list(BOXES_PER_POSITIVE.values()), dtype=float)
    return int(rng.choice(list(BOXES_PER_POSITIVE), p=counts / counts.sum()))


def draw_opacities(scene: Scene, n: int, rng: np.random.Generator, kind: str = "opacity", strength: float = 1.0) -> list[Finding]:
    """Exactly n opacities (n in 1..4) that do not touch: two go to different lungs, three and four share lungs one above the other.

    Most lie where this patient's other images have theirs, as in a course followed over days: who knows the patient knows the place.

    Args:
        strength: multiplies the contrast; ground glass is fainter than consolidation.
    """
    course = stream("course", scene.patient.key) if rng.random() < LASTING else rng
    first: Side = "right" if course.random() < 0.53 else "left"  # share of RSNA boxes in the picture's left half
    second: Side = "left" if first == "right" else "right"
    sides = [first, second, first, second][:n] if n > 1 else [first]
    findings = []
    for side in SIDES:
        shared = sides.count(side)
        for number in range(shared):
            findings.append(_placed_opacity(scene, side, (number, shared), rng, kind, strength))
    return findings


def _placed_opacity(scene: Scene, side: Side, band: tuple[int, int], rng: np.random.Generator, kind: str, strength: float) -> Finding:
    """An opacity in band `number` of `shared` equal bands of the lung's height. Small leftovers behind the lung's edge are drawn again."""
    unit = scene.shape[0] / 1024
    course = stream("course", scene.patient.key, side, *band) if rng.random() < LASTING else rng
    while True:
        w, h = np.clip(draw_size(course) * rng.uniform(0.95, 1.05, 2), BOX_MIN_WH, BOX_MAX_WH) * unit
        left, top, right, bottom = scene.boxes[side]
        number, shared = band
        height = (bottom - top) / shared
        top, bottom = top + number * height, top + (number + 1) * height
        if shared > 1:
            h = min(h, 0.75 * height)
        h = min(h, 1.02 * (bottom - top))
        w = min(w, 1.02 * (right - left))
        cx = np.clip(course.normal(0.5 * (left + right), 0.18 * (right - left)), left + 0.36 * w, right - 0.36 * w)
        slack = 0.5 if shared > 1 else 0.45  # an opacity alone may reach a little over the lung's ends
        cy = np.clip(course.normal(top + 0.70 * (bottom - top), 0.24 * (bottom - top)), top + slack * h, bottom - slack * h)
        finding = opacity(scene, side, (cx, cy), (w, h), rng, kind, strength)
        _, _, got_w, got_h = finding.box()
        if got_w >= max(BOX_MIN_WH[0] * unit, 0.5 * w) and got_h >= max(BOX_MIN_WH[1] * unit, 0.5 * h):
            return finding


def draw_size(rng: np.random.Generator) -> np.ndarray:
    """Width and height of an opacity in pixels of a 1024-pixel image, within RSNA's extremes."""
    z = rng.standard_normal(2)
    z[1] = _SIZE_CORRELATION * z[0] + np.sqrt(1 - _SIZE_CORRELATION**2) * z[1]
    return np.clip(_SIZE_MEDIAN * np.exp(_SIZE_LOG_SD * z), BOX_MIN_WH, BOX_MAX_WH)


def opacity(
    scene: Scene,
    side: Side,
    centre: tuple[float, float],
    size: tuple[float, float],
    rng: np.random.Generator,
    kind: str = "opacity",
    strength: float = 1.0,
) -> Finding:
    """A patchy, soft-edged opacity; centre (column, row) and size (width, height) in pixels of the scene's grid."""
    density = _blob(scene, centre, size, rng, ragged=0.45, soft=0.26) * _reach(scene, side)
    unit = scene.shape[0] / 320
    patches = noise(scene.shape, 2.6 * unit, rng)
    clouds = noise(scene.shape, 7.0 * unit, rng)
    grade = np.float32(rng.uniform(0.26, 0.46))
    texture = np.clip(1 + grade * patches + np.float32(0.30) * clouds, 0.05, 2.2)
    contrast = np.float32(strength * rng.uniform(0.14, 0.40))
    return Finding(kind, side, zone_of(scene, side, centre[1]), contrast * density * texture, density)


def parenchyma(scene: Scene, rng: np.random.Generator) -> Background:
    """The lungs' own faint mottling, of another strength in every image, so that texture alone is no proof of an opacity."""
    mottle = noise(scene.shape, 2.6 * scene.shape[0] / 320, rng)
    return Background(np.float32(rng.uniform(0.0, 0.035)) * mottle * (scene.lungs["right"] + scene.lungs["left"]))


def smooth_shadow(scene: Scene, side: Side, rng: np.random.Generator) -> Finding:
    """A look-alike: overlying soft tissue as bright as an opacity and in the same places, but without texture and with its own outline."""
    unit = scene.shape[0] / 1024
    left, top, right, bottom = scene.boxes[side]
    w, h = np.minimum(draw_size(rng) * unit * rng.uniform(0.55, 1.0), [0.9 * (right - left), 0.8 * (bottom - top)])
    centre = (rng.uniform(left + 0.3 * w, right - 0.3 * w), rng.uniform(top + 0.3 * h, bottom - 0.3 * h))
    density = _blob(scene, centre, (w, h), rng, ragged=0.06, soft=rng.uniform(0.12, 0.30))
    return Finding("shadow", side, zone_of(scene, side, centre[1]), np.float32(rng.uniform(0.16, 0.44)) * density, density)


def nodule(scene: Scene, side: Side, rng: np.random.Generator, radius_px: tuple[float, float], kind: str = "nodule") -> Finding:
    """A round, well-defined, homogeneous disc; radius range in pixels of a 1024-pixel image. Large ones are masses."""
    unit = scene.shape[0] / 1024
    radius = rng.uniform(*radius_px) * unit
    left, top, right, bottom = scene.boxes[side]
    while True:
        centre = (rng.uniform(left + radius, right - radius), rng.uniform(top + radius, bottom - radius))
        if scene.lungs[side][int(centre[1]), int(centre[0])] > 0.6:
            break
    size = (2 * radius * rng.uniform(0.95, 1.15), 2 * radius * rng.uniform(0.95, 1.15))
    density = _blob(scene, centre, size, rng, ragged=0.12, soft=0.07)
    return Finding(kind, side, zone_of(scene, side, centre[1]), np.float32(rng.uniform(0.32, 0.5)) * density, density)


def pneumothorax(scene: Scene, side: Side, rng: np.random.Generator, separation: float | None = None) -> Finding:
    """Air between chest wall and lung: no vessels, darker, and a thin bright line along the lung's edge.

    Args:
        separation: distance from wall to lung edge as a share of the lung's width; None draws one, mostly small and apical.
    """
    share = separation if separation is not None else float(np.clip(rng.lognormal(np.log(0.16), 0.6), 0.05, 0.6))
    left, top, right, bottom = scene.boxes[side]
    rows = np.arange(scene.shape[0], dtype=np.float32)[:, None]
    columns = np.arange(scene.shape[1], dtype=np.float32)[None, :]
    reach = rng.uniform(0.25, 1.0)  # how far down the lung the air goes
    outer = left if side == "right" else right
    inwards = np.abs(columns - np.float32(outer)) / np.float32(right - left)
    depth = np.clip((rows - np.float32(top)) / np.float32(bottom - top), 0, 1)
    wave = np.float32(0.02) * np.sin(depth * np.float32(rng.uniform(5, 11)) + np.float32(rng.uniform(0, 6)))
    # The lung falls away from apex and wall: an ellipse of collapsed lung inside the lung's extent.
    cap = np.sqrt(np.clip(1 - ((1 - depth - np.float32(share)) / (1 - np.float32(share))) ** 2, 0, 1))
    edge = (1 - cap) * np.float32(0.75) + np.float32(share) * np.clip((np.float32(reach) - depth) / np.float32(0.25), 0, 1) + wave
    gap = (edge - inwards) * np.float32(right - left)  # pixels outside the lung's new edge
    inside = scene.lungs[side]
    density = np.clip(gap / np.float32(1.2) + np.float32(0.5), 0, 1) * inside * (depth < reach)
    line = np.exp(-((gap / np.float32(1.3)) ** 2)) * inside * (depth < reach)
    added = np.float32(0.16) * line - density * (scene.detail + np.float32(0.09))
    middle = top + 0.5 * reach * (bottom - top)
    return Finding("pneumothorax", side, zone_of(scene, side, middle), added, density)


def effusion(scene: Scene, side: Side, rng: np.random.Generator) -> Finding:
    """Fluid at the lung's base with an upper border that climbs towards the chest wall: homogeneous."""
    left, top, right, bottom = scene.boxes[side]
    rows = np.arange(scene.shape[0], dtype=np.float32)[:, None]
    columns = np.arange(scene.shape[1], dtype=np.float32)[None, :]
    outer = left if side == "right" else right
    inwards = np.abs(columns - np.float32(outer)) / np.float32(right - left)
    level = bottom - rng.uniform(0.16, 0.42) * (bottom - top)
    surface = level + np.float32(0.16 * (bottom - top)) * np.clip(inwards, 0, 1) ** np.float32(0.8)
    density = np.clip((rows - surface) / np.float32(5.0) + np.float32(0.5), 0, 1) * scene.lungs[side]
    return Finding("effusion", side, "lower", np.float32(rng.uniform(0.42, 0.6)) * density, density)


def atelectasis(scene: Scene, side: Side, rng: np.random.Generator) -> Finding:
    """Plates: a few thin, nearly horizontal bands in the lower half of a lung."""
    left, top, right, bottom = scene.boxes[side]
    w, h = right - left, bottom - top
    cx, cy = left + rng.uniform(0.4, 0.6) * w, top + rng.uniform(0.55, 0.82) * h
    rows = np.arange(scene.shape[0], dtype=np.float32)[:, None]
    columns = np.arange(scene.shape[1], dtype=np.float32)[None, :]
    u = (columns - np.float32(cx)) / np.float32(rng.uniform(0.25, 0.4) * w)
    density, drawn = np.zeros(scene.shape, np.float32), np.zeros(scene.shape, np.float32)
    for index in range(int(rng.integers(2, 5))):
        line = cy + (index - 1) * 0.045 * h + np.float32(rng.normal(0, 0.03) * h) * u
        thick = np.float32(rng.uniform(0.009, 0.016) * h)
        fade = np.clip((1 - np.abs(u)) * 5, 0, 1)
        density = np.maximum(density, np.exp(-(((rows - line) / (2.2 * thick)) ** 2)) * fade)
        drawn = np.maximum(drawn, np.exp(-(((rows - line) / thick) ** 2)) * fade)
    inside = scene.lungs[side]
    return Finding("atelectasis", side, zone_of(scene, side, cy), np.float32(rng.uniform(0.28, 0.42)) * drawn * inside, density * inside)


def interstitial(scene: Scene, side: Side, rng: np.random.Generator) -> Finding:
    """A fine net of lines over much of a lung, with little overall brightening (NIH's "Infiltrate")."""
    left, top, right, bottom = scene.boxes[side]
    size = (rng.uniform(0.55, 0.9) * (right - left), rng.uniform(0.3, 0.6) * (bottom - top))
    centre = (0.5 * (left + right), top + rng.uniform(0.4, 0.65) * (bottom - top))
    density = _blob(scene, centre, size, rng, ragged=0.25, soft=0.2) * _reach(scene, side)
    unit = scene.shape[0] / 320
    field = noise(scene.shape, 1.9 * unit, rng)
    net = np.exp(-((field / np.float32(0.35)) ** 2))  # zero crossings of smooth noise form a net
    added = density * (np.float32(0.06) + np.float32(rng.uniform(0.22, 0.34)) * net)
    return Finding("infiltrate", side, zone_of(scene, side, centre[1]), added, density)


def noise(shape: tuple[int, int], sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth Gaussian noise with unit variance, (H, W) float32; made on a coarser grid where that loses nothing."""
    step = max(1, int(sigma / 1.5))
    coarse = tuple(-(-n // step) + 2 for n in shape)
    field = gaussian_filter(rng.standard_normal(coarse, dtype=np.float32), sigma / step, mode="wrap")
    field /= field.std() + np.float32(1e-6)
    if step > 1:
        field = zoom(field, step, order=1, grid_mode=True, mode="grid-wrap")
    return field[: shape[0], : shape[1]]


def _blob(
    scene: Scene, centre: tuple[float, float], size: tuple[float, float], rng: np.random.Generator, ragged: float, soft: float
) -> np.ndarray:
    """0..1 density of a deformed superellipse; `ragged` deforms its outline, `soft` is the width of its border (shares of the radius)."""
    rows = (np.arange(scene.shape[0], dtype=np.float32)[:, None] - np.float32(centre[1])) / np.float32(size[1] / 2)
    columns = (np.arange(scene.shape[1], dtype=np.float32)[None, :] - np.float32(centre[0])) / np.float32(size[0] / 2)
    radius = np.sqrt(np.sqrt(rows**4 + columns**4 + np.float32(1.2) * (rows * columns) ** 2))
    if ragged > 0.1:
        radius = radius + np.float32(ragged * 0.5) * noise(scene.shape, 9.0 * scene.shape[0] / 320, rng)
    else:
        angle = np.arctan2(rows, columns)
        radius = radius * (1 + np.float32(ragged) * np.sin(2 * angle + np.float32(rng.uniform(0, 6))))
    t = np.clip((1 - radius) / np.float32(2 * soft) + np.float32(0.5), 0, 1)
    return t * t * (3 - 2 * t)


def _reach(scene: Scene, side: Side) -> np.ndarray:
    """Where an opacity of one lung can be seen: its lung, and faintly through the heart on that side."""
    behind_heart = scene.heart * (scene.x * np.float32(SIGN[side]) > 0.05)
    return np.maximum(scene.lungs[side], np.float32(0.45) * behind_heart)
