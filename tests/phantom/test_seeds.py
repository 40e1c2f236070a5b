"""Numbers of a phantom corpus: each is a function of its words, and two patients never share one."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from benchmark.phantom import covidx, mimic_cxr, pax_ray
from benchmark.phantom.base import CorpusPlan, Shot, patient_key
from benchmark.phantom.seeds import apart, number_of


@given(st.lists(st.integers(0, 199), max_size=20), st.integers(1, 5))
def test_numbers_that_are_apart_stay_and_the_others_move_without_moving_an_earlier_one(numbers: list[int], distance: int):
    found = apart(numbers, 200, distance)
    assert all(0 <= number < 200 for number in found)
    assert all(later - earlier >= distance for earlier, later in pairwise(sorted(found)))
    assert apart(numbers[:7], 200, distance) == found[:7]
    near = [any(abs(number - earlier) < distance for earlier in found[:k]) for k, number in enumerate(numbers)]
    assert all(moved != number if is_near else moved == number for number, moved, is_near in zip(numbers, found, near, strict=True))


def test_no_two_patients_of_a_large_mimic_share_a_study():
    plan = CorpusPlan("mimic-cxr", 6000, seed=3)
    drawn = sorted(number_of("mimic study", patient_key(plan, patient), below=20_000_000) for patient in range(plan.n_patients))
    assert any(later - earlier < 4 for earlier, later in pairwise(drawn))  # as they were drawn, some do
    studies = [mimic_cxr.place_of(plan, Shot(patient, index, False)).study for patient in range(plan.n_patients) for index in range(4)]
    assert len(set(studies)) == len(studies)


def test_numbers_of_a_small_corpus_are_those_that_were_drawn():
    plan = CorpusPlan("mimic-cxr", 30, seed=3)
    study = mimic_cxr.place_of(plan, Shot(7, 1, False)).study
    assert study == 70_000_001 + number_of("mimic study", patient_key(plan, 7), below=20_000_000)
    assert covidx._numbers(plan)[7] == number_of("covidx", patient_key(plan, 7), below=10**9)
    assert pax_ray._numbers(plan)[7][1] == number_of("pax-ray", 3, 7, 1, below=10**9)
