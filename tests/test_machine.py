"""Cores and memory are those that this process may use, whoever limits them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import machine
from benchmark.machine import peak_memory_bytes, usable_cores, usable_memory_bytes

GIB = 2**30


@pytest.fixture
def alone(tmp_path: Path, monkeypatch) -> Path:
    """A machine of 64 cores and 512 GiB without limits; gives the folder of its control groups."""
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "OWN", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 512 * GIB // 4096, "SC_PAGE_SIZE": 4096}.__getitem__)
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    return tmp_path / "cgroup"


def limit(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def test_without_limits_it_is_the_machine(alone: Path):
    assert (usable_cores(), usable_memory_bytes()) == (64, 512 * GIB)
    limit(alone, cpu__max="max 100000", memory__max="max")
    (alone.parent / "own").write_text("0::/\n")
    assert (usable_cores(), usable_memory_bytes()) == (64, 512 * GIB)


def test_taskset_counts(alone: Path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    assert usable_cores() == 2


@pytest.mark.parametrize(("quota", "cores"), [("400000 100000", 4), ("150000 100000", 2), ("50000 100000", 1)])
def test_a_containers_quota_counts_and_a_part_of_a_core_is_one(alone: Path, quota: str, cores: int):
    (alone.parent / "own").write_text("0::/docker/abc\n")  # the host's path: inside, the group is the root
    limit(alone, cpu__max=quota, memory__max=str(8 * GIB))
    assert (usable_cores(), usable_memory_bytes()) == (cores, 8 * GIB)


def test_the_tightest_of_all_groups_above_counts(alone: Path):
    (alone.parent / "own").write_text("0::/slurm/job_7/step_0\n")
    limit(alone / "slurm" / "job_7", cpu__max="600000 100000", memory__max=str(32 * GIB))
    limit(alone / "slurm" / "job_7" / "step_0", cpu__max="max 100000", memory__max="max")
    assert (usable_cores(), usable_memory_bytes()) == (6, 32 * GIB)


def test_the_first_version_of_control_groups_counts_too(alone: Path):
    (alone.parent / "own").write_text("4:memory:/job\n2:cpu,cpuacct:/job\n")
    limit(alone / "cpu" / "job", cpu__cfs_quota_us="300000", cpu__cfs_period_us="100000")
    limit(alone / "memory" / "job", memory__limit_in_bytes=str(16 * GIB))
    assert (usable_cores(), usable_memory_bytes()) == (3, 16 * GIB)
    limit(alone / "cpu" / "job", cpu__cfs_quota_us="-1")
    limit(alone / "memory" / "job", memory__limit_in_bytes="9223372036854771712")
    assert (usable_cores(), usable_memory_bytes()) == (64, 512 * GIB)


def test_a_slurm_jobs_share_counts_inside_a_job_and_nowhere_else(alone: Path, monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "16")
    assert usable_cores() == 64
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert usable_cores() == 16
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    assert usable_cores() == 8


def test_where_the_system_keeps_no_account_of_a_process_the_peak_is_what_it_reports_to_parents(tmp_path: Path, monkeypatch):
    told = peak_memory_bytes()
    monkeypatch.setattr(machine, "OWN_STATUS", tmp_path / "no /proc here")
    assert told / 2 < peak_memory_bytes() < 64 * max(told, GIB)  # bytes, and neither KiB nor pages


def test_nobody_else_counts_the_machines_cores():
    package = Path(machine.__file__).parent
    asking = {p.name for p in package.rglob("*.py") if re.search(r"cpu_count|sched_getaffinity|SC_PHYS_PAGES", p.read_text())}
    assert asking == {"machine.py"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep no mark that can be set back")
def test_the_peak_of_a_job_is_not_that_of_the_one_before_it():
    """In a process of its own: what this one holds is given back to the system only now and then."""
    code = (
        "import mmap; from benchmark.machine import forget_peak_memory as forget, peak_memory_bytes as peak\n"
        "before = peak(); held = mmap.mmap(-1, 400 << 20); held.write(b'1' * (400 << 20)); held.close(); most = peak(); forget()\n"
        "print(before, most, peak())"
    )
    before, most, after = map(int, subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    assert most > before + (400 << 20)
    assert after < before + (100 << 20)


def test_a_process_is_not_charged_with_what_its_parent_took():
    held = bytearray(os.urandom(2**20) * 400)
    asked = [sys.executable, "-c", "from benchmark.machine import peak_memory_bytes; print(peak_memory_bytes())"]
    child = int(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    assert 2**20 < child < len(held) < peak_memory_bytes()
