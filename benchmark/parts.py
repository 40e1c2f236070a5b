"""What many jobs share, apart from them: a job as JSON that names its dataset, recipe, backbone and switches by their digests.

Where jobs are stored by the thousand each such part then stands once, and is one object when they are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from benchmark.cards import Experiment
from benchmark.cards.base import Card
from benchmark.cards.jobs import SHARED_PARTS

KINDS: dict[str, type[Card]] = {name: Experiment.model_fields[name].annotation for name in SHARED_PARTS}  # type: ignore[misc]
DIGITS = 32


def digest(text: str) -> str:
    """The first 32 hex digits of a text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def of_experiment(experiment: Experiment) -> dict[str, str]:
    """The canonical JSON of each part."""
    return {name: getattr(experiment, name).canonical for name in SHARED_PARTS}


def put_back(experiment: dict[str, Any], part: Callable[[str, str], Card]) -> None:
    """Puts parts where an experiment as JSON has their digests.

    Args:
        part: gives the part of that name and digest.
    """
    for name in SHARED_PARTS:
        experiment[name] = part(name, experiment[name])
