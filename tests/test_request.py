"""What a request means where it leaves something out."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from benchmark import registry, request
from benchmark.encoders.library_weights import may_ask
from benchmark.errors import UsageError
from benchmark.request import _default_protocol, _side_by_side


@pytest.mark.parametrize(
    ("tasks", "protocol"),
    [
        (["rsna-linear-frozen-100"], "published"),
        (["rsna-linear-frozen-100", "tbx11k-linear-frozen-100-lobe"], "corrected"),
        (["rsna-linear-frozen-10-lobe-v1"], "lobe"),
        (["mimic-cxr-retrieval-lobe"], "corrected"),
        (["mimic-cxr-retrieval-lobe", "rsna-linear-frozen-10-lobe-v1"], "lobe"),
        (["rsna-linear-frozen-100", "rsna-linear-frozen-10-lobe-v1"], "published"),  # they share none, and planning says so
    ],
)
def test_without_a_protocol_tasks_run_under_the_first_that_all_of_them_offer(tasks: list[str], protocol: str) -> None:
    assert _default_protocol(None, [registry.task(name) for name in tasks]) == protocol


@pytest.mark.parametrize("suite", ["lovt-18", "localized", "lobe-v1", "lobe-v1-extended"])
def test_a_suite_runs_under_its_own_protocol(suite: str) -> None:
    card = registry.suite(suite)
    assert _default_protocol(suite, [registry.task(name) for name in card.tasks]) == card.default_protocol


def test_factories_are_described_side_by_side_and_told_in_their_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two at a time, each once, a fault where its name stands; what asks no network asks none in any thread."""
    monkeypatch.chdir(tmp_path)
    for file in ("a.py", "b.py", "c.py"):
        Path(file).touch()
    Path("b.yaml").write_text("name: b\nfamily: python_file\nmodel: b.py:build\n")
    names = ["a.py:build", "timm:resnet18", "b.yaml", "a.py:build", "no.yaml", "c.py:build"]
    both = threading.Barrier(2, timeout=30)
    asked: list[str] = []

    def backbone(name: str, cache: Path, *, reads_words: bool) -> str:
        assert (reads_words, may_ask()) == (True, False)
        asked.append(name)
        if name in ("a.py:build", "b.yaml"):
            both.wait()  # neither is done before the other has begun
        if name in ("b.yaml", "no.yaml"):
            raise UsageError("no such function")
        return name.upper()

    monkeypatch.setattr(request, "usable_cores", lambda: 2)
    monkeypatch.setattr(request.resolve, "backbone", backbone)
    told: dict[str, str] = {}
    for name, resolved in _side_by_side(names, Path("cache"), reads_words=True, asking=False):
        try:
            told[name] = resolved()
        except UsageError as error:
            told[name] = str(error)
    assert list(told.items()) == [
        ("a.py:build", "A.PY:BUILD"),
        ("timm:resnet18", "TIMM:RESNET18"),
        ("b.yaml", "no such function"),
        ("no.yaml", "no such function"),
        ("c.py:build", "C.PY:BUILD"),
    ]
    assert sorted(asked) == sorted(set(names))
