"""The page of the long checks: a row for each, the same from one process and from several, and the time of the last whole run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import verification

CHECKS = """
import numpy as np
import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("address", ["plain", "a@b"])
def test_noted(address, record_property):
    record_property("a number of NumPy's", np.float64(0.5))


def test_fails():
    assert False


@pytest.mark.alone
def test_later():
    pass
"""
# The plugin with a checkout of its own, so that it writes no page of ours.
CONFTEST = """
from pathlib import Path

from tests import verification
from tests.verification import *

verification.ROOT = Path(__file__).parent
verification.HERE = verification.ROOT / "tests" / "verify"
verification.PAGE = verification.ROOT / "page.md"
"""
SETTINGS = "[pytest]\nmarkers =\n  slow\n  alone\n"


def rows(page: Path) -> dict[str, str]:
    """Check -> its result and what it saw."""
    cells = [line.strip("| ").split(" | ") for line in page.read_text().splitlines() if line.startswith("| `")]
    return {name.strip("`"): " ".join((result, *seen)).rstrip(" |") for name, result, _, _, _, *seen in cells}


@pytest.mark.parametrize("workers", [[], ["-n", "2", "--dist", "loadfile"]], ids=["one process", "two workers"])
def test_rows_are_the_same_from_one_process_and_from_two_workers(workers: list[str], tmp_path: Path):
    for name, text in {"test_long.py": CHECKS, "conftest.py": CONFTEST, "pytest.ini": SETTINGS}.items():
        (tmp_path / name).write_text(text)

    def run(marked: str, *more: str) -> int:
        words = ["-m", "pytest", "-q", "--rootdir", tmp_path, "-c", tmp_path / "pytest.ini", "-p", "no:cacheprovider", "-m", marked]
        command = [sys.executable, *words, "-p", "xdist.plugin", *more, tmp_path]
        alone = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # others take longer to load than all of this
        return subprocess.run(command, cwd=verification.ROOT, env=alone, capture_output=True, check=False).returncode

    assert run("slow and not alone", *workers) == 1
    noted = {f"test_long.py::test_noted[{address}]": "passed a number of NumPy's: 0.5" for address in ("plain", "a@b")}
    assert rows(tmp_path / "page.md") == noted | {"test_long.py::test_fails": "failed"}
    assert run("slow and alone") == 0  # the second part keeps the rows of the first
    assert rows(tmp_path / "page.md") == noted | {"test_long.py::test_fails": "failed", "test_long.py::test_later": "passed"}


def test_the_whole_run_is_noted_beside_the_rows_and_kept_by_later_parts(tmp_path: Path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(
        "| `tests/test_verification.py::test_the_whole_run_is_noted_beside_the_rows_and_kept_by_later_parts` | passed | 5 | `1` | d |  |\n"
        "| `tests/test_verification.py::test_that_is_gone` | passed | 5 | `1` | d |  |\n"
    )
    monkeypatch.setattr(verification, "PAGE", page)
    verification.write_whole(3480, passed=False)
    assert f"{verification.WHOLE}`make verify`, 58 minutes, not all passed, commit" in page.read_text()
    (only,) = rows(page)
    assert only.endswith("kept_by_later_parts")
    told = verification._known_whole()
    verification._write(verification._known_rows(), told)
    assert page.read_text().count(told) == 1
