"""Imports parts of mmdet without everything beside them.

A package of mmdet imports all of its modules when one is asked for: for a single neck every detector, tracker and language model, and with
them transformers, scikit-learn and matplotlib. That is most of what a process of a detection head once spent before its first image.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import InspectLoader, Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from threading import Lock
from types import ModuleType
from typing import Any

PACKAGES = ("mmcv.cnn", "mmcv.ops", "mmdet.models", "mmdet.utils", "mmengine.model")
"""That, with all below them, do nothing but hand on names of their modules."""
WHOLE = "mmcv.cnn.bricks"
"""Below them, but loaded whole: of the layers that it registers the later ones replace earlier ones."""


@contextmanager
def parts_only() -> Iterator[None]:
    """Inside, an import of `PACKAGES` loads the modules of the names that are asked for, and no other.

    A module is loaded as ever: once, under its own name, with what it registers. A package that was imported before stays as it is. One
    that was met inside counts as not imported afterwards: whoever imports it then gets all of it, made of the same modules.
    What is built of mmdet is built inside, too, and given as classes (`type=FPN`), not by their names: mmengine imports its models to build
    anything, and looking up a name imports all of mmdet.
    """
    _FINDER.enter()
    try:
        yield
    finally:
        _FINDER.leave()


class _Finder(MetaPathFinder):
    """Finds `PACKAGES` where Python does: inside `parts_only` to be loaded by name, and afterwards whole, each once."""

    def __init__(self) -> None:
        self._entered, self._met, self._lock = 0, set[str](), Lock()

    def enter(self) -> None:
        with self._lock:
            self._entered += 1
            if self not in sys.meta_path:
                sys.meta_path.insert(0, self)

    def leave(self) -> None:
        """The last to leave takes the packages from where imports look for them; what is loaded of them stays."""
        with self._lock:
            self._entered -= 1
            if not self._entered:
                for name in self._met:
                    _forget(name)

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        wanted = fullname != WHOLE and f"{fullname}.".startswith(tuple(f"{package}." for package in PACKAGES))
        if not wanted or not (self._entered or fullname in self._met):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.submodule_search_locations is None or not isinstance(spec.loader, InspectLoader):
            return None
        if self._entered:
            self._met.add(fullname)
            spec.loader = _ByName(spec.loader)
        else:
            self._met.discard(fullname)
            spec.loader = _Whole(spec.loader)
        return spec


_FINDER = _Finder()


def _forget(name: str) -> None:
    """Takes a package that was loaded by name from where imports look for it."""
    package, (parent, _, child) = sys.modules.get(name), name.rpartition(".")
    if isinstance(package, _Package):
        del sys.modules[name]
        if parent in sys.modules and vars(sys.modules[parent]).get(child) is package:
            delattr(sys.modules[parent], child)


class _ByName(Loader):
    """Loads a package as `_Package`: its code is read and not run."""

    def __init__(self, loader: InspectLoader):
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Package(spec.name, _places(self.loader.get_source(spec.name) or ""))

    def exec_module(self, module: ModuleType) -> None:
        """Nothing of it is run."""


class _Package(ModuleType):
    """A package whose names are looked up when they are asked for: in the modules that its code imports them from.

    Args:
        places: module below the package, and name in it, of each name.
    """

    def __init__(self, name: str, places: Mapping[str, tuple[str, str]]):
        super().__init__(name)
        vars(self)["_places"] = places

    def __getattr__(self, name: str) -> Any:
        if name not in self._places:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}", name=name, obj=self)
        submodule, there = self._places[name]
        value = vars(self)[name] = getattr(importlib.import_module(f"{self.__name__}.{submodule}"), there)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        """A module that was imported becomes an attribute, but for one that is named like what the package hands on."""
        if name not in self._places:
            super().__setattr__(name, value)


class _Whole(Loader):
    """Loads a package as ever. Modules of it that are loaded already become its attributes first, as if it had loaded them."""

    def __init__(self, loader: InspectLoader):
        self.loader = loader

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        for name, loaded in list(sys.modules.items()):
            package, _, child = name.rpartition(".")
            if package == module.__name__:
                setattr(module, child, loaded)
        self.loader.exec_module(module)


def _places(source: str) -> dict[str, tuple[str, str]]:
    """Module below the package, and name in it, of each name that the code of a package imports from there."""
    imports = [node for node in ast.parse(source).body if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module]
    return {alias.asname or alias.name: (str(node.module), alias.name) for node in imports for alias in node.names}
