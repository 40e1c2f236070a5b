"""What a factory's code runs or reads, as part of a backbone's identity: what files are called in its digest and where they lie, and the
environment's variables that it asks for.

Files of the factory's folder and below are named by their path in it, so a copied folder is the same backbone. Others are named by the end
of their path. Code of the standard library, of installed packages and of this one is not part of it, nor what a system or a library keeps.
"""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
import tempfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from benchmark import registry
from benchmark.errors import CheckpointChanged
from benchmark.files import open_regular
from benchmark.own.modules import installed_folders

OUTSIDE = "outside: "  # begins the names of files that lie elsewhere
VARIABLE = "$"  # begins the names of variables
# They say which machine, user or process it is, and differ from worker to worker; what is read where they point is a file.
OF_MACHINES = ("HOME", "USER", "PATH", "PWD", "TMPDIR", "HOSTNAME", "DISPLAY", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LD_LIBRARY_PATH")
OF_MACHINES_BEGIN = (
    *("LOBE_", "RAY_", "SLURM_", "CUDA_", "NVIDIA_", "NCCL_", "GLOO_", "MASTER_", "OMP_", "MKL_", "OPENBLAS_", "KMP_"),
    *("XDG_", "HF_", "TORCH_", "TRANSFORMERS_", "PYTHON", "PYTORCH_", "MLFLOW_", "LC_", "SSL_", "VIRTUAL_ENV", "CONDA_"),
)
CONTENT = ("tasks", "datasets", "backbones", "results")
SYSTEM = ("/proc", "/sys", "/dev", "/run", "/etc", "/bin", "/sbin", "/lib", "/lib64", "/usr/bin", "/usr/lib", "/usr/lib64", "/usr/share")
SHARED_PREFIXES = ("/", "/usr", "/usr/local")  # of a Python that shares its folder with much else
CACHES = ("XDG_CACHE_HOME", "LOBE_CACHE", "TORCH_HOME", "HF_HOME", "HF_HUB_CACHE", "TORCH_EXTENSIONS_DIR", "TRITON_CACHE_DIR")
NO_SOURCES = ("__pycache__", ".git", ".venv", "lobe-out", "lobe-demo")  # folders below an author's that are none of the backbone's

INSIDE, ELSEWHERE, FOREIGN = "inside", "elsewhere", "foreign"


@dataclass(frozen=True)
class SourceFile:
    """
    A file, or a variable of the environment.

    Attributes:
        name: in the digest.
        path: below the factory's folder, or absolute; of a variable its name.
        digest: SHA-256 of its content.
    """

    name: str
    path: str
    digest: str

    def at(self, folder: Path) -> Path:
        """Where it lies, for a factory in this folder."""
        return folder / self.path


def combined(files: Iterable[SourceFile]) -> str:
    """SHA-256 of names and contents, in no order."""
    lines = sorted(f"{file.name}\0{file.digest}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def files_of(factory: Path, read: Iterable[str], run: Iterable[str] = ()) -> tuple[SourceFile, ...]:
    """Describes the files that count; the factory's own always does.

    Args:
        factory: its file, resolved.
        read: absolute paths; what is no file any more is left out.
        run: of modules. Code counts also where libraries keep things: `torch.hub` keeps an author's code there.
    """
    folder, run = factory.parent, set(run)
    roots = {code: _roots(folder, code) for code in (False, True)}
    inside, outside = {factory.name}, set()
    for path in {*read, *run}:
        if not os.path.isfile(path):
            continue
        code = path in run and path.endswith(".py")
        kinds = {one: _kind(one, roots[code], code) for one in (os.path.abspath(path), os.path.realpath(path))}
        own = next((one for one, kind in kinds.items() if kind == INSIDE), None)  # what is linked into the folder lies in the folder
        if own is not None:
            inside.add(os.path.relpath(own, folder))
        elif set(kinds.values()) == {ELSEWHERE}:
            outside.add(os.path.realpath(path))
    endings = _shortest_endings(outside)
    return (
        *(SourceFile(Path(path).as_posix(), path, _digest(folder / path)) for path in sorted(inside)),
        *(SourceFile(OUTSIDE + endings[path], path, _digest(Path(path))) for path in sorted(outside)),
    )


def variables_of(factory: Path, asked: Iterable[tuple[str, str]]) -> tuple[SourceFile, ...]:
    """Describes the variables that count: asked for by code that does, and of no machine.

    Args:
        asked: name of a variable, and the file of the code that asked for it.
    """
    own = [(name, file) for name, file in asked if not name.startswith(OF_MACHINES_BEGIN) and name not in OF_MACHINES]
    names = sorted({VARIABLE + name for name, file in own if must_be_planned(factory, file)})
    return tuple(SourceFile(name, name, _value_digest(name)) for name in names)


def must_be_planned(factory: Path, module: str) -> bool:
    """Whether a module's file counts: not one of the installed packages, nor one that is written to be run once and deleted."""
    kind = _kind(os.path.realpath(module), _roots(factory.parent, code=True), code=True)
    return kind == INSIDE or (kind == ELSEWHERE and not Path(module).is_relative_to(os.path.realpath(tempfile.gettempdir())))


def require_unchanged(files: Sequence[SourceFile], folder: Path, name: str) -> None:
    """Raises CheckpointChanged where a file is missing here, or it or a variable is another than when the job was planned; `name` is the
    factory's."""
    for file in files:
        if file.name.startswith(VARIABLE):
            if _value_digest(file.name) != file.digest:
                raise CheckpointChanged(
                    f"{name} reads {file.name}, which has another value here than where the job was planned. Write the value into the file."
                )
            continue
        path = file.at(folder)
        if not path.is_file():
            hidden = not file.name.startswith(OUTSIDE) and any(part.startswith(".") for part in Path(file.path).parts)
            cure = "Rename it: names that begin with a dot do not travel" if hidden else f"Only the folder of {name} travels"
            raise CheckpointChanged(
                f"{name} was planned with {path}, which is not on this machine. {cure} to a cluster"
                + (", or put it where every node sees it." if hidden else ": put the file there or below, or where every node sees it.")
            )
        if _digest(path) != file.digest:
            raise CheckpointChanged(
                f"{name} and the files beside it are not those the job was planned with: {file.path} was changed. Run the same command "
                "again to plan with what is there now."
            )


def base_folder(folder: Path) -> Path:
    """The factory's folder; the topmost one of its package where it is part of one."""
    while (folder / "__init__.py").is_file() and (folder.parent / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _roots(folder: Path, code: bool) -> dict[str, str]:
    """Folders that decide about what lies in them; the deepest one does."""
    paths = sysconfig.get_paths()
    foreign = [*SYSTEM, *installed_folders(), paths["stdlib"], paths["platstdlib"], str(Path(__file__).parents[1])]
    foreign += [prefix for prefix in (sys.prefix, sys.base_prefix) if prefix not in SHARED_PREFIXES]
    foreign += [str(registry.content(name)) for name in CONTENT]
    if not code:
        foreign += [str(user_cache_path()), *(os.environ[name] for name in CACHES if os.environ.get(name))]
    roots = {spelled: FOREIGN for root in foreign for spelled in (os.path.abspath(root), os.path.realpath(root))}
    if str(folder) in map(os.path.realpath, installed_folders()):
        return roots  # a single module among all that is installed
    return roots | {str(base_folder(folder)): INSIDE, str(folder): INSIDE}


def _kind(path: str, roots: dict[str, str], code: bool) -> str:
    parents = [str(parent) for parent in Path(path).parents]
    deepest = next((parent for parent in parents if parent in roots), None)
    if deepest is None:
        home = os.path.expanduser("~")
        hidden = home in parents and Path(path).relative_to(home).parts[0].startswith(".")  # settings and caches of libraries
        return FOREIGN if (hidden and not code) or "__pycache__" in Path(path).parts else ELSEWHERE
    below = Path(path).relative_to(deepest).parts[:-1]
    return FOREIGN if any(part in NO_SOURCES for part in below) else roots[deepest]


def _shortest_endings(paths: Collection[str]) -> dict[str, str]:
    """Path -> as many of its last parts as tell all of them apart: a file keeps its name on a machine that has it elsewhere."""
    n = 1
    while len({Path(path).parts[-n:] for path in paths}) < len(paths):
        n += 1
    return {path: "/".join(Path(path).parts[-n:]) for path in paths}


def _value_digest(variable: str) -> str:
    """SHA-256 of a variable's value, told apart from having none."""
    value = os.environ.get(variable.removeprefix(VARIABLE))
    return hashlib.sha256(b"" if value is None else b"=" + os.fsencode(value)).hexdigest()


def _digest(path: Path) -> str:
    with open_regular(path) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
