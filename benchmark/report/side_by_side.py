"""Two rows of a task on one test image, for the terminal: the pictures of the gallery, made small."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.text import Text

from benchmark import terminal
from benchmark.cards import Record
from benchmark.integrity import file_of
from benchmark.kinds.kit.drawing import PREDICTION, SIDE, TRUTH
from benchmark.kinds.kit.stored import EXAMPLES_FILE, read_examples
from benchmark.report import gallery
from benchmark.report.blocks import characters, half_blocks

MOST_COLUMNS, LEAST_COLUMNS = 40, 28  # of one picture: below the least, nobody recognises a lung and no heading fits
GAP = "  "
_IN_COLOUR = ("truecolor", "256")  # colour systems with shades of grey enough


def lines(rows: Mapping[str, Record], out: Path, console: Console) -> list[Text]:
    """The first kept test image of a finding, with truth and what each row predicts.

    Args:
        rows: heading -> record of one task, in the order from left to right; all tested on the same images.
        out: output folder the records' files lie in.
        console: what they are made for. Nothing is drawn in a file or pipe, or where the pictures find no room beside each other.

    Raises:
        DamagedResult: a file of a record is not what was stored.
    """
    columns = min(MOST_COLUMNS, (console.width - len(GAP) * (len(rows) - 1)) // max(1, len(rows)))
    place = _first_with_a_finding(next(iter(rows.values()), None), out)
    if not console.is_terminal or columns < LEAST_COLUMNS or place is None:
        return []
    drawn = {heading: _drawn(record, out, place) for heading, record in rows.items()}
    pictures = {heading: picture for heading, picture in drawn.items() if picture is not None}
    if len(pictures) < len(rows):
        return []
    if console.color_system in _IN_COLOUR and not console.no_color and terminal.takes_every_letter(console.file):
        parts = [half_blocks(picture, columns) for picture in pictures.values()]
        legend = "Blue: the finding. Yellow, and tinted inside: what was predicted."
    else:
        parts = [characters(picture, columns, {"T": TRUTH, "P": PREDICTION}) for picture in pictures.values()]
        legend = "T: outline of the finding. P: outline of what was predicted."
    headings = [Text(heading[:columns].ljust(columns), style="bold") for heading in pictures]
    return [Text(GAP).join(line) for line in [headings, *zip(*parts, strict=True)]] + [Text(legend)]


def _drawn(record: Record, out: Path, place: int) -> np.ndarray | None:
    """One picture of the gallery without its legend, (S, S, 3) uint8; None where the gallery draws none."""
    with tempfile.TemporaryDirectory(prefix="lobe-picture-") as folder:
        found = gallery.draw([record], out, Path(folder))
        pictures = [one for row in found.values() for each in row.values() for one in each]
        if place >= len(pictures):
            return None
        with Image.open(pictures[place].path) as picture:
            return np.asarray(picture.convert("RGB"))[:SIDE]


def _first_with_a_finding(record: Record | None, out: Path) -> int | None:
    """Place among the test images that the record kept for the eye."""
    kept = None if record is None else file_of(record, EXAMPLES_FILE, out)
    examples = [] if kept is None else read_examples(kept)
    for place, example in enumerate(examples):
        if (example.masks is not None and example.masks.any()) or (example.boxes_xywh is not None and len(example.boxes_xywh)):
            return place
    return None
