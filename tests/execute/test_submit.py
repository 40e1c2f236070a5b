"""Handing an evaluation over: a job server that goes away meanwhile is a sentence."""

from __future__ import annotations

import pytest

from benchmark.errors import EnvironmentProblem
from benchmark.execute import submit


def test_a_server_that_goes_away_is_a_sentence_and_its_own_refusal_stays_what_it_was():
    with (
        pytest.raises(EnvironmentProblem, match=r"The job server at http://head:8265 went away: connection reset.* Try again"),
        submit._reached("http://head:8265"),
    ):
        raise ConnectionResetError("connection reset")
    with pytest.raises(RuntimeError, match="no such job"), submit._reached("http://head:8265"):
        raise RuntimeError("no such job")
