"""What is odd about somebody's own data and does not stop it: collected while a reader opens, told as warnings and by `lobe data verify`.

An oddity has a rule, which its line says: what is kept, what is left out. Nothing is mended in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from benchmark.readers.base import Check

SHOWN = 3

# What is looked for -> what becomes of it.
RULES = {
    "images listed without a file": "Left out.",
    "image files that nothing lists": "Not used.",
    "images listed twice": "The first is used.",
    "images that cannot be opened": "Left out. Save them anew, or fetch them again.",
    "images of another size than listed": "Left out: labels were drawn on other pixels, or on the picture before it was turned (EXIF).",
    "annotations of an image that is not listed": "Left out.",
    "annotations of an unknown category": "Left out: an image may look empty that is not.",
    "annotations of a category that the card leaves out": "Left out, as the card says.",
    "annotations twice": "The first is used.",
    "crowd annotations (iscrowd)": "No boxes; part of masks.",
    "boxes without area": "Left out.",
    "boxes with their centre outside the image": "Left out.",
    "boxes that leave the image": "Used as they are, not clipped.",
    "annotations without an outline": "Their box is filled instead.",
    "outlines that are none, beside a box": "Their box is filled instead.",
    "outlines that are none": "Left out.",
    "images without an annotation": "Used as images without a finding.",
    "images without a mask": "As `without_mask` of the card says.",
    "images without a mask of every class": "Left out, or that class is empty, as `without_mask` of the card says.",
    "masks without an image": "Not used.",
    "masks of another size than their image": "Image and mask are left out.",
    "rows twice": "The first is used.",
    "rows of an image that is not there": "Left out.",
    "values that the card does not know": "Taken for unknown.",
    "lines that are no object": "Left out.",
    "lines with a confidence": "Used. Are these predictions?",
    "coordinates outside 0..1": "Used as they are, unless the centre lies outside.",
    "class numbers without a name": "Left out: an image may look empty that is not.",
    "images without a caption": "Left out.",
    "images without a patient": "Each counts as a patient of its own.",
    "images in no split": "Not used.",
    "names in a list without an image": "Left out.",
    "images in two splits": "The first is used.",
    "images of two patients": "Left out: nothing says which is meant.",
}


# What is usual, and told as a count alone.
USUAL = frozenset({"images without an annotation", "annotations of a category that the card leaves out"})


class Oddities:
    """Places by what is odd there, in the order they were found.

    Args:
        looked_for: of `RULES`, in the order they are told.
    """

    def __init__(self, looked_for: Iterable[str]):
        self.places: dict[str, list[str]] = {what: [] for what in looked_for}

    def add(self, what: str, place: str) -> None:
        """Args: what: of `RULES`. place: file and line, entry or number, for people."""
        self.places.setdefault(what, []).append(place)

    def checks(self) -> Iterator[Check]:
        for what, places in self.places.items():
            yield Check(what, "0", said(places), "warning" if places and what not in USUAL else "ok", RULES[what] if places else "")

    def warnings(self, dataset: str) -> list[str]:
        """One sentence for each kind of oddity that was found, without places."""
        found = self.places.items()
        return [f"{dataset}: {len(places):,} {what}. {RULES[what]}" for what, places in found if places and what not in USUAL]


def said(places: list[str]) -> str:
    """The count and the first places."""
    if not places:
        return "0"
    rest = f"; and {len(places) - SHOWN:,} more" if len(places) > SHOWN else ""
    return f"{len(places):,}: {'; '.join(places[:SHOWN])}{rest}"
