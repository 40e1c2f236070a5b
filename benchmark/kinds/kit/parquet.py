"""Files of columns (Parquet): the one module that writes and reads them. Key, task and format stand in the header, a row is an image.

Rows come in groups of `ROWS`, so that a file is read in parts. A file may come from anywhere: how much it decodes to is looked at first,
and what it holds instead of what belongs there is a sentence with its column and row. The format: docs/results-format.md.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.cards import SCHEMA_VERSION, Job
from benchmark.errors import UsageError
from benchmark.files import open_regular
from benchmark.kinds.kit import parquet_footer
from benchmark.kinds.kit.parquet_footer import Footer
from benchmark.metrics.columns import Column, Lists

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROWS = 256  # images in a group of rows
LEVEL = 3  # of zstd: level 9 saves 1 % of the bytes of boxes and takes twice as long
# What a file may decode to, in bytes: as much for each byte of the file, or as much in any case. Repeated values take next to nothing in a
# file, so a small one could fill a machine's memory; files of LOBE stay below a tenth of either.
MOST_FOLD, MOST_SMALL = 256, 2**30
MOST_LOADED = 2**26  # bytes of a file that may be held decoded at once


def is_one(path: Path) -> bool:
    """Whether a file is named or begins like one of columns. Raises OSError where it cannot be opened."""
    with open_regular(path) as file:
        return path.suffix == ".parquet" or file.read(len(parquet_footer.MAGIC)) == parquet_footer.MAGIC


def write(path: Path, job: Job, columns: Mapping[str, Any], **about: str) -> None:
    """
    Args:
        columns: arrow arrays, NumPy arrays or `Lists`, of one length.
        about: more for the header.
    """
    save(path, columns, {"key": job.key, "task": job.labels.task, **about})


def save(path: Path, columns: Mapping[str, Any], header: Mapping[str, str]) -> None:
    """As `write`, with the whole header but the version of its form, which is added."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: _arrow(column) for name, column in columns.items()})
    leaves = {_leaf(field.name, field.type): _innermost(field.type) for field in table.schema}
    real = {name for name, kind in leaves.items() if pa.types.is_floating(kind)}
    pq.write_table(
        table.replace_schema_metadata({"schema_version": str(SCHEMA_VERSION), **header}),
        path,
        row_group_size=ROWS,
        compression="zstd",
        compression_level=LEVEL,
        use_dictionary=[name for name in leaves if name not in real],
        column_encoding=dict.fromkeys(real, "BYTE_STREAM_SPLIT"),
        write_statistics=False,
    )


