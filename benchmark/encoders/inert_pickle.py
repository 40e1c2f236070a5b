"""A pickle reader that runs nothing: it knows tensors, NumPy arrays and plain containers, and turns every other name into a stub.

`torch.load` takes the module `INERT_PICKLE` in place of `pickle`; storages stay torch's own part.
"""

from __future__ import annotations

import functools
import pickle
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

_NUMBERS = "biuf"  # kinds of NumPy's types that a tensor may have; a half of three letters, such as 'bfloat16', is none of NumPy's


class Inert:
    """Stands in for any object of a pickle: takes arguments, items and state, keeps and does nothing."""

    def __new__(cls, *_args, **_kwargs):
        return super().__new__(cls)

    def __init__(self, *_args, **_kwargs):
        pass

    def __setstate__(self, _state) -> None:
        pass

    def __call__(self, *_args, **_kwargs) -> Inert:
        return self

    def __setitem__(self, _key, _value) -> None:
        pass

    def extend(self, _items) -> None:
        pass

    def add(self, _item) -> None:
        pass


class PickledArray:
    """A NumPy array of a pickle. `tensor` is None where its values are no numbers; `item` is what an array of one object holds."""

    def __init__(self, *_args):
        self.tensor: Tensor | None = None
        self.item: Any = None

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, values = state
        if isinstance(values, list):
            self.item = values[0] if len(values) == 1 else None
        elif isinstance(dtype, _PickledDtype) and (known := dtype.numpy) is not None:
            self.tensor = tensor_of(np.frombuffer(values, known).reshape(shape, order="F" if fortran else "C"))


class _PickledDtype:
    def __init__(self, name: Any = "V", *_args):
        self.name, self.order = name, "|"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    @property
    def numpy(self) -> np.dtype | None:
        """NumPy's type, or None for objects, texts, records and unknown types."""
        try:
            found = np.dtype(self.name)
        except TypeError:
            return None
        return found.newbyteorder(self.order) if found.kind in _NUMBERS and not found.hasobject else None


def tensor_of(array: np.ndarray) -> Tensor | None:
    """A copy in native byte order; None where torch has no such type."""
    if array.dtype.kind not in _NUMBERS:
        return None
    try:
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))
    except TypeError:
        return None


def _latin(text: Any, encoding: Any = None) -> Any:
    """Bytes as pickle's second protocol writes them."""
    return text.encode("latin1") if isinstance(text, str) and encoding == "latin1" else Inert()


_PLAIN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("__builtin__", "set"): set,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("numpy", "dtype"): _PickledDtype,
}
_REBUILDERS = frozenset({"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"})
_ARRAYS = frozenset({("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")})


class InertUnpickler(pickle.Unpickler):
    """torch.load derives its own unpickler from this one and handles storages itself; all other names arrive here."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _PLAIN:
            return _PLAIN[module, name]
        if module == "torch._utils" and name in _REBUILDERS:
            # Wrapped anew each time: a pickle may set attributes on what it is given.
            return functools.partial(getattr(torch._utils, name))
        if (module, name) in _ARRAYS:
            return functools.partial(PickledArray)
        if (module, name) == ("_codecs", "encode"):
            return functools.partial(_latin)
        if module == "torch" and isinstance(dtype := getattr(torch, name, None), torch.dtype):
            return dtype
        return type("Inert", (Inert,), {})


def _load(file, **options) -> Any:
    return InertUnpickler(file, **options).load()


INERT_PICKLE = SimpleNamespace(Unpickler=InertUnpickler, load=_load, __name__="inert_pickle")
