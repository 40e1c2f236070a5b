"""Corpora of tests: drawn once, copied for everybody, and what the writer itself would have written."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.phantom import corpus
from tests import corpora


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_plan_is_drawn_once_and_what_a_caller_does_to_his_copy_reaches_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = corpora.CorpusPlan("rsna", 1, seed=4242, images_per_patient=(1, 1))
    drawn, write = [], corpus.write_corpus
    monkeypatch.setattr(corpus, "write_corpus", lambda plan, out: drawn.append(plan) or write(plan, out))
    corpora.write_corpus(plan, tmp_path / "first")
    for path in contents(tmp_path / "first"):
        (tmp_path / "first" / path).write_bytes(b"damaged")
    corpora.write_corpus(plan, tmp_path / "second")
    assert drawn == [plan]
    write(plan, tmp_path / "straight")
    assert contents(tmp_path / "second") == contents(tmp_path / "straight")


def test_another_plan_is_another_corpus(tmp_path: Path) -> None:
    for name, share in (("none", 0.0), ("all", 1.0)):
        corpora.write_corpus(corpora.CorpusPlan("rsna", 1, seed=4242, images_per_patient=(1, 1), positive_share=share), tmp_path / name)
    assert contents(tmp_path / "none") != contents(tmp_path / "all")
