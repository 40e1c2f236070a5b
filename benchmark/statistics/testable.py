"""What may be tested at all: below these numbers variances are too poorly known for a p-value, and a cell says why it has none."""

from __future__ import annotations

FEWEST_RUNS = 3
RUNS_OF_FULL_POWER = 5
FEWEST_CLUSTERS = 30  # test patients, or images where patients are unknown; an interval over fewer is descriptive
FEWEST_WITH_FINDING = 15


def why_untested(n_runs: int | None, n_clusters: int | None, n_with_finding: int | None) -> str:
    """A sentence that says why a difference has no p-value; empty where it has one.

    Args:
        n_runs: of the method with fewer; None where nothing was drawn, as in one evaluation of fixed weights.
        n_clusters: test patients, or images where patients are unknown; None where nothing was resampled.
        n_with_finding: of these, how many show the finding; None where unknown.
    """
    if n_runs is not None and n_runs < FEWEST_RUNS:
        return f"not tested: {n_runs} run{'s' * (n_runs != 1)}, a test needs {FEWEST_RUNS}"
    if n_clusters is None:
        return "not tested: no statistics per image, so nothing is known of other test patients"
    if n_clusters < FEWEST_CLUSTERS:
        return f"not tested: {n_clusters} test patients, a test needs {FEWEST_CLUSTERS}"
    if n_with_finding is not None and n_with_finding < FEWEST_WITH_FINDING:
        return f"not tested: {n_with_finding} test patients with the finding, a test needs {FEWEST_WITH_FINDING}"
    return ""


def has_low_power(n_runs: int | None) -> bool:
    """Whether so few runs are tested that even large differences are rarely found; nothing drawn has all the power there is."""
    return n_runs is not None and n_runs < RUNS_OF_FULL_POWER
