"""A guess about a folder, with its reasons; and what every guess looks for in names: patients and splits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from benchmark.cards.own_split import CALLED, OwnSplit
from benchmark.errors import UsageError
from benchmark.scaffold.survey import Survey

PATIENT_KEYS = ("patient_id", "patientid", "patient", "subject_id", "subject", "pid", "case_id")
MOSTLY = 0.8  # of the images tell their patient
# One group: the patient. In the order tried; a pattern counts where it finds most images, and fewer patients than images.
PATIENT_PATTERNS = (
    r"(?i)(?:^|[/_\-])(?:patient|subject|pat|sub|pt|p)[_\-]?([0-9]+)(?=[/_\-. ])",
    r"^([0-9]+)_[0-9]+\.[A-Za-z]+$",
)


@dataclass(frozen=True)
class Guess:
    """
    Attributes:
        block: name of the generic reader.
        given: what its block says.
        classes: of the card; empty for captions.
        images: places of the images, below the block's `images`.
        split: what the card's `split` says beside its defaults.
        reasons: key of the card or of the block -> what it was guessed from.
        unknown: what nothing told, one sentence each.
    """

    block: str
    given: dict[str, Any]
    classes: tuple[str, ...]
    images: tuple[str, ...]
    split: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    def saying(self, reasons: dict[str, str] | None = None, unknown: Iterable[str] = (), **given: Any) -> Guess:
        """With more of the block, and why."""
        return replace(self, given={**self.given, **given}, reasons={**self.reasons, **(reasons or {})}, unknown=(*self.unknown, *unknown))


def common_folder(places: Sequence[str]) -> str:
    """The deepest folder that holds all places; "." for the top."""
    parents = [PurePosixPath(place).parent.parts for place in places]
    shared = []
    for parts in zip(*parents, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return "/".join(shared) or "."


def below(folder: str, places: Iterable[str]) -> tuple[str, ...]:
    """Places by their path below a folder that holds them."""
    return tuple(places) if folder == "." else tuple(place.removeprefix(f"{folder}/") for place in places)


def with_patients(guess: Guess) -> Guess:
    """With the patient, where a column, a key or every image's path says it."""
    if any(guess.given.get(key) for key in ("patient", "patient_key")):
        return guess
    for pattern in PATIENT_PATTERNS:
        found = [match[1] for place in guess.images if (match := re.search(pattern, place))]
        if len(found) >= MOSTLY * len(guess.images) and len(set(found)) < len(found):
            reason = f"the names of {len(found):,} of {len(guess.images):,} images: {len(set(found)):,} patients"
            return guess.saying({"patient_pattern": reason}, patient_pattern=pattern)
    folders = [place.partition("/")[0] for place in guess.images if "/" in place]
    if (
        len(folders) >= MOSTLY * len(guess.images)
        and 3 <= len(set(folders)) < len(folders)
        and not any(map(OwnSplit().split_of, set(folders)))
    ):
        reason = f"folders: {len(set(folders)):,} for {len(folders):,} of {len(guess.images):,} images, taken for patients"
        return guess.saying({"patient_pattern": reason}, patient_pattern="^([^/]+)/")
    return guess.saying(unknown=["Which images are of one patient: say it in `patient_pattern`, or a patient may be in two splits."])


def with_split(guess: Guess, found: Survey) -> Guess:
    """With the split, where folders, lists or annotation files say it; else it is drawn."""
    if guess.split:
        return guess
    meant = [_of_folders(f"{guess.given.get('images', '.')}/{place}") for place in guess.images]
    named = sorted({name for name in meant if name})
    if "train" in named and len(named) > 1:
        reason = f"folders named {', '.join(named)}; {meant.count(None):,} images lie in none of them"
        return replace(guess, split={"by": "folder"}, reasons={**guess.reasons, "split": reason})
    lists = {split: path.as_posix() for split, names in CALLED.items() for path in found.texts if path.stem.lower() in names}
    if "train" in lists and len(lists) > 1 and guess.block not in ("yolo", "pairs"):
        reasons = {**guess.reasons, "split": f"files {', '.join(lists.values())}"}
        return replace(guess, split={"by": "lists", "lists": lists}, reasons=reasons)
    whole = ", whole patients," if has_patients(guess) else ""
    reason = f"nothing in the folder says a split: 15 % of the images{whole} are drawn for validation, and as many for test"
    return replace(guess, split={"by": "rule", "seed": 0}, reasons={**guess.reasons, "split": reason})


def renamed(guess: Guess, classes: Sequence[str]) -> Guess:
    """With other names for its classes, in the block as well.

    Raises:
        UsageError: not as many as were found, or one twice.
    """
    if not classes:
        return guess
    if len(classes) != len(guess.classes) or len(set(classes)) < len(classes):
        found = ", ".join(guess.classes) or "none"
        raise UsageError(
            f"--classes names {', '.join(classes)}, and the folder has {len(guess.classes)} classes: {found}. "
            "Name each once, in this order."
        )
    new = dict(zip(guess.classes, classes, strict=True))
    given = dict(guess.given)
    if guess.block == "masks" and "{class}" not in guess.given["masks"]:
        given |= {"values": {new[name]: value for name, value in given["values"].items()}} if "values" in given else {}
    elif guess.block == "coco":
        given["categories"] = {old: name for old, name in new.items() if old != name}
    elif guess.block == "yolo":
        given["names"] = [new.get(name, name) for name in given["names"]]
    elif guess.block == "csv" and "labels" in given:
        given["labels"] = {new[name]: column for name, column in given["labels"].items()}
    elif guess.block == "csv" and "finding" in given:
        given["findings"] = {old: name for old, name in new.items() if old != name}
    elif guess.block != "csv":
        raise UsageError("--classes: these names are those of folders; rename the folders, or write the card by hand (docs/your-data.md).")
    return replace(guess, given=given, classes=tuple(classes), unknown=tuple(s for s in guess.unknown if "rename" not in s))


def has_patients(guess: Guess) -> bool:
    return any(guess.given.get(key) for key in ("patient", "patient_key", "patient_pattern"))


def _of_folders(place: str) -> str | None:
    split = OwnSplit()
    return next((found for part in place.split("/")[:-1] if (found := split.split_of(part)) is not None), None)
