"""Cores and memory that are this process's to use. A container, a batch system or `taskset` may give it less than the machine has."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
OWN_STATUS = Path("/proc/self/status")
# Of a Slurm job: what each task was given, else what the job has of this node.
SLURM = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")


def usable_cores() -> int:
    """Cores that this process may keep busy: the least of its affinity, its control groups' quota and its Slurm job's share; at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *_quotas(), *_of_slurm()]))


def usable_memory_bytes() -> int:
    """The machine's memory, or the limit of this process's control groups where that is less."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([physical, *_memory_limits()])


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far.

    Linux counts what a parent took in the `ru_maxrss` of a child that it forks, even where the child starts another program; its account of
    the process itself does not.
    """
    for line in (_text(OWN_STATUS) or "").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_peak_memory() -> None:
    """`peak_memory_bytes` begins anew, from what this process holds now. Of Linux; elsewhere it stays the largest of all."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _quotas() -> Iterator[int]:
    """Whole cores of every quota that holds for this process: a part of a core counts as one."""
    for folder in _folders("cpu"):
        words = (_text(folder / "cpu.max") or "").split()
        quota, period = words if len(words) == 2 else (_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us"))
        of, every = _number(quota), _number(period)
        if of is not None and every is not None and every > 0:
            yield max(1, -(-of // every))


def _memory_limits() -> Iterator[int]:
    for folder in _folders("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _number(_text(folder / name))
            if limit is not None and limit > 0:
                yield limit


def _of_slurm() -> Iterator[int]:
    if not os.environ.get("SLURM_JOB_ID"):
        return
    for name in SLURM:
        n_cores = _number(os.environ.get(name))
        if n_cores is not None:
            yield max(1, n_cores)
            return


def _folders(controller: str) -> Iterator[Path]:
    """Folders of this process's control group and of all above it, in versions 1 and 2: the tightest limit of all of them holds.

    A container sees its own group as the root, under a path that is the host's: folders that are not there are passed over.
    """
    for line in (_text(OWN) or "").splitlines():
        _, names, path = (*line.split(":", 2), "", "")[:3]
        if names and controller not in names.split(","):
            continue
        root = CGROUPS / controller if names else CGROUPS
        below = Path(path.lstrip("/"))
        yield from (root / part for part in (below, *below.parents))


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _number(text: str | None) -> int | None:
    """None for what is no limit, such as `max` and -1."""
    return int(text) if text is not None and text.isdecimal() else None
