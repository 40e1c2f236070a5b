"""Tensors out of a weights file, executing nothing that the file contains.

safetensors where possible; PyTorch files with `weights_only`; the rest (Lightning checkpoints with configuration objects) through an
unpickler that knows tensors and plain containers, and turns every other class or function into an inert stub.
"""

from __future__ import annotations

import functools
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from benchmark.errors import CheckpointError

# Where training scripts put the state dict, most telling first.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "encoder", "backbone", "module", "weights")
_DATA_PARALLEL = "module."


def read_tensors(path: Path, container: str | None = None) -> dict[str, Tensor]:
    """The file's state dict on the CPU, unwrapped; a `module.` that DataParallel put before every name is taken off.

    Args:
        container: key under which it lies, in files that hold several; None = the most telling known wrapper.

    Raises:
        CheckpointError: no such file, damaged, a TorchScript archive, or no state dict in it.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no weights file {path}.")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path.name} is no readable safetensors file ({error}): is it cut short?") from None
    content = _read_torch(path)
    if container is not None and isinstance(content, Mapping) and isinstance(content.get(container), Mapping):
        content = content[container]
    tensors = _state_dict(content, path)
    if all(name.startswith(_DATA_PARALLEL) for name in tensors):
        tensors = {name.removeprefix(_DATA_PARALLEL): tensor for name, tensor in tensors.items()}
    return tensors


def _read_torch(path: Path) -> Any:
    if _is_torchscript(path):
        raise CheckpointError(f"{path.name} is a TorchScript archive, which is a program: save its state_dict() instead.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        pass  # holds more than tensors and containers, or is no pickle at all: the next reader tells
    except Exception as error:
        raise _unreadable(path, error) from None
    try:
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_INERT_PICKLE)
    except Exception as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = str(error).split("\n")[0] or type(error).__name__
    return CheckpointError(f"{path.name} is no readable PyTorch file ({reason}): is it cut short, or another kind of file?")


def _is_torchscript(path: Path) -> bool:
    """torch.load would hand such an archive to torch.jit.load, which runs its code."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.split("/")[-1] == "constants.pkl" for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """Descends through known wrappers to the first mapping from names to tensors."""
    where = content
    while isinstance(where, Mapping):
        tensors = {name: value for name, value in where.items() if isinstance(name, str) and isinstance(value, Tensor)}
        wrapper = next((key for key in WRAPPERS if isinstance(where.get(key), Mapping) and where[key]), None)
        if tensors and wrapper is None:
            return tensors
        if wrapper is None:
            break
        where = where[wrapper]
    if isinstance(content, _Inert):
        raise CheckpointError(f"{path.name} is a whole pickled model, which cannot be read without running it: save its state_dict().")
    keys = ", ".join(map(str, list(content)[:8])) if isinstance(content, Mapping) else type(content).__name__
    raise CheckpointError(f"{path.name} holds no state dict that LOBE knows (found: {keys}); save one under 'state_dict'.")


class _Inert:
    """Stands in for any object of a pickle: takes arguments, items and state, keeps and does nothing."""

    def __new__(cls, *_args, **_kwargs):
        return super().__new__(cls)

    def __init__(self, *_args, **_kwargs):
        pass

    def __setstate__(self, _state) -> None:
        pass

    def __call__(self, *_args, **_kwargs) -> _Inert:
        return self

    def __setitem__(self, _key, _value) -> None:
        pass

    def append(self, _item) -> None:
        pass

    def extend(self, _items) -> None:
        pass

    def add(self, _item) -> None:
        pass


_PLAIN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("__builtin__", "set"): set,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
}
_REBUILDERS = frozenset({"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"})


class _InertUnpickler(pickle.Unpickler):
    """torch.load derives its own unpickler from this one and handles storages itself; all other names arrive here."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _PLAIN:
            return _PLAIN[module, name]
        if module == "torch._utils" and name in _REBUILDERS:
            # Wrapped anew each time: a pickle may set attributes on what it is given.
            return functools.partial(getattr(torch._utils, name))
        if module == "torch" and isinstance(dtype := getattr(torch, name, None), torch.dtype):
            return dtype
        return type("Inert", (_Inert,), {})


def _inert_load(file, **options) -> Any:
    return _InertUnpickler(file, **options).load()


_INERT_PICKLE = SimpleNamespace(Unpickler=_InertUnpickler, load=_inert_load, __name__="inert_pickle")
