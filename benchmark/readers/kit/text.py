"""How text of a release is opened, by every reader: UTF-8 with or without a byte order mark, any line ends, packed by gzip or not.

Editors and spreadsheets save tables anew with a mark in front, which would otherwise become a part of the first cell. Text of 16 or 32
bits a character is refused by name, before it is taken for damage.
"""

from __future__ import annotations

import codecs
import gzip
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from benchmark import json_files
from benchmark.errors import DataError
from benchmark.files import open_regular, read_bytes

_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)  # that of UTF-32 LE begins as that of UTF-16 LE


@contextmanager
def open_text(path: Path, dataset: str) -> Iterator[TextIO]:
    """Opens a text file for reading, its line ends as they are: what the module csv asks for.

    Raises:
        DataError: bytes that are not UTF-8, with a word on which they are where a mark tells.
        OSError: as `open`.
    """
    with open_regular(path) as file, gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file as raw:
        if raw.peek(4).startswith(_WIDE):
            raise _wide(path, dataset)
        try:
            yield TextIOWrapper(raw, encoding="utf-8-sig", newline="")
        except UnicodeDecodeError as error:
            raise DataError(f"{dataset}: {path.name} is not a readable text in UTF-8 ({error.reason}). Fetch the file again.") from None


def read_text(path: Path, dataset: str) -> str:
    """The whole text. Raises as `open_text` does."""
    with open_text(path, dataset) as handle:
        return handle.read()


def read_lines(path: Path, dataset: str) -> list[str]:
    """Lines without their ends. Raises as `open_text` does."""
    return read_text(path, dataset).splitlines()


def numbered_lines(path: Path, dataset: str) -> Iterator[tuple[int, str]]:
    """(line number from 1, line without its end) of lines that are not blank. Raises as `open_text` does."""
    return ((number, line) for number, line in enumerate(read_lines(path, dataset), start=1) if line.strip())


def read_json(path: Path, dataset: str, shape: type) -> Any:
    """What a JSON file holds, packed or not. Raises as `open_text` does, and ValueError as `json_files.read`."""
    return json_files.parse(read_text(path, dataset), shape)


def read_xml(path: Path, dataset: str, what: str) -> ElementTree.Element:
    """The root of an XML file, in the encoding that its first line declares.

    Args:
        what: the file should be, for sentences.

    Raises:
        DataError: no readable XML, or one that declares a document type, which no file of a release does: entities could fill the memory.
    """
    try:
        raw = read_bytes(path)
        # Wide text would hide a document type from the search for it.
        if raw.startswith(_WIDE) or b"\0" in raw:
            raise _wide(path, dataset)
        if b"<!DOCTYPE" in raw or b"<!ENTITY" in raw:
            raise DataError(f"{dataset}: {path.name} declares a document type; no file of the release does. Fetch it again.")
        return ElementTree.fromstring(raw)
    except (OSError, ElementTree.ParseError, LookupError, ValueError) as error:
        raise DataError(f"{dataset}: {path.name} is not a readable {what} ({type(error).__name__}). Fetch it again.") from None


def _wide(path: Path, dataset: str) -> DataError:
    return DataError(
        f"{dataset}: {path.name} is saved in UTF-16 or UTF-32, as some spreadsheets do, and the release is in UTF-8. Fetch the file again, "
        "or save it as UTF-8."
    )
