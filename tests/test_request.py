"""What a request means where it leaves something out."""

from __future__ import annotations

import pytest

from benchmark import registry
from benchmark.request import _default_protocol


@pytest.mark.parametrize(
    ("tasks", "protocol"),
    [
        (["rsna-linear-frozen-100"], "published"),
        (["rsna-linear-frozen-100", "tbx11k-linear-frozen-100-lobe"], "corrected"),
        (["rsna-linear-frozen-10-lobe-v1"], "lobe"),
        (["mimic-cxr-retrieval-lobe"], "corrected"),
        (["mimic-cxr-retrieval-lobe", "rsna-linear-frozen-10-lobe-v1"], "lobe"),
        (["rsna-linear-frozen-100", "rsna-linear-frozen-10-lobe-v1"], "published"),  # they share none, and planning says so
    ],
)
def test_without_a_protocol_tasks_run_under_the_first_that_all_of_them_offer(tasks: list[str], protocol: str) -> None:
    assert _default_protocol(None, [registry.task(name) for name in tasks]) == protocol


@pytest.mark.parametrize("suite", ["lovt-18", "localized", "lobe-v1", "lobe-v1-extended"])
def test_a_suite_runs_under_its_own_protocol(suite: str) -> None:
    card = registry.suite(suite)
    assert _default_protocol(suite, [registry.task(name) for name in card.tasks]) == card.default_protocol
