"""The two sides of `lobe bench growth`: this checkout, and the commit before it, unpacked beside it; each works in fresh processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.errors import EnvironmentProblem, LobeError, UsageError

ROOT = Path(__file__).resolve().parents[2]
CHILD = Path(__file__).with_name("growth_child.py")
TICK_S = 1.0  # how often whoever waits for a process hears of it
QUIET = {"HF_HUB_OFFLINE": "1", "NO_ALBUMENTATIONS_UPDATE": "1", "RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}


class StepFailed(LobeError):
    """A process of a side ended otherwise than well: the end of what it printed."""


@dataclass(frozen=True)
class Side:
    """One commit, ready to run.

    Attributes:
        name: "now" or "before".
        commit: as the page names it.
        root: of its checkout; its `benchmark` and `tests` are what its processes import.
        work: folder of its own, for caches, results and logs.
    """

    name: str
    commit: str
    root: Path
    work: Path

    def call(self, what: str, given: Mapping[str, Any], tick: Callable[[], None]) -> dict[str, Any]:
        """Does one piece of `growth_child` in a process of its own.

        Args:
            tick: called about every second while it runs.

        Returns:
            What it found, with its `seconds` from start to end and the `peak_bytes` of its memory.

        Raises:
            StepFailed: it ended with an error.
            EnvironmentProblem: it imported the package of another checkout.
        """
        self.work.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=self.work, prefix=f"{what}-"))
        given_file, result_file, log_file = (folder / name for name in ("given.json", "result.json", "log"))
        given_file.write_text(json.dumps(given))
        command = [sys.executable, "-P", str(CHILD), what, str(given_file), str(result_file)]
        began = time.perf_counter()
        with log_file.open("wb") as log:
            process = subprocess.Popen(command, cwd=folder, env=self._environment(), stdout=log, stderr=subprocess.STDOUT)
            try:
                while process.poll() is None:
                    try:
                        process.wait(TICK_S)
                    except subprocess.TimeoutExpired:
                        tick()
            finally:
                if process.poll() is None:  # this process was stopped
                    process.kill()
                    process.wait()
        seconds = time.perf_counter() - began
        if process.returncode:
            told = log_file.read_text(errors="replace").strip().splitlines()
            raise StepFailed(
                f"`{what}` on {self.commit} ended with {process.returncode}: {' '.join(told[-3:])[-600:] or 'it said nothing'}"
            )
        found = json.loads(result_file.read_text())
        if not Path(found["package"]).resolve().is_relative_to(self.root.resolve()):
            raise EnvironmentProblem(
                f"`{what}` on {self.commit} imported {found['package']}, which is not in {self.root}: unset PYTHONSAFEPATH."
            )
        return {**found, "seconds": seconds}

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in ("LOBE_DATA", "LOBE_CACHE", "MLFLOW_TRACKING_URI")}
        return {**kept, **QUIET, "PYTHONPATH": str(self.root), "LOBE_SPOOL": str(self.work / "spool")}


def named(revision: str, repository: Path = ROOT) -> str:
    """The short name of a commit of the repository.

    Raises:
        UsageError: there is no such commit here, or no repository.
    """
    git = ["git", "-C", str(repository), "rev-parse", "--short", "--verify", "--quiet", f"{revision}^{{commit}}"]
    found = subprocess.run(git, capture_output=True, text=True)
    commit = found.stdout.strip()
    if found.returncode or not commit:
        raise UsageError(
            f"--against {revision}: this checkout knows no such commit. Name one that `git log` shows, or fetch it first: "
            "growth is measured against a commit before."
        )
    return commit


def unpack(commit: str, root: Path, repository: Path = ROOT) -> None:
    """Unpacks a commit of the repository as the folder `root`, unless it is there."""
    if root.exists():
        return
    unpacking = root.with_name(f".{root.name}")
    shutil.rmtree(unpacking, ignore_errors=True)
    unpacking.mkdir(parents=True)
    packed = unpacking / "commit.zip"
    subprocess.run(["git", "-C", str(repository), "archive", "--format=zip", f"--output={packed}", commit], check=True)
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(unpacking)
    packed.unlink()
    unpacking.rename(root)
