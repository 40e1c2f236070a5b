"""What of a study lies in a folder already, told without a framework."""

from __future__ import annotations

from pathlib import Path

from benchmark import json_files
from benchmark.study.members import Member


def lies_there(member: Member, out: Path) -> bool:
    """Whether a whole backbone, and every encoder that is kept on the way, lies in the member's folder. Whether it was made from today's
    images, only a run says, which reads them."""
    folder = member.folder(out)
    try:
        content = json_files.read(folder / "held_out.json")
    except (OSError, ValueError):
        return False
    kept = content.get("kept")
    return bool(content.get("ended")) and isinstance(kept, list) and set(member.keeps[:-1]) <= set(kept)