@dataclass(frozen=True)
class Opened:
    """A file whose footer was read; columns are read when asked for. Every method raises UsageError for what is not as it belongs.

    Attributes:
        names: of the columns, in order.
        most_bytes: that the file may decode to.
    """

    path: Path
    footer: Footer
    schema: pa.Schema
    names: tuple[str, ...]
    file: pq.ParquetFile
    most_bytes: int
    _loaded: dict[tuple[int, str], list[pa.Array]] = field(default_factory=dict)

    def load(self, names: Sequence[str]) -> None:
        """Reads columns that will be asked for together, in half the time; those of a large file are read one by one all the same."""
        wanted = [name for name in names if name in self.names and name not in self.repeated]
        if self.footer.decoded_bytes > MOST_LOADED:
            return
        with guarded(self.path):
            for group in range(len(self.footer.rows)):
                table = self.file.read_row_group(group, wanted, use_threads=False)
                self._loaded.update({(group, name): table.column(name).chunks for name in wanted})

    @property
    def header(self) -> Mapping[str, str]:
        """Names and texts."""
        return self.footer.header

    @property
    def n_images(self) -> int:
        return sum(self.footer.rows)

    @cached_property
    def repeated(self) -> dict[str, int]:
        """How often there is a column of each name that several have."""
        return {name: n for name, n in Counter(self.names).items() if n > 1}

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Names of the images, in order."""
        return tuple(self.texts("id"))

    def texts(self, name: str) -> list[str]:
        """A text for each image."""
        found = self.optional_texts(name)
        if None in found:
            raise UsageError(f"{self.path}, row {found.index(None) + 1:,}: its {name} is missing.")
        return [text for text in found if text is not None]

    def optional_texts(self, name: str) -> list[str | None]:
        """A text or nothing for each image."""
        kind = self._type(name)
        if _is_list(kind) or not _is_text(_innermost(kind)):
            raise self._wrong(name, kind, "a text for each image")
        chunks = self._chunks(name)
        with guarded(self.path):
            return [text for chunk in chunks for text in _plain(chunk).to_pylist()]

    def values(self, name: str) -> np.ndarray:
        """(N,) numbers, one for each image; whole numbers as int64, others as float64."""
        import pyarrow as pa

        kind = self._type(name)
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise self._wrong(name, kind, "a number for each image")
        chunks = self._chunks(name)
        with guarded(self.path):
            whole = pa.concat_arrays(chunks) if chunks else pa.array([], kind)
            self._require_none_missing(f"its {name}", whole, np.arange(len(whole)))
            return np.asarray(whole.to_numpy(zero_copy_only=False)).astype(np.int64 if pa.types.is_integer(kind) else np.float64)

    def numbers(self, name: str, images: Sequence[int] | None = None) -> Lists:
        """A list of numbers for each image: whole numbers as int64, others as stored.

        Args:
            images: those wanted, in that order; None for all.
        """
        import pyarrow as pa

        kind = _innermost(self._type(name))
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise self._wrong(name, self._type(name), "a list of numbers for each image")
        counts, leaf = self._lists(name, images, "a list of numbers for each image")
        with guarded(self.path):
            values = leaf.to_numpy(zero_copy_only=False)
            return Lists(counts, values.astype(np.int64) if pa.types.is_integer(kind) else values)

    def column(self, name: str) -> Column:
        """A number or a list of numbers for each image, whichever the column has."""
        return self.numbers(name) if _is_list(self._type(name)) else self.values(name)

    def codes(self, name: str, images: Sequence[int] | None = None) -> list[list[bytes]]:
        """A list of byte strings for each image."""
        import pyarrow as pa

        if not _is_text(_innermost(self._type(name)), of_bytes=True):
            raise self._wrong(name, self._type(name), "a list of byte strings for each image")
        counts, leaf = self._lists(name, images, "a list of byte strings for each image")
        with guarded(self.path):
            values = leaf.cast(pa.large_binary()).to_pylist()
        ends = np.cumsum(counts)
        return [values[end - n : end] for n, end in zip(counts, ends, strict=True)]

    def named(self, row: int) -> str:
        """A row for a sentence: its place, counted from 1, and its image."""
        return f"row {row + 1:,} ({self.ids[row]})"

    def _type(self, name: str) -> pa.DataType:
        if name in self.repeated:
            raise UsageError(f"{self.path} has {self.repeated[name]} columns {name!r}.")
        place = self.schema.get_field_index(name)
        if place < 0:
            raise UsageError(f"{self.path} has no column {name!r}; it has {', '.join(map(repr, self.names[:20])) or 'none'}.")
        return self.schema.field(place).type

    def _wrong(self, name: str, kind: pa.DataType, wanted: str) -> UsageError:
        held = f"lists of {_innermost(kind)}" if _is_list(kind) else str(_innermost(kind))
        return UsageError(f"{self.path}: its column {name!r} holds {held[:80]}, expected {wanted}.")

    def _chunks(self, name: str, groups: Sequence[int] | None = None) -> list[pa.Array]:
        """A column in pieces, or the rows of some groups."""
        kind = self._type(name)
        is_text = _is_text(_innermost(kind), of_bytes=True)
        found: list[pa.Array] = []
        n_bytes = 0
        with guarded(self.path):
            for group in range(len(self.footer.rows)) if groups is None else groups:
                chunks = self._loaded.get((group, name))
                if chunks is None:
                    chunks = self.file.read_row_group(group, [name], use_threads=False).column(name).chunks
                if sum(map(len, chunks)) != self.footer.rows[group]:
                    raise ValueError(f"its column {name!r} has fewer rows than its footer says")
                if is_text:  # read as a table of different ones and their places: their length is known before there is a copy of each
                    n_bytes += sum(_text_bytes(chunk) for chunk in chunks)
                    if n_bytes > self.most_bytes:
                        raise _too_large(self.path, n_bytes)
                found += chunks
        return found

    def _lists(self, name: str, images: Sequence[int] | None, wanted: str) -> tuple[np.ndarray, pa.Array]:
        """Length of each list, and the values one after another."""
        import pyarrow as pa
        import pyarrow.compute as pc

        kind = self._type(name)
        if not _is_list(kind) or _is_list(kind.value_type):
            raise self._wrong(name, kind, wanted)
        starts = np.cumsum([0, *self.footer.rows])
        rows = np.arange(self.n_images) if images is None else np.asarray(images, np.int64)
        groups = np.unique(np.searchsorted(starts, rows, side="right") - 1)
        there = np.concatenate([np.zeros(0, np.int64), *(np.arange(starts[k], starts[k + 1]) for k in groups)])
        counts, leaves, n_seen = [np.zeros(0, np.int64)], [], 0
        for chunk in self._chunks(name, groups.tolist()):
            with guarded(self.path):
                self._require_none_missing(f"its {name}", chunk, there[n_seen : n_seen + len(chunk)])
                each = pc.list_value_length(chunk).to_numpy(zero_copy_only=False).astype(np.int64)
                leaf = chunk.flatten()
                self._require_none_missing(f"a value of its {name}", leaf, np.repeat(there[n_seen : n_seen + len(chunk)], each))
                leaves.append(_plain(leaf))
            counts.append(each)
            n_seen += len(chunk)
        found = Lists(np.concatenate(counts), np.zeros(0))
        with guarded(self.path):
            leaf = pa.concat_arrays(leaves) if leaves else pa.array([], _innermost(kind))
            if images is None:
                return found.counts, leaf
            place = np.searchsorted(there, rows)
            n_values = found.counts[place]
            within = np.arange(n_values.sum()) - np.repeat(np.cumsum(n_values) - n_values, n_values)
            return n_values, leaf.take(pa.array(np.repeat(found.first[place], n_values) + within))

    def _require_none_missing(self, what: str, values: pa.Array, row: np.ndarray) -> None:
        """`row`: of each value."""
        if values.null_count:
            first = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
            raise UsageError(f"{self.path}, {self.named(int(row[first]))}: {what} is missing.")


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """A file, its header read and its size looked at; nothing is decoded yet.

    Raises:
        UsageError: it is no such file, it is damaged, it would decode to more than its size allows, or a newer LOBE wrote it.
    """
    import pyarrow.parquet as pq

    with ExitStack() as stack:
        with guarded(path):
            handle = stack.enter_context(open_regular(path))
            footer = parquet_footer.read(handle)
            most_bytes = max(MOST_FOLD * os.fstat(handle.fileno()).st_size, MOST_SMALL)
            _require_known(path, footer.header)
            if footer.decoded_bytes > most_bytes:
                raise _too_large(path, footer.decoded_bytes)
            file = stack.enter_context(pq.ParquetFile(handle, read_dictionary=list(footer.texts)))
            schema = file.schema_arrow
            found = Opened(path, footer, schema, tuple(schema.names), file, most_bytes)
        yield found


def made_for(path: Path) -> tuple[str, str] | None:
    """Name and rule of the split in the header; None where it does not say.

    Raises:
        UsageError: not such a file.
    """
    with opened(path) as found:
        return split_in(found.header)


def split_in(header: Mapping[str, str]) -> tuple[str, str] | None:
    """As `made_for`, of a header at hand."""
    return (header["split"], header.get("split_rule", "")) if "split" in header else None


def names_in(path: Path) -> set[str]:
    """Texts of its columns, which may name images, also of a file with faults. Raises UsageError where it cannot be read."""
    found: set[str] = set()
    with opened(path) as file:
        for name in file.names:
            if name not in file.repeated and _is_text(_innermost(file._type(name))):
                with guarded(path):
                    leaves = [chunk.flatten() if _is_list(chunk.type) else chunk for chunk in file._chunks(name)]
                    found.update(text for leaf in leaves for text in _plain(leaf).to_pylist() if text is not None)
    return found


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Whatever arrow says of a file that it cannot read, as a sentence."""
    import pyarrow as pa

    try:
        yield
    except UsageError:
        raise
    except (OSError, ValueError, TypeError, LookupError, OverflowError, MemoryError, NotImplementedError, pa.ArrowException) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"Cannot read {path}: {first[:300].rstrip('.')}. Is it a whole Parquet file?") from None


