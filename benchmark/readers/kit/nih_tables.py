"""The whole-image labels, official lists and picture folders of NIH ChestX-ray14, for the readers of its boxes and of its labels.

The header of the label table holds commas inside brackets, so rows are read by position. Boxes: `nih_cxr`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import DataError
from benchmark.imaging.person import age_decade, sex_of
from benchmark.readers.kit.tables import Table, read_table
from benchmark.readers.kit.text import numbered_lines
from benchmark.readers.kit.walk import files_in, find_files, folders_in, not_read

TEST_LIST, TRAIN_VAL_LIST = "test_list.txt", "train_val_list.txt"
ENTRY_TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
NORMAL = "No Finding"

_ID = re.compile(r"[0-9]{8}_[0-9]{3}")
_N_ENTRY_CELLS = 11


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the whole-image labels.

    Attributes:
        findings: as written between the bars.
        line: of the file, from 1.
    """

    findings: tuple[str, ...]
    view: str | None
    sex: str | None
    age_decade: int | None
    line: int


def read_entries(base: Path, dataset: str) -> tuple[dict[str, Entry], Path]:
    """Image id -> its row, in file order, and the file: that of 2020 where both are there.

    Raises:
        DataError: neither file, another header, a row that is cut off, no image name, or an image listed twice.
    """
    path = next((base / name for name in ENTRY_TABLES if (base / name).exists()), None)
    if path is None:
        raise DataError(f"{dataset}: neither {' nor '.join(ENTRY_TABLES)} is in {base}. It is part of the public release.")
    table = read_table(path, dataset)
    if [name.strip() for name in table.header[:2]] != ["Image Index", "Finding Labels"]:
        raise header_error(table, "Image Index, Finding Labels", dataset)
    entries: dict[str, Entry] = {}
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    for line, cells in table.rows:
        where = f"{dataset}: {path.name} line {line:,}"
        # The 2017 file ends each line with a comma, the 2020 one does not.
        if len(cells) < _N_ENTRY_CELLS or any(cell.strip() for cell in cells[_N_ENTRY_CELLS:]):
            raise DataError(f"{where} has {len(cells)} cells, expected {_N_ENTRY_CELLS}: is the file cut off?")
        sample_id = id_of(cells[0], where)
        if sample_id in entries:
            raise DataError(f"{where}: image {sample_id} is listed a second time. Each image has one row.")
        view = cells[6].strip()
        findings = tuple(cells[1].strip().split("|"))
        person = (sex_of(cells[5]), age_decade(cells[4]))
        entries[sample_id] = Entry(known.setdefault(findings, findings), view if view in ("PA", "AP") else None, *person, line)
    return entries, path


def earlier_table(path: Path, dataset: str) -> list[str]:
    """The warning for a second label table beside the one that is read, if there is one."""
    others = [name for name in ENTRY_TABLES if name != path.name and (path.parent / name).exists()]
    return [not_read(dataset, name, path.name) for name in others]


def read_list(path: Path, dataset: str, needed_for: str = "It is part of the public release.") -> tuple[str, ...]:
    """Ids of an official list in file order.

    Raises:
        DataError: no such file, a line that is no image name, or an image listed twice.
    """
    if not path.exists():
        raise DataError(f"{dataset}: {path.name} is missing in {path.parent}. {needed_for}")
    listed = [id_of(line, f"{dataset}: {path.name} line {k:,}") for k, line in numbered_lines(path, dataset)]
    twice = [i for i, n in Counter(listed).items() if n > 1]
    if twice:
        raise DataError(f"{dataset}: {path.name} lists {twice[0]} twice. The official list names each image once.")
    return tuple(listed)


def label_counts(entries: Iterable[Entry]) -> dict[str, int]:
    """Images by label that occurs, `labels_<name>`, without a finding, and with several."""
    listed = tuple(entries)
    named = Counter(finding for entry in listed if entry.findings != (NORMAL,) for finding in entry.findings)
    counts = {f"labels_{name.lower()}": n for name, n in named.items()}
    counts["labels_no_finding"] = sum(entry.findings == (NORMAL,) for entry in listed)
    counts["labels_several"] = sum(len(entry.findings) > 1 for entry in listed)
    return counts


def find_images(base: Path) -> dict[str, tuple[Path, ...]]:
    """PNG files by id, however the archives were unpacked.

    Only `images*` folders: LoVT's preparation leaves equalised copies under the same names in `processed_images`.
    """
    found: dict[str, tuple[Path, ...]] = {p.stem: (p,) for p in files_in(base) if p.suffix == ".png"}
    for folder in (p for p in folders_in(base) if p.name.startswith("images")):
        for stem, paths in find_files(folder, ".png").items():
            found[stem] = (*found.get(stem, ()), *paths)
    return found


def year_of(path: Path) -> str:
    """Of a label table, by its name."""
    return "2020" if "v2020" in path.name else "2017"


def layout(base: Path, images: Mapping[str, Path]) -> str:
    """How the archives were unpacked, in words."""
    depth = len(next(iter(images.values())).relative_to(base).parts) if images else 0
    return "in archive folders" if depth > 2 else "in one folder"


def patient_of(sample_id: str) -> str:
    """The eight digits before the underscore."""
    return sample_id.partition("_")[0]


def id_of(cell: str, where: str) -> str:
    """The image's id; raises DataError where the cell is no name such as 00000011_004.png."""
    stem = cell.strip().removesuffix(".png")
    if not _ID.fullmatch(stem):
        raise DataError(f"{where}: {cell.strip()!r} is no image name such as 00000011_004.png.")
    return stem


def header_error(table: Table, expected: str, dataset: str) -> DataError:
    """What to raise for a table that starts with other columns."""
    found = ", ".join(table.header[: expected.count(",") + 1])
    return DataError(f"{dataset}: {table.path.name} starts with the columns {found}; expected {expected}.")
