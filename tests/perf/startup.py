"""How soon something happens: `lobe list tasks` against importing torch, and planning a panel of backbones."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from benchmark.errors import EnvironmentProblem
from tests.perf.measure import BenchResult, Measurement, Timed, alternate, report

SIDES = "plain: `import torch`, fast: `lobe list tasks`, each in a fresh process. Planning has no plain side: it is held to a time."
JOB_MS = 0.2  # planning and key of one job

# Child process: plans the suite for n backbones and prints what it took.
PLANNING = """
import json, sys, time
from benchmark import registry
from benchmark.cards import BackboneRef, DatasetRef
from benchmark.plan import NamedBackbone, Settings, plan
tasks = [registry.task(name) for name in registry.suite("lovt-18").tasks]
refs = {}
for card in map(registry.dataset, {task.dataset for task in tasks}):
    rule = card.splits["lovt"].model_copy(update={"expected": {}})
    refs[card.name] = DatasetRef(name=card.name, digest="0" * 64, split="lovt", split_rule=rule, classes=card.classes,
                                 target="masks", intensity=card.intensity, statistics=card.statistics)
protocol = registry.protocol("published")
rows = []
for n in json.loads(sys.argv[1]):
    backbones = [NamedBackbone(f"b{i}", BackboneRef(family="torchvision", model="resnet18", digest=f"{i:064d}")) for i in range(n)]
    started = time.perf_counter()
    jobs = plan(tasks, backbones, refs, protocol, Settings())
    keys = {job.key for job in jobs}
    rows.append({"backbones": n, "jobs": len(jobs), "keys": len(keys), "seconds": time.perf_counter() - started})
print(json.dumps({"rows": rows, "torch": "torch" in sys.modules}))
"""


def run(quick: bool, folder: Path) -> BenchResult:
    """Raises EnvironmentProblem when a child process fails."""
    started = time.monotonic()
    repeats, counts = (1, [2, 4]) if quick else (7, [250, 500, 1000])
    command = [sys.executable, "-c", "import sys; sys.argv = ['lobe', 'list', 'tasks']; from benchmark.cli import main; main()"]
    importing = [sys.executable, "-c", "import torch"]
    if not quick:
        _output(importing), _output(command)  # compiled and in the page cache
    plain, fast, _, listed = alternate(lambda: _output(importing), lambda: _output(command), repeats)
    listing = Measurement(
        what="`lobe list tasks` against `import torch`",
        plain=plain,
        fast=fast,
        target=3,
        compared="the listing names task 18",
        difference=float("nih-cxr-linear-frozen-100" not in listed),
        tolerance=0,
    )
    found = json.loads(_output([sys.executable, "-c", PLANNING, json.dumps(counts)]))
    most = found["rows"][-1]
    per_job = {f"ms a job, {row['backbones']:,} backbones": round(row["seconds"] / row["jobs"] * 1000, 4) for row in found["rows"]}
    planning = Measurement(
        what=f"planning {most['backbones']:,} backbones x {most['jobs'] // most['backbones']} jobs with keys, against {JOB_MS} ms a job",
        plain=Timed(seconds=(JOB_MS / 1000 * most["jobs"],)),
        fast=Timed(seconds=(most["seconds"],)),
        target=1,
        compared="as many keys as jobs, and torch was not imported",
        difference=float(most["jobs"] - most["keys"] + found["torch"]),
        tolerance=0,
        details=per_job,
    )
    return report("startup", SIDES, quick, {"repetitions": repeats, "backbones": most["backbones"]}, [listing, planning], started)


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).resolve().parents[2])
    if done.returncode:
        raise EnvironmentProblem(f"{' '.join(command)[:120]} failed: {done.stderr.strip().splitlines()[-1] if done.stderr else ''}")
    return done.stdout
