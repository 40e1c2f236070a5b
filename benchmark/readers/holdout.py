"""Hold-out splits of classification papers: one shuffle after another, and label fractions that are the head of a shuffled list.

Written out with NumPy's legacy generator, whose stream scikit-learn's train_test_split and pandas' sample draw from; digests of published
lists check it (tests/readers/test_holdout.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import SplitError

Id = TypeVar("Id")
FRACTION_SEED = 42  # MGCA draws its 1 % and 10 % with this state; the heads of one shuffle, so they are nested


def hold_out(ids: Sequence[Id], n_held: int, seed: int) -> tuple[list[Id], list[Id]]:
    """(kept, held) as train_test_split(test_size=n_held, random_state=seed) gives them, in its order."""
    order = np.random.RandomState(seed).permutation(len(ids))
    return [ids[i] for i in order[n_held:]], [ids[i] for i in order[:n_held]]


def sampled(ids: Sequence[Id], seed: int = FRACTION_SEED) -> list[Id]:
    """All ids in the order pandas' sample(random_state=seed) draws them: its sample of a fraction is the head of this list."""
    return [ids[i] for i in np.random.RandomState(seed).permutation(len(ids))]


def sorted_holdout(ids: Sequence[str], rule: SplitRule) -> dict[str, tuple[str, ...]]:
    """GLoRIA's and MGCA's split of RSNA: sorted ids, one share held out, its first half for the test, the second for validation.

    Raises:
        SplitError: the rule has no seed or no shares.
    """
    if rule.seed is None or rule.validation_share is None or rule.test_share is None:
        raise SplitError(f"Split rule {rule.rule!r} needs seed, validation_share and test_share; mend the dataset card.")
    n_held = math.ceil(round((rule.validation_share + rule.test_share) * len(ids), 6))
    train, held = hold_out(sorted(ids), n_held, rule.seed)
    test, validation = hold_out(held, math.ceil(n_held / 2), rule.seed)
    return {"train": tuple(sampled(train)), "validation": tuple(validation), "test": tuple(test)}
