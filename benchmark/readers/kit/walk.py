"""The files of a release, as every reader and every count sees them: one walk, the same on every disk.

Linked folders are followed, because image folders often lie on another disk. What a computer leaves beside files is no part of a release:
names with a leading dot (`._NAME` beside every file on a disk written by a Mac, `.DS_Store`, `.git`), previews and rubbish bins. Orders are
by name, not the file system's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmark.errors import DataError

LITTER = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "system volume information", "lost+found"}


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is none of a release."""
    return name.startswith(".") or name.lower() in LITTER


def names_in(folder: Path) -> set[str]:
    """Names of what a folder itself holds, without a look at each, which is dear on a disk far away. None without a folder."""
    return {path.name for path in _entries(folder)}


def files_in(folder: Path, suffix: str = "") -> tuple[Path, ...]:
    """Files of a folder itself, by name; with a suffix (in small letters) those that end so, in any case. None without a folder."""
    return tuple(path for path in _entries(folder) if path.name.lower().endswith(suffix) and path.is_file())


def folders_in(folder: Path) -> tuple[Path, ...]:
    """Folders of a folder itself, and links to folders, by name."""
    return tuple(path for path in _entries(folder) if path.is_dir())


def holds_nothing(folder: Path) -> bool:
    """Whether the folder is empty but for litter."""
    return not _entries(folder)


def walk(folder: Path) -> Iterator[Path]:
    """Files below a folder at any depth, links to files among them.

    The folder's own tree comes first, then what is linked. A link that leads upwards, to a folder that it was reached through, is passed
    over, and a folder that is reached twice counts once: a file keeps its own place where a link leads to it as well.

    Raises:
        DataError: a folder that is there and cannot be listed: its files would be missing without a word.
    """
    above = {os.path.realpath(parent) for parent in folder.absolute().parents}
    seen: set[str] = set()
    waiting = [folder]
    while waiting:
        for place, folders, names in os.walk(waiting.pop(0), onerror=_unlisted):
            real = os.path.realpath(place)
            if real in seen or real in above:
                folders.clear()
                continue
            seen.add(real)
            kept = [Path(place, name) for name in sorted(folders) if not is_litter(name)]
            linked = [path for path in kept if path.is_symlink()]
            waiting += [path for path in linked if not os.path.join(real, "").startswith(os.path.join(os.path.realpath(path), ""))]
            folders[:] = [path.name for path in kept if path not in linked]
            yield from (Path(place, name) for name in sorted(names) if not is_litter(name))


def find_files(folder: Path, suffix: str) -> dict[str, tuple[Path, ...]]:
    """Files below `folder` by stem, at any depth, in a fixed order; a file and links to it are one."""
    found: dict[str, tuple[Path, ...]] = {}
    for path in walk(folder):
        stem, ending = os.path.splitext(path.name)
        if ending.lower() == suffix:
            found[stem] = _distinct((*found.get(stem, ()), path))
    return found


def first_folder_with(root: Path, names: Iterable[str], dataset: str) -> Path | None:
    """`root`, or the one folder in it that holds one of `names`: archives unpack with or without their top folder.

    Raises:
        DataError: `root` holds none of them, and two of its folders do.
    """
    names = tuple(names)
    if _holds(root, names):
        return root
    return the_one(dataset, f"a {names[0]}", [folder for folder in folders_in(root) if _holds(folder, names)])


def the_one(dataset: str, what: str, found: Iterable[Path]) -> Path | None:
    """The only place of several that may hold the same thing; None of none. Links to one place are that place.

    Raises:
        DataError: two places, which may differ. Both are named, and how to choose.
    """
    places = _distinct(tuple(found))
    if len(places) > 1:
        raise DataError(
            f"{dataset}: {what} is in {' and in '.join(map(str, places[:2]))}. These may be two releases, and LOBE does not choose: "
            f"move one away, or name the folder with --data {dataset}=PATH."
        )
    return places[0] if places else None


def the_one_needed(dataset: str, what: str, found: Iterable[Path], otherwise: str) -> Path:
    """As `the_one`, of something that has to be there. Raises DataError with `dataset: otherwise` where no place holds it."""
    place = the_one(dataset, what, found)
    if place is None:
        raise DataError(f"{dataset}: {otherwise}")
    return place


def not_read(dataset: str, left: str, read: str) -> str:
    """The warning for a second release beside the one that is read: both, and how to choose the other."""
    return (
        f"{dataset}: two releases lie side by side: {read} (read) and {left} (not read). To choose the other, move the first away, or name "
        f"its folder with --data {dataset}=PATH."
    )


def _entries(folder: Path) -> list[Path]:
    try:
        names = os.listdir(folder)
    except OSError as error:
        _unlisted(error)
        return []
    return [folder / name for name in sorted(names) if not is_litter(name)]


def _unlisted(error: OSError) -> None:
    """A folder that is not there holds nothing; one that cannot be listed is an error."""
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise DataError(f"The folder {error.filename} cannot be listed: {error.strerror}. May you read it?") from None


def _holds(folder: Path, names: Iterable[str]) -> bool:
    return any((folder / name).exists() for name in names)


def _distinct(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """The paths without links to a place that is among them, and of several links to one place the first."""
    if len(paths) == 1:
        return paths
    kept: dict[str, Path] = {}
    for path in sorted(paths, key=Path.is_symlink):
        kept.setdefault(os.path.realpath(path), path)
    return tuple(path for path in paths if path in kept.values())
