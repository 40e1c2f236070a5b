"""The reference for heads: what each says of itself."""

from __future__ import annotations

import importlib
from pathlib import Path

from benchmark import registry
from benchmark.cards import HeadFacts
from docsite.addresses import ROOT
from docsite.tables import cell, summary, table

_READS = {"deepest": "the encoder's deepest level", "pooled": "its pooled embedding", "every": "every level above stride 1"}


def page() -> str:
    """Every head with its facts, as Markdown."""
    columns = ("head", "learns from, or is scored against", "trained", "reads", "one linear layer")
    lines = [
        "# Heads",
        "",
        "Made from the `FACTS` of the modules of `benchmark/heads/` and `benchmark/kinds/` when the site is built. A head is what is",
        "trained on top of an encoder. Where nothing is trained, the rule that decides stands for it. How to bring one of your own:",
        "[code of your own](../your-code.md). What each field means: [cards](cards.md).",
        "",
        *table(columns, [_row(*one) for one in registry.heads().items()]),
    ]
    for name, facts in registry.heads().items():
        path = module_of(name)
        about = importlib.import_module(path.with_suffix("").as_posix().replace("/", ".")).__doc__ or ""
        lines += ["", f"## `{name}`", "", summary(about), "", f"Code: [{path.name}](../../{path.as_posix()}).", ""]
        stated = [
            (f"`{key}`", f"`{cell(str(_plain(value)))}`") for key, value in facts.model_dump().items() if key in facts.model_fields_set
        ]
        lines += table(("stated fact", "value"), stated)
    return "\n".join(lines) + "\n"


def module_of(head: str) -> Path:
    """The module of a head, from the repository's root."""
    found = (Path("benchmark") / room / f"{head}.py" for room in registry.HEAD_ROOMS)
    return next(path for path in found if (ROOT / path).is_file())


def _row(name: str, facts: HeadFacts) -> tuple[str, ...]:
    trained = "in one pass" if facts.at_once else "yes" if facts.trains else "no"
    if facts.reads is None:
        reads = "–" if not facts.trains else "not said"
    elif isinstance(facts.reads, tuple):
        reads = "strides " + ", ".join(map(str, facts.reads))
    else:
        reads = _READS[facts.reads]
    return (
        f"[`{name}`](#{name})",
        facts.target,
        trained,
        reads,
        "yes" if facts.trains and facts.linear and facts.reads in ("deepest", "pooled") else "no",
    )


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else value
