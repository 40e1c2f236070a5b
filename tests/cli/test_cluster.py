"""`lobe run --detach`: what a job server is handed is what was asked for, and leads nowhere on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

LINEAR = "rsna-linear-frozen-100"
HANDED = ("--task", LINEAR, "--out", "/out", "--address", "http://head:8265", "--detach")


def test_a_handed_over_evaluation_is_the_one_that_was_asked_for(lobe, tmp_path: Path, monkeypatch):
    """Whatever option `run` has reaches the cluster's `run`."""
    from dataclasses import fields

    from benchmark import registry
    from benchmark.api import Request
    from benchmark.own import catalogue

    handed = []
    monkeypatch.setattr("benchmark.execute.submit.submit", lambda *given, lists: handed.append(given[2:]) or "id")
    options = {"--suite": "lovt-18", "--task": LINEAR, "--data": "/data", "--out": "/out", "--cache": "/cache", "--cache-budget": "4GB"}
    options |= {"--protocol": "corrected", "--seeds": "3", "--split": "lovt", "--splits": "/splits", "--limit": "9", "--profile": "smoke"}
    options |= {"--device": "cuda", "--threads": "2", "--checkpoints": "/checkpoints", "--workers-per-job": "2", "--retries": "7"}
    flags = ["--compile", "--retry-failed", "--no-tracking"]
    words = [word for pair in options.items() for word in pair]
    assert lobe("run", "--backbone", "x", *words, *flags, "--address", "http://head:8265", "--detach")[0] == 0
    ((sent, _),) = handed
    n = len(sent) - len(flags)
    assert dict(zip(sent[:n:2], sent[1:n:2], strict=True)) == options
    assert sent[n:] == flags
    apart = {"backbones", "executor", "address", "verbose"}  # travel as files, are the cluster's, or are said here
    assert len(fields(Request)) - len(apart) == len(options) + len(flags)
    assert lobe("run", "--backbone", "x", "--executor", "inline", "--address", "http://head:8265", "--detach")[0] == 2
    try:
        assert lobe("--include", tmp_path, "run", "--backbone", "x", *HANDED)[0] == 0
        assert registry.included() == (tmp_path.resolve(),)  # what `submit` sends along by itself (tests/execute/test_ship.py)
    finally:
        catalogue.FOLDERS.clear()
        registry.forget()


@pytest.mark.parametrize("option", ["--out", "--cache", "--splits", "--checkpoints", "--data"])
def test_what_is_handed_over_has_paths_from_the_root(lobe, monkeypatch, option):
    """A job runs in a folder that Ray unpacks, and may remove with all that was stored there."""
    monkeypatch.setattr("benchmark.execute.submit.submit", lambda *_, **__: pytest.fail("handed over"))
    paths = {"--out": "/out", "--data": "rsna=/data/run=1/rsna"} | {option: "rsna=mine" if option == "--data" else "mine"}
    words = [word for pair in paths.items() for word in pair]
    code, _, err = lobe("run", "--backbone", "x", "--task", LINEAR, *words, "--address", "http://head:8265", "--detach")
    assert code == 2
    assert f"{option}" in err
    assert "mine is relative, and with --detach paths are the cluster's" in " ".join(err.replace("│", " ").split())


def test_choice_of_weights_travels_with_the_backbones_name(lobe, monkeypatch):
    handed = []
    monkeypatch.setattr("benchmark.execute.submit.submit", lambda address, backbones, *given, **more: handed.append(backbones) or "id")
    choices = ("--container", "teacher", "--layout", "prefix:net.")
    assert lobe("run", "--backbone", "prior@a.pth", *choices, *HANDED)[0] == 0
    assert handed == [["prior@a.pth#container=teacher#layout=prefix:net."]]
    code, _, err = lobe("check-backbone", "torchvision:resnet18", "--container", "teacher")
    assert code == 2
    assert "--container is of a weights file" in err


@pytest.mark.parametrize("entry", ["rsna=/data/run=1/rsna", "/data/run=1", "rsna=/data"])
def test_an_equals_sign_in_a_handed_over_path_leaves_it_a_path_from_the_root(lobe, monkeypatch, entry: str):
    handed = []
    monkeypatch.setattr("benchmark.execute.submit.submit", lambda *given, lists: handed.append(given[2]) or "id")
    assert lobe("run", "--backbone", "x", "--data", entry, *HANDED)[0] == 0
    assert entry in handed[0]


def test_handing_over_needs_an_address_and_gives_the_id_as_json(lobe, monkeypatch):
    monkeypatch.setattr("benchmark.execute.submit.submit", lambda *_, **__: "raysubmit_1")
    command = ("run", "--backbone", "x", "--task", LINEAR, "--out", "/out", "--detach")
    code, text, err = lobe(*command)
    assert (code, text) == (2, "")
    assert "needs --address, the cluster's job server" in " ".join(err.split())
    code, text, _ = lobe(*command, "--address", "http://head:8265", "--json")
    assert (code, json.loads(text)) == (0, {"id": "raysubmit_1", "address": "http://head:8265"})
