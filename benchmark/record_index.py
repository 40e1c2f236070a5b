"""What listings, resuming and reports need of each record, in one small database beside the records: `<out>/index.sqlite`.

It is made of the records and may be deleted at any time. Nothing in it is believed over a file: an entry counts while its record's file
has the size, times and inode that it had when it was read and held to its checksum, and while the entry has a checksum of its own. What
cannot be read or written, as SQLite sometimes cannot on a network's file system, is passed over: whoever asks then reads the files.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import from_json

from benchmark import extras, json_files, private, shared_cards
from benchmark.cards import SCHEMA_VERSION, Epoch, Record
from benchmark.cards.base import Card
from benchmark.faults import of_environment
from benchmark.files import require_regular

INDEX = "index.sqlite"
FORMAT = 3  # goes up when entries, or the rules by which records are believed, change
READ_S, WRITE_S = 1.0, 10.0  # how long another process's writing is waited for

_TABLES = (
    "CREATE TABLE IF NOT EXISTS about (version TEXT PRIMARY KEY) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, stamp BLOB, facts BLOB, checksum BLOB) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, stamp BLOB, content BLOB, checksum BLOB)",
    "CREATE TABLE IF NOT EXISTS curves (key TEXT PRIMARY KEY, stamp BLOB, content BLOB, checksum BLOB)",
    "CREATE TABLE IF NOT EXISTS cards (name TEXT PRIMARY KEY, content BLOB)",
    "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, stamp BLOB, sha256 BLOB, checksum BLOB) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS passed (name TEXT PRIMARY KEY, checksum BLOB) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS pages (name TEXT PRIMARY KEY, content BLOB, checksum BLOB) WITHOUT ROWID",
)
_EPOCHS = TypeAdapter(tuple[Epoch, ...])


@dataclass(frozen=True, slots=True)
class Facts:
    """What tells whether a job is done.

    Attributes:
        environment: a fault of the environment, which earlier releases stored, and which is no result.
        adopted_from: as of the record.
    """

    status: str
    environment: bool
    adopted_from: str | None


OK = Facts("ok", False, None)  # of nearly all records: one object


def facts_of(record: Record) -> Facts:
    found = Facts(record.status, of_environment(record.failure), record.adopted_from)
    return OK if found == OK else found


class RecordIndex:
    """The index of one output folder. Every method works, and gives nothing, where there is none or it cannot be used.

    Args:
        out: the output folder.
    """

    def __init__(self, out: Path):
        self.path = out / INDEX
        self._cards: dict[str, Card] = {}  # shared by all records that are read, as by the jobs of a plan
        self._reading: sqlite3.Connection | None = None
        self._usable = True

    def facts(self) -> dict[str, tuple[bytes, Facts]]:
        """Stamp of its file and facts of every record, by key."""
        found = {}
        for key, stamp, facts, checksum in self._ask("SELECT key, stamp, facts, checksum FROM facts"):
            if _is_whole(key, stamp, facts, checksum):
                known = Facts(*json_files.parse(facts, list))
                found[key] = (stamp, OK if known == OK else known)
        return found

    def record(self, key: str, stamp: bytes) -> Record | None:
        """The record whose file has this stamp, without its curve; its large cards are shared with others of this index."""
        content = self._content("records", key, stamp)
        try:
            if content is None:
                return None
            raw = from_json(content)
            shared_cards.put_back(raw["job"]["experiment"], self._card)
            record = Record.model_validate(raw)
            record.job.__dict__["key"] = record.key  # as its cached property would: the entry was made of a record whose key is its job's
            return record
        except (ValueError, KeyError, TypeError, zlib.error):  # of a card, which has a name for a checksum
            return None

    def curve(self, key: str, stamp: bytes) -> tuple[Epoch, ...] | None:
        """The training curve of the record whose file has this stamp."""
        content = self._content("curves", key, stamp)
        try:
            return None if content is None else _EPOCHS.validate_json(content)
        except ValueError:
            return None

    def file_digests(self) -> dict[str, tuple[bytes, str]]:
        """Stamp and SHA-256 of files of records, by their path in the output folder."""
        asked = self._ask("SELECT path, stamp, sha256, checksum FROM files")
        return {path: (stamp, sha.decode()) for path, stamp, sha, checksum in asked if _is_whole(path, stamp, sha, checksum)}

    def page(self, name: str) -> dict[str, Any] | None:
        """What `keep_page` kept; None where it kept nothing."""
        for content, checksum in self._ask("SELECT content, checksum FROM pages WHERE name = ?", name):
            if _is_whole(name, b"", content, checksum):
                return json_files.parse(zlib.decompress(content))
        return None

    def keep_records(self, found: Iterable[tuple[Record, bytes]]) -> None:
        """Keeps records with their curves, each with the stamp that its file had before it was read."""
        found = list(found)
        if found:
            self._write(lambda database: _insert(database, found))

    def keep_file_digests(self, found: Iterable[tuple[str, bytes, str]]) -> None:
        """Keeps (path in the output folder, stamp before reading, SHA-256 hex)."""
        rows = [(path, stamp, sha.encode(), _checksum(path, stamp, sha.encode())) for path, stamp, sha in found]
        if rows:
            self._write(lambda database: database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows))

    def passed(self) -> set[str]:
        """What `keep_passed` kept."""
        return {name for name, checksum in self._ask("SELECT name, checksum FROM passed") if _is_whole(name, b"", b"", checksum)}

    def keep_passed(self, names: Iterable[str]) -> None:
        """Keeps what records passed: names that a check gives to states of records."""
        rows = [(name, _checksum(name, b"", b"")) for name in names]
        if rows:
            self._write(lambda database: database.executemany("INSERT OR REPLACE INTO passed VALUES (?, ?)", rows))

    def keep_page(self, name: str, content: dict[str, Any]) -> None:
        """Keeps what a page was made of: anything that JSON can say."""
        packed = zlib.compress(json.dumps(content).encode(), 1)
        row = (name, packed, _checksum(name, b"", packed))
        self._write(lambda database: database.execute("INSERT OR REPLACE INTO pages VALUES (?, ?, ?)", row))

    def close(self) -> None:
        if self._reading is not None:
            self._reading.close()
        self._reading = None

    def _content(self, table: str, key: str, stamp: bytes) -> bytes | None:
        for content, checksum in self._ask(f"SELECT content, checksum FROM {table} WHERE key = ? AND stamp = ?", key, stamp):
            if _is_whole(key, stamp, content, checksum):
                return zlib.decompress(content)
        return None

    def _card(self, name: str, digest: str) -> Card:
        if digest not in self._cards:
            ((content,),) = self._ask("SELECT content FROM cards WHERE name = ?", digest)
            content = zlib.decompress(content)
            if shared_cards.digest(content.decode()) != digest:
                raise ValueError(digest)
            self._cards[digest] = shared_cards.KINDS[name].model_validate_json(content)
        return self._cards[digest]

    def _ask(self, query: str, *given: str | bytes) -> list[tuple[Any, ...]]:
        """All rows of an answer: none is left open, which would keep others from writing."""
        try:
            if self._reading is None and self._usable:
                self._usable = self.path.exists()
                self._reading = self._opened() if self._usable else None
            return [] if self._reading is None else self._reading.execute(query, given).fetchall()
        except (sqlite3.Error, OSError):
            self.close()
            self._usable = False
            return []

    def _opened(self) -> sqlite3.Connection:
        require_regular(self.path)
        # For reading alone: who may not write here can read, and makes no file.
        database = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=READ_S, check_same_thread=False)
        if database.execute("SELECT version FROM about").fetchall() != [(_version(),)]:
            database.close()
            raise sqlite3.OperationalError("of another release")
        return database

    def _write(self, work: Callable[[sqlite3.Connection], object]) -> None:
        self.close()  # what was looked up is looked up anew
        try:
            self._made_of_this_release()
            with closing(sqlite3.connect(self.path, timeout=WRITE_S)) as database, database:
                database.execute("PRAGMA synchronous = OFF")  # after a power cut it may be damaged, and is then made anew
                for table in _TABLES:
                    database.execute(table)
                database.execute("INSERT OR REPLACE INTO about VALUES (?)", (_version(),))
                work(database)
            self._usable = True
        except (sqlite3.OperationalError, OSError):  # no right to write, a full disk, a lock that nobody gives back
            return
        except sqlite3.DatabaseError:
            self._discard()

    def _made_of_this_release(self) -> None:
        """Raises OSError where nothing can be written. What another release made, or is damaged, goes."""
        if self.path.exists():
            require_regular(self.path)
            try:
                self._opened().close()
            except sqlite3.Error:
                self._discard()
        private.file(self.path)  # records of restricted data are in it; SQLite gives its journal the same mode

    def _discard(self) -> None:
        for path in (self.path, self.path.with_name(f"{INDEX}-journal")):
            try:
                path.unlink(missing_ok=True)
            except OSError:
                return


def _insert(database: sqlite3.Connection, found: list[tuple[Record, bytes]]) -> None:
    found_cards: dict[str, str] = {}
    for record, stamp in found:
        key, facts = record.key, facts_of(record)
        raw = record.model_dump(mode="json", exclude={"curve": True, "job": {"experiment": set(shared_cards.KINDS)}})
        texts = shared_cards.of_experiment(record.job.experiment)
        digests = {name: shared_cards.digest(text) for name, text in texts.items()}
        raw["job"]["experiment"] |= digests
        found_cards |= {digests[name]: text for name, text in texts.items()}
        said = json.dumps([facts.status, facts.environment, facts.adopted_from]).encode()
        database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?)", (key, stamp, said, _checksum(key, stamp, said)))
        for table, content in (("records", json.dumps(raw).encode()), ("curves", _EPOCHS.dump_json(record.curve))):
            packed = zlib.compress(content, 1)
            row = (key, stamp, packed, _checksum(key, stamp, packed))
            database.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?)", row)
    rows = ((digest, zlib.compress(text.encode(), 1)) for digest, text in found_cards.items())
    database.executemany("INSERT OR REPLACE INTO cards VALUES (?, ?)", rows)


def _checksum(name: str, stamp: bytes, content: bytes) -> bytes:
    """16 bytes over an entry: SQLite itself keeps none, and a disk may flip a bit."""
    return hashlib.blake2b(b"\0".join((name.encode(), stamp, content)), digest_size=16).digest()


def _is_whole(name: str, stamp: Any, content: Any, checksum: Any) -> bool:
    """A bit that flips may even make another kind of value of one."""
    return isinstance(stamp, bytes) and isinstance(content, bytes) and _checksum(name, stamp, content) == checksum


def _version() -> str:
    return f"{FORMAT} {SCHEMA_VERSION} {extras.release()}"
