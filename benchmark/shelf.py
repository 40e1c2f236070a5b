"""The records of an output folder as one listing finds them: known by key, read when asked for. Needs no right to write.

A listing looks at each file once. What a record says comes from the index where that still holds (`benchmark.record_index`), else from its
file, which is held to its checksum and then indexed. How records are written: `store`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmark import json_files, processes
from benchmark.cards import SCHEMA_VERSION, Epoch, Record
from benchmark.contents import is_recent, stamp_in
from benchmark.errors import DamagedResult, StoreError
from benchmark.integrity import PREDICTIONS, file_of, require_believable
from benchmark.processes import Show, unseen
from benchmark.record_index import Facts, RecordIndex, facts_of

RECORDS = "records"
SUFFIX = ".json"
_CURE = "Move it away to have the job computed again."
AT_ONCE = 256  # records that are read and not yet indexed


@dataclass(frozen=True)
class Refused:
    """A stored record that may not be believed: its key (the name of its file), and what is wrong with it."""

    key: str
    sentence: str


@dataclass(frozen=True)
class Check:
    """What records are held to beyond their checksums, once for each state of them.

    Attributes:
        name: of the rules; another name has every record looked at again.
        fault_of: (record, output folder) -> what is wrong with it, as a clause; empty where nothing is.
    """

    name: str
    fault_of: Callable[[Record, Path], str]


class Shelf:
    """
    Args:
        out: the output folder; one without records is empty.

    Attributes:
        stamps: key -> stamp of its file (`contents.stamp_of`), sorted by key; empty bytes where there is no file to look at.
    """

    def __init__(self, out: Path):
        self.out = out
        self.folder = out / RECORDS
        self._listed_ns = time.time_ns()
        self.stamps = _listing(self.folder)
        self._index = RecordIndex(out)
        self._facts: dict[str, Facts] | None = None
        self._unindexed: list[tuple[Record, bytes]] = []

    def __contains__(self, key: str) -> bool:
        return key in self.stamps

    def __len__(self) -> int:
        return len(self.stamps)

    def path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"

    def facts(self, key: str) -> Facts | None:
        """What tells whether a job is done; None without a record of it.

        Raises:
            StoreError: the record may not be believed.
        """
        if key not in self.stamps:
            return None
        if self._facts is None:
            known = self._index.facts()
            self._facts = {key: facts for key, (stamp, facts) in known.items() if self.stamps.get(key) == stamp}
        if key not in self._facts:
            self._facts[key] = facts_of(self._from_file(key))
        return self._facts[key]

    def get(self, key: str) -> Record | None:
        """The stored result without its curve, or None; a fault of the environment, which earlier releases stored, is none.

        Raises:
            StoreError: the record may not be believed.
        """
        facts = self.facts(key)
        return None if facts is None or facts.environment else self.read(key)

    def read(self, key: str) -> Record:
        """A record that is there, without its curve.

        Raises:
            StoreError: it may not be believed.
        """
        known = self._index.record(key, self.stamps[key])
        return self._from_file(key).model_copy(update={"curve": ()}) if known is None else known

    def whole(self, key: str) -> Record:
        """A record that is there, with its curve.

        Raises:
            StoreError: it may not be believed.
        """
        return self.read(key).model_copy(update={"curve": self.curve(key)})

    def curve(self, key: str) -> tuple[Epoch, ...]:
        """The curve that a record is read without.

        Raises:
            StoreError: the record may not be believed.
        """
        known = self._index.curve(key, self.stamps[key])
        return self._from_file(key).curve if known is None else known

    def believable(self, files: Iterable[str] = (), check: Check | None = None, show: Show = unseen) -> tuple[list[Record], list[Refused]]:
        """Every record that may be believed, without its curve, and those that may not, both sorted by key: one damaged record costs no
        other. Of those that were taken over under another key only the new one.

        Args:
            files: names of files to hold to their digests as well, where a record has them.
            check: what else to hold them to. One that passed is remembered by its checksum and its file's stamp, which no copy of the
                folder has, and passes for as long as it and its files stay what they were: `files` then has to name those it reads.
            show: how far the check is.
        """
        records, refused, files = [], [], tuple(files)
        digests = self._index.file_digests() if files else {}
        passed = self._index.passed() if check is not None else set()
        held: list[tuple[str, bytes, str]] = []
        unchecked: list[Record] = []
        for key in self.stamps:
            try:
                record = self.read(key)
                for name in files:
                    held += self._held(record, name, digests)
            except StoreError as error:
                refused.append(Refused(key, str(error)))
                continue
            records.append(record)
            if check is not None and self._mark(check, record) not in passed:
                unchecked.append(record)
        passing: list[str] = []
        if check is not None:
            sentences = processes.each(partial(_refusal, check, self.out), unchecked, "checking results against their statistics", show)
            for record, sentence in zip(unchecked, sentences, strict=True):
                if sentence:
                    refused.append(Refused(record.key, sentence))
                elif record.checksum and self._may_be_remembered(record.key):
                    passing.append(self._mark(check, record))
        refused.sort(key=lambda one: one.key)
        not_believed = {one.key for one in refused}
        records = [record for record in records if record.key not in not_believed]
        self._index.keep_file_digests(held)
        self._index.keep_passed(passing)
        self.save()
        adopted = {record.adopted_from for record in records}
        return [record for record in records if record.key not in adopted], refused

    def kept_page(self, name: str) -> dict[str, Any] | None:
        """What `keep_page` kept; None where it could not."""
        return self._index.page(name)

    def keep_page(self, name: str, content: dict[str, Any]) -> None:
        """Keeps in the index what a page was made of."""
        self._index.keep_page(name, content)

    def save(self) -> None:
        """Indexes what was read from files since the last time; does nothing where the folder may not be written."""
        waiting, self._unindexed = self._unindexed, []
        self._index.keep_records(waiting)

    def _from_file(self, key: str) -> Record:
        record = read_record(self.path(key))
        if self._may_be_remembered(key):
            self._unindexed.append((record, self.stamps[key]))
        if len(self._unindexed) >= AT_ONCE:
            self.save()
        return record

    def _may_be_remembered(self, key: str) -> bool:
        """Not where a record's file might have changed since it was listed, and look the same."""
        stamp = self.stamps[key]
        return bool(stamp) and not is_recent(stamp, self._listed_ns)

    def _mark(self, check: Check, record: Record) -> str:
        """Under which a record that passed a check is remembered."""
        return f"{check.name} {record.checksum} {self.stamps[record.key].hex()}"

    def _held(self, record: Record, name: str, digests: dict[str, tuple[bytes, str]]) -> Iterator[tuple[str, bytes, str]]:
        """Holds a file of a record to its digest; gives what was found of one that had to be read.

        Raises:
            DamagedResult: it is not what was stored.
        """
        relative = f"{PREDICTIONS}/{record.key}/{name}"
        expected = record.file_digests.get(relative)
        try:
            stamp = stamp_in(os.stat(self.out / relative))
        except OSError:
            stamp = b""
        if expected is not None and digests.get(relative) == (stamp, expected):
            return
        if file_of(record, name, self.out) is not None and expected is not None and not is_recent(stamp, self._listed_ns):
            yield relative, stamp, expected


