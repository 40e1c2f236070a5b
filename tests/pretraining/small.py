"""A recipe and a corpus small enough for a test: 48 pixels, a BERT of one layer, a few steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmark import registry
from benchmark.cards.pretraining import PretrainingCard
from benchmark.phantom.corpus import CorpusPlan
from tests.corpora import write_corpus

PLAN = CorpusPlan(dataset="mimic-cxr", n_patients=40, seed=3)


def corpus(folder: Path) -> Path:
    write_corpus(PLAN, folder)
    return folder


def recipe(name: str, steps: int = 4, **budget: Any) -> PretrainingCard:
    """The recipe for generated pairs, of `steps` steps of 6 pairs."""
    card = registry.recipe(f"{name}-phantom")
    update = {"pairs": 6 * steps, "batch": 6, "group": 6, **budget}
    return card.model_copy(
        update={
            "image": card.image.model_copy(update={"size": 48}),
            "text": card.text.model_copy(update={"layers": 1, "width": 16, "heads": 2, "hidden": 32}),
            "budget": card.budget.model_copy(update=update),
            "objective": {**card.objective, **({"side": 3} if "side" in card.objective else {}), **SMALLER.get(card.method, {})},
        }
    )


SMALLER = {
    "convirt": {"hidden": 16, "joint": 8},
    "lovt": {"hidden": 16, "joint": 8},
    "local_region": {"joint": 8, "heads": 2},
    "mgca": {"hidden": 16, "joint": 8, "prototypes": 6},
    "g2d": {"joint": 8, "begins": 0.5},
    "prior": {"joint": 16, "queries": 4, "decoder_layers": 1},
}
