"""A backbone from the author's own file: `mine.py:build`.

The function is called without arguments and returns a module with `spec`, `pyramid` and `pooled`. Unlike a checkpoint, the file is
code the user chose to run. What the module does with images is checked by `SealedEncoder.conformance`.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from torch import nn

from benchmark.cards import BackboneSpec
from benchmark.encoders.base import Backbone
from benchmark.errors import ConformanceError, UsageError

DEFAULT_LAYOUT = "torchvision"


def build(model: str) -> Backbone:
    """Calls the function named `path/to/file.py:function`.

    Files beside it can be imported. Errors inside the author's code keep their traceback.

    Raises:
        UsageError: no such file, or no such function in it.
        ConformanceError: what it returned lacks `spec`, `pyramid` or `pooled`; names the first that is missing.
    """
    file, _, function = model.rpartition(":")
    path = Path(file).resolve()
    if not path.is_file():
        raise UsageError(f"There is no file {path}; a backbone in Python is named file.py:function.")
    factory = getattr(_imported(path), function, None)
    if not callable(factory):
        raise UsageError(f"{path.name} has no function {function!r}; a backbone in Python is named file.py:function.")
    return _checked(factory(), f"{path.name}:{function}")


def _imported(path: Path):
    # Registered under a name of its own, so that a file called `torch.py` shadows nothing and dataclasses find their module.
    name = f"lobe_backbone_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def _checked(backbone, name: str) -> Backbone:
    if not isinstance(backbone, nn.Module):
        raise ConformanceError(f"{name} returned {type(backbone).__name__}; it must return a torch.nn.Module (see backbones/template.py).")
    for method in ("pyramid", "pooled"):
        if not callable(getattr(backbone, method, None)):
            raise ConformanceError(f"{name} returned a {type(backbone).__name__} without {method}(images) (see backbones/template.py).")
    if not isinstance(getattr(backbone, "spec", None), BackboneSpec):
        raise ConformanceError(f"{name} returned a {type(backbone).__name__} whose `spec` is no benchmark.cards.BackboneSpec.")
    return backbone
