"""What an archive says of itself: which files it holds, whose results they are, and what made them. The format: docs/results-format.md."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field

from benchmark.cards.base import Card

FORMAT = 1  # of archives; goes up when an older LOBE could not read a new one
NAME = "manifest.json"

# Every name that an archive may hold. Anything else is foreign: there is no room for a path that leads out, for two names that one file
# system takes for one, or for letters that look like others.
_KEY = "[0-9a-f]{32}"
RECORD = re.compile(rf"records/({_KEY})\.json")
RESULT = re.compile(rf"predictions/({_KEY})/([a-z][a-z0-9_-]{{0,40}})\.parquet")
CARD = re.compile(r"cards/(backbones|datasets|suites|tasks)/([a-z0-9](?:[a-z0-9._-]{0,79}))\.json")


class PackedFile(Card):
    """A file of an archive, the manifest aside. `bytes` is its size when it is unpacked."""

    name: str
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(Card):
    """The file `manifest.json` of an archive.

    Attributes:
        format: of the archive.
        lobe, code: version and digest of the modules (`benchmark.own_code`) that packed it.
        suite: whose tasks it answers; None where single tasks were sent in.
        contact: who sends it, as they want to be named; may be empty.
        phantom: its data was generated: a rehearsal, which no leaderboard takes.
        pseudonymised: datasets whose images and patients stand under a keyed hash, in an order that the hash gives.
        environments: versions and devices of the records, each once.
        files: every other file of the archive, sorted by name.
    """

    format: int
    lobe: str
    code: str = Field(pattern=r"^[0-9a-f]{64}$")
    suite: str | None
    contact: str = ""
    phantom: bool
    backbones: tuple[str, ...]
    tasks: tuple[str, ...]
    pseudonymised: tuple[str, ...] = ()
    environments: tuple[dict[str, str], ...]
    files: tuple[PackedFile, ...]


def kind_of(name: str) -> Literal["manifest", "record", "result", "card"] | None:
    """What a file of that name is; None for a name that no archive holds."""
    if name == NAME:
        return "manifest"
    for kind, pattern in (("record", RECORD), ("result", RESULT), ("card", CARD)):
        if pattern.fullmatch(name):
            return kind  # type: ignore[return-value]  # of the literals above
    return None
