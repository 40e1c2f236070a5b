"""The modules of one author's own backbone: a private package for every build, invisible to all others.

`model.py` beside one factory and `model.py` beside another are two modules, also in one process. So what a factory imports from its
folder, or from folders it puts on `sys.path` itself, is registered under the private package and not under its own name; `import`
statements in that code, whenever they run, are led there by a `__import__` of its own. Names of the standard library, and of installed
packages unless the author put a folder before them, mean what they always mean.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import hashlib
import importlib
import importlib.util
import itertools
import os
import site
import sys
import sysconfig
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmark.errors import CheckpointChanged, UsageError
from benchmark.own.loaders import Alias, Extension, SourceLoader

NAME = "lobe_backbone_"  # of the private packages
NEVER = frozenset({"benchmark", "__main__", *sys.stdlib_module_names, *sys.builtin_module_names})  # names no author can take
_NUMBERS = itertools.count(1)
_SPACES: dict[str, OwnModules] = {}
_KEEPERS: weakref.WeakValueDictionary[str, Kept] = weakref.WeakValueDictionary()
_GONE: list[str] = []  # packages whose backbones are no more
_BUILDING: list[OwnModules] = []


@functools.cache
def installed_folders() -> tuple[str, ...]:
    """Where packages are installed."""
    found = [*site.getsitepackages(), site.getusersitepackages(), *(sysconfig.get_paths()[kind] for kind in ("purelib", "platlib"))]
    return tuple(dict.fromkeys(found))


class OwnModules:
    """
    Args:
        file: the factory's.
        folders: where else than beside it its modules lie.

    Attributes:
        executed: file -> SHA-256 of what was run from it, as it was read.
    """

    def __init__(self, file: Path, folders: Sequence[Path] = ()):
        self.file = file
        self.executed: dict[str, str] = {}
        self.name = f"{NAME}{next(_NUMBERS)}"
        self._planned: Mapping[str, str] | None = None
        self._counts: Callable[[str], bool]
        self._before: list[str] = []  # folders the author put before the installed packages
        self._after = [str(file.parent), *map(str, folders)]
        self._owned: set[str] = set()  # top-level names, once they are known to be the author's
        self._others: set[str] = set()  # and once they are known not to be
        self._answering: set[str] = set()  # modules that are registered under their own names while the factory runs
        self._relative: dict[str, str] = {}  # of these, those given relative to the working directory
        self._baseline: list[str] | None = None
        self._namespace = {"__builtins__": {**vars(builtins), "__import__": self._import}}
        self._importlib = _facade(self._import_module)
        self._package = ModuleType(self.name)
        self._package.__path__ = [*self._before, *self._after]
        while _GONE:
            _forget(_GONE.pop())
        if _Finder not in sys.meta_path:
            sys.meta_path.insert(0, _Finder)
        sys.modules[self.name] = self._package
        _SPACES[self.name] = self

    def factory(self) -> ModuleType:
        """The factory's module, run anew. Inside a package it can name its siblings with leading dots."""
        folders = list(itertools.takewhile(lambda folder: (folder / "__init__.py").is_file(), self.file.parents))
        if folders:
            self._after.append(str(folders[-1].parent))
            self._package.__path__ = [*self._before, *self._after]
        name = ".".join([self.name, *(folder.name for folder in reversed(folders)), self.file.stem])
        loader = self.loader(name, str(self.file))
        spec = importlib.util.spec_from_file_location(name, self.file, loader=loader)
        if spec is None:  # pragma: no cover: importlib gives a spec wherever it is given a loader
            raise AssertionError("importlib gives a spec wherever it is given a loader")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        loader.exec_module(module)
        return module

    @contextlib.contextmanager
    def building(self) -> Iterator[None]:
        """While the factory runs, its modules also answer to their own names, for whoever looks them up by text (pickles do)."""
        self._baseline = list(sys.path)
        importlib.invalidate_caches()  # files may be younger than what the finders remember of their folders
        tops = {name for name in list(sys.modules) if "." not in name and not name.startswith(NAME)}
        mine = {name for name in tops if self._owns(name)}
        hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in mine}
        before = set(sys.modules)
        _BUILDING.append(self)
        try:
            with contextlib.chdir("."), _torch_as_it_is():  # back to it, wherever the code went
                yield
        finally:
            self._note_folders()
            _BUILDING.remove(self)
            sys.path[:], self._baseline = self._baseline, None
            for name in self._answering | {name for name in set(sys.modules) - before if self._is_of_own_folder(name)}:
                sys.modules.pop(name, None)
            self._answering.clear()
            sys.modules.update(hidden)

    def kept(self) -> Kept:
        """What keeps the modules registered for as long as it lives."""
        return Kept(self.name)

    def forget(self) -> None:
        """Takes the modules out of the process's register."""
        _forget(self.name)

    def require(self, planned: Mapping[str, str], counts: Callable[[str], bool]) -> None:
        """Holds what was run, and what will be imported later, to what was planned.

        Args:
            planned: file -> SHA-256.
            counts: whether a file must be among them.

        Raises:
            CheckpointChanged: other code was run.
        """
        self._planned, self._counts = planned, counts
        for path, digest in self.executed.items():
            self._check(planned, os.path.realpath(path), digest)

    def answers(self, top: str) -> bool:
        """Whether a top-level name stands for the author's module for everyone while the factory runs. Libraries keep what they import."""
        return self._owns(top) and not is_installed(top)

    def loader(self, name: str, path: str) -> SourceLoader:
        """What loads one of the modules."""
        return SourceLoader(self.note, self._namespace, name, path)

    def note(self, path: str, content: bytes) -> str:
        """Remembers what is about to be run; gives its digest."""
        digest = self.executed[path] = hashlib.sha256(content).hexdigest()
        if self._planned is not None:
            self._check(self._planned, os.path.realpath(path), digest)
        return digest

    def _check(self, planned: Mapping[str, str], path: str, digest: str) -> None:
        if planned.get(path) == digest or (path not in planned and not self._counts(path)):
            return
        what = "is not the file" if path in planned else "was not among the files"
        raise CheckpointChanged(
            f"{self.file.name} imports {os.path.relpath(path, self.file.parent)}, which {what} the job was planned with. Run the same "
            "command again to plan with what is there now. A module that is only imported on some machines belongs at the top of its file."
        )

    # ------------------------------------------------------------------------------------------------------------- importing

    def _import(self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> ModuleType:
        """`__import__` of the author's code."""
        top = name.partition(".")[0]
        with self._plain_names():
            if level:
                return builtins.__import__(name, globals, locals, fromlist, level)
            if not self._owns(top):
                with self._own_folders_aside():
                    found = builtins.__import__(name, globals, locals, fromlist)
                return self._importlib if found is importlib else found
            importlib.import_module(f"{self.name}.{name}")
            if self in _BUILDING and self.answers(top):
                importlib.import_module(name)
            if not fromlist:
                return sys.modules[f"{self.name}.{top}"]
            return builtins.__import__(f"{self.name}.{name}", None, None, fromlist, 0)

    def _import_module(self, name: str, package: str | None = None) -> ModuleType:
        """`importlib.import_module` of the author's code."""
        absolute = importlib.util.resolve_name(name, package) if name.startswith(".") else name
        if not self._owns(absolute.partition(".")[0]):
            with self._own_folders_aside():
                return importlib.import_module(absolute)
        with self._plain_names():
            return importlib.import_module(f"{self.name}.{absolute}")

    @contextlib.contextmanager
    def _own_folders_aside(self) -> Iterator[None]:
        """`sys.path` without what the author put there: libraries keep what they import, for whoever comes next."""
        if self._baseline is None:
            yield
            return
        given, sys.path[:] = list(sys.path), self._baseline
        try:
            yield
        finally:
            new = [entry for entry in sys.path if entry not in self._baseline]  # a library's own
            self._baseline, sys.path[:] = list(sys.path), [*given, *new]

    @contextlib.contextmanager
    def _plain_names(self) -> Iterator[None]:
        try:
            yield
        except ModuleNotFoundError as error:
            name = error.name or ""
            if name.startswith(f"{self.name}."):
                error.name = name.removeprefix(f"{self.name}.")
                error.msg = f"No module named {error.name!r}"
            raise

    def _owns(self, top: str) -> bool:
        """Whether a top-level name is the author's own."""
        if top in self._owned:
            return True
        if top in NEVER or top in self._others:
            return False
        self._note_folders()
        where = next((folder for folder in self._before if _find(top, [folder])), None)
        if where is None:
            mine = () if is_installed(top) else (folder for folder in self._after if folder not in installed_folders())
            where = next((folder for folder in mine if _find(top, [folder])), None)
        if where in self._relative and _find(top, [str(self.file.parent)]) is None:
            raise UsageError(
                f"{self.file.name} puts {self._relative[where]!r} on sys.path, relative to the folder the command was started in, and "
                f"imports {top!r} from there; a worker is started elsewhere. Write it from the file: Path(__file__).parent / ..."
            )
        if where is not None:
            self._owned.add(top)
        elif self._baseline is None:  # no more folders can come
            self._others.add(top)
        return where is not None

    def _is_of_own_folder(self, name: str) -> bool:
        """Whether a module under its plain name came from the author's folders: a library found it there."""
        module = sys.modules.get(name)
        top = name.partition(".")[0]
        # By its true type: what a library registers in a module's place may only claim to be one, and have nothing of it.
        if name.startswith(NAME) or top in NEVER or not issubclass(type(module), ModuleType):
            return False
        spec = object.__getattribute__(module, "__dict__").get("__spec__")  # asked otherwise, some modules load what they put off
        origin = getattr(spec, "origin", None) or ""
        folders = [folder for folder in (*self._before, *self._after) if folder not in installed_folders()]
        return any(Path(origin).is_relative_to(folder) for folder in folders) and not is_installed(top)

    def _note_folders(self) -> None:
        """Takes over the folders that the author's code has put on `sys.path` by now."""
        if self._baseline is None or sys.path == self._baseline:
            return
        new, before = Counter(map(str, sys.path)) - Counter(self._baseline), True
        for entry in map(str, sys.path):
            if not new[entry]:
                before = False
                continue
            new[entry] -= 1
            folder = os.path.abspath(entry)
            if not os.path.isabs(entry):
                self._relative.setdefault(folder, entry)
            mine = self._before if before else self._after
            if folder not in mine:
                mine.append(folder)
        self._package.__path__ = [*self._before, *self._after]


class Kept:
    """Keeps a backbone's modules registered; the backbone holds it, and copies of the backbone share it."""

    def __init__(self, name: str):
        self.name = name
        _KEEPERS[name] = self
        # Only noted: it may happen while anyone walks through the register of modules.
        weakref.finalize(self, _GONE.append, name).atexit = False

    @property
    def modules(self) -> OwnModules:
        return _SPACES[self.name]

    def __copy__(self) -> Kept:
        return self

    def __deepcopy__(self, memo: dict) -> Kept:
        return self

    def __reduce__(self) -> tuple:
        return _keeper, (self.name,)


def _keeper(name: str) -> Kept:
    return _KEEPERS[name]


def _forget(name: str) -> None:
    _SPACES.pop(name, None)
    # A copy: another thread, such as the one that imports MLflow, may register modules meanwhile.
    for registered in [n for n in list(sys.modules) if n == name or n.startswith(f"{name}.")]:
        sys.modules.pop(registered, None)


def is_installed(top: str) -> bool:
    """Whether a top-level name is that of an installed package."""
    found = _find(top, list(installed_folders()))
    return found is not None and found.loader is not None  # a folder without __init__.py is no installed package


def _find(top: str, folders: list[str]) -> ModuleSpec | None:
    return PathFinder.find_spec(top, folders)


@contextlib.contextmanager
def _torch_as_it_is() -> Iterator[None]:
    """Puts back what the code sets for the whole process: the head, and whoever comes next, has the type and precision of the job."""
    torch: Any = sys.modules.get("torch")
    if torch is None:  # nothing is computed before a process is prepared
        yield
        return
    settings: tuple[tuple[Callable[[], Any], Callable[[Any], None]], ...] = (
        (torch.is_grad_enabled, torch.set_grad_enabled),
        (torch.get_default_dtype, torch.set_default_dtype),
        (torch.get_default_device, torch.set_default_device),
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
        (torch.get_num_threads, torch.set_num_threads),
        *(
            (functools.partial(getattr, torch.backends.cudnn, name), functools.partial(setattr, torch.backends.cudnn, name))
            for name in ("allow_tf32", "benchmark")
        ),
    )
    before = [get() for get, _ in settings]
    try:
        yield
    finally:
        for value, (get, put) in zip(before, settings, strict=True):
            if get() != value:
                put(value)
        torch.set_flush_denormal(False)


def _facade(import_module: Callable[..., ModuleType]) -> ModuleType:
    """`importlib` with another `import_module`."""
    facade = ModuleType("importlib", importlib.__doc__)
    vars(facade).update(__getattr__=lambda name: getattr(importlib, name), import_module=import_module)
    return facade


class _Finder:
    """Finds modules of private packages, and during a build those of the factory by their own names."""

    @staticmethod
    def find_spec(fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        top = fullname.partition(".")[0]
        if top.startswith(NAME):
            space = _SPACES.get(top)
            if space is None:
                return None
            spec = PathFinder.find_spec(fullname, path)
            if spec is not None and isinstance(spec.loader, SourceFileLoader):
                spec.loader = space.loader(fullname, spec.loader.path)
            elif spec is not None and isinstance(spec.loader, ExtensionFileLoader):
                spec.loader = Extension(space.note, fullname, spec.loader.path)
            return spec
        if _BUILDING and _BUILDING[-1].answers(top):
            private = f"{_BUILDING[-1].name}.{fullname}"
            if importlib.util.find_spec(private) is not None:
                _BUILDING[-1]._answering.add(fullname)
                return ModuleSpec(fullname, Alias(private))
        return None
