"""Overlap of masks by counting pixels: everything that follows from TP, FP and FN per image and class.

Three families of Dice, never to be compared with each other (docs/segmentation.md):
- set level: pixels of all images together. `micro_dice` (LoVT) and its means; `dice_with_background` (BenchX) averages in the background.
- per image: `pos_dice`, `image_dice_positives`, and `image_dice_all` (GLoRIA, MGCA), in which an empty mask scores 1 or 0.
- per batch: `image_dice_batches`, what GLoRIA's and MGCA's code prints, which depends on the batch size of the test.

Lesions, surfaces and the ranking of pixels by probability have modules of their own. Counts, not averages, are what a record stores:
every pooled value of a split or a resample is a sum of them.

Formulas:
    {class}_dice: D_c = 2 TP_c / (2 TP_c + FP_c + FN_c); pixels of class c, all images together; 0 where TP_c is 0
    avg_dice: (1 / C) Σ_c D_c; over C classes
    pooled_dice: 2 TP / (2 TP + FP + FN); pixels of all images and classes together
    pos_dice: mean_c mean_i D_{i,c}; Dice D_{i,c} of image i and class c alone, over the images that have the class
    image_dice_positives: mean_{i,c} D_{i,c}; over every image and class with ground truth
    image_dice_all: mean_{i,c} E_{i,c}; E_{i,c} = D_{i,c} where there is ground truth, else 1 where nothing was predicted and 0 otherwise
    image_dice_batches: mean_b mean_{i ∈ b, c} E_{i,c}; within each batch b of the test, then over batches
    dice_with_background: mean_c ½ (D_c + B_c); Dice of the background B_c = 2 TN_c / (2 TN_c + FP_c + FN_c)
    negatives_empty: n_empty / n; of the n pairs of image and class without ground truth those whose prediction is empty
    precision: TP / (TP + FP); pixels of all images and classes together
    recall: TP / (TP + FN); pixels of all images and classes together
    iou: TP / (TP + FP + FN); pixels of all images and classes together
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from benchmark.errors import TrainingError, UsageError
from benchmark.metrics.spec import MetricSpec

MASK_THRESHOLD = 0.5  # LoVT's released code: sigmoid >= 0.5 is foreground
_NOTHING_POSITIVE = "no image has a positive pixel"


class MaskSlices(Protocol):
    """(N, C, S, S) bool masks of a split, read a few images at a time: an array, a memory map, or masks that are unpacked when read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N, C, S, S."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, images: slice, /) -> np.ndarray:
        """(n, C, S, S) bool of consecutive images."""


