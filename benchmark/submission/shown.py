"""Accepted submissions as a report reads them: unpacked into the cache, held to their digests, and to everything a record is held to.

A folder of submissions may come from anywhere, with a history that says anything: what can be computed is computed here again. Only that
predictions were scored again, or a job trained again, is believed as the history says it.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmark import json_files, private, registry
from benchmark.cards import BackboneCard, Record, Role
from benchmark.contents import stamp_of
from benchmark.errors import LobeError, StoreError
from benchmark.files import read_text
from benchmark.kinds.kit.stored import STATISTICS_FILE, STATISTICS_FILES
from benchmark.shelf import Check, Refused, Shelf
from benchmark.submission import archive, claims, history
from benchmark.submission.archive import SUFFIX
from benchmark.submission.history import Entry
from benchmark.submission.manifest import CARD
from benchmark.submission.trust import Trust
from benchmark.submission.verified import STATISTICS

FOLDER = "submissions"  # in the cache
_WHOLE = "unpacked.stamp"


def default_folder() -> Path:
    """Where LOBE's own leaderboard keeps its submissions."""
    return registry.content("results") / "submissions"


@dataclass(frozen=True)
class Submission:
    """An accepted submission, unpacked."""

    entry: Entry
    shelf: Shelf

    def believable(self, check: Check = STATISTICS) -> tuple[list[Record], list[Refused]]:
        """Its records, and those that may not be believed.

        Args:
            check: of their statistics.
        """
        records, refused = self.shelf.believable(STATISTICS_FILES, check)
        cards = self._cards()
        believed = []
        for record in records:
            why = claims.fault_in(record, cards)
            if not why and (record.phantom != self.entry.phantom or record.scale != "full"):
                why = "it is not of the kind of data that the history says"
            if why:
                refused.append(Refused(record.key, f"The record {record.key} of submission {self.entry.id} is refused: {why}."))
            else:
                believed.append(record)
        return believed, refused

    def trust_of(self, record: Record) -> Trust:
        """The level of one of its records: what the history says of its task, as far as what is stored allows it.

        A run of a search has its task's: it leaves the test split closed, so that it has neither statistics nor test images to know it by.
        """
        said = self.entry.levels.get(record.job.labels.task, self.entry.trust or Trust.REPORTED)
        if record.job.experiment.role is Role.SELECTION:
            return said
        has_statistics = any(name.endswith(f"/{STATISTICS_FILE}") for name in record.predictions)
        known = said.at_least(Trust.RESCORED) or claims.is_known_release(record)
        return said if has_statistics and known else Trust.REPORTED

    def _cards(self) -> Mapping[str, BackboneCard]:
        found = {}
        for path in sorted((self.shelf.out / "cards" / "backbones").glob("*.json")):
            with contextlib.suppress(ValueError):  # of a folder that was never validated: then there is no card
                if CARD.fullmatch(f"cards/backbones/{path.name}"):
                    card = BackboneCard.model_validate(json_files.read(path))
                    found[card.title or card.name] = card
        return found


def shown(folder: Path, cache: Path) -> tuple[list[Submission], list[Refused]]:
    """The submissions of a folder that stand today, in the order in which they were accepted, and archives that may not be believed.

    Args:
        cache: folder of all caches.

    Raises:
        StoreError: the history is damaged.
    """
    found, refused = [], []
    for name, entry in history.standing(history.read(folder)).items():
        try:
            found.append(Submission(entry, Shelf(_unpacked(folder / f"{name}{SUFFIX}", entry, cache))))
        except LobeError as error:
            refused.append(Refused(name, f"Submission {name} is left out: {error}"))
    return found, refused


def unpacked(cache: Path) -> list[tuple[Path, int]]:
    """Folders of the cache that hold an unpacked submission, with their bytes."""
    folders = sorted(path for path in (cache / FOLDER).glob("*") if path.is_dir())
    return [(folder, sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())) for folder in folders]


def _unpacked(path: Path, entry: Entry, cache: Path) -> Path:
    """The folder with an archive's files; unpacked anew where the archive changed since."""
    folder = cache / FOLDER / entry.sha256
    try:
        stamp = stamp_of(path).hex()
        if (folder / _WHOLE).is_file() and read_text(folder / _WHOLE) == stamp:
            return folder
        private.folder(cache / FOLDER)
        with archive.opened(path) as given:
            if given.sha256 != entry.sha256:
                raise StoreError(f"{path} is not the archive that was accepted: its SHA-256 is not the one in the history.")
            with tempfile.TemporaryDirectory(prefix=f".{entry.id}-", dir=cache / FOLDER) as work:
                new = private.folder(Path(work) / "new")
                given.unpack(new, private.opener)
                (new / _WHOLE).write_text(stamp)
                shutil.rmtree(folder, ignore_errors=True)
                new.rename(folder)
        return folder
    except OSError as error:
        raise StoreError(f"{path} cannot be unpacked: {error.strerror}.") from None
