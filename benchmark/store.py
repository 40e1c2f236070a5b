"""Records on disk: one JSON file a job, named by its key, written atomically and never changed.

`<out>/records/<key>.json` and `<out>/predictions/<key>/...`. Only the driver writes here, under a lock that says who holds it.
A valid record is never recomputed: resuming is running the same command again. Whether a stored one may be believed: `integrity`.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmark import json_files, private
from benchmark.cards import SCHEMA_VERSION, Job, Record
from benchmark.driver_lock import DriverLock
from benchmark.errors import DamagedResult, StoreError
from benchmark.faults import of_environment
from benchmark.files import read_text
from benchmark.integrity import PREDICTIONS, bytes_digest, file_digest, file_of, require_believable, sealed

PLANNED = "planned.json"
LOCK = "driver.lock"


@dataclass(frozen=True)
class Refused:
    """A stored record that may not be believed: its key (the name of its file), and what is wrong with it."""

    key: str
    sentence: str


class Store:
    """The output folder of evaluations.

    Raises:
        StoreError: the folder cannot be created or written.
    """

    def __init__(self, out: Path):
        self.out = out
        self.records_folder = out / "records"
        self.predictions_folder = out / PREDICTIONS
        self._held: DriverLock | None = None
        try:
            self.records_folder.mkdir(parents=True, exist_ok=True)
            self.predictions_folder.mkdir(exist_ok=True)
            probe = self.records_folder / f".probe-{os.getpid()}"
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            raise StoreError(f"Cannot write to the output folder {out}: {error.strerror}. Choose another with --out.") from None

    def identity(self) -> str:
        """A random name of this folder, made once and kept in it: spools on other machines are found by it."""
        path = self.out / "store.id"
        if not path.exists():
            write_atomically(path, uuid.uuid4().hex.encode())
        try:
            found = read_text(path).strip()
        except (OSError, UnicodeDecodeError):
            found = ""
        if re.fullmatch(r"[0-9a-f]{32}", found) is None:
            raise StoreError(f"{path} does not hold 32 hex digits. Delete it; finished results waiting on workers are then computed again.")
        return found

    def path(self, key: str) -> Path:
        return self.records_folder / f"{key}.json"

    def get(self, key: str) -> Record | None:
        """The stored result, or None; a fault of the environment, which earlier releases stored, is none.

        A damaged file is an error: it is evidence, not garbage to overwrite.
        """
        path = self.path(key)
        if not path.exists():
            return None
        record = read_record(path)
        return None if of_environment(record.failure) else record

    def all(self) -> list[Record]:
        """Every record, sorted by key; those that were taken over under another key count once."""
        return _once(read_record(path) for path in sorted(self.records_folder.glob("*.json")))

    def believable(self, files: Iterable[str] = ()) -> tuple[list[Record], list[Refused]]:
        """Every record that may be believed, and those that may not, both sorted by key: one damaged record costs no other.

        Args:
            files: names of files to hold to their digests as well, where a record has them.
        """
        records, refused = [], []
        for path in sorted(self.records_folder.glob("*.json")):
            try:
                record = read_record(path)
                for name in files:
                    file_of(record, name, self.out)
                records.append(record)
            except StoreError as error:
                refused.append(Refused(path.stem, str(error)))
        return _once(records), refused

    def planned(self) -> list[Job]:
        """The jobs of the last plan of every evaluation, done or not (`plan`); empty in folders of an older LOBE.

        Raises:
            StoreError: the file was damaged.
        """
        path = self.out / PLANNED
        if not path.exists():
            return []
        try:
            jobs = [Job.model_validate(job) for job in json_files.read(path, list)]
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(f"{path} is damaged ({str(error).splitlines()[0]}). Move it away; the next `lobe run` writes it.") from None
        return jobs

    def plan(self, jobs: Iterable[Job]) -> None:
        """Remembers what is to run, so that a report can name what is missing.

        A plan replaces the earlier one of the same backbone (by its name), task, protocol, split and scale, and no other: fewer seeds are
        then not missing runs, and other backbones and tasks keep their own. What is on record stays on record.
        """
        self._require_held()
        jobs = list(jobs)
        again = {_evaluation(job) for job in jobs}
        known = {job.key: job for job in (*(job for job in self.planned() if _evaluation(job) not in again), *jobs)}
        write_atomically(self.out / PLANNED, json.dumps([known[key].model_dump(mode="json") for key in sorted(known)]).encode())

    def put(self, record: Record, files: Mapping[str, bytes] | None = None) -> Record:
        """Stores a record and the files it made under `predictions/<key>/`; files first, record last.

        A fault of the environment is no result and is not stored: the same command computes the job again. Record and files of a dataset
        that may not be passed on are private to the user.

        Args:
            files: by name. None for files that are there already, those that `record.predictions` names.

        Returns:
            The record with the files' names and digests, and its checksum.

        Raises:
            StoreError: the disk does not take it, a file that should be there is not, or another driver took the folder.
        """
        if of_environment(record.failure):
            return sealed(record)
        self._require_held()
        restricted = private.is_restricted(record.redistribution)
        opener = private.opener if restricted else None
        try:
            if files:
                folder = self.predictions_folder / record.key
                private.folder(folder) if restricted else folder.mkdir(exist_ok=True)
                for name, content in files.items():
                    write_atomically(folder / name, content, opener)
                digests = {f"{PREDICTIONS}/{record.key}/{name}": bytes_digest(files[name]) for name in sorted(files)}
            else:
                if restricted:  # an older LOBE may have made them
                    for name in record.predictions:
                        private.folder((self.out / name).parent)
                        private.tighten(self.out / name)
                digests = {name: record.file_digests.get(name) or file_digest(self.out / name) for name in record.predictions}
            record = sealed(record.model_copy(update={"predictions": tuple(digests), "file_digests": digests}))
            write_atomically(self.path(record.key), record.model_dump_json(indent=1).encode(), opener)
        except OSError as error:
            raise StoreError(
                f"Could not store the result of {record.job.labels.task} in {self.out}: {error.strerror}. "
                "Results stored so far are safe; make room or fix permissions and run the same command again."
            ) from None
        return record

    @contextmanager
    def lock(self) -> Iterator[DriverLock]:
        """Makes this process the only driver of the folder; a heartbeat shows that it lives.

        While it is held, nothing is written here that another driver's lock forbids.

        Raises:
            StoreError: another living driver holds the folder; names host, process and start.
        """
        with DriverLock(self.out / LOCK).held() as held:
            self._held = held
            try:
                yield held
            finally:
                self._held = None

    def _require_held(self) -> None:
        if self._held is not None:
            self._held.require()


def write_atomically(path: Path, content: bytes, opener: Callable[[str, int], int] | None = None) -> None:
    """Writes under a temporary name, syncs, renames: a reader sees the old file, the new one, or none, never a part.

    Args:
        opener: as of `open`; `private.opener` for a file that only the user may read.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb", opener=opener) as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _once(records: Iterable[Record]) -> list[Record]:
    """Without those that were taken over under another key."""
    records = list(records)
    adopted = {record.adopted_from for record in records}
    return [record for record in records if record.key not in adopted]


def _evaluation(job: Job) -> tuple[str | int | None, ...]:
    """What a plan is of. One limit is one scale: a plan for 16 images says nothing of one for 32."""
    experiment, labels = job.experiment, job.labels
    return (labels.backbone, labels.task, labels.protocol, experiment.dataset.split, experiment.limit, experiment.profile)


def read_record(path: Path) -> Record:
    """A stored record.

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
