"""The tutorials are true: the lines of each, in their order, in an empty folder."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.page_commands import ROOT, commands, environment, typed

pytestmark = pytest.mark.slow

# `lobe demo` takes minutes and is run whole in tests/verify/test_installing.py: here the same journey with few images and two of its tasks.
SMALL_DEMO = """
from pathlib import Path
from rich.console import Console
from benchmark.demo.journey import Journey, run_demo

journey = Journey(
    {"rsna": 16, "covid-rural": 16},
    pretraining_patients=16,
    images_per_patient=(1, 1),
    pretraining_images=32,
    tasks=("rsna-linear-frozen-demo", "covid-rural-linear-frozen-demo"),
    words=("rsna-grounding-demo",),
)
raise SystemExit(run_demo(Path("lobe-demo"), "inline", Console(), journey))
"""


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """For Ray's sockets, whose paths may be 107 bytes long: those of pytest's folders leave too little."""
    folder = Path(tempfile.mkdtemp(prefix="lobe-ray-"))
    yield folder
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):  # what a test that failed has left
        with suppress(OSError):
            if str(folder).encode() in cmdline.read_bytes():
                os.kill(int(cmdline.parent.name), signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def test_first_steps_lead_from_a_demo_to_a_row_of_ones_own(tmp_path: Path) -> None:
    demo = f"{shlex.quote(sys.executable)} -c {shlex.quote(SMALL_DEMO)}"
    said = dict(typed(commands(ROOT / "docs" / "first-steps.md"), tmp_path, environment(tmp_path), {"lobe demo": demo}))
    assert any("rsna-linear-frozen-demo" in out for line, out in said.items() if "list tasks" in line)
    rows = rows_in(tmp_path / "lobe-demo" / "out")
    mine = [row for row in rows if "resnet34" in json.dumps(row)]
    assert [(row["task"], row["mean_percent"] is not None) for row in mine] == [("rsna-linear-frozen-demo", True)]
    assert len(rows) > len(mine), "the demo's own rows stand beside it"


def test_a_papers_table_is_printed_and_a_trial_is_left_out_of_it_with_the_reason(tmp_path: Path) -> None:
    said = list(typed(commands(ROOT / "docs" / "reproducing.md"), tmp_path, environment(tmp_path)))
    before, after = [" ".join(out.split()) for line, out in said if line.startswith("lobe reproduce")]
    assert "Nothing measured for this table yet" in before
    assert "1 jobs computed" in " ".join(out for line, out in said if line.startswith("lobe run"))
    assert "phantom data never stands beside published numbers" in after
    assert list((tmp_path / "results" / "report").rglob("*.tex"))


@pytest.mark.alone
def test_a_first_cluster_is_started_goes_on_where_it_stopped_and_ends(tmp_path: Path, ray_folder: Path) -> None:
    env = environment(tmp_path) | {"RAY_TMPDIR": str(ray_folder), "RAY_USAGE_STATS_ENABLED": "0"}
    said = list(typed(commands(ROOT / "docs" / "first-cluster.md"), tmp_path, env))
    first, second, third = (" ".join(out.split()) for line, out in said if line.startswith("lobe run"))
    assert "1 jobs computed, 0 already stored" in first
    assert "1 jobs computed, 1 already stored" in second
    assert "0 jobs computed, 2 already stored" in third
    assert [row["runs_ok"] for row in rows_in(tmp_path / "results")] == [2]
    assert ended(int((tmp_path / "ray.pid").read_text())), "the page's last line ends Ray"


def rows_in(out: Path) -> list[dict]:
    rows: list[dict] = json.loads((out / "report" / "leaderboard.json").read_text(encoding="utf-8"))["rows"]
    return rows


def ended(pid: int) -> bool:
    """Whether the process ends within a minute; one that nobody has waited for has ended, too."""
    stat = Path(f"/proc/{pid}/stat")
    for _ in range(120):
        if not stat.exists() or stat.read_text().rpartition(") ")[2].startswith("Z"):
            return True
        time.sleep(0.5)
    return False
