"""`lobe report` and `lobe reproduce`, as they are told."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace


def test_a_paper_goes_through_the_pager_of_a_terminal_and_straight_into_a_file(lobe, monkeypatch):
    command, paged = ("reproduce", "g2d", "--table", "Table 2a"), []
    monkeypatch.setenv("LESS", "")
    monkeypatch.delenv("LESS")  # and back to what it was afterwards
    assert "BioViL" in lobe(*command)[1]
    monkeypatch.setattr("pydoc.pager", paged.append)  # what rich hands a terminal's text to
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    code, text, err = lobe(*command)
    assert (code, err, "BioViL" in paged[0], "BioViL" in text) == (0, "", True, False)
    assert os.environ["LESS"] == "FRSX"


def test_a_paper_beside_a_folder_without_results_says_so(lobe, tmp_path: Path):
    code, text, err = lobe("reproduce", "g2d", "--table", "Table 2a", "--out", tmp_path / "mistyped")
    assert (code, "BioViL" in text) == (0, True)
    assert "mistyped holds no results: the tables show published numbers alone." in err


def test_the_page_of_a_report_is_named_whole_also_with_brackets_in_its_folder(lobe, tmp_path: Path, monkeypatch):
    page = tmp_path / "[bold]" / "[" / "b]" / "index.html"
    monkeypatch.setattr("benchmark.api.write_report", lambda *_, **__: SimpleNamespace(page=page, refused=(), below=0))
    assert lobe("report") == (0, f"Leaderboard: {page}\n", "")
