"""Cards and readers of one's own data, for the tests of the generic readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmark.cards import DatasetCard
from benchmark.readers.base import Reader, open_reader


def card(folder: Path, block: str, given: dict[str, Any], **others: Any) -> DatasetCard:
    return DatasetCard.model_validate({"name": "mine", "redistribution": "ids", "folder": folder.name, block: given, **others})


def opened(folder: Path, block: str, given: dict[str, Any], **others: Any) -> Reader:
    return open_reader(card(folder, block, given, **others), folder)


def odd(reader: Reader) -> dict[str, str]:
    """What `lobe data verify` finds odd, by kind."""
    return {check.what: check.found for check in (*reader.checks(), *reader.audit()) if check.verdict in ("warning", "error")}
