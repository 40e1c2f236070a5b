"""How a file of an author's folder becomes a module: from what it holds now, and told to whoever asked before it runs."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from importlib.abc import Loader
from importlib.machinery import ExtensionFileLoader, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmark.errors import CheckpointChanged

Note = Callable[[str, bytes], str]  # is told of a file and what it holds; gives its digest
_EXTENSIONS: dict[str, tuple[ModuleType, str]] = {}  # compiled modules by file, with its digest: a process can load each once


class SourceLoader(SourceFileLoader):
    """Runs what the file holds now: compiled files are told from their source by size and whole seconds, which an edit may keep."""

    def __init__(self, note: Note, namespace: Mapping[str, Any], name: str, path: str):
        super().__init__(name, path)
        self._note, self._namespace = note, namespace

    def get_code(self, fullname: str):
        path = self.get_filename(fullname)
        source = self.get_data(path)
        self._note(path, source)
        return self.source_to_code(source, path)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__.update(self._namespace)
        super().exec_module(module)


class Extension(ExtensionFileLoader):
    """A compiled module: most cannot be loaded a second time, so builds share it."""

    def __init__(self, note: Note, name: str, path: str):
        super().__init__(name, path)
        self._note = note

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        self._digest = self._note(self.path, Path(self.path).read_bytes())
        module, digest = _EXTENSIONS.get(self.path, (None, ""))
        if module is None:
            return super().create_module(spec)
        if digest != self._digest:
            raise CheckpointChanged(
                f"{Path(self.path).name} was compiled anew while this process had it loaded. Run the same command again."
            )
        return module

    def exec_module(self, module: ModuleType) -> None:
        if self.path not in _EXTENSIONS:
            super().exec_module(module)
            _EXTENSIONS[self.path] = module, self._digest


class Alias(Loader):
    """The private module under its own name."""

    def __init__(self, private: str):
        self._private = private

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._private)
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own_spec  # the import system has put the alias's in its place
