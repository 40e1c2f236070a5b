"""Text becomes one line in one way, however it is found to need no change."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from benchmark.report import escape


@given(st.text(alphabet=st.sampled_from("ab \t\n\x00\x1f\x7f\x85\u00a0é=<")) | st.text())
def test_one_line_is_what_the_rule_says_for_any_text(text: str):
    assert escape.one_line(text) == re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", text).strip()
