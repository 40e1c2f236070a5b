"""Oracles for forecasts of memory: what a network keeps for its backward pass, and the peak of a process that runs a job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

REPOSITORY = Path(__file__).resolve().parents[1]
CHILD = """
import json, sys
from pathlib import Path
from benchmark.execute.costs import Costs
from benchmark.execute.work import WorkUnit, run_unit
from benchmark.machine import peak_memory_bytes
from tests.perf import corpus

folder, root, task, options = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
jobs, inputs = corpus.jobs(folder, root, task, threads=1, runs=1, grid=(), **options)
unit = WorkUnit("x", tuple(jobs), inputs)
expected = Costs().peak_bytes(unit)
*_, ended = run_unit(unit)
print(json.dumps([ended.record.status, expected, peak_memory_bytes()]))
"""


def kept_for_backward(module: torch.nn.Module, forward: Callable[[], Any]) -> int:
    """Bytes that the forward pass keeps beside weights, every storage once. On the meta device nothing is computed."""
    own = {tensor.untyped_storage()._cdata for tensor in (*module.parameters(), *module.buffers())}
    seen: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            seen[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = forward()
    found = sum(storage.nbytes() for storage in seen.values())
    del outputs
    return found


def forecast_and_peak(folder: Path, root: Path, task: str, **options: Any) -> tuple[int, int]:
    """Bytes expected of a job and bytes that a process of its own held at most.

    Args:
        folder: for weights and caches.
        root: of the corpora.
        options: of `tests.perf.corpus.jobs`, as JSON can say them.
    """
    given = [str(folder), str(root), task, json.dumps(options)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ran = subprocess.run([sys.executable, "-c", CHILD, *given], capture_output=True, text=True, env=environment, timeout=1800, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    status, expected, peak = json.loads(ran.stdout.splitlines()[-1])
    assert status == "ok"
    return expected, peak
