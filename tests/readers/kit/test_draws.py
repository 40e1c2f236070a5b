"""Draws of labels: nested, in the proportions of the list, by patient, the same for whoever asks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark import registry
from benchmark.readers.base import Sample
from benchmark.readers.kit.draws import NEGATIVE, POSITIVE, UNSAID, _kinds_of, drawn, rarest_kinds

CARD = registry.dataset("chestx-det")


def sample(i: int, *, positive: bool | None = None, labels: tuple[int, ...] = (), patient: str | None = None) -> Sample:
    return Sample(
        id=f"{i:05d}",
        patient_id=patient,
        image=lambda: np.zeros((1, 1), np.uint8),
        files=(),
        boxes_xywh=np.ones((len(labels), 4)),
        box_labels=np.array(labels, np.int64),
        positive=bool(labels) if positive is None else positive,
    )


def ids(samples: list[Sample]) -> list[str]:
    return [s.id for s in samples]


def test_a_draw_takes_every_image_once_and_its_shares_lie_inside_each_other() -> None:
    listed = [sample(i, positive=i % 5 == 0) for i in range(400)]
    order = ids(drawn(listed, CARD, 12345))
    assert sorted(order) == ids(listed)
    assert set(order[:4]) < set(order[:40]) < set(order)


def test_seeds_draw_differently_and_the_same_seed_draws_alike_after_other_draws() -> None:
    listed = [sample(i, positive=i % 5 == 0) for i in range(400)]
    draws = [ids(drawn(listed, CARD, seed))[:40] for seed in range(5)]
    assert len({tuple(sorted(draw)) for draw in draws}) == 5
    assert draws[3] == ids(drawn(listed, CARD, 3))[:40]


def test_a_draw_stays_what_it_was() -> None:
    """Results of a draw are only comparable while it is the same draw: this order is part of the protocol's version."""
    listed = [sample(i, positive=i % 4 == 0) for i in range(20)]
    assert [int(i) for i in ids(drawn(listed, CARD, 12345))] == [7, 11, 8, 6, 5, 14, 12, 19, 1, 15, 16, 10, 13, 17, 0, 9, 2, 18, 4, 3]


@given(st.lists(st.booleans(), min_size=20, max_size=100), st.integers(0, 50), st.floats(0.05, 1.0))
def test_any_share_holds_positives_in_the_lists_proportion(positive: list[bool], seed: int, share: float) -> None:
    listed = [sample(i, positive=p) for i, p in enumerate(positive)]
    n = round(share * len(listed))
    found = sum(bool(s.positive) for s in drawn(listed, CARD, seed)[:n])
    assert abs(found - sum(positive) * n / len(listed)) <= 1.5


def test_rare_classes_are_strata_of_their_own() -> None:
    # Half of the images show class 0, one in ten shows class 1 beside it, one in twenty class 2 alone.
    listed = [sample(i, labels=(2,) if i % 20 == 7 else (0, 1) if i % 10 == 0 else (0,) if i % 2 == 0 else ()) for i in range(1000)]
    for seed in range(5):
        tenth = drawn(listed, CARD, seed)[:100]
        n_with = Counter(label for s in tenth for label in s.box_labels.tolist())
        assert abs(n_with[1] - 10) <= 2
        assert abs(n_with[2] - 5) <= 2


def test_images_of_one_patient_come_together() -> None:
    listed = [sample(i, positive=i % 3 == 0, patient=f"p{i % 40}") for i in range(200)]
    patients = [s.patient_id for s in drawn(listed, CARD, 1)]
    changes = sum(before != after for before, after in pairwise(patients))
    assert changes == 39
    assert len(set(patients[:20])) == 4


def test_a_patient_counts_with_the_rarest_finding_of_its_images() -> None:
    # Every patient has a negative image; every fourth one a positive too.
    listed = [sample(i, positive=i % 8 == 0, patient=f"p{i // 2}") for i in range(400)]
    for seed in range(10):  # a draw that took no notice would miss by two or more in most of them
        assert abs(sum(bool(s.positive) for s in drawn(listed, CARD, seed)[:40]) - 5) <= 1


@pytest.mark.parametrize("patient", ["7", None])
def test_a_patient_named_as_an_image_is_is_not_that_image(patient: str | None) -> None:
    listed = [sample(7, patient=None), sample(8, patient="00007"), sample(9, patient=patient)]
    assert sorted(ids(drawn(listed, CARD, 0))) == ["00007", "00008", "00009"]


def test_of_several_findings_the_rarest_counts() -> None:
    assert rarest_kinds([("a", "b"), ("a",), ("b", "a"), ("c",), ("a", "c")]) == ["b", "a", "b", "c", "c"]


def test_an_image_shows_what_its_labels_say_and_where_nobody_says_anything_that() -> None:
    labelled = replace(sample(0), box_labels=np.zeros(0, np.int64), labels=np.array([1, 0, -1, 1] + [0] * (len(CARD.classes) - 4), np.int8))
    assert _kinds_of(labelled, CARD) == (CARD.classes[0], CARD.classes[3])
    assert _kinds_of(replace(sample(0), positive=None), CARD) == (UNSAID,)
    assert {_kinds_of(sample(0, positive=positive), CARD) for positive in (True, False)} == {(POSITIVE,), (NEGATIVE,)}
