"""SCR's outlines on disk: which file is the mask of which structure of which image, and the fold that the image lies in.

Two layouts are known: SCR's own with fold1 and fold2, and re-releases with one folder a structure and no folds. SCR may not be passed on,
so no error names a file: folders are told, and how many files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import DataError
from benchmark.readers.kit.walk import find_files, first_folder_with

FOLDS = ("fold1", "fold2")
STRUCTURES = {"lungs": ("left lung", "right lung"), "heart": ("heart",)}  # class -> structures whose union it is
READ = tuple(structure for structures in STRUCTURES.values() for structure in structures)
KNOWN = (*READ, "left clavicle", "right clavicle")
ENDINGS = (".gif", ".png")  # SCR's own first: PNG is read where there is no GIF


@dataclass(frozen=True)
class Outlines:
    """Masks of every image that has some.

    Attributes:
        files: stem -> fold -> structure -> file.
        folders: the folders, below the dataset's own, that hold one folder a structure; for sentences.
        split_on_disk: folders decide the fold; else the file number does (`fold_by_number`).
        ending: of the masks that are read, .gif or .png.
    """

    files: Mapping[str, Mapping[str, Mapping[str, Path]]]
    folders: tuple[str, ...]
    split_on_disk: bool
    ending: str

    @property
    def layout(self) -> str:
        kind = "outlines" if self.ending == ENDINGS[0] else "outlines as PNG"
        return f"{kind} in two folds" if self.split_on_disk else f"{kind} without folds, which file numbers decide"


def structure_of(folder: str) -> str | None:
    """SCR's name of the structure that a folder is called after (`left lung`, `left_lung`, `left_lung_png`); None for any other folder."""
    name = re.sub(r"[ _-]+", " ", folder.lower()).strip().removesuffix(" png").removesuffix(" gif")
    return name if name in KNOWN else None


def fold_by_number(stem: str) -> str:
    """SCR's rule: odd file numbers are fold 1, even ones fold 2."""
    return FOLDS[0] if int(stem[-3:]) % 2 else FOLDS[1]


def find_outlines(root: Path, dataset: str) -> Outlines:
    """The outlines below `root`, of lungs and heart.

    Raises:
        DataError: none; more than one set of them; a structure with two folders; a file without a number where numbers decide the fold.
    """
    sets, ending = _sets(root, dataset)
    by_fold: dict[str | None, list[Path]] = {}
    for folder in sets:
        by_fold.setdefault(_fold_of(folder.relative_to(root)), []).append(folder)
    base = first_folder_with(root, FOLDS, dataset)
    if base is not None and all((base / fold / "masks").is_dir() for fold in FOLDS):
        # SCR's own layout decides; a second observer's outlines beside it are not read.
        by_fold = {fold: [base / fold / "masks"] for fold in FOLDS}
    shown = tuple(folder.relative_to(root).as_posix() for folders in by_fold.values() for folder in folders)
    if set(by_fold) not in ({*FOLDS}, {None}):
        found = f"only {', '.join(shown)}" if shown else f"nothing in {root}"
        raise DataError(
            f"{dataset}: outlines are expected in fold1/masks and fold2/masks, or all in one folder that holds {', '.join(READ)}; "
            f"found {found}. Unpack SCR's zip there."
        )
    if any(len(folders) > 1 for folders in by_fold.values()):
        raise DataError(f"{dataset}: outlines exist more than once: in {', '.join(shown)}. Keep one set, they may differ.")
    files: dict[str, dict[str, dict[str, Path]]] = {}
    for fold, (folder,) in by_fold.items():
        for structure, masks in sets.get(folder, {}).items():
            for stem, path in masks.items():
                if fold is None and not stem[-3:].isdigit():
                    raise DataError(f"{dataset}: a mask in {shown[0]} has no number at the end of its name, which decides its fold.")
                files.setdefault(stem, {}).setdefault(fold or fold_by_number(stem), {})[structure] = path
    return Outlines(files, shown, None not in by_fold, ending)


def _sets(root: Path, dataset: str) -> tuple[dict[Path, dict[str, dict[str, Path]]], str]:
    """Folder that holds folders of structures -> structure -> stem -> file, and the files' ending."""
    sets: dict[Path, dict[str, dict[str, Path]]] = {}
    for ending in ENDINGS:
        places: dict[tuple[Path, str], Path] = {}
        for stem, paths in find_files(root, ending).items():
            for path in paths:
                structure = structure_of(path.parent.name)
                if structure not in READ:
                    continue
                where = places.setdefault((path.parent.parent, structure), path.parent)
                if where != path.parent:
                    names = f"{where.name} and {path.parent.name}"
                    raise DataError(f"{dataset}: {names} both hold {ending} outlines of the {structure}. Keep one, they may differ.")
                sets.setdefault(path.parent.parent, {}).setdefault(structure, {})[stem] = path
        if sets:
            return sets, ending
    return sets, ENDINGS[0]


def _fold_of(folder: Path) -> str | None:
    return next((part.lower() for part in reversed(folder.parts) if part.lower() in FOLDS), None)
