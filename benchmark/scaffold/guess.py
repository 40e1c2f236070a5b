"""What a folder of one's own data seems to hold: the block of a card, guessed from names and from a look into label files.

Every guess says what it was made from, and what nothing told is said as well: both go into the card as comments. No image is decoded here,
but a few masks are, for their values.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmark.errors import UsageError
from benchmark.scaffold import guess_boxes, guess_masks, guess_tables
from benchmark.scaffold.guessed import Guess, with_patients, with_split
from benchmark.scaffold.survey import Survey

GUESSES: tuple[Callable[[Survey], Guess | None], ...] = (
    guess_boxes.coco,
    guess_boxes.yolo,
    guess_masks.masks,
    guess_tables.table,
    guess_tables.texts,
)


def guess(found: Survey) -> Guess:
    """
    Raises:
        UsageError: nothing in the folder looks like labels of its images, with what was looked for.
        DataError: a label file cannot be read.
    """
    for one in GUESSES:
        made = one(found)
        if made is not None:
            return with_split(with_patients(made), found)
    counted = ", ".join(f"{len(getattr(found, what)):,} {what}" for what in ("images", "tables", "documents", "texts", "others"))
    raise UsageError(
        f"{found.folder}: nothing here looks like labels of the images ({counted}). Looked for: a COCO file (.json), YOLO's text files, "
        "masks named as their images, a table with a column of image names (.csv, .tsv), and a text file beside each image. If a folder's "
        "name is the label, make a table of it. What a card may say: docs/your-data.md."
    )
