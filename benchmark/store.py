"""Records on disk: one JSON file a job, named by its key, written atomically and never changed.

`<out>/records/<key>.json` and `<out>/predictions/<key>/...`. Only the driver writes here, under a lock that says who holds it.
A valid record is never recomputed: resuming is running the same command again. Whether a stored one may be believed: `integrity`; many of
them at once: `shelf`.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmark import planned, private
from benchmark.cards import Job, Record
from benchmark.driver_lock import DriverLock
from benchmark.errors import StoreError
from benchmark.faults import of_environment
from benchmark.files import read_text, write_atomically
from benchmark.integrity import PREDICTIONS, bytes_digest, file_digest, sealed
from benchmark.shelf import RECORDS, read_record

LOCK = "driver.lock"


class Store:
    """The output folder of evaluations.

    Raises:
        StoreError: the folder cannot be created or written.
    """

    def __init__(self, out: Path):
        self.out = out
        self.records_folder = out / RECORDS
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
        """Every record, whole, sorted by key; those that were taken over under another key count once."""
        records = [read_record(path) for path in sorted(self.records_folder.glob("*.json"))]
        adopted = {record.adopted_from for record in records}
        return [record for record in records if record.key not in adopted]

    def planned(self) -> list[Job]:
        """The jobs of the last plan of every evaluation, done or not (`benchmark.planned`)."""
        return planned.read(self.out)

    def plan(self, jobs: Iterable[Job]) -> None:
        """Remembers what is to run, so that a report can name what is missing (`benchmark.planned`). What is on record stays on record."""
        self._require_held()
        planned.write(self.out, jobs)

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
