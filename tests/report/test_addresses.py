"""A page's address follows from its own name, and no two names share one."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from benchmark.report import addresses
from benchmark.report.rows import rows_of


def test_a_plain_name_is_its_own_address():
    assert addresses.task_page("rsna-yolov3-frozen-10") == "tasks/rsna-yolov3-frozen-10.html"


@given(st.lists(st.text(), min_size=2, max_size=2, unique=True))
def test_different_names_have_different_addresses_of_safe_letters(names):
    made = [addresses.name_of(name) for name in names]
    assert made[0] != made[1]
    assert all(set(one) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and len(one) <= 60 for one in made)


def test_names_that_differ_in_case_or_signs_alone_have_different_addresses():
    assert len({addresses.name_of(name) for name in ("MGCA", "mgca", "mgca ", "mgca/", "../mgca")}) == 5


def test_a_row_is_told_from_those_of_another_protocol_scale_and_split(make):
    (row,) = rows_of([make.record(0.1)])
    others = [
        dataclasses.replace(row, **{name: value})
        for name, value in (("protocol", "corrected"), ("scale", "limited"), ("split", "patient-disjoint"), ("phantom", True))
    ]
    assert len({addresses.row_id(one) for one in (row, *others)}) == 5
    assert len({addresses.section_id(one) for one in (row, *others)}) == 5
