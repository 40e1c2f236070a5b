"""Tables with a column of image names: boxes, whole-image labels or captions; and captions in text files of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.cards.own_data import CsvData
from benchmark.cards.own_split import OwnSplit
from benchmark.errors import LobeError
from benchmark.readers.kit.own_images import ImageFiles, filled_in
from benchmark.readers.kit.own_table import all_rows
from benchmark.scaffold.guessed import PATIENT_KEYS, Guess, below, common_folder
from benchmark.scaffold.survey import Survey

LOOKED_AT = 2_000  # rows
LEAST = 0.5  # of the rows name an image
FEW = 40  # different findings
BOXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("xywh", ("x", "y", "width", "height")),
    ("xywh", ("x", "y", "w", "h")),
    ("xywh", ("bbox_x", "bbox_y", "bbox_width", "bbox_height")),
    ("xywh", ("left", "top", "width", "height")),
    ("xyxy", ("xmin", "ymin", "xmax", "ymax")),
    ("xyxy", ("x_min", "y_min", "x_max", "y_max")),
    ("xyxy", ("x1", "y1", "x2", "y2")),
    ("xyxy", ("left", "top", "right", "bottom")),
    ("cxcywh", ("cx", "cy", "w", "h")),
    ("cxcywh", ("x_center", "y_center", "width", "height")),
)
FINDINGS = ("class_name", "class", "label", "labels", "finding", "findings", "finding label", "finding labels", "category", "diagnosis")
CAPTIONS = ("caption", "report", "text", "impression", "findings", "description", "sentence")
SPLITS = ("split", "set", "subset", "partition", "fold", "part")


@dataclass(frozen=True)
class _Read:
    """A table: its name, columns, rows as texts, and the column that names images, with the place of each row's image."""

    name: str
    header: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    image: str
    places: tuple[str | None, ...]


def table(found: Survey) -> Guess | None:
    """The table that names most images; None without one."""
    pictures = ImageFiles(found.folder, ".", "this folder")
    read = [one for path in found.tables if (one := _read(found, path.as_posix(), pictures)) is not None]
    if not read:
        return None
    one = max(read, key=lambda table: len(set(table.places)))
    places = tuple(dict.fromkeys(place for place in one.places if place is not None))
    folder = common_folder(places)
    n_named = sum(place is not None for place in one.places)
    given: dict[str, Any] = {"table": one.name, "images": folder, "image": one.image}
    reasons = {"image": f"{n_named:,} of the first {len(one.rows):,} rows name an image that is there"}
    columns = {name.strip().lower(): name for name in one.header}
    if patient := next((columns[key] for key in columns if key in PATIENT_KEYS and columns[key] != one.image), None):
        given["patient"], reasons["patient"] = patient, "the column's name"
    split = _split(one, columns)
    if split:
        reasons["split"] = f"the column {split['column']}"
    guess = Guess("csv", given, (), below(folder, places), split, reasons)
    left = [table.name for table in read if table is not one]
    if left:
        guess = guess.saying(unknown=[f"What {', '.join(left)} is for: only {one.name} is read."])
    return _boxes(guess, one, columns) or _labels(guess, one, columns) or _captions(guess, one, columns)


def texts(found: Survey) -> Guess | None:
    """A text file for each image, of words; None where fewer than half of the images have one."""
    known = {path.with_suffix("").as_posix() for path in found.texts}
    places = [path.as_posix() for path in found.images]
    tops = sorted({path.parent.as_posix() for path in found.texts})
    for folder, pattern in ((".", "{stem}"), *(("images", f"{top}/{{stem}}") for top in tops), *((".", f"{top}/{{name}}") for top in tops)):
        images = below(folder, [place for place in places if folder == "." or place.startswith(f"{folder}/")])
        held = [place for place in images if filled_in(pattern, place) in known]
        if images and len(held) >= LEAST * len(images):
            reasons = {"texts": f"{len(held):,} of {len(images):,} images have such a text file"}
            return Guess("pairs", {"images": folder, "texts": pattern}, (), tuple(held), {}, reasons)
    return None


