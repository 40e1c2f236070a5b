"""docs/pretraining.md as a stranger follows it: every command in its order, from its own text."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "pretraining.md"

pytestmark = pytest.mark.slow


def commands() -> list[str]:
    block = PAGE.read_text(encoding="utf-8").split("```")[1]
    return [line for line in block.splitlines() if line.startswith("lobe ")]


def test_the_commands_of_the_page_lead_to_a_result(tmp_path: Path):
    lobe = Path(sys.executable).with_name("lobe")
    assert len(commands()) == 5
    for command in commands():
        found = subprocess.run(
            [str(lobe), *shlex.split(command)[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False
        )
        assert found.returncode == 0, f"{command}\n{found.stdout}\n{found.stderr}"
    assert list((tmp_path / "results").rglob("*.json"))
