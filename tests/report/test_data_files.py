"""Data that registers itself: nothing in it leaves its string, and nothing is written that is no JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.report import data_files


@given(st.text())
def test_any_text_comes_back_and_none_ends_a_script(text: str):
    made = data_files.script_json([text, "</script><!--"])
    assert json.loads(made) == [text, "</script><!--"]
    assert made.isascii()
    assert not set("<>&'") & set(made)


def test_a_number_that_is_not_finite_is_no_data(tmp_path: Path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        data_files.write(tmp_path, "x", {"value": float("nan")})
    assert not list(tmp_path.rglob("*.js"))


def test_a_file_registers_under_the_name_that_pages_ask_for(tmp_path: Path):
    path = data_files.write(tmp_path, "jobs/mine", [1])
    assert path == tmp_path / "data" / "jobs" / "mine.js"
    assert path.read_text() == 'lobe.register("jobs/mine",[1]);\n'
