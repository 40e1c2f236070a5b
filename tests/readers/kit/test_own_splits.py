from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.cards.own_split import OwnSplit
from benchmark.errors import SplitError
from benchmark.readers.base import Sample
from benchmark.readers.kit.own_splits import own_splits
from tests.own_cards import card


def samples(patients: list[int], shown: list[bool]) -> list[Sample]:
    return [
        Sample(id=f"{k:03d}", patient_id=f"p{patient}", image=lambda: np.zeros((1, 1)), files=(), positive=positive)
        for k, (patient, positive) in enumerate(zip(patients, shown, strict=True))
    ]


CARD = card(Path("mine"), "masks", {}, classes=("a",))


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=4, max_size=80), st.integers(0, 5))
def test_a_draw_never_parts_a_patient_and_loses_no_image(drawn: list[tuple[int, bool]], seed: int) -> None:
    listed = samples([patient for patient, _ in drawn], [shown for _, shown in drawn])
    split = OwnSplit(seed=seed)
    try:
        made = own_splits(listed, dict.fromkeys([s.id for s in listed], "train"), split, CARD)
    except SplitError:
        assert len({s.patient_id for s in listed}) < 3
        return
    assert len({s.patient_id for s in listed}) >= 3
    assert all(made.values())
    patient_of = {s.id: s.patient_id for s in listed}
    assert sorted(i for ids in made.values() for i in ids) == sorted(patient_of)
    patients = [{patient_of[i] for i in ids} for ids in made.values()]
    assert sum(map(len, patients)) == len(set.union(*patients))


def test_shares_and_findings_are_kept_and_another_seed_draws_others() -> None:
    listed = samples(list(range(200)), [k % 4 == 0 for k in range(200)])
    given_ = dict.fromkeys([s.id for s in listed], "train")
    made = own_splits(listed, given_, OwnSplit(), CARD)
    assert {name: len(ids) for name, ids in made.items()} == {"train": 140, "validation": 30, "test": 30}
    positive = {s.id for s in listed if s.positive}
    assert all(abs(len(positive & set(made[name])) - 7.5) <= 1 for name in ("validation", "test"))
    assert own_splits(listed[::-1], given_, OwnSplit(), CARD) == made
    assert own_splits(listed, given_, OwnSplit(seed=1), CARD) != made


def test_nothing_to_train_on_is_said() -> None:
    listed = samples([0, 1], [True, True])
    with pytest.raises(SplitError, match="no image is in the training split"):
        own_splits(listed, {"000": "test"}, OwnSplit(), CARD)
