"""Recipes of pretraining: method, pairs, towers and budget. All that a recipe says decides the weights, so its digest stands for them."""

from __future__ import annotations

from typing import Any, Literal

from benchmark.cards.base import Card

Number = float | int


class PairsCard(Card):
    """
    Attributes:
        dataset: whose images have reports; its official test images are never trained on, whatever a paper's code did.
        sentences: what a pair says each time: all sentences in order, all with some of them swapped, all shuffled, or one drawn at random.
        fewest_words: a report with fewer is left out.
        share: of the patients that are trained on, drawn with the seed.
        is_shuffled: each image with another one's report, as a control: nothing of where a finding is can be learned.
    """

    dataset: str
    sentences: Literal["all", "swapped", "shuffled", "one"] = "all"
    fewest_words: int = 3
    share: float = 1.0
    is_shuffled: bool = False


class ImageTowerCard(Card):
    """
    Attributes:
        model: of torchvision, from random numbers or from `weights`.
        size: side of the square image, in pixels.
        augmentation: name of a pipeline in `benchmark.pretraining.views`.
    """

    model: str
    weights: str | None = None
    size: int = 224
    augmentation: str


class TextTowerCard(Card):
    """A BERT: one of the hub by name, or a small one of random numbers whose vocabulary are the words of the reports.

    Attributes:
        hub: repository of tokenizer and weights; None for a small one, which `layers` to `hidden` describe.
        frozen_layers: of the first ones.
        frozen_embeddings: whether vectors of tokens and positions stay as they are.
        tokens: at most, special ones included; whole sentences that no longer fit are left out.
    """

    hub: str | None = None
    layers: int = 12
    width: int = 768
    heads: int = 12
    hidden: int = 3072
    frozen_layers: int = 0
    frozen_embeddings: bool = False
    tokens: int = 256


class BudgetCard(Card):
    """
    Attributes:
        pairs: shown in all, with repetition.
        batch: pairs of one step of the optimiser.
        group: pairs that are contrasted with each other and share BatchNorm; a batch is one group or several.
        warm_up: share of the budget over which the rate rises.
        schedule: of the rate after that.
        clip: largest norm of the gradient; None: none.
    """

    pairs: int
    batch: int
    group: int
    warm_up: float = 0.05
    schedule: Literal["cosine", "constant"] = "cosine"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    clip: float | None = 1.0


class OptimiserCard(Card):
    """AdamW or Adam. `decays_all`: norms, biases and scales too."""

    name: Literal["adamw", "adam"] = "adamw"
    rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float
    decays_all: bool = False


class PretrainingCard(Card):
    """How a backbone is made from radiographs and reports.

    Attributes:
        method: module of `benchmark/pretraining/objectives`.
        protocol: `published` is what the released code does, `corrected` what its paper means, `matched` the same pairs, towers and budget
            for all methods.
        objective: options of the method's module that differ from its defaults.
    """

    name: str
    version: int = 1
    title: str
    method: str
    protocol: Literal["published", "corrected", "matched"]
    pairs: PairsCard
    image: ImageTowerCard
    text: TextTowerCard
    objective: dict[str, Any] = {}
    budget: BudgetCard
    optimiser: OptimiserCard