def _refusal(check: Check, out: Path, record: Record) -> str:
    """The sentence that says why a record of the folder may not be believed; empty where it passes."""
    try:
        fault = check.fault_of(record, out)
    except StoreError as error:
        return str(error)
    path = out / RECORDS / f"{record.key}{SUFFIX}"
    return f"The record {path} does not agree with what is stored beside it: {fault}. {_CURE}" if fault else ""


def _listing(folder: Path) -> dict[str, bytes]:
    try:
        with os.scandir(folder) as entries:
            found = {entry.name.removesuffix(SUFFIX): _stamp(entry) for entry in entries if entry.name.endswith(SUFFIX)}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise StoreError(f"The folder {folder} cannot be listed: {error.strerror}. May you read it?") from None
    return dict(sorted(found.items()))


def _stamp(entry: os.DirEntry[str]) -> bytes:
    try:
        return stamp_in(entry.stat())
    except OSError:  # a link to nowhere: reading it says so
        return b""


def read_record(path: Path) -> Record:
    """A stored record, whole.

    Raises:
        StoreError: it may not be believed: damaged, edited, renamed, or written by a newer release.
    """
    try:
        raw = json_files.read(path)
        if raw.get("schema_version", 0) > SCHEMA_VERSION:
            raise StoreError(
                f"{path} was written by a newer LOBE (schema {raw['schema_version']} > {SCHEMA_VERSION}); update LOBE to read it."
            )
        record = Record.model_validate(raw)
    except PermissionError:
        raise StoreError(_of_another(path)) from None
    except (OSError, ValueError, TypeError) as error:  # pydantic's own is a ValueError
        first = str(error).splitlines()[0]
        raise DamagedResult(path.stem, f"The record {path} is damaged ({first}). Move it away to have the job computed again.") from None
    if record.key != path.stem or record.job.key != record.key:
        raise DamagedResult(
            path.stem,
            f"The record {path} does not belong to its key: it was edited or renamed. Move it away to have the job computed again.",
        )
    scale = "limited" if record.job.limited else "full"
    if record.scale != scale:
        raise DamagedResult(
            path.stem,
            f"The record {path} says that its run was {record.scale}, but its job is {scale}: it was edited. "
            "Move it away to have the job computed again.",
        )
    require_believable(record, raw, str(path))
    return record


def _of_another(path: Path) -> str:
    return f"{path} may be read by its owner alone: it tells of data that may not be passed on. Ask who made it for the report's tables."
