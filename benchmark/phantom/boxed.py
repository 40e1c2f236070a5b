"""Findings by the names a release gives them, each with the box a reader would draw: for writers of releases with several classes.

A writer maps its classes to the looks below; what an enlarged heart looks like belongs to the patient's scene, so it has a box and no look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmark.phantom.anatomy import SIDES, Patient, Scene, Side
from benchmark.phantom.findings import Finding, atelectasis, draw_opacities, effusion, interstitial, nodule, pneumothorax
from benchmark.phantom.radiograph import GRID, Radiograph, compose

Look = Callable[[Scene, Side, np.random.Generator], Finding]
Box = tuple[float, float, float, float]
CLASSES_PER_IMAGE = {1: 5, 2: 4, 3: 1}  # made up, for releases of which only is known that several are usual
SMALLEST_BOX = 24.0  # pixels of 1024


def opacity(scene: Scene, side: Side, rng: np.random.Generator) -> Finding:
    """Patches in the named lung."""
    while True:
        finding = draw_opacities(scene, 1, rng)[0]
        if finding.side == side:
            return finding


def dark_crescent(scene: Scene, side: Side, rng: np.random.Generator) -> Finding:
    """A pneumothorax large enough to be outlined."""
    return pneumothorax(scene, side, rng, separation=rng.uniform(0.12, 0.45))


def large_disc(scene: Scene, side: Side, rng: np.random.Generator) -> Finding:
    return nodule(scene, side, rng, (48, 105), kind="mass")


def small_disc(scene: Scene, side: Side, rng: np.random.Generator) -> Finding:
    return nodule(scene, side, rng, (25, 44))


# Class, by the name its releases give it -> plates, patches, fluid, a net of lines, a large or a small disc, a dark crescent.
LOOKS: dict[str, Look] = {
    "Atelectasis": atelectasis,
    "Consolidation": opacity,
    "Effusion": effusion,
    "Fibrosis": interstitial,
    "ILD": interstitial,
    "Infiltrate": interstitial,
    "Infiltration": opacity,
    "Lung Opacity": opacity,
    "Mass": large_disc,
    "Nodule": small_disc,
    "Nodule/Mass": large_disc,
    "Pleural effusion": effusion,
    "Pneumonia": opacity,
    "Pneumothorax": dark_crescent,
}


def large_enough(look: Look, scene: Scene, side: Side, rng: np.random.Generator) -> Finding:
    """Draws again until the box has `SMALLEST_BOX` pixels of 1024 on either side."""
    while True:
        finding = look(scene, side, rng)
        _, _, width, height = (value * 1024 / GRID for value in finding.box())
        if min(width, height) >= SMALLEST_BOX:
            return finding


def heart_box(radiograph: Radiograph) -> Box:
    """Tight box of the heart, x, y, width, height in pixels of the scene's grid."""
    heart = radiograph.scene.heart > 0.5
    rows, columns = np.flatnonzero(heart.any(axis=1)), np.flatnonzero(heart.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1 - columns[0]), float(rows[-1] + 1 - rows[0])


def draw_names(weights: Mapping[str, int], per_image: Mapping[int, int], rng: np.random.Generator) -> list[str]:
    """Different classes of one image: how many as `per_image` counts images by their number, which as `weights` counts boxes."""
    counts, boxes = (np.array(list(each.values()), dtype=float) for each in (per_image, weights))
    n = int(rng.choice(list(per_image), p=counts / counts.sum()))
    return [str(name) for name in rng.choice(list(weights), n, replace=False, p=boxes / boxes.sum())]


def draw(
    patient: Patient, names: Sequence[str], looks: Mapping[str, Look], heart: str, rng: np.random.Generator, aspect: float = 1.0
) -> tuple[Radiograph, list[tuple[str, Finding | None, Box]]]:
    """The radiograph, and every named class with its finding (None for the heart) and its box in pixels of the scene's grid.

    Args:
        names: each once; findings take the two lungs in turn.
        looks: class -> look, for all classes but `heart`.
        heart: what the release calls an enlarged heart.
    """
    drawn: list[tuple[str, Finding]] = []

    def findings(scene: Scene) -> list[Finding]:
        order = [SIDES[k] for k in rng.permutation(2)]
        drawn.extend((name, large_enough(looks[name], scene, order[k % 2], rng)) for k, name in enumerate(n for n in names if n != heart))
        return [finding for _, finding in drawn]

    radiograph = compose(patient, rng, findings, heart_enlarged=heart in names, aspect=aspect)
    boxes: list[tuple[str, Finding | None, Box]] = [(name, finding, finding.box()) for name, finding in drawn]
    return radiograph, boxes + ([(heart, None, heart_box(radiograph))] if heart in names else [])
