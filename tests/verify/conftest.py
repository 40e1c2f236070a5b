"""Writes docs/verification.md after the long checks: command, commit, date, machine, and what each check saw."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "verification.md"
_reports: list[pytest.TestReport] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and "slow" in report.keywords:
        _reports.append(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not _reports:
        return
    lines = [
        "# Verification",
        "",
        "Written by `make verify`: what the long checks saw. Generated data throughout; nothing here compares real backbones.",
        "",
        f"- commit: `{_commit()}`",
        f"- date: {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        f"- machine: {os.cpu_count()} CPU cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "",
        "| check | result | seconds | what it saw |",
        "|---|---|---|---|",
    ]
    for report in _reports:
        seen = "; ".join(f"{name}: {value}" for name, value in report.user_properties)
        name = report.nodeid.removeprefix("tests/verify/")
        lines.append(f"| `{name}` | {report.outcome} | {report.duration:.0f} | {seen.replace('|', '/')} |")
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _commit() -> str:
    found = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
