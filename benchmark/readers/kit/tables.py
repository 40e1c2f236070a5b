"""Label tables with line numbers, and image files by name: what several readers need before they know their release.

No meaning lives here: columns, ids and values belong to the readers. Rows keep their cells as written, because blanks tell releases apart.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from benchmark.errors import DataError, PartialRelease
from benchmark.readers.kit.text import open_text


@dataclass(frozen=True)
class Table:
    """A comma-separated file.

    Attributes:
        header: cells of the first line, as written.
        rows: (line number from 1, cells as written); blank lines are left out.
        separator: of cells.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    separator: str = ","


def read_table(path: Path, dataset: str, *, re_saved: str = "") -> Table:
    """The whole table in file order.

    Args:
        re_saved: the separator of known copies that were saved anew, told by the first line; empty knows none.

    Raises:
        DataError: no such file, an empty one, bytes that are not UTF-8, or quoting that does not close.
    """
    try:
        with open_text(path, dataset) as handle:
            separator = _separator(handle, re_saved) if re_saved else ","
            reader = csv.reader(handle, delimiter=separator, strict=True)
            rows = tuple((reader.line_num, tuple(cells)) for cells in reader if cells)
    except FileNotFoundError:
        raise DataError(f"{dataset}: {path.name} is missing in {path.parent}. It is part of the public release.") from None
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise DataError(f"{dataset}: {path.name} is not a readable table ({error}). Fetch the file again.") from None
    if not rows:
        raise DataError(f"{dataset}: {path.name} is empty. Fetch the file again.")
    return Table(path, rows[0][1], rows[1:], separator)


def _separator(handle: TextIO, re_saved: str) -> str:
    header = handle.readline()
    handle.seek(0)
    return re_saved if re_saved in header else ","


def require_columns(table: Table, expected: Iterable[str], dataset: str) -> None:
    """Raises DataError unless the header holds these names in this order, blanks around them aside."""
    expected, found = tuple(expected), tuple(name.strip() for name in table.header)
    if found != expected:
        raise DataError(
            f"{dataset}: {table.path.name} has the columns {', '.join(found)}; expected {', '.join(expected)}. "
            f"Compare with `lobe data verify {dataset}`."
        )


def cells_of(table: Table, n_cells: int, dataset: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Rows with their line number. Raises DataError where there is none, and at the first that has not `n_cells` cells."""
    if not table.rows:
        raise DataError(f"{dataset}: {table.path.name} has a header and no rows. Fetch the file again.")
    for line, cells in table.rows:
        if len(cells) != n_cells:
            raise DataError(f"{dataset}: {table.path.name} line {line:,} has {len(cells)} cells, expected {n_cells}: is the file cut off?")
        yield line, cells


def rows_by_name(table: Table, names: Iterable[str], dataset: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells by column, blanks around both aside. Columns stand in any order, and others may stand beside them.

    Raises:
        DataError: a column that is missing or there twice, no row, or one that is cut off.
    """
    names, header = tuple(names), [name.strip() for name in table.header]
    wrong = [name for name in names if header.count(name) != 1]
    if wrong:
        raise DataError(
            f"{dataset}: {table.path.name} does not have one column {wrong[0]}. Expected {', '.join(names)}; compare with "
            f"`lobe data verify {dataset}`."
        )
    for line, cells in cells_of(table, len(header), dataset):
        yield line, {name: cell.strip() for name, cell in zip(header, cells, strict=True)}


def released(base: Path, name: str, dataset: str) -> Path:
    """A label file of the release, by its place below `base`. Raises DataError where it is missing."""
    path = base / name
    if not path.exists():
        raise DataError(f"{dataset}: {name} is missing in {base}. It is part of the public release.")
    return path


def class_index(name: str, classes: Sequence[str], where: str, what: str = "class") -> int:
    """The place of a name among the card's classes.

    Args:
        where: dataset, file and line.
        what: the release's word for it.

    Raises:
        DataError: it is none of them.
    """
    if name not in classes:
        raise DataError(f"{where}: {what} {name!r}; expected one of {', '.join(classes)}.")
    return classes.index(name)


def require_inside(name: str, where: str) -> None:
    """Holds a file's name out of a label file to the folder that it is relative to, by its letters alone: folders may be links.

    Args:
        where: dataset, file and line. The name is not repeated: it may tell who was examined.

    Raises:
        DataError: the name is empty or absolute, goes up, or holds what no file name holds.
    """
    if not name or name.startswith(("/", "\\")) or "\0" in name or not {"", ".", ".."}.isdisjoint(name.replace("\\", "/").split("/")):
        raise DataError(f"{where}: a file is named by a path that is absolute or leads out of the dataset's folder. Was the file edited?")


def locate(
    ids: Iterable[str], found: Mapping[str, tuple[Path, ...]], dataset: str, listed_in: str, *, named: bool = True
) -> dict[str, Path]:
    """The one image file of each id.

    Args:
        named: whether sentences may name an image.

    Raises:
        PartialRelease: an id without a file; with the count, and three by name.
        DataError: an id with two files, which may differ.
    """
    ids = tuple(ids)
    missing = [i for i in ids if i not in found]
    if missing:
        some = f", for example {', '.join(missing[:3])}" if named else ""
        raise PartialRelease(
            f"{dataset}: {len(missing):,} of {len(ids):,} images listed in {listed_in} are not in the folder{some}. "
            "Is the download complete and unpacked?"
        )
    twice = [i for i in ids if len(found[i]) > 1]
    if twice:
        one, other = found[twice[0]][:2]
        what = f"image {twice[0]} exists twice: {one} and {other}" if named else f"{len(twice):,} of {len(ids):,} images exist twice"
        raise DataError(f"{dataset}: {what}. These may be two releases, and LOBE does not choose: move one copy away.")
    return {i: found[i][0] for i in ids}
