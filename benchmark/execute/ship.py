"""What travels to a cluster: the package, its content and the folder of each backbone written by the user, as one folder that Ray uploads.

Data and weights files do not travel, unless they lie in a backbone's folder; they lie where the cluster sees them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from benchmark import registry
from benchmark.cards import Job
from benchmark.encoders.own_modules import installed_folders
from benchmark.encoders.sources import NO_SOURCES, base_folder
from benchmark.errors import UsageError
from benchmark.training.place import Place

AUTHORS = "author"  # folder of the users' own backbones in what is uploaded
MOST_BYTES = 64 * 2**20  # of one backbone's folder
CONTENT = ("tasks", "datasets", "backbones", "results")
LEFT_BEHIND = ("__pycache__", ".git", ".venv", "*.pyc", "lobe-out", "lobe-demo", "content")
# Of an author's folder everything may be a source. Ray would leave out what the last two name.
LEFT_BY_AUTHORS = (*NO_SOURCES, ".gitignore", ".rayignore")


def stage(folder: Path, backbones: Iterable[str]) -> list[str]:
    """Fills an empty folder with everything that travels.

    Args:
        backbones: as named on the command line.

    Returns:
        The backbones as they are named inside that folder.

    Raises:
        UsageError: a backbone's folder is larger than `MOST_BYTES`; names it and its size.
    """
    package = Path(__file__).resolve().parents[1]
    shutil.copytree(package, folder / "benchmark", ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    for name in CONTENT:
        shutil.copytree(registry.content(name), folder / name, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    return [_staged(folder, name) for name in backbones]


def found_here(job: Job, place: Place) -> Place:
    """The place with the author's file where this node has it: under its own path, else in what was uploaded."""
    file, _, function = place.backbone_model.rpartition(":")
    if job.experiment.backbone.family != "python_file" or Path(file).exists():
        return place
    parts = Path(file).parts
    if AUTHORS in parts[:-2]:  # planned on the cluster, from what was uploaded
        root, names = Path.cwd().joinpath(*parts[parts.index(AUTHORS) : parts.index(AUTHORS) + 2]), parts[parts.index(AUTHORS) + 2 :]
        candidates = [root.joinpath(*names)]
    else:
        candidates = []
    root = Path.cwd() / AUTHORS / _folder_name(file)
    candidates += [root.joinpath(*parts[-n:]) for n in range(1, len(parts))]  # a package travels with the folders above the file
    shipped = next((path for path in candidates if path.is_file()), None)
    return place if shipped is None else replace(place, backbone_model=f"{shipped}:{function}")


def _staged(folder: Path, name: str) -> str:
    file, _, function = name.rpartition(":")
    path = Path(file)
    if path.suffix != ".py" or not path.is_file():
        return name
    path = path.resolve()
    source, target = path.parent, folder / AUTHORS / _folder_name(str(path))
    if str(source) in map(os.path.realpath, installed_folders()):  # a single module among all that is installed
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        return f"{(target / path.name).relative_to(folder).as_posix()}:{function}"
    if (source / "__init__.py").is_file():
        source = base_folder(source)
        target /= source.name
    n_bytes = _size(source)
    if n_bytes > MOST_BYTES:
        raise UsageError(
            f"The folder of {name} holds {n_bytes / 2**20:.0f} MiB; at most {MOST_BYTES // 2**20} MiB travel to a cluster. "
            "Put the backbone into a folder of its own, and its weights where the cluster sees them."
        )
    if not target.exists():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*LEFT_BY_AUTHORS), ignore_dangling_symlinks=True)
    return f"{(target / path.relative_to(source)).relative_to(folder).as_posix()}:{function}"


def _folder_name(file: str) -> str:
    """Of an author's folder in what is uploaded: the driver and every worker tell it from the driver's path."""
    return hashlib.sha256(str(Path(file).parent).encode()).hexdigest()[:16]


def _size(folder: Path) -> int:
    """Bytes of what would travel; links are followed, as copying does."""
    n_bytes = 0
    for at, below, names in os.walk(folder, followlinks=True):
        below[:] = [name for name in below if name not in NO_SOURCES]
        n_bytes += sum(path.stat().st_size for name in names if (path := Path(at, name)).is_file())
        if n_bytes > 2 * MOST_BYTES:  # also the end of a link that leads in a circle
            break
    return n_bytes
