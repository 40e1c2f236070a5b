"""A backbone from the author's own file: `mine.py:build`.

The function is called without arguments and returns a module with `spec`, `pyramid` and `pooled`. Unlike a checkpoint, the file is
code the user chose to run. What the module does with images is checked by `conformance.check`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from torch import nn

from benchmark.cards import BackboneSpec
from benchmark.encoders.base import Backbone
from benchmark.encoders.sources import SourceFile, must_be_planned
from benchmark.errors import ConformanceError, UsageError
from benchmark.own.modules import OwnModules

DEFAULT_LAYOUT = "torchvision"


def build(model: str) -> Backbone:
    """Calls the function named `path/to/file.py:function`.

    Files beside it can be imported, and only by it: each call runs modules of its own (`own.modules`). Errors inside the author's code keep
    their traceback.

    Raises:
        UsageError: no such file, or no such function in it.
        ConformanceError: what it returned lacks `spec`, `pyramid` or `pooled`; names the first that is missing.
    """
    file, _, function = model.rpartition(":")
    path = Path(file).resolve()
    if not path.is_file():
        raise UsageError(f"There is no file {path}; a backbone in Python is named file.py:function.")
    modules = OwnModules(path)
    try:
        with modules.building():
            factory = getattr(modules.factory(), function, None)
            if not callable(factory):
                raise UsageError(f"{path.name} has no function {function!r}; a backbone in Python is named file.py:function.")
            backbone = _checked(factory(), f"{path.name}:{function}")
    except BaseException:
        modules.forget()
        raise
    backbone.own_modules = modules.kept()
    return backbone


def modules_of(backbone: Backbone) -> OwnModules:
    """The modules that `build` ran for this backbone."""
    return backbone.own_modules.modules


def require_planned(backbone: Backbone, model: str, planned: Sequence[SourceFile]) -> None:
    """Holds the code of a backbone, run already or imported later, to the files it was planned with.

    Raises:
        CheckpointChanged: it ran another file, or one that is not among them.
    """
    factory = Path(model.rpartition(":")[0]).resolve()
    files = {os.path.realpath(file.at(factory.parent)): file.digest for file in planned}
    modules_of(backbone).require(files, functools.partial(must_be_planned, factory))


def _checked(backbone: object, name: str) -> Backbone:
    if not isinstance(backbone, nn.Module):
        raise ConformanceError(f"{name} returned {type(backbone).__name__}; it must return a torch.nn.Module (see backbones/template.py).")
    for method in ("pyramid", "pooled"):
        if not callable(getattr(backbone, method, None)):
            raise ConformanceError(f"{name} returned a {type(backbone).__name__} without {method}(images) (see backbones/template.py).")
    if not isinstance(getattr(backbone, "spec", None), BackboneSpec):
        raise ConformanceError(f"{name} returned a {type(backbone).__name__} whose `spec` is no benchmark.cards.BackboneSpec.")
    return cast(Backbone, backbone)  # by what it has: an author's class need not inherit
