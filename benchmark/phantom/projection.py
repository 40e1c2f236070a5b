"""The projection of a patient's chest: a map of attenuation on a grid of pixels.

Everything but the vessels is an analytic function of position in the patient's frame (`anatomy`), so pose (rotation, inspiration, view)
costs nothing.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from benchmark.phantom.anatomy import SIDES, SIGN, Patient, Pose, Scene, Side
from benchmark.phantom.seeds import stream


def project(patient: Patient, pose: Pose, height: int, width: int, heart_scale: float = 1.0) -> Scene:
    """Attenuation of a chest on a grid of height x width pixels.

    Args:
        heart_scale: 1 is this patient's own heart; about 1.3 is cardiomegaly.
    """
    x, y = _grid(pose, height, width)
    midline = x - np.float32(patient.scoliosis) * np.sin(np.float32(2.2) * y)
    across, is_left = np.abs(midline), midline > 0
    body, thickness = _body(patient, midline, y)
    heart = _heart(patient, pose, midline, y, heart_scale)
    pedicle = _pedicle(patient, midline, y)

    half = _Half(patient, across, y, is_left)
    floor = half.diaphragm(pose) - y
    abdomen = _inside(-floor, 0.02)
    air = _inside(half.border - across, 0.010) * _inside(across - np.float32(patient.medial), 0.012) * _inside(floor, 0.009)
    lung = air * (1 - np.float32(0.9) * np.maximum(heart, pedicle))
    lungs: dict[Side, np.ndarray] = {"right": lung * ~is_left, "left": lung * is_left}

    attenuation = thickness - lung * half.depth(floor) * np.float32(0.78 * (0.55 + 0.45 * patient.habitus))
    attenuation += half.ribs() * (np.float32(0.35) + np.float32(0.65) * air) + half.wall()
    attenuation += np.float32(0.30) * abdomen + (np.float32(0.22) * pedicle + np.float32(0.20) * heart) * (1 - abdomen)
    attenuation += _spine(patient, midline, y) + _clavicles(patient, across, y) + _hila(patient, across, y, is_left)
    attenuation += _breasts(patient, across, y) - _airways(patient, midline, y)
    detail = _vessels(patient, pose, height, width) * lung
    attenuation = np.maximum((attenuation + detail) * body, np.float32(0.0))
    return Scene(patient, pose, x, y, attenuation, detail, lungs, heart, {side: _extent(lungs[side]) for side in SIDES})


def to_pixels(pose: Pose, points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixel positions (n, 2) as (column, row) of points (n, 2) given as (x, y) in the patient frame."""
    cosine, sine = np.cos(pose.rotation), np.sin(pose.rotation)
    rotated = np.stack([points[:, 0] * cosine - points[:, 1] * sine, points[:, 0] * sine + points[:, 1] * cosine], axis=1)
    return (rotated * pose.scale + np.asarray(pose.shift)) * (height / 2) + np.array([width / 2, height / 2]) - 0.5


