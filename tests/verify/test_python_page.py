"""docs/python.md is true: its commands and its Python run in the order in which they stand there, as a reader types them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "python.md"
BLOCK = re.compile(r"```(sh|python)\n(.*?)```", flags=re.S)
AT_THE_END = """
assert list(difference["reading"].str.contains("not tested")) == [True] * len(difference)
assert len(difference) == 2 and len(cells) == 4 and set(runs["status"]) == {"ok"} and len(epochs) > 4
assert {"image", "value", "tp"} <= set(images.columns) and len(metrics) > len(runs)
assert embeddings.shape == (5, 256) and maps.shape == (5, 128, 14, 14)
assert [mask.shape for mask in masks] == [(1, 300, 200)] * 5 and probabilities.shape == (5, 1)
assert len(scores.data) and len(differences.data) and page.is_file()
assert results.failures().empty
"""


def test_blocks_of_the_page_run_in_order(tmp_path: Path) -> None:
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert [kind for kind, _ in blocks].count("python") >= 6
    environment = os.environ | {"PYTHONPATH": str(ROOT), "LOBE_CACHE": str(tmp_path / "cache")}
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "lobe").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m benchmark "$@"\n')
    (tmp_path / "bin" / "lobe").chmod(0o755)
    environment["PATH"] = f"{tmp_path / 'bin'}{os.pathsep}{environment['PATH']}"
    typed = "".join(code for kind, code in blocks if kind == "python")
    first = [kind for kind, _ in blocks].index("python")
    assert "sh" not in [kind for kind, _ in blocks[first:]], "commands come first, or this test has to take turns"
    for line in "".join(code for kind, code in blocks if kind == "sh").splitlines():
        _run(["bash", "-c", line], tmp_path, environment)
    (tmp_path / "page.py").write_text(typed + AT_THE_END, encoding="utf-8")
    _run([sys.executable, "page.py"], tmp_path, environment)


def _run(words: list[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words[-1]}\n{done.stdout}\n{done.stderr}"
