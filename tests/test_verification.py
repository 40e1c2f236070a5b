"""The page of the long checks: a row for each, the same from one process and from several, and the time of the last whole run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from docsite import long_checks
from docsite.long_checks import Seen
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


@pytest.mark.skipif(True, reason="no browser on this machine")
def test_needs_a_browser():
    pass


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
verification.DATA = verification.ROOT / "rows.csv"
"""
SETTINGS = "[pytest]\nmarkers =\n  slow\n  alone\n"


def rows(data: Path) -> dict[str, str]:
    """Check -> its result and what it saw."""
    return {one.check: f"{one.result} {one.saw}".strip() for one in long_checks.read(data)}


@pytest.mark.parametrize("workers", [[], ["-n", "2", "--dist", "loadfile"]], ids=["one process", "two workers"])
def test_rows_are_the_same_from_one_process_and_from_two_workers(workers: list[str], tmp_path: Path):
    for name, text in {"test_long.py": CHECKS, "conftest.py": CONFTEST, "pytest.ini": SETTINGS}.items():
        (tmp_path / name).write_text(text)

    def run(marked: str, *more: str) -> int:
        words = ["-m", "pytest", "-q", "--rootdir", tmp_path, "-c", tmp_path / "pytest.ini", "-p", "no:cacheprovider", "-m", marked]
        own = ["--basetemp", tmp_path / "temporary"]  # else it clears away the folders that earlier test runs left, which takes minutes
        command = [sys.executable, *words, *own, "-p", "xdist.plugin", *more, tmp_path]
        alone = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # others take longer to load than all of this
        return subprocess.run(command, cwd=verification.ROOT, env=alone, capture_output=True, check=False).returncode

    assert run("slow and not alone", *workers) == 1
    noted = {f"test_long.py::test_noted[{address}]": "passed a number of NumPy's: 0.5" for address in ("plain", "a@b")}
    noted |= {"test_long.py::test_fails": "failed", "test_long.py::test_needs_a_browser": "skipped no browser on this machine"}
    assert rows(tmp_path / "rows.csv") == noted
    assert "<!-- site: long-checks -->" in (tmp_path / "page.md").read_text()
    assert run("slow and alone") == 0  # the second part keeps the rows of the first
    assert rows(tmp_path / "rows.csv") == noted | {"test_long.py::test_later": "passed"}


def test_the_whole_run_is_noted_on_the_page_and_kept_by_later_parts(tmp_path: Path, monkeypatch):
    page = tmp_path / "page.md"
    monkeypatch.setattr(verification, "PAGE", page)
    monkeypatch.setattr(verification, "DATA", tmp_path / "rows.csv")
    verification.write_whole(3480, passed=False)
    assert f"{verification.WHOLE}`make verify`, 58 minutes, not all passed, commit" in page.read_text()
    told = verification._known_whole()
    verification._write(told)
    assert page.read_text().count(told) == 1


def test_a_run_that_skipped_checks_is_not_noted_as_whole(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(verification, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(verification, "DATA", tmp_path / "rows.csv")
    now, before = (verification._commit(), verification._today()), ("0123456", "2026-11-30")
    rows = [Seen("a", "passed", "5", *now, ""), Seen("b", "skipped", "0", *now, "no browser"), Seen("c", "skipped", "0", *before, "")]
    long_checks.write(rows, tmp_path / "rows.csv")
    verification.write_whole(3480, passed=True)
    assert "58 minutes, all passed, 1 skipped: their rows say why, commit" in (tmp_path / "page.md").read_text()


def test_rows_of_checks_that_are_gone_are_forgotten(tmp_path: Path, monkeypatch):
    here = "tests/test_verification.py::test_rows_of_checks_that_are_gone_are_forgotten"
    long_checks.write(
        [Seen(name, "passed", "5", "1", "d", "") for name in (here, "tests/test_verification.py::test_gone")], tmp_path / "a.csv"
    )
    monkeypatch.setattr(verification, "DATA", tmp_path / "a.csv")
    assert list(verification._known_rows()) == [here]


def test_rows_come_back_as_they_were_written_and_another_file_is_refused(tmp_path: Path):
    row = Seen("test_a.py::test_b[x|y]", "passed", "5", "1", "2026-12-01", 'a: 1, "2"; b: |')
    long_checks.write([row], tmp_path / "a.csv")
    assert long_checks.read(tmp_path / "a.csv") == [row]
    (tmp_path / "b.csv").write_text("check,result\n")
    with pytest.raises(ValueError, match="has the columns check, result; expected check, result, seconds"):
        long_checks.read(tmp_path / "b.csv")
    (tmp_path / "a.csv").write_text((tmp_path / "a.csv").read_text() + "short\n")
    with pytest.raises(ValueError, match="line 3: 1 values, expected 6"):
        long_checks.read(tmp_path / "a.csv")
