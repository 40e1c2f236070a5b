"""Where a dataset's folder may lie instead of where it was looked for: one look up and one look down, made into a sentence."""

from __future__ import annotations

import shlex
from pathlib import Path

from benchmark.cards import DatasetCard
from benchmark.errors import DataError
from benchmark.readers.kit.walk import folders_in


def what_to_do(card: DatasetCard, root: Path) -> str:
    """What to do where `root`, the dataset's own folder, is not there.

    Args:
        root: `--data DIR` with the card's folder added, or the path of `--data name=path`.

    Returns:
        A sentence: the option that finds the folder after all, or how to have the release.
    """
    data = root.parent
    if root.name != card.folder:
        return f"Look at the path in --data {card.name}=PATH."
    if not data.is_dir():
        return f"There is no folder {data} either: look at --data."
    held = next((name for name in card.files if (data / name).exists()), None)
    if held is not None:
        return f"{data} holds {held} itself: give --data {card.name}={shlex.quote(str(data))}."
    deeper = _deeper(data, card.folder)
    if deeper is not None:
        return f"There is one in {deeper}: give --data {shlex.quote(str(deeper))}."
    if card.own is not None:
        return f"Put it there, or name it: --data {card.name}=PATH."
    return f"`lobe data get {card.name} --data {shlex.quote(str(data))}` fetches it or lists the steps to have it."


def _deeper(data: Path, name: str) -> Path | None:
    """The first folder in `data` that holds a folder of that name."""
    try:
        return next((folder for folder in folders_in(data) if (folder / name).is_dir()), None)
    except DataError:  # one that may not be listed says nothing
        return None
