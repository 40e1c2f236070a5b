"""Where tracking goes: the server that MLFLOW_TRACKING_URI names, else a database in the output folder."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

DATABASE = "mlflow.db"


def tracking_uri(out: Path) -> str:
    """The address that MLflow is given, `MLFLOW_TRACKING_URI` first, as everywhere in MLflow."""
    return os.environ.get("MLFLOW_TRACKING_URI") or database_uri(out)


def database_uri(out: Path) -> str:
    """Address of `<out>/mlflow.db`. A folder may be called `a?b` or `a%20b`, which mean something else inside an address."""
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(out.resolve() / DATABASE)).render_as_string()


def remove_misnamed_folders(out: Path) -> None:
    """Removes the empty folders that MLflow makes under the quoted name of `out` before it opens the database under the right one."""
    folder = Path(database_uri(out).removeprefix("sqlite:///")).parent
    while folder != out.resolve() and folder not in out.resolve().parents:
        with contextlib.suppress(OSError):
            folder.rmdir()
        folder = folder.parent
