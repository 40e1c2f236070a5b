"""A stranger brings code of their own by docs/your-code.md alone: its commands in the order in which they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.own.written import write_data

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def commands() -> list[str]:
    (block,) = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "your-code.md").read_text(encoding="utf-8"), re.DOTALL)
    return block.strip().splitlines()


def test_the_commands_of_the_page_lead_from_nothing_to_a_row(tmp_path: Path) -> None:
    write_data(tmp_path / "data", 24)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "lobe").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m benchmark "$@"\n')
    (tmp_path / "bin" / "lobe").chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "LOBE_CACHE": str(tmp_path / "cache"),
    }
    said = {}
    for line in commands():
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, f"{line}\n{done.stderr}"
        said[line] = done.stdout
    assert any("nothing is wrong with them" in out for line, out in said.items() if "validate-cards" in line)
    assert any("task, dataset" in out for line, out in said.items() if "--dry-run" in line)
    (row,) = json.loads((tmp_path / "lobe-out" / "report" / "leaderboard.json").read_text())["rows"]
    assert (row["task"], row["head"], row["metric"]) == ("clinic-convolutions", "convolutions", "touched")
    assert row["custom"] == ["task", "dataset"]
