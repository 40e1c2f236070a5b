"""Writes docs/verification.md after the long checks: command, commit, date, machine, and what each check saw."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
PAGE = ROOT / "docs" / "verification.md"


def pytest_sessionfinish(session: pytest.Session) -> None:
    # Not collected by a hook of this file: it would hear of this folder's checks alone.
    told = session.config.pluginmanager.get_plugin("terminalreporter").stats
    reports = [report for outcome in ("passed", "failed", "error") for report in told.get(outcome, ())]
    reports = [report for report in reports if "slow" in getattr(report, "keywords", ())]  # a file that could not be loaded has none
    if not reports:
        return
    rows = _known_rows() | dict(map(_row, reports))
    lines = [
        "# Verification",
        "",
        "Written by `make verify` and `make studies`: what the long checks saw, the latest run of each. Generated data throughout; nothing",
        "here compares real backbones. A commit that ends in `-dirty` had changes on top of it.",
        "",
        f"Last machine: {os.cpu_count()} CPU cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "",
        "| check | result | seconds | commit | date (UTC) | what it saw |",
        "|---|---|---|---|---|---|",
        *(f"| `{name}` | {rest}" for name, rest in sorted(rows.items())),
    ]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _row(report: pytest.TestReport) -> tuple[str, str]:
    """Name of a check and the rest of its line."""
    seen = "; ".join(f"{name}: {value}" for name, value in report.user_properties).replace("|", "/").replace("\n", " ")
    today = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    return report.nodeid.removeprefix("tests/verify/"), f"{report.outcome} | {report.duration:.0f} | `{_commit()}` | {today} | {seen} |"


def _known_rows() -> dict[str, str]:
    """Lines of earlier runs whose check still exists."""
    if not PAGE.exists():
        return {}
    lines = [line.split("` | ", 1) for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    rows = {name.removeprefix("| `"): rest for name, rest in lines}
    return {name: rest for name, rest in rows.items() if _exists(*name.partition("[")[0].split("::"))}


def _exists(file: str, check: str) -> bool:
    paths = [folder / file for folder in (HERE, ROOT) if (folder / file).exists()]
    return any(f"def {check}(" in path.read_text(encoding="utf-8") for path in paths)


def _commit() -> str:
    """The commit, with `-dirty` where anything but what the checks themselves write has changed on top of it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
    return (git("describe", "--always") or "unknown") + ("-dirty" if changed else "")
