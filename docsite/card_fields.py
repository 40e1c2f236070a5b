"""The reference for cards: every field of every card, from the models, their docstrings and the comments beside the fields."""

from __future__ import annotations

import ast
import inspect
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmark import cards
from benchmark.cards import Card
from docsite.tables import attributes, cell, summary, table

WRITTEN_BY_LOBE = ("jobs", "records")  # modules of cards that nobody writes by hand
_BEGINS = {  # card -> the files that hold such cards, and the list there
    "BackboneCard": "`backbones/*.yaml`, under `backbones`",
    "LineupCard": "`backbones/*.yaml`, under `lineups`",
    "DatasetCard": "`datasets/*.yaml`, under `datasets`",
    "CollectionCard": "`datasets/*.yaml`, under `collections`",
    "ReleaseCard": "`datasets/*.yaml`, under `releases`",
    "TaskCard": "`tasks/*.yaml`, under `tasks`",
    "SuiteCard": "`tasks/*.yaml`, under `suites`",
    "GridCard": "`tasks/*.yaml`, under `grids`",
    "Protocol": "`tasks/*.yaml`, under `protocols`",
    "PromptCard": "`tasks/*.yaml`, under `prompts`",
    "PretrainingCard": "`tasks/*.yaml`, under `pretraining`",
    "StudyCard": "a file of its own, as `tasks/studies/*.yaml`",
    "PaperCard": "`results/*.yaml`, under `papers`",
    "PanelCard": "`results/panels/*.json`",
    "HeadFacts": "`FACTS` of a module of `benchmark/heads/`",
    "Record": "`records/*.json` of an output folder",
}


@dataclass(frozen=True)
class CardField:
    """One field of a card, as its page shows it.

    Attributes:
        kind: its type as the code writes it.
        default: as the code writes it; empty of a field that must be given.
        later: it came after the first release, and stands in a file only where it differs from its default.
        what: its sentence; empty where the name says it.
    """

    name: str
    kind: str
    default: str
    later: bool
    what: str


def models() -> list[type[Card]]:
    """Every card of the vocabulary, those that people write first, by module in the order of their names."""
    found = {one for name in cards.__all__ if isinstance(one := getattr(cards, name), type) and issubclass(one, Card) and one is not Card}
    return sorted(found, key=lambda card: (_room(card) in WRITTEN_BY_LOBE, _room(card), _line(card)))


def fields_of(card: type[Card]) -> list[CardField]:
    """Fields of a card in the order of its module, those of its bases first."""
    found: dict[str, CardField] = {}
    for one in reversed(card.__mro__):
        if one is not Card and issubclass(one, Card):
            found |= {field.name: field for field in _declared(one)}
    return [found[name] for name in card.model_fields]


def page() -> str:
    """Every card with its fields, as Markdown."""
    lines = [
        "# Cards, field by field",
        "",
        "Made from the models of `benchmark/cards/` when the site is built. A card is strict about names: a misspelt key is an error that",
        "names the nearest one. A field without a sentence means what its name says. *Later*: the field came after the first cards, and",
        "stands in a stored job only where it differs from its default, so that earlier keys stay.",
    ]
    for by_lobe, title in ((False, "Cards that people write"), (True, "What LOBE writes")):
        lines += ["", f"## {title}"]
        for card in models():
            if (_room(card) in WRITTEN_BY_LOBE) == by_lobe:
                lines += _section(card)
    return "\n".join(lines) + "\n"


def _section(card: type[Card]) -> Iterator[str]:
    yield from ("", f"### `{card.__name__}`", "", summary(card.__doc__ or ""), "")
    if card.__name__ in _BEGINS:
        yield from (f"Stands in: {_BEGINS[card.__name__]}.", "")
    rows = [
        (
            f"`{one.name}`",
            f"`{cell(one.kind)}`",
            "needed" if not one.default else f"`{cell(one.default)}`",
            cell(f"{'*Later.* ' if one.later else ''}{one.what}"),
        )
        for one in fields_of(card)
    ]
    yield from table(("field", "type", "default", "what"), rows)


def _declared(card: type[Card]) -> Iterator[CardField]:
    classes, comments = _source(inspect.getsourcefile(card) or "")
    said = attributes(card.__doc__ or "")
    for line in classes[card.__name__].body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.target.id in card.model_fields:
            kind = ast.unparse(line.annotation)
            later = kind.startswith("Later[")
            name = line.target.id
            what = said.get(name) or comments.get(line.end_lineno or 0, "")
            default = "" if line.value is None else ast.unparse(line.value)
            yield CardField(name, kind.removeprefix("Later[").removesuffix("]") if later else kind, default, later, what)


@cache
def _source(path: str) -> tuple[dict[str, ast.ClassDef], dict[int, str]]:
    """Classes of a module by name, and line -> the comment at its end."""
    source = Path(path).read_text(encoding="utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    return {one.name: one for one in ast.parse(source).body if isinstance(one, ast.ClassDef)}, comments


def _line(card: type[Card]) -> int:
    return _source(inspect.getsourcefile(card) or "")[0][card.__name__].lineno


def _room(card: type[Card]) -> str:
    return card.__module__.rpartition(".")[2]
