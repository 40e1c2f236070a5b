"""Examples of the families that score labels, phrases and reports, and of the loss by which an epoch is chosen."""

from __future__ import annotations

import numpy as np

from benchmark.kinds import classification as of_labels
from benchmark.metrics import classification, grounding, retrieval
from benchmark.metrics.scores import score_classification, score_rows
from docsite import drawing
from docsite.drawing import Axes, Picture
from docsite.examples.base import Example

PROBABILITIES = (0.03, 0.05, 0.10, 0.12, 0.31, 0.33, 0.45, 0.52, 0.58, 0.71, 0.78, 0.90, 0.95)
LABELS = (0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 1, 1, 1)
SIMILARITIES = np.array([[0.9, 0.4, 0.1, 0.2], [0.5, 0.3, 0.7, 0.1], [0.2, 0.6, 0.6, 0.3]])  # of three images with four reports
KEYS = np.array([0, 1, 2, 3])  # report i is that of image i
LOSSES = (0.69, 0.52, 0.44, 0.41, 0.43, 0.47)  # of six epochs


def labels() -> Example:
    """Thirteen images with one label: ranking, decisions and calibration."""
    scores, truth = np.array(PROBABILITIES)[:, None], np.array(LABELS)[:, None]
    metrics = score_classification(scores, truth, ("finding",), exclusive=False).metrics
    names = ("auroc", "ap", "f1", "mcc", "accuracy", "calibration_error", "brier")
    shown = (
        "First: each image at its score; filled: has the finding. Dashed: the threshold 0.5. Second: mean probability and share of "
        f"positives of each of the {classification.CALIBRATION_BINS} bins that holds an image; calibrated is the dashed line."
    )
    return Example("labels", (_scores(), _reliability()), shown, {name: metrics[name] for name in names})


def phrases() -> Example:
    """A similarity map and the box of a phrase."""
    rows, columns = np.mgrid[0:8, 0:8]
    similarity = np.round(0.7 * np.exp(-((rows - 3) ** 2 + (columns - 4) ** 2) / 6), 2)
    inside = grounding.union_of_boxes(np.array([[3, 2, 4, 4]]), (8, 8))
    found = grounding.ground(similarity, inside)
    names = ("cnr", "miou", "pointing")
    metrics = score_rows(names, np.array([[found.cnr, found.miou, found.pointing]]), np.zeros(1), 1).metrics
    picture = drawing.grid(
        f"A map of similarities from {similarity.min():g} to {similarity.max():g}, its peak inside the phrase's box.",
        similarity / similarity.max(),
        inside,
        cell=24,
    )
    at = ", ".join(f"{iou:.2f}" for iou in found.iou)
    shown = f"The fuller, the more similar. Thick line: the phrase's box. IoU at the thresholds 0.1 to 0.5: {at}."
    return Example("phrases", (picture,), shown, {name: metrics[name] for name in names})


def reports() -> Example:
    """Three images ask for their reports among four; one has a tie."""
    ranking = retrieval.rank_candidates(lambda part: SIMILARITIES[part], KEYS[:3], KEYS, (1, 5))
    names = ("image_to_text_mrr", "image_to_text_hit@1", "image_to_text_hit@5")
    values = np.stack([ranking.reciprocal_rank, ranking.hit[1], ranking.hit[5]], axis=1)
    metrics = score_rows(names, values, np.arange(3), 3).metrics
    own = KEYS[:3, None] == KEYS[None]
    texts = np.array([[f"{value:g}" for value in row] for row in SIMILARITIES.tolist()])
    ranks = ", ".join(f"{rank:g}" for rank in ranking.rank.tolist())
    about = f"Similarities of three images with four reports; the expected ranks of their own reports are {ranks}."
    picture = drawing.grid(about, SIMILARITIES, own, texts, cell=44)
    shown = f"A row per image, a column per report. Thick line: the image's own report. Expected ranks, from the first row on: {ranks}."
    return Example("reports", (picture,), shown, {name: metrics[name] for name in names})


def losses() -> Example:
    """Six epochs, of which the highest value is chosen."""
    values = [of_labels.KIND.of_loss(loss)["negative_loss"] for loss in LOSSES]
    best = int(np.argmax(values))
    axes = Axes("epoch", "negative loss", x_ends=(1, len(values)), y_ends=(-0.75, -0.35), x_ticks=range(1, 7), y_ticks=(-0.7, -0.5, -0.4))
    points = list(enumerate(values, start=1))
    said = ", ".join(f"{value:g}" for value in values)
    plot = axes.picture(f"Negative loss of six epochs: {said}.", [axes.line(points), axes.dot(*points[best])])
    return Example("labels", (plot,), f"Dot: epoch {best + 1}, the highest, is chosen.", {"negative_loss": values[best]})


def _scores() -> Picture:
    axes = Axes("score", "label", y_ends=(-0.5, 1.5), y_ticks=(0, 1))
    parts = [axes.dot(p, y, "dot" if y else "dot hollow") for p, y in zip(PROBABILITIES, LABELS, strict=True)]
    parts.append(axes.line([(classification.THRESHOLD, -0.5), (classification.THRESHOLD, 1.5)], "guide"))
    return axes.picture("Thirteen images by score; those with the finding lie higher on the whole.", parts)


def _reliability() -> Picture:
    """The bins of `classification.calibration_error`, as it makes them."""
    p, y, n_bins = np.array(PROBABILITIES), np.array(LABELS), classification.CALIBRATION_BINS
    bins = np.clip(np.ceil(p * n_bins) - 1, 0, n_bins - 1).astype(int)
    points = [(float(p[bins == one].mean()), float(y[bins == one].mean())) for one in np.unique(bins)]
    axes = Axes("mean probability", "share of positives")
    parts = [axes.line([(0, 0), (1, 1)], "guide"), *(axes.line([(x, x), (x, share)], "gap") for x, share in points)]
    return axes.picture("Share of positives over mean probability, bin by bin.", [*parts, *(axes.dot(*point) for point in points)])


EXAMPLES = {"classification": labels, "grounding": phrases, "retrieval": reports, "scores": losses}
