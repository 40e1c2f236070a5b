"""A fetched file under its own name: there only when it is whole and has its digest."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pooch

from benchmark.contents import digest_like
from benchmark.fetching.transfer import FetchError, Progress, Wanted, transfer

pooch.get_logger().setLevel(logging.ERROR)  # it tells of every file; here a bar does


def fetched(wanted: Wanted, folder: Path, progress: Progress = lambda done, total: None) -> Path:
    """The file in `folder`, fetched where it is not there or has another digest.

    Raises:
        FetchError: as `transfer`, or what came has another digest; it is deleted then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = wanted.digest or None
    shelf = pooch.create(path=folder, base_url="", registry={wanted.name: known}, urls={wanted.name: wanted.url})
    came: list[str] = []

    def download(url: str, output_file: str, _shelf: pooch.Pooch) -> None:
        part = part_of(wanted, folder)
        transfer(wanted, part, progress)
        if known is not None:
            came.append(digest_like(known, part))
        os.replace(part, output_file)

    try:
        return Path(shelf.fetch(wanted.name, downloader=download))
    except ValueError as error:
        if not came or came[0] == known:
            raise
        raise FetchError(
            f"{wanted.url} gave a file with {came[0]}, and {wanted.name} has {known}: it was replaced at its source, or altered on the "
            f"way. It was deleted.{wanted.see}"
        ) from error


def part_of(wanted: Wanted, folder: Path) -> Path:
    """Where the bytes of a file lie until it is whole."""
    return folder / f".{wanted.name}.part"
