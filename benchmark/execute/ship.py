"""What travels to a cluster: the package, its content and the folder of each backbone written by the user, as one folder that Ray uploads.

Data and weights files do not travel; they lie where the cluster sees them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from benchmark import registry
from benchmark.cards import Job
from benchmark.encoders.describe import sources_digest
from benchmark.errors import UsageError
from benchmark.training.place import Place

AUTHORS = "author"  # folder of the users' own backbones in what is uploaded
MOST_BYTES = 64 * 2**20  # of one backbone's folder
CONTENT = ("tasks", "datasets", "backbones", "results")
LEFT_BEHIND = ("__pycache__", ".git", ".venv", "*.pyc", "lobe-out", "lobe-demo", "content")


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
    shipped = Path.cwd() / AUTHORS / job.experiment.backbone.model.rpartition(":")[2] / Path(file).name
    return replace(place, backbone_model=f"{shipped}:{function}") if shipped.exists() else place


def _staged(folder: Path, name: str) -> str:
    file, _, function = name.rpartition(":")
    path = Path(file)
    if path.suffix != ".py" or not path.is_file():
        return name
    source = path.resolve().parent
    n_bytes = sum(p.stat().st_size for p in source.rglob("*") if p.is_file() and not p.is_symlink())
    if n_bytes > MOST_BYTES:
        raise UsageError(
            f"The folder of {name} holds {n_bytes / 2**20:.0f} MiB; at most {MOST_BYTES // 2**20} MiB travel to a cluster. "
            "Put the backbone into a folder of its own, and its weights where the cluster sees them."
        )
    target = folder / AUTHORS / sources_digest(source)
    if not target.exists():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    return f"{target.relative_to(folder)}/{path.name}:{function}"
