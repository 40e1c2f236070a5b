"""The page docs/verification.md and its rows, docs/data/verification.csv: what each long check saw, with commit and date, and how long the
last whole `make verify` took.

A plugin of every test run, which writes only where a check marked `slow` ended. With several workers the process that started them
writes: it hears of all checks, and loads no conftest.py below tests/, which is why this is none.
"""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from docsite import long_checks
from docsite.long_checks import Seen

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "tests" / "verify"
PAGE = ROOT / "docs" / "verification.md"
DATA = long_checks.DATA
WHOLE = "Last whole run: "


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    # As text before a worker sends it: what travels between processes is built-in types alone, and a check may note a NumPy number.
    report.user_properties = [(name, str(value)) for name, value in report.user_properties]


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):
        return
    told = session.config.pluginmanager.get_plugin("terminalreporter").stats
    reports = [report for outcome in ("passed", "failed", "error", "skipped") for report in told.get(outcome, ())]
    reports = [report for report in reports if "slow" in getattr(report, "keywords", ())]  # a file that could not be loaded has none
    if reports:
        long_checks.write((_known_rows() | {row.check: row for row in map(_row, reports)}).values(), DATA)
        _write(_known_whole())


def write_whole(seconds: int, passed: bool) -> None:
    """Notes on the page what `make verify` took and whether all of it passed; rows stay as they are.

    Args:
        seconds: from its start, with both of its parts.
        passed: no check of either part failed.
    """
    commit, ended = _commit(), "all passed" if passed else "not all passed"
    skipped = sum((row.result, row.commit, row.date) == ("skipped", commit, _today()) for row in long_checks.read(DATA))
    if skipped:
        ended += f", {skipped} skipped: their rows say why"
    _write(f"{WHOLE}`make verify`, {seconds / 60:.0f} minutes, {ended}, commit `{commit}`, {_today()}")


def _write(whole: str) -> None:
    lines = [
        "# Verification",
        "",
        "Written by `make verify` and `make studies`: what the long checks saw, the latest run of each. Generated data throughout; nothing",
        "here compares real backbones. A commit that ends in `-dirty` had changes on top of it. Seconds are those of the check alone,",
        "without what it shares with others; most checks run two side by side, those marked `alone` have the machine to themselves.",
        "The rows are data: [data/verification.csv](data/verification.csv).",
        "",
        f"Last machine: {os.cpu_count()} CPU cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "",
        whole,
        "",
        "<!-- site: long-checks -->",
    ]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _row(report: pytest.TestReport) -> Seen:
    noted = "; ".join(f"{name}: {value}" for name, value in report.user_properties)
    why = report.longrepr[2].removeprefix("Skipped: ") if report.skipped and isinstance(report.longrepr, tuple) else ""
    saw = (noted or why).replace("\n", " ")
    name = report.nodeid.removeprefix("tests/verify/")
    return Seen(name, str(report.outcome), f"{report.duration:.0f}", _commit(), _today(), saw)


def _known_rows() -> dict[str, Seen]:
    """Rows of earlier runs whose check still exists."""
    return {one.check: one for one in long_checks.read(DATA) if _exists(*one.check.partition("[")[0].split("::"))}


def _known_whole() -> str:
    lines = PAGE.read_text(encoding="utf-8").splitlines() if PAGE.exists() else []
    return next((line for line in lines if line.startswith(WHOLE)), f"{WHOLE}not noted yet")


def _exists(file: str, check: str) -> bool:
    paths = [folder / file for folder in (HERE, ROOT) if (folder / file).exists()]
    return any(f"def {check}(" in path.read_text(encoding="utf-8") for path in paths)


def _today() -> str:
    return f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"


def _commit() -> str:
    """The commit, with `-dirty` where anything but what the checks themselves write has changed on top of it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
    return (git("describe", "--always") or "unknown") + ("-dirty" if changed else "")


if __name__ == "__main__":  # the end of `make verify`: its seconds, and 0 where both parts passed
    write_whole(int(sys.argv[1]), passed=sys.argv[2] == "0")
