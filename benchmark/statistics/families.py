"""Many tests at once: Holm's correction, and which tests belong to one family.

Against a named reference: the suite's tasks, one family per (row, reference, track). Rank bands: the comparisons of one row. All pairs: on
headlines alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from benchmark.errors import UsageError

Key = TypeVar("Key", bound=Hashable)


def holm(p_values: Sequence[float], n_more: int = 0) -> list[float]:
    """Holm's adjusted p-values, in the order given: step-down, monotone, at most 1.

    The i-th smallest of m p-values (i from 1) becomes the largest of (m - j + 1) p_j over j <= i.

    Args:
        n_more: tests that the family counts beside these, whatever came of them: as if each had the p-value 1.

    Source: docs/sources.md, Holm.
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p) + n_more, n_more, -1)), 1.0)
    return adjusted.tolist()


def holm_by_family(p_values: Mapping[Key, float | None], family_of: Callable[[Key], Hashable]) -> dict[Key, float | None]:
    """Holm's p-values within families; what was not tested (None) stays so and makes no family larger."""
    families: dict[Hashable, dict[Key, float]] = {}
    for key, p in p_values.items():
        if p is not None:
            families.setdefault(family_of(key), {})[key] = p
    found = {key: p for family in families.values() for key, p in zip(family, holm(list(family.values())), strict=True)}
    return {key: found.get(key) for key in p_values}


def holm_all_pairs(p_values: np.ndarray, n_gone: int = 0) -> np.ndarray:
    """Adjusted p of all K (K - 1) / 2 pairs of K rows, one family. For headlines only: on tasks it finds next to nothing.

    Args:
        p_values: (K, K) unadjusted, symmetric; the diagonal is not read.
        n_gone: rows that are shown no more; the family counts their pairs too.

    Returns:
        (K, K) float64, symmetric, with 1 on the diagonal.

    Raises:
        UsageError: not square, not symmetric, or a pair without a p-value.
    """
    p = square(p_values)
    upper = np.triu_indices(len(p), k=1)
    adjusted = np.ones(p.shape)
    adjusted[upper] = holm(p[upper].tolist(), n_more=n_gone * len(p) + n_gone * (n_gone - 1) // 2)
    adjusted.T[upper] = adjusted[upper]
    return adjusted


def holm_per_row(p_values: np.ndarray, n_gone: int = 0) -> np.ndarray:
    """Adjusted p of each row against all others, one family per row of the table: [i, j] is judged among the K - 1 comparisons of row i,
    and those with rows that are shown no more.

    Args, Raises: as `holm_all_pairs`.

    Returns:
        (K, K) float64 with 1 on the diagonal; not symmetric, since i and j belong to different families.
    """
    p = square(p_values)
    adjusted = np.ones(p.shape)
    for row in range(len(p)):
        others = np.arange(len(p)) != row
        adjusted[row, others] = holm(p[row, others].tolist(), n_more=n_gone)
    return adjusted


def square(p_values: np.ndarray) -> np.ndarray:
    """The table of p-values, once it is known to be one.

    Raises:
        UsageError: not square, not symmetric, or a pair without a p-value.
    """
    p = np.asarray(p_values, np.float64)
    if p.ndim != 2 or p.shape[0] != p.shape[1]:
        raise UsageError(f"A table of p-values has a line and a column for every row of the leaderboard; this one has shape {p.shape}.")
    others = ~np.eye(len(p), dtype=bool)
    if np.isnan(p[others]).any() or not np.array_equal(p[others], p.T[others]):
        raise UsageError(f"Among {len(p)} rows, every pair needs one p-value, the same in both orders; leave out rows that are not tested.")
    return p
