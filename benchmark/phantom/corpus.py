"""Writes a phantom corpus: the public layout of one dataset plus PHANTOM.json and phantom_reports.csv.

Dispatches to one writer per release and may use several processes; the folder is the same to the byte for any number of them. It is
written beside its place and renamed when complete, so an interrupted run leaves no folder that looks like a corpus.
"""

from __future__ import annotations

import csv
import hashlib
import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from uuid import uuid4

from benchmark import registry
from benchmark.errors import StoreError, UnknownName, UsageError
from benchmark.phantom.base import CorpusPlan, Shot, Written

PHANTOM_VERSION = 4  # goes up whenever the same plan gives other bytes
PHANTOM_FILE = "PHANTOM.json"
REPORTS_FILE = "phantom_reports.csv"

__all__ = ["PHANTOM_FILE", "PHANTOM_VERSION", "REPORTS_FILE", "CorpusPlan", "Summary", "write_corpus", "writers"]


@dataclass(frozen=True)
class Summary:
    """What lies in `root`. `counts` and `digests` are those of PHANTOM.json."""

    root: Path
    plan: CorpusPlan
    counts: dict[str, int]
    digests: dict[str, str]


def write_corpus(plan: CorpusPlan, out: Path, progress: Callable[[int, int], None] | None = None, workers: int = 1) -> Summary:
    """Generates the corpus of `plan` in the folder `out`, which must not hold anything yet.

    Args:
        progress: called with (images done, images in all).
        workers: processes; they are spawned, so a script that asks for more than one needs the usual `__main__` guard.

    Raises:
        UnknownName: no writer for the dataset.
        UsageError: `out` is not empty, or the plan asks for what the release cannot hold.
        StoreError: the disk refuses.
    """
    writer = _writer(plan.dataset)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} already holds something. A phantom corpus is written into a new or empty folder.")
    shots = writer.shots(plan)
    unfinished = out.with_name(f".{out.name}.{uuid4().hex[:8]}")
    try:
        unfinished.mkdir(parents=True)
        written = []
        for one in _images(plan, shots, unfinished, workers):
            written.append(one)
            if progress:
                progress(len(written), len(shots))
        labels = writer.write_labels(plan, written, unfinished)
        digests = {
            "ids_sha256_ordered": hashlib.sha256("\n".join(labels.ids).encode()).hexdigest(),
            "ids_sha256_sorted": hashlib.sha256("\n".join(sorted(set(labels.ids))).encode()).hexdigest(),
        }
        _write_reports(unfinished / REPORTS_FILE, labels.ids, written)
        content = {"version": PHANTOM_VERSION, "dataset": plan.dataset, "seed": plan.seed, "plan": asdict(plan)}
        content |= {"counts": labels.counts, "digests": digests, "reports": REPORTS_FILE}
        (unfinished / PHANTOM_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8", newline="\n")
        if out.exists():
            out.rmdir()
        unfinished.rename(out)
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"Cannot write the phantom corpus to {out}: {reason}. Free some space or choose another folder.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Summary(out, plan, labels.counts, digests)


@cache
def writers() -> tuple[str, ...]:
    """Datasets with a writer: the modules of this folder that can write an image."""
    stems = registry.plugins("phantom")
    return tuple(stem.replace("_", "-") for stem in stems if hasattr(registry.plugin("phantom", stem), "write_image"))


def _writer(dataset: str) -> ModuleType:
    if dataset not in writers():
        raise UnknownName("dataset", dataset, writers())
    return registry.plugin("phantom", dataset)


def _images(plan: CorpusPlan, shots: list[Shot], root: Path, workers: int) -> Iterator[Written]:
    """Results in the order of `shots`."""
    jobs = [(plan, shot, root) for shot in shots]
    if workers <= 1 or len(shots) < 2:
        yield from map(_write_image, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_write_image, jobs, chunksize=4)


def _write_image(job: tuple[CorpusPlan, Shot, Path]) -> Written:
    plan, shot, root = job
    return _writer(plan.dataset).write_image(plan, shot, root)


def _write_reports(path: Path, ids: tuple[str, ...], written: list[Written]) -> None:
    """One row per image with a report: label-file order first, then images without labels."""
    known = {one.id: one for one in written}
    order = [*ids, *sorted(known.keys() - set(ids))]
    with path.open("w", encoding="utf-8", newline="") as handle:
        rows = csv.writer(handle, lineterminator="\n")
        rows.writerow(("id", "patient_id", "report"))
        rows.writerows((i, known[i].patient_id, known[i].report) for i in order)