def _require_known(path: Path, header: Mapping[str, str]) -> None:
    version = header.get("schema_version", "0")
    if not version.isdecimal() or len(version) > 6:
        raise UsageError(f"{path}: its header says schema_version {version[:40]!r}, which is no number.")
    if int(version) > SCHEMA_VERSION:
        raise UsageError(f"{path} was written by a newer LOBE (schema {version} > {SCHEMA_VERSION}); update LOBE to read it.")


def _too_large(path: Path, n_bytes: int) -> UsageError:
    return UsageError(
        f"{path} would decode to {n_bytes / 1e9:,.1f} GB, far more than its size tells of. It is not read; write its columns without "
        "endless repetition."
    )


def _arrow(column: Any) -> Any:
    import pyarrow as pa

    if not isinstance(column, Lists):
        return column
    ends = np.cumsum(np.r_[0, column.counts])
    values = column.values if isinstance(column.values, pa.Array) else pa.array(column.values)
    if ends[-1] < 2**31:
        return pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), values)
    return pa.LargeListArray.from_arrays(pa.array(ends.astype(np.int64)), values)


def _plain(values: pa.Array) -> pa.Array:
    """Texts without their table of different ones, wide enough for any length."""
    import pyarrow as pa

    kind = _innermost(values.type)
    if not _is_text(kind, of_bytes=True):
        return values
    return values.cast(pa.large_string() if _is_text(kind) else pa.large_binary())


def _text_bytes(chunk: pa.Array) -> int:
    """Bytes of all texts of a piece, written out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    leaf = chunk.flatten() if _is_list(chunk.type) else chunk
    if not pa.types.is_dictionary(leaf.type):
        return int(pc.sum(pc.binary_length(leaf)).as_py() or 0)
    each = pc.binary_length(leaf.dictionary).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    times = np.bincount(leaf.indices.drop_null().to_numpy(), minlength=len(each))
    return int(times[: len(each)] @ each)


def _is_list(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _innermost(kind: pa.DataType) -> pa.DataType:
    """The type of single values."""
    import pyarrow as pa

    while _is_list(kind):
        kind = kind.value_type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType, *, of_bytes: bool = False) -> bool:
    import pyarrow as pa

    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return bool(text or (of_bytes and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind))))


def _leaf(name: str, kind: pa.DataType) -> str:
    """Path of a column's values in the schema of a file that is written here."""
    return f"{name}.list.element" if _is_list(kind) else name
