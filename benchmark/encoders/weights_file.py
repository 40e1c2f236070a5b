"""Tensors out of a weights file, executing nothing that the file contains.

What a file is, its first bytes say, not its name. safetensors, NumPy files, PyTorch files with `weights_only`; the rest (Lightning
checkpoints with configuration objects) through an unpickler that turns every class or function it does not know into an inert stub.
A folder's weights in several files are read through their index.
"""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from benchmark.encoders import archive
from benchmark.encoders.inert_pickle import INERT_PICKLE, InertUnpickler, PickledArray, tensor_of
from benchmark.encoders.shards import is_index, shards_of
from benchmark.encoders.weight_sets import MOST_TENSORS, WeightSet, choose
from benchmark.errors import CheckpointError
from benchmark.files import open_regular

_ZIP, _NUMPY, _PICKLE = b"PK\x03\x04", b"\x93NUMPY", b"\x80"
_HEAD_BYTES = 512
# What people give for a weights file, by its first bytes.
_OTHER_KINDS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: fetch the file"),
    (b"\x1f\x8b", "compressed with gzip: unpack it first"),
    (b"BZh", "compressed with bzip2: unpack it first"),
    (b"\xfd7zXZ", "compressed with xz: unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it first"),
    (b"\x89HDF", "an HDF5 file of another framework: convert it to a PyTorch state dict"),
    (b"GGUF", "a GGUF file of quantised weights: give the original ones"),
    (b"<!DOCTYPE", "a web page: the download needs a login or another address"),
    (b"<!doctype", "a web page: the download needs a login or another address"),
    (b"<html", "a web page: the download needs a login or another address"),
)
_TAR_MAGIC = slice(257, 262)
_MOST_HEADER_BYTES = 32 * 2**20  # of a safetensors file; 100,000 tensors take some 10 MiB
_EXPANDED = 16  # times its storage that a tensor may be: more is a declared size, not content
_EXPANDED_BYTES = 64 * 2**20


def read_set(path: Path, container: str | None = None, documented: str | None = None) -> WeightSet:
    """The file's state dict on the CPU, unwrapped.

    Args:
        path: weights, or the index of weights in several files (`*.index.json`).
        container: key under which the set that is meant lies; None = the only one there is.
        documented: key of a published file; taken if it is there and none is named.

    Raises:
        CheckpointError: no such file, damaged, a TorchScript archive, no state dict in it, or several of one network.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no weights file {path}.")
    content = _sharded(path) if is_index(path) else _content(path)
    found = choose(content, path.name, container, documented)
    if len(found.tensors) > MOST_TENSORS:
        raise CheckpointError(f"{path.name} holds {len(found.tensors):,} tensors; no network has more than {MOST_TENSORS:,}.")
    _refuse_declared_sizes(found.tensors, path)
    return found


def _content(path: Path) -> Any:
    with open_regular(path) as file:
        head = file.read(_HEAD_BYTES)
    for start, kind in _OTHER_KINDS:
        if head.lstrip().startswith(start):
            raise CheckpointError(f"{path.name} is {kind}.")
    if head[_TAR_MAGIC] == b"ustar":
        raise CheckpointError(f"{path.name} is a tar archive: unpack it first, or save a file of PyTorch's early years again.")
    if head.startswith(_ZIP):
        return _zipped(path)
    if head.startswith(_NUMPY):
        return _numpy_file(path)
    if _is_safetensors(head, path):
        return _safetensors(path)
    return _read_torch(path)


def _zipped(path: Path) -> Any:
    names = archive.names_in(path)
    if names is None:
        raise CheckpointError(f"{path.name} is no readable PyTorch file: is it cut short? Fetch it again.")
    inner = {name.split("/")[-1] for name in names}
    if "constants.pkl" in inner:
        raise CheckpointError(f"{path.name} is a TorchScript archive, which is a program: save its state_dict() instead.")
    archive.require_whole(path)
    if "data.pkl" in inner:
        return _read_torch(path)
    if names and all(name.endswith(".npy") for name in names):
        try:
            with open_regular(path) as file, np.load(file, allow_pickle=False) as arrays:
                return {name: _from_numpy(arrays[name], name, path) for name in arrays.files}
        except (ValueError, OSError, EOFError, SyntaxError, MemoryError):
            raise CheckpointError(
                f"{path.name}: an array in it is damaged or holds objects. Save numbers alone, one array a tensor."
            ) from None
    raise CheckpointError(
        f"{path.name} is a zip archive without weights of its own (first: {names[0] if names else 'nothing'}): unpack it."
    )


def _numpy_file(path: Path) -> Any:
    """A dict that was saved as an array of one object; an array of numbers has no tensor's name."""
    try:
        with open_regular(path) as file:
            version = np.lib.format.read_magic(file)
            read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            _, _, dtype = read_header(file)
            content = InertUnpickler(file).load() if dtype.hasobject else None
    except Exception as error:
        raise _unreadable(path, error) from None
    if content is None:
        raise CheckpointError(f"{path.name} holds one array without a tensor's name: save all of them by name, with numpy.savez.")
    return content.item if isinstance(content, PickledArray) else content


