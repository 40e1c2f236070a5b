"""A split is one of the card's by name; where there is none of that name the sentence says why, and what there is."""

from __future__ import annotations

import pytest

from benchmark.errors import LobeError
from benchmark.readers.kit.chosen_split import rule_of_card
from benchmark.registry import dataset


@pytest.mark.parametrize("name", ["siim", "object-cxr"])
@pytest.mark.parametrize("split", ["patient-disjoint", "size-matched"])
def test_where_patients_are_unknown_no_split_by_patient_is_offered(name: str, split: str):
    with pytest.raises(LobeError, match="does not say which images belong to one patient"):
        rule_of_card(dataset(name), split)


@pytest.mark.parametrize("name", ["rsna", "nih-cxr", "covid-rural"])
def test_where_patients_are_known_both_are_offered(name: str):
    assert list(dataset(name).splits) == ["lovt", "patient-disjoint", "size-matched"]


def test_a_misspelt_split_names_those_there_are():
    with pytest.raises(LobeError, match="It offers: lovt, patient-disjoint, size-matched"):
        rule_of_card(dataset("rsna"), "patient_disjoint")
