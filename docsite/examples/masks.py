"""Examples of the families that score masks."""

from __future__ import annotations

import numpy as np

from benchmark.metrics import class_maps, classification, pixels, surface
from benchmark.metrics.mask_statistics import SegmentationStatistics
from benchmark.metrics.scores import Scores, score_segmentation
from docsite import drawing
from docsite.drawing import Axes
from docsite.examples.base import Example

LEGEND = "Filled: predicted. Thick line: truth. "


def dice() -> Example:
    """One finding of 8 x 8 pixels, and one image without any in which two pixels are predicted."""
    truth, found = np.zeros((2, 2, 8, 8), bool)
    truth[0, 2:6, 1:5] = True
    found[0, 3:7, 2:6] = True
    found[1, 1, 5:7] = True
    scored = _scored(found.astype(np.float32), truth)
    counts = _kept(scored).counts
    tp, fp, fn = (part[:, 0].tolist() for part in (counts.tp, counts.fp, counts.fn))
    pictures = tuple(
        drawing.grid(f"{what}: {tp[i]} pixels are in both, {fp[i]} only predicted, {fn[i]} only true.", found[i], truth[i])
        for i, what in enumerate(("An image with a finding", "An image without one"))
    )
    shown = f"{LEGEND}First image: TP = {tp[0]}, FP = {fp[0]}, FN = {fn[0]}. Second: nothing is there, and FP = {fp[1]}."
    names = ("avg_dice", "pos_dice", "image_dice_all", "iou", "precision", "recall")
    return Example("masks", pictures, shown, {name: scored.metrics[name] for name in names})


def lesions() -> Example:
    """Three lesions of different size, one of them found by less than half."""
    truth, found = np.zeros((2, 1, 10, 10), bool)
    for mask, places in ((truth, ((1, 2, 1, 3), (1, 4, 6, 9), (5, 9, 1, 7))), (found, ((1, 2, 2, 3), (1, 2, 6, 9), (5, 9, 2, 8)))):
        for top, bottom, left, right in places:
            mask[0, top:bottom, left:right] = True
    scored = _scored(found.astype(np.float32), truth)
    pieces = _kept(scored).lesions
    assert pieces is not None
    by_area = sorted(zip(pieces.area.tolist(), pieces.covered.tolist(), strict=True))
    covered = ", ".join(f"{part} of {area}" for area, part in by_area)
    picture = drawing.grid(f"Three lesions; of their pixels are predicted, from the smallest on: {covered}.", found[0], truth[0])
    shown = f"{LEGEND}Pixels covered, from the smallest lesion on: {covered}. Half is enough."
    names = tuple(f"lesion_sensitivity_{size}" for size in ("small", "medium", "large"))
    return Example("masks", (picture,), shown, {name: scored.metrics[name] for name in names})


def surfaces() -> Example:
    """A mask and a prediction that is longer on one side than the tolerance allows."""
    truth, found = np.zeros((2, 1, 11, 12), bool)
    truth[0, 2:9, 1:6] = True
    found[0, 2:9, 2:11] = True
    scored = _scored(found.astype(np.float32), truth)
    far = surface.TOLERANCE_PX
    picture = drawing.grid(
        "A mask, and a prediction that begins one pixel later and ends five later; outlines are compared.",
        found[0],
        truth[0],
        cell=18,
    )
    shown = f"{LEGEND}Outlines within {far:g} pixels of each other agree: the left edges do, the right ones do not."
    return Example("masks", (picture,), shown, {name: scored.metrics[name] for name in ("nsd", "avg_dice")})


def ranked_pixels() -> Example:
    """Sixteen pixels by their probability, and the curve of precision over recall."""
    probabilities = np.array([[0.9, 0.8, 0.4, 0.1], [0.7, 0.6, 0.3, 0.1], [0.5, 0.35, 0.2, 0.05], [0.2, 0.1, 0.05, 0.02]], np.float32)
    truth = np.zeros((4, 4), bool)
    truth[:2, :2] = truth[2, 0] = truth[0, 2] = True
    truth[1, 1] = False
    scored = _scored(probabilities[None], truth[None])
    texts = np.array([[f"{p:g}".lstrip("0") for p in row] for row in probabilities.tolist()])
    picture = drawing.grid("Sixteen pixels with their probabilities; five of them are in the mask.", probabilities, truth, texts, cell=40)
    curve = _precision_over_recall(pixels.probability_bins(probabilities).ravel(), truth.ravel())
    plot = Axes("recall", "precision").picture("Precision over recall, from the most probable pixel on.", [_stairs(curve)])
    shown = f"{LEGEND}The area below the stairs is the average precision."
    return Example("masks", (picture, plot), shown, {"pixel_ap": scored.metrics["pixel_ap"]})


def class_map() -> Example:
    """The map of a finding that the classifier sees, cut where validation would have it."""
    truth = np.zeros((6, 6), bool)
    truth[1:4, 2:5] = True
    rows, columns = np.mgrid[:6, :6]
    values = (10 - (rows - 2) ** 2 - (columns - 2) ** 2).astype(np.float32)
    cut, probability = class_maps.Cut(0.8, 0.5), 0.8
    located = dict(zip(class_maps.COLUMNS, class_maps.located(values, truth, cut, probability).tolist(), strict=True))
    stretched = class_maps.stretched(values)
    assert stretched is not None
    texts = np.array([[f"{value:.2f}".lstrip("0") for value in row] for row in stretched.tolist()])
    picture = drawing.grid(
        f"The map of a finding, stretched to 0..1; what is above {cut.threshold:g} is filled.",
        stretched > cut.threshold,
        truth,
        texts,
        cell=40,
    )
    shown = f"{LEGEND}Threshold {cut.threshold:g}; the image's probability {probability:g} is above the cutoff {cut.cutoff:g}."
    return Example(class_maps.TARGET, (picture,), shown, {name: located[name] for name in ("mask_iou", "pointing")})


def _scored(probabilities: np.ndarray, truth: np.ndarray) -> Scores:
    """Scores of (n, H, W) probabilities of one class."""
    return score_segmentation(probabilities[:, None], truth[:, None], ("finding",), true_masks=True, batch_size=1)


def _kept(scored: Scores) -> SegmentationStatistics:
    assert isinstance(scored.statistics, SegmentationStatistics)
    return scored.statistics


def _precision_over_recall(places: np.ndarray, truth: np.ndarray) -> list[tuple[float, float]]:
    """Recall and precision when the pixels of at least each place are called positive, the highest place first."""
    points = []
    for place in np.unique(places)[::-1]:
        counts = classification.count_decisions((places >= place)[:, None], truth[:, None].astype(np.int8))
        points.append((float(classification.recall(counts)[0]), float(classification.precision(counts)[0])))
    return points


def _stairs(curve: list[tuple[float, float]]) -> str:
    """The sum of (recall gained) x (precision) as a line: it runs level up to each recall."""
    steps, last = [], 0.0
    for recall, precision in curve:
        steps += [(last, precision), (recall, precision)] if recall > last else []
        last = recall
    return Axes("recall", "precision").line(steps)


EXAMPLES = {"dice": dice, "lesions": lesions, "surface": surfaces, "pixels": ranked_pixels, "class_maps": class_map}
