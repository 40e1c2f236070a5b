"""What many jobs share, apart from them: a job as JSON that names its dataset, recipe, backbone and switches by their digests.

Where jobs are stored by the thousand each such card then stands once, and is one object when they are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from benchmark.cards import Experiment
from benchmark.cards.base import Card
from benchmark.cards.jobs import SHARED_CARDS

KINDS: dict[str, type[Card]] = {name: Experiment.model_fields[name].annotation for name in SHARED_CARDS}  # type: ignore[misc]
DIGITS = 32


def digest(text: str) -> str:
    """The first 32 hex digits of a text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def of_experiment(experiment: Experiment) -> dict[str, str]:
    """The canonical JSON of each of these cards."""
    return {name: getattr(experiment, name).canonical for name in SHARED_CARDS}


def put_back(experiment: dict[str, Any], card: Callable[[str, str], Card]) -> None:
    """Puts cards where an experiment as JSON has their digests.

    Args:
        card: gives that of a name and digest.
    """
    for name in SHARED_CARDS:
        experiment[name] = card(name, experiment[name])
