"""Hints lead somewhere: a command that an error names exists."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest
import typer.main

from benchmark.cli import app
from benchmark.errors import LISTED, DamagedResult, LobeError, NotRegular, StoreError, UnknownName

SOURCES = sorted(Path(__file__).resolve().parents[1].joinpath("benchmark").rglob("*.py"))


def _commands() -> set[str]:
    found: set[str] = set()

    def walk(command, path: str) -> None:
        found.add(path)
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, f"{path} {name}".strip())

    walk(typer.main.get_command(app), "")
    return found


def test_every_command_that_a_sentence_names_exists():
    commands, named = _commands(), set()
    for source in SOURCES:
        for words in re.findall(r"`lobe ((?:[a-z][a-z-]* ?)+)", source.read_text(encoding="utf-8")):
            named.add((source.name, words.strip()))
    assert len(named) > 5
    for source, words in named:
        parts = words.split()
        groups = [" ".join(parts[:n]) for n in (1, 2)]
        known = groups[0] in commands and (not any(c.startswith(groups[0] + " ") for c in commands) or groups[-1] in commands)
        assert known or words == "list", f"{source}: lobe {words}"


@pytest.mark.parametrize("kind", LISTED)
def test_unknown_name_of_a_listed_kind_names_the_command(kind):
    assert f"list {kind}s" in _commands()
    assert f"`lobe list {kind}s`" in str(UnknownName(kind, "x", ["y"]))


def test_a_name_that_is_known_twice_is_offered_once():
    assert "Did you mean resnet18?" in str(UnknownName("backbone", "resnet81", ["resnet18", "resnet18"]))


def test_unknown_name_of_another_kind_lists_what_there_is():
    said = str(UnknownName("weight", "hf:folder@DEFAULT", [f"file{number}" for number in range(12)]))
    assert "lobe list" not in said
    assert "There are: file0" in said
    assert "4 more" in said


@pytest.mark.parametrize(
    "error",
    [DamagedResult("abc", "abc is damaged"), NotRegular("/a/b", "a pipe"), UnknownName("task", "x", ["y"]), StoreError("full")],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_out_of_another_process_as_it_went_in(error: LobeError | OSError):
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
