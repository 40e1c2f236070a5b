"""Per-image statistics beside the records: what a report resamples. Read once a run, and kept as small as its metric allows.

What follows from them lives in `resampling`; so that no report reads large files again, it keeps what it computed in the output folder
under a stamp of the files' sizes and times.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmark import json_files, private
from benchmark.cards import digest_of
from benchmark.files import write_atomically
from benchmark.integrity import file_of
from benchmark.kinds.kit.stored import STATISTICS_FILE, STATISTICS_FILES, ByImage, read_statistics
from benchmark.metrics.statistics import Statistics, reduced_to
from benchmark.shelf import read_record

FOLDER = "resamples"
Where = Path | Mapping[str, Path]
"""The output folder of all records, or that of each record by its key, where several folders are reported together."""


@dataclass(frozen=True)
class TestedImages:
    """Statistics of one run, as far as one metric reads them.

    Attributes:
        clusters: patient of each image; an image without a known patient stands for itself.
        test: digest of images and patients: equal for what can be compared image by image.
        by_patient: False where no patient is known.
        facts: "view", "sex", "age_decade" -> a text per image, None where unknown.
    """

    statistics: Statistics
    clusters: tuple[str, ...]
    test: str
    by_patient: bool
    facts: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)

    @property
    def n_clusters(self) -> int:
        return len(set(self.clusters))


def folder_of(key: str, where: Where) -> Path:
    """The output folder that holds a record."""
    return where if isinstance(where, Path) else where[key]


def stamp(key: str, out: Path) -> list[Any] | None:
    """Size and time of the statistics of a record; None where `out` has none."""
    for name in STATISTICS_FILES:
        try:
            found = (out / "predictions" / key / name).stat()
        except OSError:
            continue
        return [key, found.st_size, found.st_mtime_ns]
    return None


def read(key: str, metric: str, out: Path) -> TestedImages:
    """Statistics of a record.

    Raises:
        OSError: there are none.
        StoreError: the record or the file is not what was stored.
        UsageError: the file is no statistics file.
    """
    folder, record = out / "predictions" / key, out / "records" / f"{key}.json"
    if record.exists():
        believed = read_record(record)
        paths = [path for name in STATISTICS_FILES if (path := file_of(believed, name, out)) is not None]
    else:
        paths = [folder / name for name in STATISTICS_FILES if (folder / name).exists()]
    if not paths:
        raise FileNotFoundError(folder / STATISTICS_FILE)
    found = paths[0].stat()
    return _read(paths[0], found.st_size, found.st_mtime_ns, metric)


def tested(found: ByImage, metric: str) -> TestedImages:
    """What one metric reads of statistics, which may be whole."""
    clusters = tuple(
        f"image {i}" if patient is None else f"patient {patient}" for i, patient in zip(found.ids, found.patients, strict=True)
    )
    test = digest_of([list(found.ids), clusters])
    by_patient = any(patient is not None for patient in found.patients)
    return TestedImages(reduced_to(found.statistics, metric), clusters, test, by_patient, found.facts)


def keep(name: str, given: dict[str, Any], found: dict[str, Any], out: Path) -> None:
    """Keeps a result with what it was computed from, and a checksum of both."""
    private.folder(out / FOLDER)
    content = {"given": given, "found": found}
    write_atomically(out / FOLDER / f"{name}.json", json.dumps({**content, "checksum": digest_of(content)}).encode(), private.opener)


def is_kept(name: str, out: Path) -> bool:
    """Whether there is anything under that name, whatever it was computed from."""
    return (out / FOLDER / f"{name}.json").exists()


def kept(name: str, given: dict[str, Any], out: Path) -> dict[str, Any] | None:
    """What `keep` wrote from the same; None where it was something else, is damaged or was edited: it is then computed anew."""
    try:
        stored = json_files.read(out / FOLDER / f"{name}.json")
        whole = stored.pop("checksum") == digest_of(stored)
        return dict(stored["found"]) if whole and stored["given"] == given else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


# A suite of 18 tasks with 5 runs each holds 90 runs a backbone.
@lru_cache(maxsize=400)
def _read(path: Path, size: int, mtime_ns: int, metric: str) -> TestedImages:
    return tested(read_statistics(path, metric), metric)
