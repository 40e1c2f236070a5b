"""What a forger does: edits an archive and counts all checksums, digests and the manifest anew; only the content speaks against it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmark.cards import Record
from benchmark.integrity import bytes_digest, sealed
from benchmark.kinds.kit.stored import ByImage, read_statistics, write_statistics
from benchmark.submission import archive
from benchmark.submission.manifest import NAME, Manifest, PackedFile

Files = dict[str, bytes]


def contents(file: Path) -> tuple[Files, Manifest]:
    with archive.opened(file) as given:
        return {name: given.read(name) for name in given.names if name != NAME}, given.manifest


def packed(files: Files, manifest: Manifest, to: Path) -> Path:
    """An archive of these files with a manifest that names them."""
    listed = tuple(PackedFile(name=name, bytes=len(content), sha256=bytes_digest(content)) for name, content in sorted(files.items()))
    whole = files | {NAME: manifest.model_copy(update={"files": listed}).model_dump_json(indent=1).encode()}
    archive.write(to, {name: (lambda content=content: content) for name, content in whole.items()})
    return to


def records_of(files: Files, task: str = "") -> list[dict[str, Any]]:
    """Records of the archive in order, of one task where it is named."""
    found = [json.loads(content) for name, content in sorted(files.items()) if name.startswith("records/")]
    return [raw for raw in found if not task or raw["job"]["labels"]["task"] == task]


def put(files: Files, raw: dict[str, Any]) -> None:
    """Puts an edited record back: its key, the digests of its files and its checksum are counted anew."""
    before = raw["key"]
    record = Record.model_validate(raw | {"checksum": ""})
    if record.job.key != before:
        moved = {name: name.replace(before, record.job.key) for name in files if before in name}
        for old, new in moved.items():
            files[new] = files.pop(old)
        record = record.model_copy(update={"key": record.job.key})
    names = tuple(sorted(name for name in files if name.startswith(f"predictions/{record.key}/")))
    digests = {name: bytes_digest(files[name]) for name in names}
    again = sealed(record.model_copy(update={"predictions": names, "file_digests": digests}))
    files[f"records/{record.key}.json"] = again.model_dump_json(indent=1).encode()


def statistics_in(files: Files, raw: dict[str, Any]) -> ByImage:
    """The statistics of a record."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "statistics.parquet"
        path.write_bytes(files[f"predictions/{raw['key']}/statistics.parquet"])
        return read_statistics(path)


def edit_statistics(files: Files, raw: dict[str, Any], change: Callable[[ByImage], ByImage]) -> None:
    """Replaces the statistics of a record."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "statistics.parquet"
        write_statistics(path, change(statistics_in(files, raw)), {"key": raw["key"], "task": raw["job"]["labels"]["task"]})
        files[f"predictions/{raw['key']}/statistics.parquet"] = path.read_bytes()
