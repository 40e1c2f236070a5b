from __future__ import annotations

import pytest

from benchmark.readers.kit.blanks import patient_named


@pytest.mark.parametrize(
    ("said", "patient"),
    [
        *[(said, "") for said in (None, "", "  ", "nan", "NaN", float("nan"), "null", "None", "NA", " n/a ", "<NA>")],
        *[(said, "12") for said in (12, 12.0, "12", " 12 ", "12.0", "12.00")],
        ("007", "007"),
        ("12.5", "12.5"),
        (12.5, "12.5"),
        ("P1.0", "P1.0"),
        (1e16, "10000000000000000"),
        ("Nancy", "Nancy"),
    ],
)
def test_a_missing_cell_is_no_patient_and_a_whole_number_one_of_one_spelling(said: object, patient: str) -> None:
    assert patient_named(said) == patient
