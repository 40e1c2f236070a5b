"""Stored files of earlier releases in today's form: `lobe convert`.

Until predictions and statistics became columns they were JSON, ten times as large. A file is replaced only where what is read back from
the new one is the old one to the bit; a record whose files are anything else stays as it is. Keys and numbers stay; a record gets other
names of files, their digests and a new checksum. New files come first, then the record, then the old files go: wherever it is stopped, the
store is whole, and the same command goes on from there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from benchmark import kinds
from benchmark.cards import SCHEMA_VERSION, Record
from benchmark.errors import DamagedResult, FrameMismatch, StoreError, UsageError
from benchmark.files import read_bytes
from benchmark.integrity import PREDICTIONS, bytes_digest, file_of
from benchmark.kinds.kit import stored
from benchmark.shelf import read_record
from benchmark.store import Store

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Conversion:
    """What became of a store.

    Attributes:
        n_records: that were looked at; n_converted: of them, those whose files have a new form now.
        bytes_before, bytes_after: of these files.
        kept: key and reason of each record that stays as it is although some of its files have an earlier form.
    """

    n_records: int
    n_converted: int
    bytes_before: int
    bytes_after: int
    kept: tuple[tuple[str, str], ...]


def convert(out: Path, progress: Progress | None = None) -> Conversion:
    """Gives the files of every record in an output folder today's form.

    Args:
        progress: told how many (records looked at, records).

    Raises:
        UsageError: the folder holds no results.
        StoreError: another process writes there, or the disk does not take it; records converted so far are whole.
    """
    if not (out / "records").is_dir():
        raise UsageError(f"{out} holds no results: it has no folder records. Give the --out of a run.")
    store = Store(out)
    n_converted, before, after, kept = 0, 0, 0, []
    with store.lock():
        paths = sorted(store.records_folder.glob("*.json"))
        for n, path in enumerate(paths):
            if progress is not None:
                progress(n, len(paths))
            try:
                record = read_record(path)
            except StoreError as error:  # it may not be believed, and is left for whoever looks into it
                kept.append((path.stem, str(error)))
                continue
            try:
                sizes = _convert(record, store)
            except (DamagedResult, UsageError, FrameMismatch) as error:
                kept.append((record.key, stored.told_of(record, str(error), out)))
                continue
            if sizes is not None:
                n_converted, before, after = n_converted + 1, before + sizes[0], after + sizes[1]
        if progress is not None:
            progress(len(paths), len(paths))
    return Conversion(len(paths), n_converted, before, after, tuple(kept))


def _convert(record: Record, store: Store) -> tuple[int, int] | None:
    """Bytes of the files that were replaced, and of those in their place; None where all have today's form."""
    names = [PurePosixPath(name).name for name in record.predictions]
    forms = _forms(record)
    todo = {old: new for old, new in forms.items() if old in names}
    if not todo:
        _remove_left_over(record, forms, names, store)
        return None
    files: dict[str, bytes] = {}
    before = after = 0
    for name in names:
        path = file_of(record, name, store.out)
        if path is None:
            raise UsageError(f"{store.predictions_folder / record.key / name} is missing. Bring it back from a copy.")
        if name in todo:
            files[todo[name]] = _todays(record, path, todo[name])
            before, after = before + path.stat().st_size, after + len(files[todo[name]])
        else:
            files[name] = read_bytes(path)
    store.put(record.model_copy(update={"schema_version": SCHEMA_VERSION, "predictions": (), "file_digests": {}}), files)
    for old in todo:
        (store.predictions_folder / record.key / old).unlink(missing_ok=True)
    return before, after


def _forms(record: Record) -> Mapping[str, str]:
    """Files of earlier releases -> their name today."""
    kind = kinds.known(record.job.experiment)
    return {stored.STATISTICS_JSON: stored.STATISTICS_FILE, **({} if kind is None else kind.earlier_forms)}


def _todays(record: Record, path: Path, name: str) -> bytes:
    """A stored file in today's form. Raises UsageError where that would not be the same to the bit."""
    with tempfile.TemporaryDirectory(prefix="lobe-convert-") as folder:
        into = Path(folder) / name
        if path.name == stored.STATISTICS_JSON:
            stored.convert_statistics(path, into, record.job)
        else:
            kinds.of_experiment(record.job.experiment).convert(path, into)
        return read_bytes(into)


def _remove_left_over(record: Record, forms: Mapping[str, str], names: list[str], store: Store) -> None:
    """Removes files of the earlier form that an interrupted conversion left, and no others: the record names what was made of them."""
    for old, new in forms.items():
        path = store.predictions_folder / record.key / old
        if new in names and old not in names and path.is_file():
            digest = record.file_digests.get(f"{PREDICTIONS}/{record.key}/{new}")
            if bytes_digest(_todays(record, path, new)) == digest:
                path.unlink()
