"""`lobe clean`, `lobe demo` and `lobe doctor`, as they are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def test_clean_lists_as_json_and_removes_only_when_told(lobe, corpora: Path, tmp_path: Path):
    cache = tmp_path / "cache"
    assert lobe("data", "prepare", "rsna", "--data", corpora, "--cache", cache, "--json")[0] == 0
    (row,) = json.loads(lobe("clean", "--cache", cache, "--json")[1])
    assert row["dataset"] == "rsna"
    assert Path(row["folder"]).is_dir()
    assert json.loads(lobe("clean", "--cache", cache, "--remove", "--json")[1]) == [row]
    assert json.loads(lobe("clean", "--cache", cache, "--json")[1]) == []


@pytest.mark.parametrize("failed", [0, 1])
def test_the_demo_is_run_where_it_was_asked_for_and_gives_its_code(lobe, tmp_path: Path, monkeypatch, failed: int):
    asked = []
    monkeypatch.setattr("benchmark.demo.journey.run_demo", lambda folder, executor, console: asked.append((folder, executor)) or failed)
    assert lobe("demo", tmp_path, "--executor", "inline")[0] == failed
    assert lobe("demo", tmp_path, "--executor", "slurm")[0] == 2
    assert asked == [(tmp_path, "inline")]


def test_the_doctor_tells_every_finding_and_fails_for_an_error_alone(lobe, monkeypatch):
    from benchmark import doctor

    def finding(state: str):
        return lambda: iter([doctor.Diagnosis("Python", state, "a [detail]", "mend it")])

    for state, code in (("ok", 0), ("warning", 0), ("error", 1)):
        monkeypatch.setattr(doctor, "CHECKS", {"Python": finding(state)})
        monkeypatch.setattr(doctor, "CACHE_NEEDED_BYTES", 0)
        monkeypatch.setattr(doctor, "CACHE_COMFORTABLE_BYTES", 0)
        ended, text, _ = lobe("doctor", "--json")
        assert (ended, json.loads(text)[0]) == (code, {"check": "Python", "state": state, "detail": "a [detail]", "mend": "mend it"})
        ended, text, _ = lobe("doctor")
        assert (ended, "a [detail]" in text, "mend it" in text) == (code, True, True)


def test_the_doctor_looks_at_the_cache_that_its_own_advice_names(lobe, tmp_path: Path, monkeypatch):
    """It says to name another folder with --cache."""
    monkeypatch.setattr("benchmark.doctor.CHECKS", {})
    (tmp_path / "file").touch()
    code, text, _ = lobe("doctor", "--cache", tmp_path / "file", "--json")
    assert (code, json.loads(text)[0]["detail"]) == (1, f"the cache folder {tmp_path / 'file'} cannot be written")
    _, text, _ = lobe("doctor", "--cache", tmp_path / "other", "--json")
    assert f"for the cache in {tmp_path / 'other'}" in json.loads(text)[0]["detail"]


def test_clean_says_what_it_removed(lobe, corpora: Path, tmp_path: Path):
    cache = tmp_path / "cache"
    assert lobe("data", "prepare", "rsna", "--data", corpora, "--cache", cache, "--json")[0] == 0
    code, text, _ = lobe("clean", "--cache", cache, "--remove")
    assert (code, "Removed 1 caches, " in text, " MiB." in text) == (0, True, True)
    assert json.loads(lobe("clean", "--cache", cache, "--json")[1]) == []
