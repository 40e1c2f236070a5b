"""`lobe accept` and `lobe withdraw`: what belongs to the leaderboard, and what no longer does. Nothing is ever deleted or changed.

An accepted archive is kept as it came, under the beginning of its digest; what happened to it is a line of the history.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmark.contents import sha256_of
from benchmark.errors import StoreError, UsageError
from benchmark.submission import archive, history
from benchmark.submission.archive import SUFFIX
from benchmark.submission.history import Entry
from benchmark.submission.manifest import RECORD
from benchmark.submission.shown import default_folder
from benchmark.submission.trust import Trust, lowest
from benchmark.submission.validate import Validated, validate

Replaces = tuple[Literal["corrected", "superseded"], str]


@dataclass(frozen=True)
class Accepted:
    """What became of an archive: where it lies now, and the lines that say so."""

    file: Path
    validated: Validated
    entries: tuple[Entry, ...]


def accept(
    file: Path,
    to: Path,
    *,
    why: str,
    replaces: Replaces | None = None,
    data: Sequence[str] = (),
    cache: Path | None = None,
    rerun: Path | None = None,
    allow_incomplete: bool = False,
    allow_phantom: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Accepted:
    """Validates an archive and adds it to a folder of submissions.

    Args:
        why: for people; stands in the history.
        replaces: what happens to an earlier submission, and its id.
        data, cache, rerun, progress: as of `validate`.
        allow_incomplete: takes it without all tasks, runs and searches. A task without all of its own stands at `reported`: it has no rank.
        allow_phantom: for a rehearsal, in a folder of its own.

    Raises:
        UsageError: it has faults, is there already, is incomplete, is generated data for the leaderboard itself, or the reason is none that
            the history takes.
        BadArchive: it is not opened.
        StoreError: the folder takes no file, or its history is damaged.
    """
    if allow_phantom and to.resolve() == default_folder().resolve():
        raise UsageError(f"Generated data does not go to {to}. Rehearse in a folder of its own: --to DIR.")
    known, why = history.read(to), history.reason(why)  # before what may take hours
    found = validate(file, data=data, cache=cache, rerun=rerun, allow_phantom=allow_phantom, progress=progress)
    if not found.ok:
        raise UsageError(f"{file} is not accepted: {found.faults[0]} `lobe validate` shows all {len(found.faults)} faults.")
    if found.missing and not allow_incomplete:
        raise UsageError(f"{file} is incomplete: {found.missing[0]} --incomplete accepts it; what is incomplete has no rank.")
    replaced = None if replaces is None else _standing(known, replaces[1], to)
    _require_new(file, known, to, replaced)
    _require_same_truth(file, found, known, replaced)
    levels = dict(found.levels) | dict.fromkeys(found.incomplete, Trust.REPORTED)
    accepted = history.entry(
        "accepted",
        found.sha256,
        why,
        trust=lowest(levels.values()) if levels else found.trust,
        levels=levels,
        incomplete=found.incomplete,
        truths=dict(found.truths),
        checked=found.checked,
        backbones=found.manifest.backbones,
        suite=found.manifest.suite,
        phantom=found.manifest.phantom,
    )
    lines = [accepted]
    if replaces is not None and replaced is not None:
        lines.append(history.entry(replaces[0], replaced.sha256, why, by=found.id))
    kept = to / f"{found.id}{SUFFIX}"
    is_new = _copy(file, kept, found.sha256)
    try:
        written = history.append(to, lines)
    except BaseException:
        if is_new:
            kept.unlink(missing_ok=True)
        raise
    return Accepted(kept, found, tuple(written))


def withdraw(name: str, to: Path, *, why: str) -> Entry:
    """Takes a submission off the leaderboard; its archive and its history stay.

    Raises:
        UsageError: no such submission stands there, or there is no reason that the history takes.
        StoreError: the history is damaged or takes no line.
    """
    if not why.strip():
        raise UsageError("Say why with --why: the history is public.")
    standing = _standing(history.read(to), name, to)
    (written,) = history.append(to, [history.entry("withdrawn", standing.sha256, why)])
    return written


def _standing(known: Sequence[Entry], name: str, to: Path) -> Entry:
    """The accepted submission of that id, or of an id that begins so."""
    there = history.standing(known)
    matches = [entry for one, entry in there.items() if re.fullmatch(r"[0-9a-f]{4,12}", name) and one.startswith(name)]
    if len(matches) != 1:
        listed = ", ".join(there) or "none"
        raise UsageError(f"{to} has {'several' if matches else 'no'} accepted submission {name!r}; there are: {listed}.")
    return matches[0]


def _require_new(file: Path, known: Sequence[Entry], to: Path, replaced: Entry | None) -> None:
    """Raises UsageError where every result of the archive is in another submission already."""
    with archive.opened(file) as given:
        keys = {name for name in given.names if RECORD.fullmatch(name)}
    for name, entry in history.standing(known).items():
        if replaced is not None and entry.id == replaced.id:
            continue
        try:
            with archive.opened(to / f"{name}{SUFFIX}") as other:
                if keys <= set(other.names):
                    raise UsageError(f"{file} holds nothing that submission {name} does not hold.")
        except archive.BadArchive as error:
            raise StoreError(f"An accepted archive is damaged: {error}") from None


def _require_same_truth(file: Path, found: Validated, known: Sequence[Entry], replaced: Entry | None) -> None:
    """Raises UsageError where another submission was tested on the same images with another ground truth: one of them edited it."""
    for entry in history.standing(known).values():
        if replaced is not None and entry.id == replaced.id:
            continue
        for what, truth in found.truths.items():
            if entry.truths.get(what, truth) != truth:
                raise UsageError(
                    f"{file} is not accepted: its ground truth of {what.partition(' ')[0]} is not that of submission {entry.id}, which was "
                    "tested on the same images. One of them was edited, or has the labels of another release; scoring both again tells "
                    "which (--data)."
                )


def _copy(file: Path, kept: Path, sha256: str) -> bool:
    """Copies an archive, unless it is there already; what lies there afterwards has the digest."""
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        is_new = not kept.exists()
        if is_new:
            part = kept.with_name(f".{kept.name}.part")
            shutil.copyfile(file, part)
            part.replace(kept)
        if sha256_of(kept) != sha256:
            raise StoreError(f"{kept} is not the archive that was validated: it changed meanwhile, or another lies there.")
        return is_new
    except OSError as error:
        raise StoreError(f"Cannot write {kept}: {error.strerror}.") from None
