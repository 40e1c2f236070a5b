"""What a Python factory builds, as digests; run as `python -m benchmark.encoders.describe FILE.py:FUNCTION` in a process of its own.

The author's code never enters the driver. The factory is called under two seeds: equal weights are the author's, different ones are random.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import ConformanceError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class FactoryDigest:
    """
    Attributes:
        weights: SHA-256 of the state dict; None when every call draws new weights.
        sources: SHA-256 of every `.py` file in the factory's folder.
    """

    weights: str | None
    sources: str


def describe(model: str) -> FactoryDigest:
    """Digests of the factory `path/to/file.py:function`, built in a subprocess.

    Raises:
        ConformanceError: the factory fails; carries the last line of its error.
    """
    done = subprocess.run([sys.executable, "-m", "benchmark.encoders.describe", model], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConformanceError(f"{Path(model).name} could not be built: {last}")
    return FactoryDigest(**json.loads(done.stdout.strip().splitlines()[-1]))


def state_digest(backbone: nn.Module) -> str:
    """SHA-256 of the names, types, shapes and bytes of a module's tensors."""
    import torch

    sha = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        sha.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def sources_digest(folder: Path) -> str:
    """SHA-256 of the names and bytes of every `.py` file in a folder."""
    sha = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        sha.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return sha.hexdigest()


def _main(model: str) -> None:
    import torch

    from benchmark.encoders import python_file

    weights = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        weights.append(state_digest(python_file.build(model)))
    first, second = weights
    file = Path(model.rpartition(":")[0])
    print(json.dumps({"weights": first if first == second else None, "sources": sources_digest(file.parent)}))


if __name__ == "__main__":
    _main(sys.argv[1])
