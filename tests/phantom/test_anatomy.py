from __future__ import annotations

from benchmark.phantom.anatomy import draw_patient


def test_same_key_gives_the_same_patient_and_another_key_another():
    assert draw_patient("a") == draw_patient("a")
    assert draw_patient("a") != draw_patient("b")
