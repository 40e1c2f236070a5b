"""Frozen panels as files: `panels/<version>.json` in a folder of results, sealed by a checksum, added to and never written again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from benchmark import json_files
from benchmark.cards import PanelCard
from benchmark.errors import CardError, UsageError
from benchmark.files import write_atomically, writing

FOLDER = "panels"


def read_all(roots: Iterable[Path]) -> dict[str, PanelCard]:
    """Every panel below folders of results, by version, the newest last.

    Raises:
        CardError: a file is no panel, was edited or renamed, or two panels have one version.
    """
    found: dict[str, PanelCard] = {}
    for root in roots:
        for path in sorted((root / FOLDER).glob("[!.]*.json")):
            card = _read(path)
            if card.version in found:
                raise CardError(f"{path}: there is a panel {card.version!r} already; a version stands for one panel.")
            found[card.version] = card
    return dict(sorted(found.items(), key=lambda item: (item[1].frozen_on, item[0])))


def write(card: PanelCard, results: Path) -> Path:
    """Adds a panel to a folder of results.

    Raises:
        UsageError: the version exists, or the folder cannot be written.
    """
    path = results / FOLDER / f"{card.version}.json"
    if path.exists():
        raise UsageError(f"{path} exists, and a frozen panel never changes: rows were ranked by it. Freeze under another version.")
    with writing(path, "Name another folder with --to."):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(card.sealed().model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n").encode())
    return path


def _read(path: Path) -> PanelCard:
    try:
        card = PanelCard.model_validate(json_files.read(path))
    except (ValueError, OSError) as error:  # pydantic's own is a ValueError
        raise CardError(f"{path} is no reference panel: {str(error).splitlines()[0]}.") from None
    if not card.is_whole or card.version != path.stem:
        raise CardError(f"{path} was edited or renamed, and a frozen panel never is. Bring the file back, or freeze another version.")
    return card
