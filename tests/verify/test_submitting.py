"""A stranger submits by docs/submitting.md alone: its commands as they stand there, from generated data to the row on the page."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.submission.history import read
from tests.submission.transcript import commands, tampering

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def test_the_commands_of_the_page_lead_from_nothing_to_a_row_and_a_forged_copy_is_refused(tmp_path: Path, record_property) -> None:
    (tmp_path / "tamper.py").write_text(tampering())
    (tmp_path / "bin").mkdir()
    for name, words in {"lobe": "-m benchmark", "python": ""}.items():
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "LOBE_CACHE": str(tmp_path / "cache"),
    }
    times = {}
    for line in commands():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        # `! command` is one that has to fail: with a sentence, and not because it broke.
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, f"{line}\n{done.stderr}"
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times[line] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        if "validate mine.zip" in line and "--data" in line:
            assert "level re-scored" in " ".join(done.stdout.split())
        if line.startswith("! lobe validate"):
            assert "and its statistics give" in " ".join(done.stderr.split())
        if line.startswith("lobe report") and "withdraw" not in " ".join(times):
            rows = json.loads((tmp_path / "other" / "report" / "leaderboard.json").read_text())["rows"]
            assert {row["backbone"] for row in rows} == {"mine:build", "resnet18 (random)"}
            assert all(row["mean_percent"] is not None for row in rows)
    rows = json.loads((tmp_path / "other" / "report" / "leaderboard.json").read_text())["rows"]
    assert {row["backbone"] for row in rows} == {"resnet18 (random)"}, "what was withdrawn is shown no more"
    listed = json.loads(_said(environment, tmp_path, "lobe list submissions --submissions board --json"))
    assert [row["what"] for row in listed] == ["accepted", "withdrawn"]
    assert [(entry.what, entry.trust) for entry in read(tmp_path / "board")] == [("accepted", "re-scored"), ("withdrawn", None)]
    record_property("seconds of a core", "; ".join(f"{line.split(' --')[0][:40]} {seconds:.0f}" for line, seconds in times.items()))


def _said(environment: dict[str, str], folder: Path, line: str) -> str:
    return subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout
