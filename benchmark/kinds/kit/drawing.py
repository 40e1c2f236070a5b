"""Drawing over images, for people to look at: what the kinds' pictures share.

Truth is a solid line, prediction a dashed one with its confidence, and the legend says so in words: colour never carries meaning alone.
Positions are in pixels of the drawing, `SIDE` wide.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TRUTH = (86, 214, 255)
PREDICTION = (255, 196, 61)
SIDE = 448  # pixels of the drawing; a 224-px frame is shown doubled
STRIP = 26  # height of the legend below it
TAG = 16  # height of a word beside an outline
DASH, GAP = 9, 6


def canvas(image: np.ndarray) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """An RGB picture of a square grey uint8 image, `SIDE` wide with room for the legend below, and a pen for it."""
    if image.ndim != 2 or image.shape[0] != image.shape[1] or image.dtype != np.uint8:
        raise ValueError(f"An overlay needs a square grey uint8 image, got shape {image.shape} of {image.dtype}.")
    picture = Image.new("RGB", (SIDE, SIDE + STRIP), (18, 20, 24))
    picture.paste(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR).convert("RGB"), (0, 0))
    return picture, ImageDraw.Draw(picture)


def corners(box_xywh: np.ndarray) -> list[tuple[float, float]]:
    """Clockwise from the top left."""
    x, y, w, h = (float(v) for v in box_xywh)
    return [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]


def names(class_names: Sequence[str], labels: np.ndarray | None) -> list[str]:
    """The class of each outline; empty where nothing is to be named."""
    return [class_names[int(label)] for label in labels] if class_names and labels is not None else []


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Closed outlines as (n, 2) arrays of x, y in pixels; the frame's edge counts as outside."""
    from skimage.measure import find_contours

    padded = np.pad(mask, 1).astype(float)
    # A contour at row r of the padded array runs through pixel centres; minus the padding plus half a pixel gives image coordinates.
    found = find_contours(padded, 0.5)  # type: ignore[no-untyped-call]  # scikit-image gives this function no types
    return [contour[:, ::-1] - 0.5 for contour in found]


def dashed(pen: ImageDraw.ImageDraw, points: np.ndarray, colour: tuple[int, int, int]) -> None:
    """A polyline whose dashes go on across its corners."""
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    for start in np.arange(0.0, along[-1], DASH + GAP):
        stops = [start, *along[(along > start) & (along < start + DASH)], min(start + DASH, along[-1])]
        path = [(float(np.interp(s, along, points[:, 0])), float(np.interp(s, along, points[:, 1]))) for s in stops]
        pen.line(path, fill=colour, width=2)


def tag(pen: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, colour: tuple[int, int, int]) -> None:
    """A word above a corner, moved so that it stays within the picture."""
    x = min(max(float(corner[0]), 0), SIDE - 40)
    y = min(max(float(corner[1]) - 14, 0), SIDE - 14)
    pen.rectangle(pen.textbbox((x + 2, y), text, font=_font()), fill=(18, 20, 24))
    pen.text((x + 2, y), text, fill=colour, font=_font())


def legend(pen: ImageDraw.ImageDraw, truth: str, prediction: str, note: str) -> None:
    """The strip below the image; the note stands at its right."""
    middle = SIDE + STRIP / 2
    x = 10.0
    for text, colour, in_dashes in ((truth, TRUTH, False), (prediction, PREDICTION, True)):
        line = np.array([(x, middle), (x + 28, middle)])
        dashed(pen, line, colour) if in_dashes else pen.line([tuple(p) for p in line], fill=colour, width=2)
        pen.text((x + 35, middle - 7), text, fill=(235, 236, 238), font=_font())
        x += 35 + pen.textlength(text, font=_font()) + 18
    if note:
        pen.text((SIDE - 10 - pen.textlength(note, font=_font()), middle - 7), note, fill=(255, 150, 140), font=_font())


def draw_similarity(image: np.ndarray, truth_xywh: np.ndarray, similarity: np.ndarray, *, note: str = "") -> Image.Image:
    """How near each place is to what was asked for, over one image: the nearer, the stronger the tint; its highest place has a cross.

    Args:
        image: (S, S) uint8, grey.
        truth_xywh: (n, 4) pixels of the same frame.
        similarity: (h, w) finite float over the whole frame, upsampled bilinearly. A constant map has neither tint nor cross.
    """
    picture, pen = canvas(image)
    scale = SIDE / image.shape[0]
    low, high = float(similarity.min()), float(similarity.max())
    if high > low:
        area = Image.fromarray(((similarity - low) / (high - low)).astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        tint = Image.fromarray((np.asarray(area).clip(0, 1) * 130).astype(np.uint8))
        picture.paste(Image.new("RGB", (SIDE, SIDE), PREDICTION), (0, 0), tint)
        y, x = (int(place) for place in np.unravel_index(np.asarray(area).argmax(), (SIDE, SIDE)))
        for dx, dy in ((DASH, 0), (0, DASH)):
            pen.line([(x - dx, y - dy), (x + dx, y + dy)], fill=PREDICTION, width=2)
    truth = np.asarray(truth_xywh, dtype=float).reshape(-1, 4)
    for box in truth:
        pen.polygon(corners(box * scale), outline=TRUTH, width=2)
    legend(pen, f"truth ({len(truth)})", f"similarity {low:.2f} to {high:.2f}", note)
    return picture


def share(masks: np.ndarray) -> str:
    """The part of the image that any class covers."""
    return f"{100 * np.asarray(masks, dtype=bool).any(axis=0).mean():.1f} %"


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=12)