@dataclass(frozen=True)
class DiceCounts:
    """Pixel counts: tp, fp, fn, each (N, C) int64 over N images and C classes."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray

    @property
    def positive(self) -> np.ndarray:
        """(N, C) bool: the ground truth has a pixel of this class."""
        found: np.ndarray = self.tp + self.fn > 0
        return found


@dataclass(frozen=True)
class DicePool:
    """A micro Dice as a pooled metric: of one class, or (label None) the mean over classes. Sums of counts, so many resamples cost one
    matrix product."""

    counts: DiceCounts
    label: int | None

    def __call__(self, weights: np.ndarray | None = None) -> float:
        per_class = micro_dice(self.counts, weights)
        return float(per_class.mean() if self.label is None else per_class[self.label])

    def many(self, weights: np.ndarray) -> np.ndarray:
        """(R,) float64 of (R, n_images) weights."""
        per_class = micro_dice(self.counts, weights)
        return per_class.mean(axis=1) if self.label is None else per_class[:, self.label]


def binarise(probabilities: np.ndarray) -> np.ndarray:
    """Foreground where the probability is at least 0.5.

    Raises:
        TrainingError: a probability is not a number in [0, 1].
    """
    # Written so that NaN fails.
    if probabilities.size and not (probabilities.min() >= 0 and probabilities.max() <= 1):
        raise TrainingError(
            f"Predicted probabilities leave [0, 1]: {probabilities.min()} to {probabilities.max()}. The head diverged or gave logits."
        )
    return probabilities >= MASK_THRESHOLD


def count_overlap(predicted: np.ndarray, masks: np.ndarray) -> DiceCounts:
    """Counts pixels of (N, C, H, W) bool predictions against masks of the same shape.

    Raises:
        UsageError: shapes differ, or one of them is not bool.
    """
    if predicted.shape != masks.shape or predicted.ndim != 4:
        raise UsageError(
            f"Predictions of shape {predicted.shape} cannot be counted against masks of shape {masks.shape}; both are (N, C, H, W)."
        )
    if predicted.dtype != bool or masks.dtype != bool:
        raise UsageError(f"Masks are bool, found {predicted.dtype} and {masks.dtype}; binarise probabilities first.")
    n_predicted, n_true, n_both = _pixels(predicted), _pixels(masks), _pixels(predicted & masks)
    return DiceCounts(n_both, n_predicted - n_both, n_true - n_both)


def join(chunks: Sequence[DiceCounts]) -> DiceCounts:
    """Counts of consecutive chunks as one split."""
    return DiceCounts(*(np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in ("tp", "fp", "fn")))


def micro_dice(counts: DiceCounts, weights: np.ndarray | None = None) -> np.ndarray:
    """(C,) Dice over all pixels of all images, 2 TP / (2 TP + FP + FN), 0 where TP is 0 (also for empty against empty).

    Args:
        weights: (N,) how often each image stands in a resample; None takes every image once. (R, N) for R resamples at once gives (R, C).

    Source: LoVT's released code (`<target>_dice`).
    """
    tp, fp, fn = totals(counts, weights)
    dice: np.ndarray = np.divide(2 * tp, 2 * tp + fp + fn, out=np.zeros(tp.shape), where=tp > 0)
    return dice


def avg_dice(counts: DiceCounts, weights: np.ndarray | None = None) -> float:
    """Unweighted mean of the micro Dice over classes (LoVT's `avg_dice`)."""
    return float(micro_dice(counts, weights).mean())


def pooled_dice(counts: DiceCounts, weights: np.ndarray | None = None) -> float:
    """Micro Dice with the pixels of all classes in one pool; large classes dominate."""
    tp, fp, fn = (float(t.sum()) for t in totals(counts, weights))
    return 2 * tp / (2 * tp + fp + fn) if tp else 0.0


def image_dice(counts: DiceCounts) -> np.ndarray:
    """(N, C) Dice of every image on its own, 0 where TP is 0. Only cells with `counts.positive` mean something."""
    doubled = 2 * counts.tp
    dice: np.ndarray = np.divide(doubled, doubled + counts.fp + counts.fn, out=np.zeros(counts.tp.shape), where=counts.tp > 0)
    return dice


def pos_dice(counts: DiceCounts, weights: np.ndarray | None = None) -> float | None:
    """LoVT's `pos_dice`: per class the mean of per-image Dice over images with that class, then the mean over the classes that occur."""
    weight = counts.positive * _weights(counts, weights)[:, None]
    n_positive = weight.sum(axis=0)
    occurs = n_positive > 0
    return float(((image_dice(counts) * weight).sum(axis=0)[occurs] / n_positive[occurs]).mean()) if occurs.any() else None


def image_dice_positives(counts: DiceCounts, weights: np.ndarray | None = None) -> float | None:
    """Mean of per-image Dice over all (image, class) with ground truth, each counted alike; None without any."""
    weight = counts.positive * _weights(counts, weights)[:, None]
    return float((image_dice(counts) * weight).sum() / weight.sum()) if weight.any() else None


def image_dice_all(counts: DiceCounts, weights: np.ndarray | None = None) -> float | None:
    """Mean of per-image Dice over all (image, class), where an empty mask scores 1 if nothing was predicted and else 0.

    Most images of a pneumothorax set are negative, so that predicting nothing anywhere scores their share; see `image_dice_positives`.
    Source: GLoRIA's released code, with the images counted alike (docs/segmentation.md, Families of Dice).
    """
    weight = np.broadcast_to(_weights(counts, weights)[:, None], counts.tp.shape)
    return float((_image_dice_or_empty(counts) * weight).sum() / weight.sum()) if weight.any() else None


def sizes_of_batches(n_images: int, batch_size: int) -> np.ndarray:
    """(n_images,) int64: how many images the batch of each one holds, taken in order; the last batch may be short.

    Raises:
        UsageError: the batch size is not positive.
    """
    if batch_size < 1:
        raise UsageError(f"A batch of {batch_size} images makes no sense; expected at least 1.")
    start = np.arange(n_images) // batch_size * batch_size
    return np.minimum(n_images - start, batch_size)


def image_dice_batches(counts: DiceCounts, batch_sizes: np.ndarray, weights: np.ndarray | None = None) -> float | None:
    """`image_dice_all` as GLoRIA's and MGCA's code takes it: mean within each batch, then over batches; a short last one counts in full.

    In a resample an image keeps the weight that its batch gives it.

    Args:
        batch_sizes: (N,) as `sizes_of_batches` gives them.
    """
    return image_dice_all(counts, _weights(counts, weights) / batch_sizes)


def dice_with_background(counts: DiceCounts, frame_pixels: int, weights: np.ndarray | None = None) -> float | None:
    """BenchX's mDice: mean of foreground and background Dice, each over the pixels of all images; mean over classes, each against the rest.

    A side without a pixel in prediction and truth is left out of the mean. Images without a finding count, as background.

    Args:
        frame_pixels: pixels of an image.

    Raises:
        UsageError: an image has more pixels counted than that.

    Source: BenchX's released code (docs/segmentation.md, Families of Dice).
    """
    tp, fp, fn = totals(counts, weights)
    if (counts.tp + counts.fp + counts.fn > frame_pixels).any():
        raise UsageError(f"An image has more pixels counted than the {frame_pixels} of its frame.")
    tn = frame_pixels * _weights(counts, weights).sum() - tp - fp - fn
    both = [(2 * tp, 2 * tp + fp + fn), (2 * tn, 2 * tn + fp + fn)]
    values = np.stack([np.divide(a, b, out=np.full(a.shape, np.nan), where=b > 0) for a, b in both])
    return None if np.isnan(values).all(axis=0).any() else float(np.nanmean(values, axis=0).mean())


def negatives_empty(counts: DiceCounts, weights: np.ndarray | None = None) -> float | None:
    """Share of the (image, class) without ground truth whose prediction is empty, too; None when there are none."""
    weight = ~counts.positive * _weights(counts, weights)[:, None]
    return float(((counts.fp == 0) * weight).sum() / weight.sum()) if weight.any() else None


def precision(counts: DiceCounts, weights: np.ndarray | None = None) -> float | None:
    """TP / (TP + FP) over the pixels of all classes; None when nothing was predicted."""
    tp, fp, _ = (float(t.sum()) for t in totals(counts, weights))
    return tp / (tp + fp) if tp + fp else None


def recall(counts: DiceCounts, weights: np.ndarray | None = None) -> float | None:
    """TP / (TP + FN) over the pixels of all classes; None without ground truth. LoVT logs this value under the name "IoU"."""
    tp, _, fn = (float(t.sum()) for t in totals(counts, weights))
    return tp / (tp + fn) if tp + fn else None


def iou(counts: DiceCounts, weights: np.ndarray | None = None) -> float | None:
    """True intersection over union, TP / (TP + FP + FN), over the pixels of all classes; None when both sides are empty."""
    tp, fp, fn = (float(t.sum()) for t in totals(counts, weights))
    return tp / (tp + fp + fn) if tp + fp + fn else None


def totals(counts: DiceCounts, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """TP, FP, FN summed over the images of the split or resample, each (C,), or (R, C), float64 (exact below 2**53 pixels)."""
    weight = _weights(counts, weights)
    tp, fp, fn = (weight @ part.astype(np.float64) for part in (counts.tp, counts.fp, counts.fn))
    return tp, fp, fn


def _image_dice_or_empty(counts: DiceCounts) -> np.ndarray:
    """(N, C) Dice of every image on its own; without ground truth 1 where nothing was predicted, else 0."""
    return np.where(counts.positive, image_dice(counts), counts.fp == 0)


def _weights(counts: DiceCounts, weights: np.ndarray | None) -> np.ndarray:
    return np.ones(len(counts.tp)) if weights is None else np.asarray(weights, np.float64)


def _pixels(masks: np.ndarray) -> np.ndarray:
    # One call a mask: numpy counts contiguous bool an order of magnitude faster than it sums along axes.
    flat = masks.reshape(-1, masks.shape[2] * masks.shape[3])
    return np.array([np.count_nonzero(mask) for mask in flat], np.int64).reshape(masks.shape[:2])


def _of_counts(name: str, title: str, metric: Callable[..., float | None], undefined: str = "", *, selects: bool = False) -> MetricSpec:
    """A metric that reads the counts of the images and nothing else."""
    return MetricSpec(
        name=name,
        title=title,
        target="masks",
        needs=("counts",),
        compute=lambda masks: partial(metric, masks.counts),
        undefined=undefined,
        selects=selects,
    )


METRICS = (
    MetricSpec(
        name="{class}_dice",
        title="{class} Dice",
        target="masks",
        needs=("counts",),
        compute=lambda masks, label: DicePool(masks.counts, label),
        selects=True,
    ),
    MetricSpec(
        name="avg_dice",
        title="mean Dice",
        target="masks",
        needs=("counts",),
        compute=lambda masks: DicePool(masks.counts, None),
        selects=True,
    ),
    _of_counts("image_dice_all", "per-image Dice (empty = 1)", image_dice_all, "there is no image", selects=True),
    _of_counts("pooled_dice", "Dice, pixels of all classes pooled", pooled_dice),
    _of_counts("pos_dice", "Dice per positive image, mean over classes", pos_dice, _NOTHING_POSITIVE),
    _of_counts("image_dice_positives", "Dice per positive image", image_dice_positives, _NOTHING_POSITIVE),
    _of_counts("negatives_empty", "negatives left empty", negatives_empty, "every image has positive pixels of every class"),
    _of_counts("precision", "pixel precision", precision, "nothing was predicted"),
    _of_counts("recall", "pixel recall", recall, _NOTHING_POSITIVE),
    _of_counts("iou", "pixel IoU", iou, "prediction and ground truth are empty"),
    MetricSpec(
        name="image_dice_batches",
        title="Dice per image, mean of batches (as GLoRIA's and MGCA's code)",
        target="masks",
        needs=("counts", "batch_sizes"),
        compute=lambda masks: partial(image_dice_batches, masks.counts, masks.batch_sizes),
        undefined="there is no image",
    ),
    MetricSpec(
        name="dice_with_background",
        title="Dice, mean with the background's (BenchX)",
        target="masks",
        needs=("counts", "frame_pixels"),
        compute=lambda masks: partial(dice_with_background, masks.counts, masks.frame_pixels),
        undefined="a class and its background have no pixel",
    ),
)
