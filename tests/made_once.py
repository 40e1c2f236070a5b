"""What a test run makes once, whichever of its processes asks first: drawn corpora, what a backbone's file holds, MLflow's empty tables."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

_kept: Path | None = None  # folder of this test run


def keep_in(folder: Path) -> None:
    """Names the folder where all processes of a test run keep what they made. Called once, before any test."""
    global _kept
    folder.mkdir(exist_ok=True)
    _kept = folder


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """The file or folder `name`, for reading alone.

    Args:
        make: puts it at the path it is given. While one process does, others wait. What it leaves when it fails is made again.
    """
    assert _kept is not None
    with FileLock(_kept / f"{name}.lock"):
        if not (_kept / name).exists():
            make(_kept / f"{name}.new")
            (_kept / f"{name}.new").rename(_kept / name)  # it is there when it is whole
    return _kept / name


def empty_mlflow() -> Path:
    """An SQLite database with MLflow's tables and nothing in them, for reading alone: its seventy migrations take seconds."""
    import sqlalchemy
    from mlflow.store.db import utils

    migrate = inspect.unwrap(utils._initialize_tables)  # the tests' own copying may stand before it
    return made_once("mlflow.db", lambda path: migrate(sqlalchemy.create_engine(f"sqlite:///{path}")))
