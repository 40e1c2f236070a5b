"""Stored predictions for people and their programs: `lobe export` writes COCO JSON of boxes and masks, and tables of class scores.

What a file looks like, its kind says. Files of data that may not be passed on are private to the user here as in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from benchmark import kinds, private
from benchmark.cards import Record
from benchmark.errors import LobeError, StoreError, UnknownName, UsageError
from benchmark.files import write_atomically
from benchmark.integrity import PREDICTIONS, file_of
from benchmark.kinds.base import Frames
from benchmark.kinds.kit import stored
from benchmark.shelf import read_record

Progress = Callable[[int, int], None]
_SHORTEST_KEY = 6


@dataclass(frozen=True)
class Exports:
    """What was written.

    Attributes:
        files: in the order of the records.
        left_out: key and reason of each record that gave none.
        n_private: records whose data may not be passed on, and whose files nobody else may open.
    """

    files: tuple[Path, ...]
    left_out: tuple[tuple[str, str], ...]
    n_private: int


def export(out: Path, keys: Sequence[str] | None, to: Path, frame: Frames = "task", progress: Progress | None = None) -> Exports:
    """Writes predictions of records as `TO/<key>/<file>`.

    Args:
        keys: of records, or their beginnings; None for every record that has a result.
        frame: "task" for the task's frame, in which `lobe score` reads them again; "original" for pixels of the original images.
        progress: told how many (records written, records).

    Raises:
        UsageError: the folder holds no results, or a key names no record or several.
        StoreError: a record that was named may not be believed, or `to` takes no files.
    """
    if not (out / "records").is_dir():
        raise UsageError(f"{out} holds no results: it has no folder records. Give the --out of a run.")
    if to.resolve().is_relative_to((out / PREDICTIONS).resolve()) or to.resolve().is_relative_to((out / "records").resolve()):
        raise UsageError(f"{to} lies among the results themselves. Choose another folder with --to.")
    files: list[Path] = []
    left_out: list[tuple[str, str]] = []
    n_private = 0
    chosen = _chosen(out, keys)
    for n, path in enumerate(chosen):
        if progress is not None:
            progress(n, len(chosen))
        try:
            record = read_record(path)
        except StoreError as error:
            if keys is not None:
                raise
            left_out.append((path.stem, str(error)))
            continue
        if record.status != "ok":
            left_out.append((record.key, "it failed and has no predictions"))
            continue
        try:
            written = _export(record, out, to, frame)
        except LobeError as error:
            left_out.append((record.key, stored.told_of(record, str(error), out)))
            continue
        except OSError as error:
            raise StoreError(f"Cannot write to {to}: {error.strerror}. Choose another folder with --to.") from None
        if not written:
            left_out.append((record.key, f"its files have no other form ({record.job.labels.task}); any reader of Parquet opens them"))
        files += written
        n_private += bool(written) and private.is_restricted(record.redistribution)
    if progress is not None:
        progress(len(chosen), len(chosen))
    return Exports(tuple(files), tuple(left_out), n_private)


def _chosen(out: Path, keys: Sequence[str] | None) -> list[Path]:
    """Files of the records that are wanted."""
    there = {path.stem: path for path in sorted((out / "records").glob("*.json"))}
    if keys is None:
        return list(there.values())
    found: dict[str, Path] = {}
    for key in keys:
        matches = [name for name in there if name == key] or [name for name in there if len(key) >= _SHORTEST_KEY and name.startswith(key)]
        if not matches:
            raise UnknownName("record", key, there)
        if len(matches) > 1:
            raise UsageError(f"{len(matches)} records begin with {key!r}: give more of the key.")
        found[matches[0]] = there[matches[0]]
    return list(found.values())


def _export(record: Record, out: Path, to: Path, frame: Frames) -> list[Path]:
    kind = kinds.of_experiment(record.job.experiment)
    restricted = private.is_restricted(record.redistribution)
    written: list[Path] = []
    for name in (PurePosixPath(each).name for each in record.predictions):
        path = file_of(record, name, out)
        made = None if path is None else kind.export(path, frame)
        if made is None:
            continue
        folder = to / record.key
        private.folder(folder) if restricted else folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / made[0], made[1], private.opener if restricted else None)
        written.append(folder / made[0])
    return written
