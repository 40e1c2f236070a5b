"""How well a similarity map points at the boxes of a phrase: contrast, overlap and peak, in original pixels.

Maps arrive upsampled to the original image with padding cut off (`Frame` knows how); the truth is the union of the phrase's boxes.
Which choices differ from the papers: docs/classification.md, Maps.

Formulas:
    cnr, {class}_cnr: (μ_in - μ_out) / √(σ_in^2 + σ_out^2); mean μ and standard deviation σ of the similarity s inside and outside the
        phrase's boxes B; mean over phrases, as in the lines below
    cnr_abs: |μ_in - μ_out| / √(σ_in^2 + σ_out^2)
    miou, {class}_miou: (1 / 5) Σ_θ |{s > θ} ∩ B| / |{s > θ} ∪ B|; θ = 0.1, 0.2, …, 0.5
    pointing, {class}_pointing: |M ∩ B| / |M|; M are the pixels of the highest similarity
    centre_cnr, centre_pointing: s(x, y) = exp(-(x^2 + y^2) / (2 · 0.25^2)); the same values of this map; x and y from the middle, in sides
    mask_iou, mask_iou_official, {class}_mask_iou: |{s > θ} ∩ T| / |{s > θ} ∪ T|; Otsu's threshold θ of the map, mask T of the finding
    n_phrases: n; phrases that were scored
    n_groups, n_ungrouped: n; label groups of the release that have a phrase, phrases that have no group
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.errors import TrainingError, UsageError
from benchmark.metrics.spec import INFINITE, SEVERAL_CLASSES, MetricSpec

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)
MASK_COLUMNS = ("mask_iou", "mask_iou_official")  # what it keeps beside, where a finding has a mask
COLUMNS = ("cnr", "cnr_abs", "miou", "pointing", "centre_cnr", "centre_pointing")  # what a task keeps of a phrase
OTSU_BINS = 256  # of a map's range, as of an 8-bit picture
CENTRE_SPREAD = 0.25  # standard deviation of the centre prior, as a share of each side


@dataclass(frozen=True)
class Grounded:
    """One phrase on one image; NaN where a value has no meaning.

    Attributes:
        cnr: (mean inside - mean outside) / sqrt(variance inside + variance outside), 0 for a constant map.
        cnr_abs: its absolute value, as some papers report; a column of its own.
        miou: mean over thresholds 0.1 to 0.5 of the IoU of {similarity > threshold} with the boxes.
        iou: the IoU at each threshold.
        pointing: share of the map's highest pixels that lie inside: 1 or 0 unless the maximum is tied.
    """

    cnr: float
    cnr_abs: float
    miou: float
    iou: tuple[float, ...]
    pointing: float


def union_of_boxes(boxes_xywh: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool union of boxes in original pixels, edges rounded to whole pixels, parts outside the image cut off."""
    union = np.zeros(shape, bool)
    for x, y, w, h in np.asarray(boxes_xywh, np.float64).reshape(-1, 4):
        left, top, right, bottom = round(x), round(y), round(x + w), round(y + h)
        # No end is negative: it would count from the far side, and a box left of the image would fill it.
        union[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    return union


def ground(similarity: np.ndarray, inside: np.ndarray, thresholds: Sequence[float] = THRESHOLDS) -> Grounded:
    """Scores one map.

    Args:
        similarity: (H, W) float, the raw cosine in [-1, 1]; no rescaling, because thresholds are absolute.
        inside: (H, W) bool, the union of the phrase's boxes.

    Returns:
        All values; CNR is NaN when the boxes cover the whole image.

    Raises:
        UsageError: shapes differ, or no pixel lies in a box.
        TrainingError: the map is not finite.
    """
    similarity = np.asarray(similarity, np.float64)
    if similarity.shape != inside.shape or similarity.ndim != 2:
        raise UsageError(f"A map of shape {similarity.shape} cannot be compared with boxes on {inside.shape}.")
    if not inside.any():
        raise UsageError("No pixel of the image lies in a box of the phrase: are the boxes those of another size of the image?")
    if not np.isfinite(similarity).all():
        raise TrainingError(f"{np.count_nonzero(~np.isfinite(similarity)):,} pixels of a similarity map are not finite.")
    cnr = contrast_to_noise(similarity, inside)
    iou = tuple(_iou(similarity > threshold, inside) for threshold in thresholds)
    peak = similarity == similarity.max()
    return Grounded(cnr, abs(cnr), float(np.mean(iou)), iou, float(inside[peak].mean()))


def mask_overlap(similarity: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    """IoU of the map cut by Otsu's threshold with a mask that is not empty, twice: as it is, and as CheXlocalize's code counts it.

    A map without two levels predicts nothing: the IoU is 0, and the released code leaves the image out (NaN).

    Args:
        similarity: (H, W) float, finite.
        inside: (H, W) bool.

    Source: docs/sources.md, CheXlocalize.
    """
    threshold = otsu(similarity)
    if threshold is None:
        return 0.0, float("nan")
    found = _iou(np.asarray(similarity, np.float64) > threshold, inside)  # a threshold between two levels of float32 stays between them
    return found, found


def otsu(values: np.ndarray, n_bins: int = OTSU_BINS) -> float | None:
    """The threshold that separates two classes best, between equal bins of the values' range; None for values of one level.

    A range too narrow for so many bins in the values' own precision is divided in float64; one too narrow for that is one level.

    Args:
        values: of any shape, finite.
    """
    low, high = float(values.min()), float(values.max())
    if not high > low:
        return None
    try:
        counts, edges = np.histogram(values, bins=n_bins, range=(low, high))
    except ValueError:  # too many bins for the range
        return None if values.dtype == np.float64 else otsu(values.astype(np.float64), n_bins)
    middles = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(counts)[:-1], np.cumsum(counts[::-1])[::-1][1:]
    mean_below = np.cumsum(counts * middles)[:-1] / below
    mean_above = np.cumsum((counts * middles)[::-1])[::-1][1:] / above
    between = below.astype(float) * above * (mean_below - mean_above) ** 2
    return float(edges[1 + int(np.argmax(between))])


def contrast_to_noise(similarity: np.ndarray, inside: np.ndarray) -> float:
    """CNR with population variances. A constant map has no contrast: 0. NaN when nothing lies outside, or for two flat levels."""
    if inside.all():
        return float("nan")
    if similarity.min() == similarity.max():
        return 0.0
    one, other = similarity[inside], similarity[~inside]
    contrast, noise = one.mean() - other.mean(), np.sqrt(one.var() + other.var())
    return float(contrast / noise) if noise > 0 else float("nan")


def centre_prior(shape: tuple[int, int]) -> np.ndarray:
    """(H, W) float64 in (0, 1]: the baseline that always points at the middle, a Gaussian of a quarter of each side."""
    height, width = shape
    rows = (np.arange(height) + 0.5) / height - 0.5
    columns = (np.arange(width) + 0.5) / width - 0.5
    return np.exp(-(rows[:, None] ** 2 + columns[None, :] ** 2) / (2 * CENTRE_SPREAD**2))


def _iou(predicted: np.ndarray, inside: np.ndarray) -> float:
    return float((predicted & inside).sum() / (predicted | inside).sum())


_NO_PHRASE = "no phrase defines it"
_NO_MAP = "no map finds anything"
MASKS = "found_in_masks"  # a field of the statistics of tasks that compare with masks
GROUPS = "groups_of_the_release"  # columns are named by what the data say, so that no card can ask for one of them
OF_GROUPS = ("cnr", "miou", "pointing")  # of `COLUMNS`, for each group of phrases

METRICS = (
    MetricSpec(name="cnr", title="CNR × 100", target="phrases", low=-INFINITE, high=INFINITE, unit="ratio", undefined=_NO_PHRASE),
    MetricSpec(name="cnr_abs", title="|CNR| × 100", target="phrases", high=INFINITE, unit="ratio", undefined=_NO_PHRASE),
    MetricSpec(name="miou", title="mIoU", target="phrases", undefined=_NO_PHRASE),
    MetricSpec(name="pointing", title="pointing game", target="phrases", undefined=_NO_PHRASE),
    MetricSpec(
        name="centre_cnr",
        title="CNR × 100 of pointing at the centre",
        target="phrases",
        low=-INFINITE,
        high=INFINITE,
        unit="ratio",
        undefined=_NO_PHRASE,
    ),
    MetricSpec(name="centre_pointing", title="pointing game of pointing at the centre", target="phrases", undefined=_NO_PHRASE),
    MetricSpec(
        name="{class}_cnr",
        title="{class} CNR × 100",
        target="phrases",
        needs=(SEVERAL_CLASSES,),
        low=-INFINITE,
        high=INFINITE,
        unit="ratio",
        undefined=_NO_PHRASE,
    ),
    MetricSpec(name="mask_iou", title="IoU of masks, nothing found = 0", target="phrases", needs=(MASKS,), undefined=_NO_PHRASE),
    MetricSpec(
        name="mask_iou_official", title="IoU of masks, images where something is found", target="phrases", needs=(MASKS,), undefined=_NO_MAP
    ),
    MetricSpec(
        name="{class}_mask_iou", title="{class} IoU of masks", target="phrases", needs=(MASKS, SEVERAL_CLASSES), undefined=_NO_PHRASE
    ),
    MetricSpec(name="{class}_miou", title="{class} mIoU", target="phrases", needs=(GROUPS,), undefined=_NO_PHRASE),
    MetricSpec(name="{class}_pointing", title="{class} pointing game", target="phrases", needs=(GROUPS,), undefined=_NO_PHRASE),
    *(
        MetricSpec(name=name, title=title, target="phrases", needs=(GROUPS,), high=INFINITE, better="neither", unit="count")
        for name, title in (("n_groups", "label groups"), ("n_ungrouped", "phrases of no label group"))
    ),
    MetricSpec(name="n_phrases", title="phrases", target="phrases", high=INFINITE, better="neither", unit="count"),
)
