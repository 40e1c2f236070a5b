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
    kept, looked = content.get("kept"), content.get("each")
    if not content.get("ended") or not isinstance(kept, list) or not isinstance(looked, dict):
        return False
    return all(pairs in kept if pairs else "0" in looked for pairs in member.keeps[:-1])
