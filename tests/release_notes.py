"""What a release says of itself: its section of CHANGELOG.md. `make release-notes` writes it, for a tag of this version alone.

The version stands once, in pyproject.toml. CITATION.cff and the changelog repeat it, and tests/test_release.py holds them to it.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UNRELEASED = "Unreleased"


class NoRelease(Exception):
    """There are no notes to give; the sentence says why, and what to do."""


def version() -> str:
    """Of the package, as pyproject.toml says it."""
    found: str = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return found


def sections(changelog: str) -> dict[str, str]:
    """Version, or `UNRELEASED` -> its text, newest first."""
    parts = re.split(r"^## \[([^\]]+)\][^\n]*\n", changelog, flags=re.MULTILINE)
    return {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def notes(changelog: str, released: str, tag: str = "") -> str:
    """The text of one version's section.

    Args:
        released: version of the package.
        tag: that the release is made from, `v` and the version; empty where none is known yet.

    Raises:
        NoRelease: the tag is of another version, or the changelog has no such section, or an empty one.
    """
    if tag and tag != f"v{released}":
        raise NoRelease(
            f"The tag {tag} is not v{released}, the version in pyproject.toml. Change the version first, or tag the commit that did."
        )
    found = sections(changelog).get(released, "")
    if not found:
        raise NoRelease(
            f"CHANGELOG.md has no section [{released}] with text. Write `## [{released}] - YYYY-MM-DD` below an empty [{UNRELEASED}]."
        )
    return found


def main(arguments: Sequence[str]) -> int:
    try:
        print(notes((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version(), *arguments[:1]))
    except NoRelease as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
