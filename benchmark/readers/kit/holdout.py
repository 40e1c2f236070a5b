"""Hold-out splits of classification papers: one shuffle after another, and label fractions that are the head of a shuffled list.

Written out with NumPy's legacy generator, whose stream scikit-learn's train_test_split and pandas' sample draw from; digests of published
lists check it (tests/readers/kit/test_holdout.py). Only the stratified one asks scikit-learn itself.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from benchmark.cards import SplitRule
from benchmark.errors import SplitError
from benchmark.readers.kit.splits import Numbers, Splits, check_disjoint, require_rule

Id = TypeVar("Id")
SORTED, SORTED_BALANCED = "sorted holdout", "sorted holdout, balanced"
FRACTION_SEED = 42  # MGCA draws its 1 % and 10 % with this state; the heads of one shuffle, so they are nested


def hold_out(ids: Sequence[Id], n_held: int, seed: int) -> tuple[list[Id], list[Id]]:
    """(kept, held) as train_test_split(test_size=n_held, random_state=seed) gives them, in its order."""
    order = np.random.RandomState(seed).permutation(len(ids))
    return [ids[i] for i in order[n_held:]], [ids[i] for i in order[:n_held]]


def sampled(ids: Sequence[Id], seed: int = FRACTION_SEED) -> list[Id]:
    """All ids in the order pandas' sample(random_state=seed) draws them: its sample of a fraction is the head of this list."""
    return [ids[i] for i in np.random.RandomState(seed).permutation(len(ids))]


def stratified_holdout(ids: Iterable[str], kind_of: Callable[[str], str], rule: SplitRule, dataset: str) -> tuple[list[str], list[str]]:
    """(kept, held) of sorted ids as scikit-learn's stratified train_test_split draws them, `validation_share` of every kind held out.

    Args:
        kind_of: id -> its kind in words. Kinds are drawn in alphabetical order.

    Raises:
        SplitError: too few images of a kind, or a rule without its seed or its share.
    """
    from sklearn.model_selection import train_test_split  # dear to import, and only these splits need it

    numbers, ids = Numbers(rule, dataset), sorted(ids)
    kinds = list(map(kind_of, ids))
    try:
        n_held = round(numbers.validation_share * len(ids))
        kept, held = train_test_split(ids, test_size=n_held, stratify=kinds, random_state=numbers.seed)
    except ValueError as error:
        counted = ", ".join(f"{n:,} {kind}" for kind, n in sorted(Counter(kinds).items())) or "none"
        raise SplitError(f"{dataset}: too few training images ({counted}) to hold out a validation set of every kind ({error}).") from None
    return kept, held


def official_test_and_holdout(
    train: Iterable[str], test: Sequence[str], kind_of: Callable[[str], str], rule: SplitRule, known: str, dataset: str
) -> Splits:
    """An official test list, and a validation share of the official training list by `stratified_holdout`.

    Args:
        kind_of: training id -> its kind in words.
        known: the one rule that the reader has.

    Raises:
        SplitError: another rule, or one without its numbers; too few training images of a kind; an id that is listed twice.
    """
    require_rule(rule, (known,), "seed", "validation_share", dataset=dataset)
    kept, held = stratified_holdout(train, kind_of, rule, dataset)
    splits = {"train": tuple(kept), "validation": tuple(held), "test": tuple(test)}
    check_disjoint(splits)
    return splits


def sorted_holdout(ids: Sequence[str], rule: SplitRule) -> dict[str, tuple[str, ...]]:
    """GLoRIA's and MGCA's split of RSNA: sorted ids, one share held out, its first half for the test, the second for validation.

    Raises:
        SplitError: another rule, or one without its seed or its shares.
    """
    numbers = require_rule(rule, (SORTED,), "seed", "validation_share", "test_share")
    n_held = math.ceil(round((numbers.validation_share + numbers.test_share) * len(ids), 6))
    train, held = hold_out(sorted(ids), n_held, numbers.seed)
    test, validation = hold_out(held, math.ceil(n_held / 2), numbers.seed)
    return {"train": tuple(sampled(train)), "validation": tuple(validation), "test": tuple(test)}


def sorted_holdout_balanced(ids: Sequence[str], rule: SplitRule, positive: Callable[[str], bool]) -> dict[str, tuple[str, ...]]:
    """`sorted_holdout` whose training list keeps all positives and as many negatives, drawn with a fixed seed: LOBE's rule for SIIM.

    GLoRIA and MGCA split rows of the label table, so that an image with several masks falls into several splits; and they draw negatives
    anew in every process. Here images are split and the draw is fixed. Validation and test keep every image.

    Raises:
        SplitError: as in `sorted_holdout`, or the training list has no positive image.
    """
    require_rule(rule, (SORTED_BALANCED,))
    splits = sorted_holdout(ids, rule.model_copy(update={"rule": SORTED}))
    n_positive = sum(map(positive, splits["train"]))
    if n_positive == 0:
        raise SplitError(f"None of the {len(splits['train']):,} training images is positive, so there is nothing to balance.")
    negatives = set([i for i in splits["train"] if not positive(i)][:n_positive])
    # Drawn once more: the chosen negatives are the first of the list, and its head, the 1 %, would be as unbalanced as before.
    return splits | {"train": tuple(sampled([i for i in splits["train"] if positive(i) or i in negatives]))}