def _from_numpy(array: np.ndarray, name: str, path: Path) -> Tensor:
    tensor = tensor_of(array)
    if tensor is None:
        raise CheckpointError(f"{path.name}: array {name!r} is of type {array.dtype}, which no tensor has.")
    return tensor


def _is_safetensors(head: bytes, path: Path) -> bool:
    """By a header that lies within the file; by name, where nothing speaks for a pickle."""
    if head[8:9] == b"{" and 8 + int.from_bytes(head[:8], "little") <= path.stat().st_size:
        return True
    return path.suffix == ".safetensors" and not head.startswith(_PICKLE)


def _safetensors(path: Path) -> dict[str, Tensor]:
    with open_regular(path) as file:
        n_header = int.from_bytes(file.read(8), "little")
    if n_header > _MOST_HEADER_BYTES and 8 + n_header <= path.stat().st_size:
        raise CheckpointError(f"{path.name} describes its tensors in {n_header / 2**20:.0f} MiB: no network has so many.")
    try:
        return load_file(path)
    except Exception as error:  # beside its own error, Rust's panics and types that torch does not have
        reason = str(error).split("\n")[0][:200] if isinstance(error, (SafetensorError, OSError)) else type(error).__name__
        raise CheckpointError(f"{path.name} is no readable safetensors file ({reason}): is it cut short?") from None


def _sharded(index: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for shard, names in shards_of(index).items():
        content = _content(shard)
        tensors = {n: t for n, t in content.items() if isinstance(t, Tensor)} if isinstance(content, dict) else {}
        if absent := sorted(names - tensors.keys()):
            raise CheckpointError(f"{index.name} promises {absent[0]!r} in {shard.name}, which does not hold it: files of two downloads?")
        if doubled := sorted(found.keys() & tensors.keys()):
            raise CheckpointError(f"{index.name}: {doubled[0]!r} is in {shard.name} and in another file: files of two downloads?")
        found |= tensors
    return found


def _read_torch(path: Path) -> Any:
    try:
        return _torch_load(path, weights_only=True)
    except pickle.UnpicklingError:
        pass  # holds more than tensors and containers, or is no pickle at all: the next reader tells
    except Exception as error:
        raise _unreadable(path, error) from None
    try:
        return _torch_load(path, weights_only=False, pickle_module=INERT_PICKLE)
    except Exception as error:
        raise _unreadable(path, error) from None


def _torch_load(path: Path, **options: Any) -> Any:
    """From an open file: given a path, torch goes by its suffix."""
    with open_regular(path) as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected pickle protocol")
        return torch.load(file, map_location="cpu", **options)


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = str(error).split("\n")[0][:200] or type(error).__name__
    if "weights_only" in reason or "allow_pickle" in reason:
        reason = type(error).__name__  # libraries advise to run what is in the file
    return CheckpointError(f"{path.name} is no readable PyTorch file ({reason}): is it cut short, or another kind of file?")


def _refuse_declared_sizes(tensors: dict[str, Tensor], path: Path) -> None:
    for name, tensor in tensors.items():
        if tensor.is_meta or tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested:
            continue
        n_bytes = tensor.numel() * tensor.element_size()
        if n_bytes > max(_EXPANDED_BYTES, _EXPANDED * tensor.untyped_storage().nbytes()):
            raise CheckpointError(f"{path.name}: tensor {name!r} of shape {tuple(tensor.shape)} is larger than what the file holds of it.")
