"""What must start in a blink loads no framework: cards, planning, listings; and what a driver or a scorer uses loads no torch.

All of it in one process, one after another: what was loaded stays loaded, so whoever is the first to load a framework is named.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

DISTRIBUTIONS = "scipy.stats"  # half of the time of a report that has nothing new
FRAMEWORKS = ("torch", "torchvision", "ray", "mlflow", "pandas", "transformers", "mmdet", "cv2", "pyarrow", "skimage", DISTRIBUTIONS)
COMMAND = """
import contextlib, sys
sys.argv = ["lobe", *{arguments!r}]
from benchmark.cli import main
with contextlib.suppress(SystemExit):
    main()
"""
NONE = {  # loads no framework at all
    "reading all cards": """
from benchmark import cards, errors, registry
registry.tasks(), registry.suites(), registry.protocols(), registry.datasets(), registry.backbones(), registry.papers()
""",
    "planning": "import benchmark.plan",
    "what heads say of themselves": """
from benchmark import registry, task_rules
assert len(registry.heads()) > 10
task_rules.require(registry.tasks().values())
""",
    "a head of one's own, which imports torch at its top": """
import tempfile
from pathlib import Path
from benchmark import registry
from benchmark.scaffold import head
with tempfile.TemporaryDirectory() as folder:
    head.new("mine", Path(folder))
    registry.include(Path(folder))
    assert registry.heads()["mine"].reads == "deepest"
    registry._included.clear()
    registry.forget()
""",
    "asking the kinds": "from benchmark import kinds; kinds.every()",
    "lobe --help": COMMAND.format(arguments=["--help"]),
    "lobe list tasks": COMMAND.format(arguments=["list", "tasks"]),
    "lobe list suites": COMMAND.format(arguments=["list", "suites"]),
    "lobe weights list": COMMAND.format(arguments=["weights", "list"]),
}
NOTICED = {"one that loads a framework": "import cv2"}
NO_TORCH = {
    "a backbone's name": "from benchmark.encoders.naming import parse; parse('imagenet-resnet50')",
    # It computes nothing: what it knows of a unit, its options and the record of a lost process needs no framework.
    "a driver": "import benchmark.api, benchmark.execute.on_ray",
    "a report": "import benchmark.report.site, benchmark.report.paper_sheets",
    "a study's dry run": """
from pathlib import Path
from benchmark.study import made, reading, running
found, _ = running.planned(reading.read(Path("phantom")), running.Asked([], Path("nowhere")))
assert len(found) > 30 and not any(made.lies_there(one, Path("nowhere")) for one in found)
""",
    "metrics and statistics": """
import benchmark.metrics.scores, benchmark.metrics.grid_oracle
import benchmark.statistics.bands, benchmark.statistics.difference, benchmark.statistics.headline, benchmark.statistics.verdict
""",
}
PROCESS = """
import json, sys
stages, frameworks = json.load(sys.stdin)
found = {}
for name, code in stages.items():
    before = set(sys.modules)
    exec(code, {"__name__": name})
    found[name] = [each for each in frameworks if each in sys.modules and each not in before]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """Frameworks that each of them was the first to load, in a fresh interpreter."""
    given = json.dumps([NONE | NOTICED | NO_TORCH, FRAMEWORKS])
    done = subprocess.run([sys.executable, "-c", PROCESS], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", NONE)
def test_no_framework_is_loaded(loaded: dict[str, list[str]], name: str) -> None:
    assert loaded[name] == []


@pytest.mark.parametrize("name", NO_TORCH)
def test_no_torch_is_loaded(loaded: dict[str, list[str]], name: str) -> None:
    assert not {"torch", DISTRIBUTIONS} & set(loaded[name])


def test_a_framework_would_be_noticed(loaded: dict[str, list[str]]) -> None:
    assert loaded["one that loads a framework"] == ["cv2"]
