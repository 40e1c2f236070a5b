"""`lobe run --dry-run`: what would run, by task and job by job."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

LINEAR = "rsna-linear-frozen-100"


def test_a_dry_run_says_what_waits_for_what(lobe, corpora: Path, tmp_path: Path):
    rows = json.loads(
        lobe("run", "-b", "torchvision:resnet18", "-t", LINEAR, "--data", corpora, "--out", tmp_path, "--dry-run", "--json")[1]
    )
    waiting = [row for row in rows if row["role"] == "final"]
    assert all(row["waits_for"] == sum(r["role"] == "selection" for r in rows) for row in waiting)
    assert len({(row["role"], row["run"], row["learning_rate"]) for row in rows}) == len(rows)
    code, text, _ = lobe("run", "-b", "torchvision:resnet18", "-t", LINEAR, "--data", corpora, "--out", tmp_path, "--dry-run")
    assert (code, f"{len(rows)} jobs, 0 stored, " in text) == (0, True)


def test_a_dry_run_prints_a_line_per_task_with_a_total_and_every_job_on_demand(lobe, corpora: Path, tmp_path: Path):
    given = ("run", "-b", "torchvision:resnet18", "-b", "torchvision:resnet34", "-t", LINEAR, "-t", "rsna-linear-frozen-10")
    given = (*given, "--data", corpora, "--out", tmp_path, "--dry-run")
    lines = [line.split() for line in lobe(*given)[1].splitlines()]
    of_tasks = [line for line in lines if line[:1] in ([LINEAR], ["rsna-linear-frozen-10"])]
    assert [line[-5:] for line in of_tasks] == [["2", "8", "10", "18", "18"]] * 2  # backbones, searches, runs, jobs, their one state
    assert [line for line in lines if line[:2] == ["total", "of"]] == [["total", "of", "2", "tasks", "2", "16", "20", "36", "36"]]
    code, every, _ = lobe(*given, "-v")
    assert (code, sum(line.startswith("rsna-linear-frozen-10") for line in every.splitlines())) == (0, 36)


def test_a_dry_run_counts_jobs_whose_images_nobody_hashed_in_a_column_of_their_own(lobe, corpora: Path, tmp_path: Path):
    copied = tmp_path / "data" / "rsna"
    shutil.copytree(corpora / "rsna", copied)
    given = ("run", "-b", "torchvision:resnet18", "-t", LINEAR, "--data", f"rsna={copied}", "--out", tmp_path / "out", "--dry-run")
    heading, counted = ([" ".join(line.split())] for line in lobe(*given)[1].splitlines() if line.strip().startswith(("task", LINEAR)))
    assert (heading[0].endswith("jobs not known yet"), counted[0].split()[-2:]) == (True, ["9", "9"])
