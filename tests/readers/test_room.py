"""The room of readers: one release a module, what they share in the kit, and the kit knows none of them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import benchmark.readers
from benchmark import registry
from benchmark.cards.own_data import BLOCKS
from benchmark.errors import UnknownName
from benchmark.readers.base import Reader

ROOM = Path(benchmark.readers.__file__).parent


@pytest.mark.parametrize("name", registry.plugins("readers"))
def test_every_module_beside_the_kit_reads_a_release_that_has_a_card_or_own_data(name):
    assert issubclass(registry.plugin("readers", name).DatasetReader, Reader)
    assert name in {card.reader.replace("-", "_") for card in registry.datasets().values()} | BLOCKS.keys()  # generic ones read own data


@pytest.mark.parametrize("path", sorted((ROOM / "kit").glob("*.py")), ids=lambda path: path.stem)
def test_kit_imports_no_release(path):
    imported = {node.module for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)}
    assert imported.isdisjoint(f"benchmark.readers.{name}" for name in registry.plugins("readers"))


@pytest.mark.parametrize("name", ["base", "kit", "walk", "../rsna"])
def test_what_is_no_release_is_no_reader(name):
    with pytest.raises(UnknownName, match="There are: "):
        registry.plugin("readers", name)
