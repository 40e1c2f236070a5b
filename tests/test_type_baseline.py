"""The watch on types: what it counts, and that its numbers only fall."""

from __future__ import annotations

import tomllib

from tests.type_baseline import PROJECT, TABLE, baseline_in, by_module, compared, lowered

OUTPUT = """\
benchmark/cards/__init__.py:3: error: Incompatible types  [assignment]
benchmark/api.py:476: error: One  [arg-type]
benchmark/api.py:476: note: of it
benchmark/api.py:480: error: Another  [arg-type]
Found 3 errors in 2 files (checked 9 source files)
"""
SMALL = f'{TABLE}\n"api" = 3\n"plan" = 1\n\n[tool.other]\nkept = true\n'


def test_errors_are_counted_by_module_and_notes_are_none() -> None:
    assert {module: len(lines) for module, lines in by_module(OUTPUT).items()} == {"cards": 1, "api": 2}


def test_more_errors_than_the_baseline_are_told_and_fewer_as_well() -> None:
    more, fewer = compared(by_module(OUTPUT), {"api": 1, "plan": 4})
    assert len(more) == 3  # one in a module that had none, and both of the module with too many
    assert fewer == ["plan"]


def test_as_many_as_the_baseline_pass() -> None:
    assert compared(by_module(OUTPUT), {"api": 2, "cards": 1}) == ([], [])


def test_lowering_takes_what_was_won_and_adds_nothing() -> None:
    project = lowered(SMALL, by_module(OUTPUT), baseline_in(SMALL))
    assert tomllib.loads(project) == {"tool": {"lobe": {"type-errors": {"api": 2}}, "other": {"kept": True}}}


def test_modules_of_the_baseline_exist() -> None:
    folder = PROJECT.parent / "benchmark"
    places = [folder / module.replace(".", "/") for module in baseline_in(PROJECT.read_text(encoding="utf-8"))]
    assert places
    assert [place for place in places if not (place.with_suffix(".py").is_file() or (place / "__init__.py").is_file())] == []
