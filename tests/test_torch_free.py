"""The tests of `make check` are there, and their run refuses a framework."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import torch_free

ROOT = Path(__file__).resolve().parents[1]


def test_files_and_exceptions_of_make_check_exist() -> None:
    assert [path for path in torch_free.files() if not path.is_file()] == []
    assert [name for name in torch_free.EXCEPT if not (torch_free.HERE / name).is_file()] == []


def test_exceptions_lie_in_the_folders() -> None:
    assert {name.split("/")[0] for name in torch_free.EXCEPT} <= set(torch_free.FOLDERS)


@pytest.mark.parametrize(("line", "passes"), [("import torch", False), ("import numpy", True)])
def test_make_check_refuses_a_test_that_imports_a_framework(line: str, passes: bool, tmp_path: Path) -> None:
    file = tmp_path / "test_one.py"
    file.write_text(f"def test_it():\n    {line}\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.torch_free",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(file),
    ]
    ended = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=600
    )
    assert (ended.returncode == 0) == passes, ended.stdout
    assert passes or "is imported in `make check`" in ended.stdout
