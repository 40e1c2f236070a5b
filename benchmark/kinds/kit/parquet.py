"""Parquet files of a job: columns, with key, task and split of the job in their header."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.cards import SCHEMA_VERSION, Job
from benchmark.errors import UsageError
from benchmark.files import open_regular

if TYPE_CHECKING:
    import pyarrow as pa


def write(path: Path, job: Job, columns: dict[str, Any], **about: str) -> None:
    """
    Args:
        columns: arrow arrays, or NumPy arrays, of one length.
        about: more for the header.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    header = {"schema_version": str(SCHEMA_VERSION), "key": job.key, "task": job.labels.task, **about}
    pq.write_table(pa.table(columns).replace_schema_metadata(header), path)


def read(path: Path) -> pa.Table:
    """Raises OSError or ValueError for what is no such file."""
    import pyarrow.parquet as pq

    with open_regular(path) as stored:
        return pq.read_table(stored)


def made_for(path: Path) -> tuple[str, str] | None:
    """Name and rule of the split in the header; None where it does not say.

    Raises:
        UsageError: not such a file.
    """
    import pyarrow.parquet as pq

    try:
        with open_regular(path) as stored:
            about = pq.read_schema(stored).metadata or {}
    except (OSError, ValueError) as error:
        raise UsageError(f"Cannot read the predictions {path}: {error}.") from None
    return (about[b"split"].decode(), about.get(b"split_rule", b"").decode()) if b"split" in about else None


def names_in(path: Path) -> set[str]:
    """Names of the images of its rows. Raises KeyError without a column `id`, and as `read`."""
    return set(read(path).column("id").to_pylist())
