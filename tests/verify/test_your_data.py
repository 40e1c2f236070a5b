"""A stranger evaluates own data by docs/your-data.md alone: its commands as they stand there, from two faulty folders to rows on a page."""

from __future__ import annotations

import csv
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests import own_folders

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "your-data.md"


def commands() -> list[str]:
    """Every line of every block that is run, in order."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_the_commands_of_the_page_lead_from_two_folders_to_two_rows(tmp_path: Path, record_property) -> None:
    own_folders.coco(tmp_path / "data" / "chest-boxes")
    own_folders.masks(tmp_path / "data" / "chest-masks")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "lobe").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m benchmark "$@"\n')
    (tmp_path / "bin" / "lobe").chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "LOBE_CACHE": str(tmp_path / "cache"),
    }
    typed = commands()
    assert len(typed) <= 20
    before, seconds = _cpu(), []
    for line in typed:
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, f"{line}\n{done.stderr}"
        seconds, before = [*seconds, _cpu() - before], _cpu()
    rows = json.loads((tmp_path / "results" / "report" / "leaderboard.json").read_text())["rows"]
    assert {row["task"] for row in rows} == {"chest-boxes-linear-frozen", "chest-masks-linear-frozen"}
    assert all(row["mean_percent"] is not None for row in rows)
    assert all("dataset" in row["custom"] for row in rows)
    with (tmp_path / "results" / "report" / "standings.csv").open(newline="", encoding="utf-8") as handle:
        standings = list(csv.DictReader(handle))
    assert standings
    assert all(one["headline"] == one["best_rank"] == "" for one in standings)
    odd = (tmp_path / "odd.csv").read_text(encoding="utf-8")
    assert "chest-boxes,image files that nothing lists,unlisted ü.png" in odd
    assert sum(seconds) < 2 * 300, seconds  # of a core; five minutes for each folder
    verbs = [line.replace("--include lobe-cards ", "").split(" --")[0] for line in typed]
    record_property("seconds of a core", "; ".join(f"{verb} {s:.0f}" for verb, s in zip(verbs, seconds, strict=True)))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
