"""Predictions drawn over images, for people to look at.

Truth is a solid line, prediction a dashed one with its confidence, and the legend says so in words: colour never carries meaning alone.
Whether a dataset's agreement allows pictures at all is asked here, once, before anything is drawn or copied.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage.measure import find_contours

from benchmark.cards import Record

TRUTH = (86, 214, 255)
PREDICTION = (255, 196, 61)
SIDE = 448  # pixels of the drawing; a 224-px frame is shown doubled
SHOWN_CONFIDENCE = 0.2  # LoVT's threshold: what a detection metric saw
_STRIP = 26
_TAG = 16  # height of a word beside an outline
_DASH, _GAP = 9, 6


def refusal(record: Record) -> str:
    """Why no image of this record's dataset may be shown; empty when it may."""
    if record.redistribution == "none":
        name = record.job.experiment.dataset.name
        return f"No overlays for {name}: its data agreement lets no image leave the output folder."
    return ""


def draw_detection(
    image: np.ndarray,
    truth_xywh: np.ndarray,
    predicted_xywh: np.ndarray,
    confidence: np.ndarray,
    *,
    class_names: Sequence[str] = (),
    truth_labels: np.ndarray | None = None,
    predicted_labels: np.ndarray | None = None,
    note: str = "",
) -> Image.Image:
    """Boxes over one image.

    Args:
        image: (S, S) uint8, grey.
        truth_xywh: (n, 4) pixels of the same frame; n may be 0.
        predicted_xywh: (m, 4); m may be 0.
        confidence: (m,) in [0, 1]; boxes below `SHOWN_CONFIDENCE` are counted in the legend, not drawn.
        class_names: of several classes; boxes whose label is given then carry their class.
        truth_labels, predicted_labels: (n,) and (m,) int, indices into `class_names`.
        note: a few words for the legend, for example "phantom".

    Returns:
        An RGB picture, `SIDE` wide, with a legend below.
    """
    scale = SIDE / image.shape[0]
    truth, predicted = (np.asarray(b, dtype=float).reshape(-1, 4) for b in (truth_xywh, predicted_xywh))
    confidence = np.asarray(confidence, dtype=float).reshape(-1)
    if len(confidence) != len(predicted):
        raise ValueError(f"{len(predicted)} predicted boxes but {len(confidence)} confidences.")
    picture, pen = _canvas(image)
    true_names, found_names = (_names(class_names, labels) for labels in (truth_labels, predicted_labels))
    for number, box in enumerate(truth):
        pen.polygon(_corners(box * scale), outline=TRUTH, width=2)
        if true_names:  # below the box: above stands the prediction's
            _tag(pen, (_corners(box * scale)[3][0], _corners(box * scale)[3][1] + _TAG), true_names[number], TRUTH)
    shown = np.flatnonzero(confidence >= SHOWN_CONFIDENCE)
    for index in shown[np.argsort(confidence[shown], kind="stable")]:
        # A box may be larger than any picture: its dashes outside are not drawn one by one.
        corners = np.clip(_corners(predicted[index] * scale), -SIDE, 2 * SIDE)
        _dashed(pen, np.array([*corners, corners[0]]), PREDICTION)
        named = f"{found_names[index]} " if found_names else ""
        _tag(pen, corners[0], f"{named}{confidence[index]:.2f}", PREDICTION)
    hidden = len(predicted) - len(shown)
    below = f", {hidden} below {SHOWN_CONFIDENCE}" if hidden else ""
    _legend(pen, f"truth ({len(truth)})", f"prediction ({len(shown)}{below})", note)
    return picture


