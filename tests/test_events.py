"""Events cross processes, and a generator's steps become events without losing what it returns."""

from __future__ import annotations

import pickle

import pytest

from benchmark.cards import Epoch
from benchmark.events import Decoded, Encoded, EpochEnded, Event, Hashing, Noticed, Started, Steps

LINE = Epoch(epoch=0, step=3, train_loss=0.5, validation_loss=0.5, learning_rate=0.1, metrics={})


def counting(n: int):
    for i in range(n):
        yield i, n
    return "done"


@pytest.mark.parametrize("n", [0, 3])
def test_steps_keep_what_their_generator_returns(n: int):
    steps = Steps(counting(n))
    assert list(steps) == [(i, n) for i in range(n)]
    assert steps.result == "done"


def test_an_iteration_that_did_not_end_has_no_result():
    steps = Steps(counting(3))
    assert next(iter(steps)) == (0, 3)
    with pytest.raises(AttributeError, match="result"):
        _ = steps.result


def test_what_fails_in_a_generator_fails_its_steps():
    def failing():
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        list(Steps(failing()))


@pytest.mark.parametrize(
    "event",
    [
        Hashing("rsna", 1, 2),
        Started("a"),
        Decoded(("a", "b"), 5, 35),
        Encoded(("a",), 16, 35),
        EpochEnded("a", LINE),
        Noticed("Node x is not used."),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_event_is_the_same_in_another_process(event: Event):
    assert pickle.loads(pickle.dumps(event)) == event
