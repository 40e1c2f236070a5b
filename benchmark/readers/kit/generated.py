"""What marks a folder as generated: PHANTOM.json with its counts and digests, and the table that names the patient of every image."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from benchmark import json_files
from benchmark.errors import DataError
from benchmark.readers.kit.text import open_text

PHANTOM_FILE = "PHANTOM.json"
PHANTOM_REPORTS = "phantom_reports.csv"


def manifest_in(root: Path, dataset: str) -> dict[str, Any] | None:
    """The content of PHANTOM.json, or None for a public release.

    Raises:
        DataError: the file is damaged.
    """
    path = root / PHANTOM_FILE
    if not path.exists():
        return None
    try:
        return _checked(json_files.read(path))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{dataset}: {PHANTOM_FILE} is damaged ({error}). It marks generated images; write the corpus again with `lobe data sample`."
        ) from None


def patients_in(root: Path, dataset: str) -> dict[str, str]:
    """Image id -> generated patient, as the report table names them; empty without a table.

    Raises:
        DataError: the table has other columns, or quoting that does not close.
    """
    path = root / PHANTOM_REPORTS
    if not path.exists():
        return {}
    changed = "The corpus was changed after it was generated; write it again with `lobe data sample`."
    try:
        with open_text(path, dataset) as handle:
            rows = csv.DictReader(handle, strict=True)
            if not {"id", "patient_id"} <= set(rows.fieldnames or ()):
                raise DataError(f"{dataset}: {path.name} has no columns id and patient_id. {changed}")
            return {row["id"]: row["patient_id"] for row in rows}
    except csv.Error as error:
        raise DataError(f"{dataset}: {path.name} is not a readable table ({error}). {changed}") from None


def _checked(content: dict[str, Any]) -> dict[str, Any]:
    """Raises ValueError where counts are no numbers or digests no texts."""
    for field, kind in (("counts", int), ("digests", str)):
        table = content.get(field, {})
        if not isinstance(table, dict) or not all(type(value) is kind for value in table.values()):
            raise ValueError(f"its `{field}` make no sense")
    return content
