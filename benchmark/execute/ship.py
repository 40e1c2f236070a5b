"""What travels to a cluster: the package, its content and the folders of the user's own, as one folder that Ray uploads.

Of a backbone's folder all travels, of an included folder its cards and modules. Data and weights files do not, unless they lie in a
backbone's folder; they lie where the cluster sees them. What travels is said before it does. What an author's folder gives: `parcel`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from benchmark import registry
from benchmark.cards import Job
from benchmark.encoders.sources import base_folder, require_unchanged
from benchmark.errors import CheckpointChanged, UsageError
from benchmark.execute.parcel import Parcel, packed, size_text
from benchmark.own import rooms
from benchmark.own.modules import installed_folders
from benchmark.own.rooms import PlannedModule
from benchmark.training.inputs import Inputs

AUTHORS = "author"  # folder of the users' own backbones and included folders in what is uploaded
INCLUDED = "include-"  # begins the name of an included folder there
CONTENT = ("tasks", "datasets", "backbones", "results")
LEFT_BEHIND = ("__pycache__", ".*", "*.pyc", "lobe-out", "lobe-demo", "content")
SHOWN = 5  # names that stay, in one line


def on_stderr(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def stage(folder: Path, backbones: Iterable[str], *, lists: bool = False, say: Callable[[str], None] = on_stderr) -> list[str]:
    """Fills an empty folder with everything that travels, and says in one line how much that is.

    Args:
        backbones: as named on the command line.
        lists: say as well, a line for each, which files of the authors travel and which stay.
        say: gets each line.

    Returns:
        The backbones as they are named inside that folder.

    Raises:
        UsageError: a folder of the user's own is larger than may travel, or holds a link that leaves it.
    """
    package = Path(__file__).resolve().parents[1]
    shutil.copytree(package, folder / "benchmark", ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    for name in CONTENT:
        shutil.copytree(registry.content(name), folder / name, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    own = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    parcels: dict[Path, Parcel] = {}
    named = [_staged(folder, name, parcels) for name in backbones]
    for base in registry.included():
        _stage_included(folder, base, parcels)
    say(_said(own, parcels.values()))
    if lists:
        for parcel in parcels.values():
            for name, path in sorted(parcel.files.items()):
                say(f"  travels: {name} ({size_text(path.stat().st_size)}) of {parcel.folder}")
            for name in parcel.stay:
                say(f"  stays: {name} of {parcel.folder}")
    return named


def included_there() -> list[str]:
    """The included folders as they are named inside the folder that travels."""
    return [f"{AUTHORS}/{_name_of_included(base)}" for base in registry.included()]


def found_here(job: Job, inputs: Inputs) -> Inputs:
    """The inputs with the author's file where this node has it as it was planned, under its own path, else in what was uploaded; and with
    the user's own modules as they were uploaded, else under their own path."""
    inputs = replace(inputs, own=tuple(map(_module_here, inputs.own)))
    file, _, function = inputs.backbone_model.rpartition(":")
    if job.experiment.backbone.family != "python_file" or _is_planned(Path(file), inputs):
        return inputs
    parts = Path(file).parts
    if AUTHORS in parts[:-2]:  # planned on the cluster, from what was uploaded
        root, names = Path.cwd().joinpath(*parts[parts.index(AUTHORS) : parts.index(AUTHORS) + 2]), parts[parts.index(AUTHORS) + 2 :]
        candidates = [root.joinpath(*names)]
    else:
        candidates = []
    root = Path.cwd() / AUTHORS / _folder_name(file)
    candidates += [root.joinpath(*parts[-n:]) for n in range(1, len(parts))]  # a package travels with the folders above the file
    shipped = next((path for path in candidates if path.is_file()), None)
    return inputs if shipped is None else replace(inputs, backbone_model=f"{shipped}:{function}")


def _is_planned(file: Path, inputs: Inputs) -> bool:
    """A node with folders of its own may have an older file under the same path."""
    if not file.exists():
        return False
    try:
        require_unchanged(inputs.sources, file.parent, file.name)
    except CheckpointChanged:
        return False
    return True


def _module_here(planned: PlannedModule) -> PlannedModule:
    """The module where this node has it; what it is held to stays."""
    module = planned.module
    if module.dotted:
        here = next((one for one in rooms.installed() if (one.room, one.dotted) == (module.room, module.dotted)), module)
        return replace(planned, module=here)
    planned_there = module.base.parent.name == AUTHORS  # on the cluster, from what was uploaded
    shipped = Path.cwd() / AUTHORS / (module.base.name if planned_there else _name_of_included(module.base))
    if not shipped.is_dir():
        return planned
    return replace(planned, module=replace(module, base=shipped, file=shipped / module.file.relative_to(module.base)))


def _stage_included(folder: Path, base: Path, parcels: dict[Path, Parcel]) -> None:
    """Copies cards, modules, and Python files beside them; whatever else lies in an included folder may be data."""
    target = folder / AUTHORS / _name_of_included(base)
    target.mkdir(parents=True, exist_ok=True)
    beside = {path.name: path for path in sorted(base.glob("[!.]*.py")) if path.is_file() and not path.is_symlink()}
    if beside:
        parcels[target] = Parcel(base, beside, (), ())
    for name in (*CONTENT, *rooms.ROOMS):
        if (base / name).is_dir():
            parcels[target / name] = packed(_inside(base, name), f"--include {base}")
    for at, parcel in parcels.items():
        if at.is_relative_to(target):
            parcel.copy_to(at, f"--include {base}")


def _inside(base: Path, name: str) -> Path:
    real = (base / name).resolve()
    if not real.is_relative_to(base):
        raise UsageError(f"{base / name} is a link out of the folder of --include {base}: it leads to {real}. Put a copy in its place.")
    return real


def _name_of_included(base: Path) -> str:
    return INCLUDED + hashlib.sha256(str(base).encode()).hexdigest()[:16]


def _staged(folder: Path, name: str, parcels: dict[Path, Parcel]) -> str:
    file, _, function = name.rpartition(":")
    path = Path(file)
    if path.suffix != ".py" or not path.is_file():
        return name
    path = path.resolve()
    source, target = path.parent, folder / AUTHORS / _folder_name(str(path))
    if str(source) in map(os.path.realpath, installed_folders()):  # a single module among all that is installed
        parcels[target] = Parcel(source, {path.name: path}, (), ())
    else:
        if (source / "__init__.py").is_file():
            source = base_folder(source)
            target /= source.name
        if target not in parcels:
            parcels[target] = packed(source, name)
    if not target.exists():
        parcels[target].copy_to(target, name)
    return f"{(target / path.relative_to(source)).relative_to(folder).as_posix()}:{function}"


def _folder_name(file: str) -> str:
    """Of an author's folder in what is uploaded: the driver and every worker tell it from the driver's path."""
    return hashlib.sha256(str(Path(file).parent).encode()).hexdigest()[:16]


def _said(own: list[int], parcels: Iterable[Parcel]) -> str:
    parts: list[str] = []
    stay: list[str] = []
    for parcel in parcels:
        parts.append(f"{_n_files(len(parcel.files))} ({size_text(parcel.n_bytes)}) of {parcel.folder}")
        stay += parcel.stay
    parts.append(f"{_n_files(len(own))} ({size_text(sum(own))}) of LOBE itself")
    shown = f" Stay: {', '.join(stay[:SHOWN])}" + (f" and {len(stay) - SHOWN} more." if len(stay) > SHOWN else ".") if stay else ""
    return f"To the cluster travel {', '.join(parts)}.{shown}"


def _n_files(n: int) -> str:
    return f"{n:,} file{'' if n == 1 else 's'}"
