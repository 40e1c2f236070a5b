"""The generators of a whole process, which code may draw from without being given one: of Python, NumPy and torch.

An author's network may draw its weights, or drop out, by any of them; a job's draws are those of its seed and not of what ran before it.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Begins all of them anew; torch's as `torch.manual_seed(seed)`."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002


@contextlib.contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """What is drawn inside is of `seed`; afterwards the generators are as they were."""
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            seed_all(seed)
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002


def state() -> dict[str, Any]:
    """Where they stand, as plain values and tensors."""
    version, keys, gauss = random.getstate()
    # NumPy's stub does not tell that this is a tuple unless `legacy` is False.
    found = cast("tuple[str, np.ndarray, int, int, float]", np.random.get_state())  # noqa: NPY002
    name, words, position, has_gauss, cached = found
    return {
        "torch": torch.get_rng_state(),
        "cuda": [state.cpu() for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [],
        "python": [version, list(keys), gauss],
        "numpy": [name, torch.from_numpy(words.astype(np.int64)), int(position), int(has_gauss), float(cached)],
    }


def fingerprint() -> str:
    """Equal as long as nothing was drawn."""
    found = state()
    sha = hashlib.sha256(repr((found["python"], found["numpy"][2:])).encode())
    for each in (found["torch"], *found["cuda"], found["numpy"][1]):
        sha.update(each.numpy().tobytes())
    return sha.hexdigest()


def set_state(saved: dict[str, Any]) -> None:
    """Puts them where `state` found them."""
    torch.set_rng_state(saved["torch"].cpu())
    if saved["cuda"]:  # pragma: no cover: needs CUDA; `make gpu` runs it
        torch.cuda.set_rng_state_all([state.cpu() for state in saved["cuda"]])
    version, keys, gauss = saved["python"]
    random.setstate((version, tuple(keys), gauss))
    name, words, position, has_gauss, cached = saved["numpy"]
    np.random.set_state((name, words.cpu().numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
