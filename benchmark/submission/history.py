"""The public history of submissions: `history.jsonl`, a line for each thing that happened, never changed and never shortened.

Each line holds the SHA-256 of the line before it: none can be changed, dropped or put in between without the next one saying so. Whoever
rewrites all of them is seen in the repository that keeps the file.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from filelock import FileLock
from pydantic import Field, ValidationError

from benchmark import json_files
from benchmark.cards.base import Card, canonical_json
from benchmark.errors import StoreError, UsageError
from benchmark.files import read_text
from benchmark.submission import texts
from benchmark.submission.trust import Trust

HISTORY = "history.jsonl"
FIRST = "0" * 64  # what the first line holds in place of a digest

What = Literal["accepted", "withdrawn", "corrected", "superseded"]


class Entry(Card):
    """One line.

    Attributes:
        what: happened to the submission. A corrected one was wrong, a superseded one was right; another took the place of either.
        id: of the submission, the first 12 digits of `sha256`.
        sha256: of its archive.
        date: in UTC, as YYYY-MM-DD.
        why: for people.
        trust: what was checked when it was accepted; None in other lines.
        levels: the same by task; `reported` of what is incomplete, whatever was checked.
        incomplete: tasks that were accepted without all their runs and searches.
        truths: what was tested on -> digest of its ground truth (`submission.truth`): all submissions have the same.
        checked: what was checked, in words.
        backbones, suite: of the submission; what of it is worth finding by a search.
        phantom: a rehearsal.
        by: the submission that took its place.
        previous: SHA-256 of the line before, without its line break.
    """

    what: What
    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    why: str
    trust: Trust | None = None
    levels: dict[str, Trust] = {}
    incomplete: tuple[str, ...] = ()
    truths: dict[str, str] = {}
    checked: str = ""
    backbones: tuple[str, ...] = ()
    suite: str | None = None
    phantom: bool = False
    by: str | None = None
    previous: str = Field(pattern=r"^[0-9a-f]{64}$")


def read(folder: Path) -> list[Entry]:
    """Every line, oldest first; empty where there is no history.

    Raises:
        StoreError: a line was changed, dropped or put in between; it is named.
    """
    return _read(folder)[0]


def _read(folder: Path) -> tuple[list[Entry], str]:
    """Every line, and the digest of the last one as it stands: a later LOBE would write it with more fields."""
    path = folder / HISTORY
    try:
        text = read_text(path)
    except FileNotFoundError:
        return [], FIRST
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} cannot be read ({error}). Bring it back from the repository.") from None
    found: list[Entry] = []
    previous = FIRST
    # At line feeds alone: `splitlines` also breaks at letters that JSON leaves as they are, such as U+2028.
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), start=1):
        try:
            entry = Entry.model_validate(json_files.parse(line))
        except ValidationError as error:
            if all(one["type"] == "extra_forbidden" for one in error.errors()):
                raise StoreError(f"{path} line {number:,} was written by a newer LOBE; update LOBE to read it.") from None
            raise StoreError(f"{path} line {number:,} is none of a history ({str(error).splitlines()[0]}).{_CURE}") from None
        except ValueError as error:
            raise StoreError(f"{path} line {number:,} is none of a history ({str(error).splitlines()[0]}).{_CURE}") from None
        if entry.previous != previous:
            raise StoreError(f"{path} line {number:,} does not follow the line before it: the history was edited.{_CURE}")
        previous = _digest(line)
        found.append(entry)
    _require_possible(found, path)
    return found, previous


def append(folder: Path, entries: Sequence[Entry]) -> list[Entry]:
    """Adds lines, all or none, and gives them as they were written: each with the digest of the line before.

    Raises:
        StoreError: the history that is there is damaged, or takes no line.
        UsageError: what would be said is not possible after what was said.
    """
    path = folder / HISTORY
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{HISTORY}.lock"):
            known, previous = _read(folder)
            lines, written = [], []
            for entry in entries:
                entry = entry.model_copy(update={"previous": previous})
                lines.append(canonical_json(entry.model_dump(mode="json")))
                previous = _digest(lines[-1])
                written.append(entry)
            _require_possible([*known, *written], path, UsageError)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), "ab") as handle:
                handle.write("".join(f"{line}\n" for line in lines).encode())
                handle.flush()
                os.fsync(handle.fileno())
    except OSError as error:
        raise StoreError(f"Cannot write {path}: {error.strerror}.") from None
    return written


def entry(what: What, sha256: str, why: str, **more: object) -> Entry:
    """A line of today, not yet written. Raises UsageError for a reason as `reason` does."""
    today, why = time.strftime("%Y-%m-%d", time.gmtime()), reason(why)
    return Entry.model_validate({"what": what, "id": sha256[:12], "sha256": sha256, "date": today, "why": why, "previous": FIRST, **more})


def reason(why: str) -> str:
    """A reason as the history holds it: in one line, whatever its lines were broken by.

    Raises:
        UsageError: it is too long, or holds letters that cannot be seen or turn the text round.
    """
    found = " ".join(why.split())
    if fault := texts.fault_of_text(found):
        raise UsageError(f"The reason {found[: texts.LONGEST]!a} {fault}, and the history is public. Say it in plain text with --why.")
    return found


def standing(entries: Sequence[Entry]) -> dict[str, Entry]:
    """Submissions that count today, by id: accepted, and neither withdrawn nor replaced since."""
    last = {entry.id: entry for entry in entries}
    return {name: entry for name, entry in last.items() if entry.what == "accepted"}


def gone(entries: Sequence[Entry]) -> list[Entry]:
    """Lines that accepted what counts no more today: withdrawn since, or replaced."""
    left = {entry.id for entry in entries} - set(standing(entries))
    return list({entry.id: entry for entry in entries if entry.what == "accepted" and entry.id in left}.values())


_CURE = " Bring it back from the repository; lines are only ever added, by `lobe accept` and `lobe withdraw`."


def _require_possible(entries: Sequence[Entry], path: Path, error: type[UsageError] | type[StoreError] = StoreError) -> None:
    """Raises where a submission is accepted twice in a row, or leaves without being there."""
    there: set[str] = set()
    for number, entry in enumerate(entries, start=1):
        if (entry.id in there) == (entry.what == "accepted"):
            state = "is accepted already" if entry.id in there else "is not among those that are accepted"
            raise error(f"{path} line {number:,}: submission {entry.id} is {entry.what}, but it {state}.")
        if entry.sha256[:12] != entry.id:
            raise error(f"{path} line {number:,}: {entry.id} is not how its digest begins.")
        if entry.what == "accepted":
            there.add(entry.id)
        else:
            there.remove(entry.id)


def _digest(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()
