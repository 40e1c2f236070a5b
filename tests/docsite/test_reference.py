"""The reference holds every command, card, metric and head that there is, as the code declares it."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from benchmark import cards, registry
from benchmark.cards import Card, Job, Protocol, Switches, TaskCard
from benchmark.metrics.spec import specs
from docsite import card_fields, commands, head_pages, metric_pages, python_pages, tables
from docsite.addresses import ROOT


def test_every_command_has_a_section_with_its_options() -> None:
    page = commands.page()
    assert {" ".join(names) for names, _ in commands.commands()} >= {"run", "report", "data verify", "list tasks", "new backbone"}
    for names, command in commands.commands():
        section = page.split(f"\n## `lobe {' '.join(names)}`\n")[1].split("\n## ")[0]
        options = {name for one in command.params if one.param_type_name == "option" and one.name != "help" for name in one.opts}
        assert {name for name in options if f"`{name}`" not in section} == set()
    assert "| `--executor` | ray or inline. | `ray` |" in page


def test_every_card_of_the_vocabulary_has_its_fields_in_order() -> None:
    every = {name for name in cards.__all__ if isinstance(getattr(cards, name), type) and issubclass(getattr(cards, name), Card)}
    assert {card.__name__ for card in card_fields.models()} == every - {"Card"}
    for card in card_fields.models():
        assert [field.name for field in card_fields.fields_of(card)] == list(card.model_fields)


def test_a_field_says_its_type_its_default_and_its_sentence() -> None:
    fields = {card.__name__: {one.name: one for one in card_fields.fields_of(card)} for card in (Protocol, Switches, TaskCard, Job)}
    scored = fields["Switches"]["scored_in"]
    assert (scored.kind, scored.default, scored.later) == ("Literal['frame', 'original']", "'frame'", True)
    assert scored.what.startswith("pixels in which a test is scored")
    assert fields["Protocol"]["version"].what == "of the rules, for people: keys follow the rules themselves."
    assert not fields["TaskCard"]["id"].default


METRICS = cache(metric_pages.page)


@pytest.mark.parametrize("spec", specs(), ids=lambda spec: f"{spec.family}-{spec.name}")
def test_every_metric_stands_with_its_title_and_direction(spec) -> None:
    rows = [line for line in METRICS().splitlines() if line.startswith(f"| `{spec.name}`")]
    title = tables.cell(spec.title)
    assert [
        row for row in rows if f" {title} " in row and metric_pages._BETTER[spec.better] in row and metric_pages._UNITS[spec.unit] in row
    ]


def test_every_head_has_a_section_and_a_module() -> None:
    page = head_pages.page()
    assert {name for name in registry.heads() if f"\n## `{name}`\n" not in page} == set()
    assert {name for name in registry.heads() if not (ROOT / head_pages.module_of(name)).is_file()} == set()
    assert "| [`yolov3`](#yolov3) | boxes | yes | strides 8, 16, 32 | no |" in page


def test_every_public_name_exists_and_says_what_it_is() -> None:
    names = re.findall(r"^::: (benchmark\.[\w.]+)$", python_pages.page(), re.MULTILINE)
    assert "benchmark.front.lobe.Lobe" in names
    for name in names:
        module, last = (name, "") if name.rpartition(".")[2].islower() else name.rsplit(".", 1)
        tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))  # read and not run: some need torch
        (found,) = [one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == last] if last else [tree]
        assert ast.get_docstring(found), name


def test_entries_of_a_docstring_are_told_apart() -> None:
    docstring = """What it is.

    More of it.

    Attributes:
        a: first
            goes on.
        b, c: second.

    Source: somewhere.
    """
    assert tables.summary(docstring) == "What it is.\n\nMore of it."
    assert tables.attributes(docstring) == {"a": "first goes on.", "b": "second.", "c": "second."}
    assert tables.first_sentence("One line. Two lines.") == "One line."


def test_bars_of_a_cell_are_escaped_once() -> None:
    assert tables.table(("x",), [(tables.cell("a | b\n\\| c"),)]) == ["| x |", "| --- |", "| a \\| b \\| c |"]
