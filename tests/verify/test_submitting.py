"""A stranger submits by docs/submitting.md alone: its commands as they stand there, from generated data to the rank on the page."""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.submission.history import read
from tests.submission.transcript import commands, files

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def test_the_commands_of_the_page_lead_from_nothing_to_a_rank_and_a_forged_copy_is_refused(tmp_path: Path, record_property) -> None:
    for name, content in files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
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
        if " report " in line and "withdraw" not in " ".join(times):
            record_property("ranks", _require_ranked(tmp_path / "references" / "report"))
    assert "mine:build" not in _standings(tmp_path / "references" / "report"), "what was withdrawn is shown no more"
    listed = json.loads(_said(environment, tmp_path, "lobe list submissions --submissions board --json"))
    assert [row["what"] for row in listed] == ["accepted", "withdrawn"]
    assert [(entry.what, entry.trust) for entry in read(tmp_path / "board")] == [("accepted", "re-scored"), ("withdrawn", None)]
    record_property("seconds of a core", "; ".join(f"{line.split(' --')[0][:40]} {seconds:.0f}" for line, seconds in times.items()))


def _require_ranked(report: Path) -> str:
    """The submitted row stands in a table that the panel ranks, with a rank, at the level at which it was accepted."""
    standings = _standings(report)
    mine = standings["mine:build"]
    assert (mine["panel"], mine["phantom"], mine["trust"], mine["why_none"]) == ("rehearsal-1", "True", "re-scored", "")
    assert len(standings) == 9
    assert all(1 <= int(row["best_rank"]) <= int(row["worst_rank"]) <= 9 for row in standings.values())
    page = (report / "index.html").read_text(encoding="utf-8")
    assert "No ranking yet" not in page
    return "; ".join(f"{name} {row['best_rank']}-{row['worst_rank']}" for name, row in standings.items())


def _standings(report: Path) -> dict[str, dict[str, str]]:
    with (report / "standings.csv").open(encoding="utf-8", newline="") as lines:
        return {row["backbone"]: row for row in csv.DictReader(lines)}


def _said(environment: dict[str, str], folder: Path, line: str) -> str:
    return subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout
