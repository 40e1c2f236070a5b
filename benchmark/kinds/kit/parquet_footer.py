"""What the footer of a Parquet file declares: header, rows and values, read before anything is decoded.

Read here and not by pyarrow, whose accessors of single columns end the whole process on some damaged footers. Its form is Thrift's compact
protocol; the numbers of fields are those of parquet-format's `parquet.thrift` (FileMetaData, RowGroup, ColumnChunk, ColumnMetaData).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

MAGIC = b"PAR1"
BYTE_ARRAY, FIXED = 6, 7  # physical types; a text or bytes of any length, and bytes of one length
_WIDTHS = (1, 4, 8, 12, 4, 8, 4)  # bytes of a value of the types before FIXED; of a BYTE_ARRAY its length
_MOST_BYTES = 2**28
_DEEPEST = 16
_TRUE, _FALSE, _BYTE, _WHOLE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, (4, 5, 6), 7, 8, 9, 10, 12  # types of Thrift


@dataclass(frozen=True)
class Footer:
    """
    Attributes:
        header: names and texts of the file.
        rows: of each group.
        decoded_bytes: what all columns take once decoded, without the bytes of texts.
        texts: paths of the columns that hold texts or bytes.
    """

    header: Mapping[str, str]
    rows: tuple[int, ...]
    decoded_bytes: int
    texts: tuple[str, ...]


def read(handle: IO[bytes]) -> Footer:
    """Raises ValueError for what is no Parquet file, or has a footer that contradicts itself."""
    size = os.fstat(handle.fileno()).st_size
    handle.seek(max(size - 8, 0))
    end = handle.read(8)
    length = int.from_bytes(end[:4], "little")
    if size < 12 or end[4:] != MAGIC or length > min(size - 8, _MOST_BYTES):
        raise ValueError("it has no footer")
    handle.seek(size - 8 - length)
    try:
        return _footer(_Reader(handle.read(length)).struct(0))
    except (KeyError, IndexError, TypeError, AttributeError, UnicodeDecodeError):
        raise ValueError("its footer is damaged") from None


def _footer(found: dict[int, Any]) -> Footer:
    groups = found[4]
    widest = max((element.get(2, 0) for element in found[2] if element.get(1) == FIXED), default=0)
    rows = tuple(group[3] for group in groups)
    if any(n < 0 for n in rows) or sum(rows) != found[3] or len(found[2]) < 1:
        raise ValueError("its footer contradicts itself")
    decoded, texts = 0, []
    for group, n in zip(groups, rows, strict=True):
        for chunk in group[1]:
            if 1 in chunk:
                raise ValueError("a column of it lies in another file")
            column = chunk[3]
            kind, path, n_values = column[1], b".".join(column[3]).decode(), column[5]
            if not 0 <= kind <= FIXED or n_values < 0:
                raise ValueError("its footer contradicts itself")
            decoded += max(n_values, n) * (widest if kind == FIXED else _WIDTHS[kind])
            if kind == BYTE_ARRAY:
                texts.append(path)
    header = {pair[1].decode(errors="replace"): pair.get(2, b"").decode(errors="replace") for pair in found.get(5, ())}
    return Footer(header, rows, decoded, tuple(dict.fromkeys(texts)))


class _Reader:
    """Thrift's compact protocol; every method raises IndexError where the bytes end."""

    def __init__(self, content: bytes):
        self.content, self.at = content, 0

    def struct(self, depth: int) -> dict[int, Any]:
        """Values by the number of their field."""
        if depth > _DEEPEST:
            raise ValueError("its footer is nested too deeply")
        found: dict[int, Any] = {}
        field = 0
        while (head := self.byte()) != 0:
            step, kind = head >> 4, head & 0x0F
            field = field + step if step else self.whole()
            found[field] = kind == _TRUE if kind in (_TRUE, _FALSE) else self.value(kind, depth)
        return found

    def value(self, kind: int, depth: int) -> Any:
        if kind in (_TRUE, _FALSE, _BYTE):
            return self.byte()
        if kind in _WHOLE:
            return self.whole()
        if kind == _DOUBLE:
            return self.bytes(8)
        if kind == _BINARY:
            return self.bytes(self.natural())
        if kind in (_LIST, _SET):
            if depth > _DEEPEST:
                raise ValueError("its footer is nested too deeply")
            head = self.byte()
            n = head >> 4 if head >> 4 != 15 else self.natural()
            if n > len(self.content) - self.at:  # each takes a byte at least
                raise IndexError
            return [self.value(head & 0x0F, depth + 1) for _ in range(n)]
        if kind == _STRUCT:
            return self.struct(depth + 1)
        raise ValueError("its footer is damaged")  # a map, which no footer has, or nothing at all

    def byte(self) -> int:
        self.at += 1
        return self.content[self.at - 1]

    def bytes(self, n: int) -> bytes:
        if n > len(self.content) - self.at:
            raise IndexError
        self.at += n
        return self.content[self.at - n : self.at]

    def natural(self) -> int:
        """A number of seven bits a byte, at most 64 in all."""
        found = shift = 0
        while shift < 70:
            part = self.byte()
            found |= (part & 0x7F) << shift
            if part < 0x80:
                return found
            shift += 7
        raise IndexError

    def whole(self) -> int:
        """A number whose last bit is its sign."""
        number = self.natural()
        return (number >> 1) ^ -(number & 1)