def draw_segmentation(
    image: np.ndarray,
    truth: np.ndarray,
    predicted: np.ndarray,
    *,
    class_names: Sequence[str] = (),
    note: str = "",
) -> Image.Image:
    """Mask outlines over one image; the predicted area is tinted, the true one is not.

    Args:
        image: (S, S) uint8, grey.
        truth, predicted: (C, S, S) bool; with `class_names` every outline, true and predicted, carries its class.
    """
    picture, pen = _canvas(image)
    scale = SIDE / image.shape[0]
    tint = np.asarray(predicted, dtype=bool).any(axis=0)
    if tint.any():
        area = Image.fromarray((tint * 60).astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        picture.paste(Image.new("RGB", (SIDE, SIDE), PREDICTION), (0, 0), area)
    for masks, colour, dashed in ((truth, TRUTH, False), (predicted, PREDICTION, True)):
        for channel, mask in enumerate(np.asarray(masks, dtype=bool)):
            for outline in _outlines(mask):
                points = outline * scale
                _dashed(pen, points, colour) if dashed else pen.line([tuple(p) for p in points], fill=colour, width=2)
                if class_names:  # truth at its top, prediction at its bottom, so that both can be read where they agree
                    top, bottom = points[points[:, 1].argmin()], points[points[:, 1].argmax()]
                    place = (bottom[0], bottom[1] + _TAG) if dashed else (top[0], top[1])
                    _tag(pen, place, class_names[channel], colour)
    _legend(pen, f"truth ({_share(truth)} of the image)", f"prediction ({_share(predicted)})", note)
    return picture


def draw_similarity(image: np.ndarray, truth_xywh: np.ndarray, similarity: np.ndarray, *, note: str = "") -> Image.Image:
    """How near each place is to what was asked for, over one image: the nearer, the stronger the tint; its highest place has a cross.

    Args:
        image: (S, S) uint8, grey.
        truth_xywh: (n, 4) pixels of the same frame.
        similarity: (h, w) finite float over the whole frame, upsampled bilinearly. A constant map has neither tint nor cross.
    """
    picture, pen = _canvas(image)
    scale = SIDE / image.shape[0]
    low, high = float(similarity.min()), float(similarity.max())
    if high > low:
        area = Image.fromarray(((similarity - low) / (high - low)).astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        tint = Image.fromarray((np.asarray(area).clip(0, 1) * 130).astype(np.uint8))
        picture.paste(Image.new("RGB", (SIDE, SIDE), PREDICTION), (0, 0), tint)
        y, x = np.unravel_index(np.asarray(area).argmax(), (SIDE, SIDE))
        for dx, dy in ((_DASH, 0), (0, _DASH)):
            pen.line([(x - dx, y - dy), (x + dx, y + dy)], fill=PREDICTION, width=2)
    truth = np.asarray(truth_xywh, dtype=float).reshape(-1, 4)
    for box in truth:
        pen.polygon(_corners(box * scale), outline=TRUTH, width=2)
    _legend(pen, f"truth ({len(truth)})", f"similarity {low:.2f} to {high:.2f}", note)
    return picture


def _canvas(image: np.ndarray) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    if image.ndim != 2 or image.shape[0] != image.shape[1] or image.dtype != np.uint8:
        raise ValueError(f"An overlay needs a square grey uint8 image, got shape {image.shape} of {image.dtype}.")
    picture = Image.new("RGB", (SIDE, SIDE + _STRIP), (18, 20, 24))
    picture.paste(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR).convert("RGB"), (0, 0))
    return picture, ImageDraw.Draw(picture)


def _corners(box_xywh: np.ndarray) -> list[tuple[float, float]]:
    x, y, w, h = (float(v) for v in box_xywh)
    return [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]


def _names(class_names: Sequence[str], labels: np.ndarray | None) -> list[str]:
    return [class_names[int(label)] for label in labels] if class_names and labels is not None else []


def _outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Closed outlines as (n, 2) arrays of x, y in pixels; the frame's edge counts as outside."""
    padded = np.pad(mask, 1).astype(float)
    # A contour at row r of the padded array runs through pixel centres; minus the padding plus half a pixel gives image coordinates.
    return [contour[:, ::-1] - 0.5 for contour in find_contours(padded, 0.5)]


def _dashed(pen: ImageDraw.ImageDraw, points: np.ndarray, colour: tuple[int, int, int]) -> None:
    """A polyline whose dashes go on across its corners."""
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    for start in np.arange(0.0, along[-1], _DASH + _GAP):
        stops = [start, *along[(along > start) & (along < start + _DASH)], min(start + _DASH, along[-1])]
        path = [(float(np.interp(s, along, points[:, 0])), float(np.interp(s, along, points[:, 1]))) for s in stops]
        pen.line(path, fill=colour, width=2)


def _tag(pen: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, colour: tuple[int, int, int]) -> None:
    x = min(max(float(corner[0]), 0), SIDE - 40)
    y = min(max(float(corner[1]) - 14, 0), SIDE - 14)
    pen.rectangle(pen.textbbox((x + 2, y), text, font=_font()), fill=(18, 20, 24))
    pen.text((x + 2, y), text, fill=colour, font=_font())


def _legend(pen: ImageDraw.ImageDraw, truth: str, prediction: str, note: str) -> None:
    middle = SIDE + _STRIP / 2
    x = 10.0
    for text, colour, dashed in ((truth, TRUTH, False), (prediction, PREDICTION, True)):
        line = np.array([(x, middle), (x + 28, middle)])
        _dashed(pen, line, colour) if dashed else pen.line([tuple(p) for p in line], fill=colour, width=2)
        pen.text((x + 35, middle - 7), text, fill=(235, 236, 238), font=_font())
        x += 35 + pen.textlength(text, font=_font()) + 18
    if note:
        pen.text((SIDE - 10 - pen.textlength(note, font=_font()), middle - 7), note, fill=(255, 150, 140), font=_font())


def _share(masks: np.ndarray) -> str:
    return f"{100 * np.asarray(masks, dtype=bool).any(axis=0).mean():.1f} %"


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=12)