def _grid(pose: Pose, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Inverse of `to_pixels` for every pixel centre."""
    rows = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) / (height / 2) - pose.shift[1]
    columns = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / (height / 2) - pose.shift[0]
    cosine, sine = np.float32(np.cos(pose.rotation) / pose.scale), np.float32(np.sin(pose.rotation) / pose.scale)
    x = columns[None, :] * cosine + rows[:, None] * sine
    y = rows[:, None] * cosine - columns[None, :] * sine
    return x.astype(np.float32), y.astype(np.float32)


def _inside(distance: np.ndarray, softness: float) -> np.ndarray:
    """0..1 across an edge, as a cubic ramp; `distance` is positive inside, `softness` in the patient frame."""
    t = distance * np.float32(0.25 / softness)
    t += np.float32(0.5)
    np.clip(t, np.float32(0), np.float32(1), out=t)
    ramp = t * t
    t *= np.float32(-2)
    t += np.float32(3)
    ramp *= t
    return ramp


def _body(patient: Patient, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Membership of the body, and soft-tissue thickness as attenuation without lungs."""
    across = np.abs(x)
    half = np.float32(max(patient.lung_width) + 0.06 + 0.10 * patient.habitus) + np.float32(0.03) * np.sin(3 * y)
    neck = np.float32(0.20 + 0.04 * patient.habitus) + np.float32(0.25) * np.maximum(y + np.float32(0.80), 0)
    shoulder_line = np.float32(patient.shoulder) + np.float32(0.34) * np.maximum(across - 0.20, 0) ** np.float32(1.4)
    trunk = _inside(half - across, 0.012) * _inside(y - shoulder_line, 0.015)
    gap = np.maximum(y - np.float32(0.02), 0) * np.float32(0.22) - np.float32(0.05)
    arms = _inside(across - half - gap, 0.012) * _inside(y - shoulder_line, 0.02)
    column = _inside(neck - across, 0.015)
    shape = np.clip(1 - (across / half) ** 2, 0, 1) ** np.float32(0.35)
    soft = trunk * (np.float32(0.42) + np.float32(0.55) * shape)
    thickness = np.maximum(np.maximum(soft, np.float32(0.50) * arms), np.float32(0.62) * column)
    body = np.maximum(np.maximum(trunk, arms), column)
    return body, thickness * np.float32(0.55 + 0.45 * patient.habitus)


class _Half:
    """Both halves of the rib cage at once: `across` is the distance from the midline, `is_left` picks the side's own numbers."""

    def __init__(self, patient: Patient, across: np.ndarray, y: np.ndarray, is_left: np.ndarray):
        self.patient, self.across, self.y, self.is_left = patient, across, y, is_left
        self.width = self._of(patient.lung_width)
        shoulder = np.float32(patient.apex + 0.82)
        rise = np.clip((shoulder - y) / np.float32(0.82), 0, 1)
        widest = self.width * (1 + np.float32(0.05) * np.clip(y - shoulder, 0, 1))
        self.border = widest * np.sqrt(np.maximum(1 - rise ** np.float32(2.3), 0))

    def diaphragm(self, pose: Pose) -> np.ndarray:
        """y of the dome over every point."""
        centre, half = np.float32(0.55) * self.width, np.float32(0.58) * self.width
        top = self._of(self.patient.base) + np.float32(pose.inspiration)
        return top - np.float32(self.patient.dome) * (1 - ((self.across - centre) / half) ** 2)

    def depth(self, floor: np.ndarray) -> np.ndarray:
        """Relative depth of air along the ray, about 0.4 at the borders and 1 in the middle; `floor` is the height above the diaphragm."""
        border = np.maximum(self.border, np.float32(0.12))
        medial = np.float32(self.patient.medial)
        t = np.clip((self.across - medial) / (border - medial), 0, 1)
        low = np.clip(floor * np.float32(3.5), 0, 1)
        high = np.clip((self.y - np.float32(self.patient.apex)) * np.float32(2.2), 0, 1)
        depth = np.float32(0.45) + np.float32(0.55) * np.sqrt(4 * t * (1 - t) + np.float32(1e-6))
        return depth * (np.float32(0.72) + np.float32(0.28) * low) * (np.float32(0.62) + np.float32(0.38) * high)

    def ribs(self) -> np.ndarray:
        """Attenuation of all ribs. They repeat in y, so the distance to the nearest one is a remainder and one pass draws them."""
        patient, y = self.patient, self.y
        wall = np.maximum(self.border, np.float32(0.05)) + np.float32(0.03)
        u = np.clip(self.across / wall, 0, np.float32(1.05))
        cage = _inside(wall - self.across, 0.008) * _inside(self.across - np.float32(0.05), 0.01) * _inside(np.float32(0.85) - y, 0.08)
        spacing, offset = np.float32(1 / patient.rib_spacing), self._of(patient.rib_offset)
        posterior = (y + np.float32(0.09) * u - np.float32(patient.rib_slope + 0.18) * u * u * u) * spacing + offset
        anterior = (y + np.float32(0.42) * u - np.float32(0.10) * (u * u) ** 2) * spacing + offset + np.float32(0.37)
        in_front = np.float32(0.5) * _inside(u - np.float32(0.45), 0.08) * _inside(np.float32(0.35) - y, 0.15)
        bones = _rib_profile(posterior, patient.rib_width) + in_front * _rib_profile(anterior, patient.rib_width)
        return bones * cage * np.float32(patient.rib_contrast)

    def wall(self) -> np.ndarray:
        """The chest wall seen edge-on beside the lung."""
        edge = np.exp(-(((self.across - self.border - np.float32(0.02)) / np.float32(0.022)) ** 2)) * np.float32(0.16)
        return edge * (self.border > np.float32(0.2)) * _inside(self._of(self.patient.base) + np.float32(0.15) - self.y, 0.06)

    def _of(self, pair: tuple[float, float]) -> np.ndarray:
        return np.where(self.is_left, np.float32(pair[1]), np.float32(pair[0]))


def _rib_profile(phase: np.ndarray, half_width: float) -> np.ndarray:
    """A flat tube with brighter rims; `phase` counts ribs, `half_width` is a share of their spacing."""
    distance = np.abs(phase - np.rint(phase)) * np.float32(1 / half_width)
    rim = np.square(np.square(np.minimum(distance, 1)))
    return _inside(1 - distance, 0.07) * (np.float32(0.60) + np.float32(0.55) * rim)


def _heart(patient: Patient, pose: Pose, x: np.ndarray, y: np.ndarray, heart_scale: float) -> np.ndarray:
    size = patient.heart_size * pose.heart_magnification * heart_scale
    floor = patient.base[1] + pose.inspiration - 0.6 * patient.dome
    cx, cy = 0.11 * size, floor - 0.21 * size
    cosine, sine = np.cos(patient.heart_tilt), np.sin(patient.heart_tilt)
    along = ((x - cx) * cosine + (y - cy) * sine) / (0.33 * size)
    across = ((y - cy) * cosine - (x - cx) * sine) / (0.245 * size)
    ventricle = _inside(1 - np.sqrt(along**2 + across**2), 0.045)
    atrium = _inside(1 - np.sqrt(((x + 0.035) / (0.175 * size)) ** 2 + ((y - cy + 0.02) / (0.25 * size)) ** 2), 0.055)
    return np.maximum(ventricle, atrium).astype(np.float32)


def _pedicle(patient: Patient, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Great vessels and aortic knob above the heart."""
    half = np.float32(patient.medial + 0.015) + np.float32(0.05) * np.clip(y + np.float32(0.3), 0, 0.5)
    column = _inside(half - np.abs(x - np.float32(0.01)), 0.024) * _inside(np.float32(0.75) - y, 0.1)
    radius = np.float32(patient.knob + 0.03)
    knob = _inside(1 - np.sqrt((x - np.float32(0.085)) ** 2 + (y + np.float32(0.22)) ** 2) / radius, 0.10)
    trunk = _inside(1 - np.sqrt((x - np.float32(0.075)) ** 2 + ((y + np.float32(0.06)) / np.float32(1.3)) ** 2) / np.float32(0.115), 0.12)
    return np.maximum(np.maximum(column, knob), np.float32(0.9) * trunk)


def _spine(patient: Patient, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    column = _inside(np.float32(0.068) - np.abs(x), 0.010)
    discs = np.float32(0.8) + np.float32(0.2) * np.cos(y * np.float32(2 * np.pi / (0.82 * patient.rib_spacing)))
    return np.float32(0.13) * column * discs


def _clavicles(patient: Patient, across: np.ndarray, y: np.ndarray) -> np.ndarray:
    curve = np.float32(patient.clavicle_y) - np.float32(patient.clavicle_rise) * np.sin(np.clip(across * np.float32(1.9), 0, 2.6))
    curve = curve - np.float32(0.10) * np.clip(across - np.float32(0.1), 0, 1)
    distance = np.abs(y - curve) / np.float32(0.030)
    tube = _inside(1 - distance, 0.12) * (np.float32(0.7) + np.float32(0.4) * np.minimum(distance, 1) ** 2)
    return np.float32(0.17) * tube * _inside(across - np.float32(0.06), 0.012) * _inside(np.float32(0.80) - across, 0.02)


def _hila(patient: Patient, across: np.ndarray, y: np.ndarray, is_left: np.ndarray) -> np.ndarray:
    dx = (across - np.float32(0.175)) / np.float32(patient.hilum_size)
    right, left = map(np.float32, patient.hilum_y)
    dy = (y - np.where(is_left, left, right)) / np.float32(1.7 * patient.hilum_size)
    return np.exp(-(dx**2 + dy**2)) * np.float32(0.24)


def _breasts(patient: Patient, across: np.ndarray, y: np.ndarray) -> np.ndarray | np.float32:
    """Soft shadows over the lower lungs with a sharper lower edge: bright, smooth and not an opacity."""
    if patient.breast < 0.06:
        return np.float32(0)
    dx = (across - np.float32(0.43)) / np.float32(0.33)
    dy = (y - np.float32(patient.breast_y - 0.10)) / np.float32(0.30)
    return np.float32(patient.breast) * _inside(1 - np.sqrt(dx**2 + dy**2), 0.07)


def _airways(patient: Patient, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Trachea with its two main bronchi, and the stomach bubble: less attenuation."""
    trachea = _inside(np.float32(0.034) - np.abs(x), 0.008) * _inside(np.float32(-0.20) - y, 0.02)
    fork = np.abs(np.abs(x) - (y + np.float32(0.21)) * np.float32(0.8))
    bronchi = _inside(np.float32(0.022) - fork, 0.008) * _inside(np.float32(-0.06) - y, 0.02) * _inside(y + np.float32(0.22), 0.02)
    lost = np.float32(0.22) * np.maximum(trachea, bronchi)
    if patient.stomach_bubble > 0:
        dx = (x - np.float32(0.36)) / np.float32(0.9 * patient.stomach_bubble)
        dy = (y - np.float32(patient.base[1] + 0.10)) / np.float32(0.45 * patient.stomach_bubble)
        lost = lost + np.float32(0.32) * _inside(1 - np.sqrt(dx**2 + dy**2), 0.12)
    return lost


def _vessels(patient: Patient, pose: Pose, height: int, width: int) -> np.ndarray:
    """Branching vessels from both hila, drawn as tapering lines at twice the grid and averaged down."""
    rng = stream("vessels", patient.key)
    picture = Image.new("L", (2 * width, 2 * height))
    pen = ImageDraw.Draw(picture)
    for index, side in enumerate(SIDES):
        angles = np.concatenate([rng.uniform(-1.45, 1.5, 9), rng.uniform(0.5, 1.5, 4)])
        points = np.array([0.16, patient.hilum_y[index]]) + rng.normal(0, 0.03, (len(angles), 2))
        breadths = rng.uniform(0.013, 0.020, len(angles))
        for _generation in range(4):
            path = [points]
            for _step in range(3):
                angles = angles + rng.normal(0, 0.16, len(angles))
                path.append(path[-1] + rng.uniform(0.035, 0.065, (len(angles), 1)) * np.stack([np.cos(angles), np.sin(angles)], axis=1))
            flat = np.stack(path, axis=1).reshape(-1, 2) * [SIGN[side], 1.0]
            lines = to_pixels(pose, flat, 2 * height, 2 * width).reshape(len(angles), -1).tolist()
            tones = np.clip(255 * breadths / 0.018, 60, 255).astype(int).tolist()
            widths = np.maximum(1, np.rint(breadths * height)).astype(int).tolist()
            for line, tone, breadth in zip(lines, tones, widths, strict=True):
                pen.line(line, fill=tone, width=breadth)
            spread = rng.uniform(0.22, 0.5, len(angles))
            angles = np.concatenate([angles + spread, angles - spread])
            points, breadths = np.tile(path[-1], (2, 1)), np.tile(breadths * 0.68, 2)
    averaged = np.asarray(picture.reduce(2), dtype=np.float32) * np.float32(1 / 255)
    return averaged * np.float32(patient.vessel_contrast)


def _extent(membership: np.ndarray) -> tuple[float, float, float, float]:
    inside = membership > 0.5
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
