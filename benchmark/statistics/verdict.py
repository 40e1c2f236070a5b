"""The word for a difference: higher, lower, not told apart, equivalent, or not tested. Every page takes it from here."""

from __future__ import annotations

from typing import Literal

from benchmark.statistics.two_part import LEVEL

Verdict = Literal["higher", "lower", "not told apart", "equivalent", "not tested"]
ReproductionVerdict = Literal["equivalent", "different", "undecided"]


def verdict(
    value: float,
    adjusted_p: float | None,
    half_width: float | None = None,
    *,
    margin: float | None = None,
    covers_patients: bool = False,
    lower_bound: bool = False,
) -> Verdict:
    """The word for first minus second.

    "equivalent" comes first: with a margin fixed beforehand, a difference that is surely smaller is none, however surely it is not zero.
    Without a margin, or where `is_equivalent` does not hold, the adjusted p decides, never the interval.

    Args:
        value: the difference; positive means that the first is better.
        adjusted_p: after the correction for its family; None where nothing is tested.
        half_width, margin, covers_patients, lower_bound: as for `is_equivalent`.
    """
    if margin is not None and is_equivalent(value, half_width, margin, covers_patients=covers_patients, lower_bound=lower_bound):
        return "equivalent"
    if adjusted_p is None:
        return "not tested"
    if adjusted_p > LEVEL or value == 0:
        return "not told apart"
    return "higher" if value > 0 else "lower"


def reproduction_verdict(
    value: float, half_width: float | None, margin: float, *, covers_patients: bool, lower_bound: bool
) -> ReproductionVerdict:
    """The word for measured minus published.

    "equivalent" as `is_equivalent`; "different" where the 95 % interval lies wholly beyond the margin; "undecided" otherwise, and without
    an interval. No p decides: that two numbers are not exactly alike was known before.

    Args:
        value, half_width, margin, covers_patients, lower_bound: as for `is_equivalent`.
    """
    if is_equivalent(value, half_width, margin, covers_patients=covers_patients, lower_bound=lower_bound):
        return "equivalent"
    return "different" if half_width is not None and abs(value) - half_width > margin else "undecided"


def is_equivalent(value: float, half_width: float | None, margin: float, *, covers_patients: bool, lower_bound: bool) -> bool:
    """Whether the 95 % interval lies within the margin and may be believed: it covers the test patients and is no lower bound.

    Args:
        value, half_width: of the difference, in the unit of `margin`; half width None where there is no interval.
        margin: largest difference that counts as none, fixed before anything was measured.
        covers_patients: the interval covers the choice of test patients, not of runs alone.
        lower_bound: part of its spread is known only from below, as where a paper repeated runs.
    """
    return half_width is not None and covers_patients and not lower_bound and abs(value) + half_width <= margin