def _read(found: Survey, name: str, pictures: ImageFiles) -> _Read | None:
    try:
        header, rows = all_rows(found.folder / name, "this folder", LOOKED_AT)
    except LobeError:
        return None
    best: tuple[int, str, tuple[str | None, ...]] | None = None
    for column in header:
        places = tuple(pictures.find(row[column]) if row[column].strip() else None for row in rows)
        n_named, n_images = sum(place is not None for place in places), len(set(places))  # a column of 0 and 1 may name 0.png and 1.png
        if n_named >= LEAST * len(rows) and (best is None or n_images > best[0]):
            best = (n_images, column, places)
    return None if best is None or not rows else _Read(name, header, rows, best[1], best[2])


def _boxes(guess: Guess, one: _Read, columns: dict[str, str]) -> Guess | None:
    for form, names in BOXES:
        if all(name in columns for name in names):
            written = [columns[name] for name in names]
            numbers = [float(row[c]) for row in one.rows for c in written if _is_number(row[c])]
            if not numbers:
                continue
            unit = "fractions" if max(numbers) <= 1.5 else "pixels"
            boxes = {"columns": written, "form": form, "unit": unit}
            reasons = {"boxes": f"names of the columns; the largest number is {max(numbers):g}"}
            guess = guess.saying(reasons, boxes=boxes)
            return _with_findings(guess, one, columns) or _one_class(guess)
    return None


def _labels(guess: Guess, one: _Read, columns: dict[str, str]) -> Guess | None:
    known = CsvData(table="t", image="i", finding="f")
    values = {*known.positive, *known.negative, *known.unknown}
    used = {one.image, guess.given.get("patient"), guess.split.get("column")}
    binary = [
        c for c in one.header if c not in used and (seen := {row[c].strip() for row in one.rows}) <= values and seen & set(known.positive)
    ]
    if binary:
        reasons = {"labels": "columns of 0 and 1 alone", "classes": "names of these columns"}
        return _classes(guess.saying(reasons, labels={name: name for name in binary}), tuple(binary))
    return _with_findings(guess, one, columns)


def _with_findings(guess: Guess, one: _Read, columns: dict[str, str]) -> Guess | None:
    """With the column that names findings; None where there is none."""
    nothing = CsvData(table="t", image="i", finding="f").nothing
    for name in FINDINGS:
        if name in columns and columns[name] != one.image:
            named = Counter(part.strip() for row in one.rows for part in row[columns[name]].split("|"))
            classes = tuple(sorted(value for value in named if value not in nothing))
            if 0 < len(classes) <= FEW:
                reasons = {"finding": "the column's name", "classes": f"its values in the first {len(one.rows):,} rows"}
                return _classes(guess.saying(reasons, finding=columns[name]), classes)
    return None


def _captions(guess: Guess, one: _Read, columns: dict[str, str]) -> Guess | None:
    for name in CAPTIONS:
        if name in columns and columns[name] != one.image:
            given = {key: value for key, value in guess.given.items() if key in ("table", "images", "image", "patient")}
            reasons = {**guess.reasons, "caption": "the column's name"}
            return Guess("pairs", {**given, "caption": columns[name]}, (), guess.images, guess.split, reasons, guess.unknown)
    return None


def _one_class(guess: Guess) -> Guess:
    return _classes(guess.saying(unknown=["What the boxes show: rename `finding` in `classes`."]), ("finding",))


def _classes(guess: Guess, classes: tuple[str, ...]) -> Guess:
    return Guess(guess.block, guess.given, classes, guess.images, guess.split, guess.reasons, guess.unknown)


def _split(one: _Read, columns: dict[str, str]) -> dict[str, Any]:
    for name in SPLITS:
        if name in columns:
            values: Sequence[str] = sorted({row[columns[name]].strip() for row in one.rows})
            if {"train"} < {OwnSplit().split_of(value) for value in values}:
                return {"by": "column", "column": columns[name]}
    return {}


def _is_number(cell: str) -> bool:
    try:
        return float(cell) == float(cell)
    except ValueError:
        return False
