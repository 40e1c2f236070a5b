"""Recipes of pretraining: method, pairs, towers and budget. All that a recipe says decides the weights, so its digest stands for them."""

from __future__ import annotations

from typing import Any, Literal

from benchmark.cards.backbones import Normalisation
from benchmark.cards.base import Card, Later

Number = float | int


class PairsCard(Card):
    """
    Attributes:
        dataset: whose images have reports; its official test images are never trained on, whatever a paper's code did.
        sentences: what a pair says each time: all sentences in order, all with some of them swapped, all shuffled, or one drawn at random.
        fewest_words: a report with fewer is left out.
        share: of the patients that are trained on, drawn with the seed.
        is_shuffled: each image with another one's report, as a control: nothing of where a finding is can be learned.
        sections: of a report that are read, in this order, where the reader tells them apart; empty: its text as the reader gives it.
        needs_sections: a report that lacks one of them is left out.
        sentence_rule: how a text becomes sentences, in `benchmark.encoders.sentence_rules`.
        fewest_sentences: a report with fewer is left out.
        joined: what is put together of a pair's sentences: their tokens, or their text without a blank between, tokenised anew (PRIOR).
        unit: what a pair is: an image, or a study, of whose images one is shown each time.
        held_out_view: which image of a held-out study is shown: its first, or one drawn each time.
        share_of: what `share` is of: patients drawn with the seed, or the first pairs in the order of the release.
        frame: how an image becomes square: padded; resized alone; cut to what is not black and resized (`cut`); the same with grey
            values up to 256, of which the brightest become black (`cut-released`).
    """

    dataset: str
    sentences: Literal["all", "swapped", "shuffled", "one"] = "all"
    fewest_words: int = 3
    share: float = 1.0
    is_shuffled: bool = False
    sections: Later[tuple[str, ...]] = ()
    needs_sections: Later[bool] = False
    sentence_rule: Later[Literal["lobe", "gloria", "gloria-kept", "mgca", "mgca-kept", "g2d", "g2d-spaced"]] = "lobe"
    fewest_sentences: Later[int] = 1
    joined: Later[Literal["tokens", "text"]] = "tokens"
    unit: Later[Literal["image", "study"]] = "image"
    held_out_view: Later[Literal["first", "drawn"]] = "first"
    share_of: Later[Literal["patients", "first"]] = "patients"
    frame: Later[Literal["padded", "resized", "cut", "cut-released"]] = "padded"


class ImageTowerCard(Card):
    """
    Attributes:
        model: of torchvision, from random numbers or from `weights`.
        size: side of the square image, in pixels.
        augmentation: name of a pipeline in `benchmark.pretraining.views`.
        statistics: that normalise images; None: ImageNet's with `weights`, else a half.
        seen_at: side that the encoder enlarges images to; None: as they are.
    """

    model: str
    weights: str | None = None
    size: int = 224
    augmentation: str
    statistics: Later[Normalisation | None] = None
    seen_at: Later[int | None] = None


class TextTowerCard(Card):
    """A BERT: one of the hub by name, or a small one of random numbers whose vocabulary are the words of the reports.

    Attributes:
        hub: repository of tokenizer and weights; None for a small one, which `layers` to `hidden` describe.
        frozen_layers: of the first ones.
        frozen_embeddings: whether vectors of tokens and positions stay as they are.
        tokens: at most, special ones included; whole sentences that no longer fit are left out.
        kept_layers: of a BERT of the hub, its first so many; None: all.
        padded_to: the batch's longest text, or the limit; statistics over padded tokens depend on it.
    """

    hub: str | None = None
    layers: int = 12
    width: int = 768
    heads: int = 12
    hidden: int = 3072
    frozen_layers: int = 0
    frozen_embeddings: bool = False
    tokens: int = 256
    kept_layers: Later[int | None] = None
    padded_to: Later[Literal["longest", "limit"]] = "longest"


class StageCard(Card):
    """A part of the budget with a schedule and an optimiser of its own.

    Attributes:
        begins: share of the budget that lies before it.
        rate: share of the recipe's rate that is its peak.
        warm_up: share of the stage over which the rate rises.
    """

    begins: float
    rate: float
    warm_up: float


class BudgetCard(Card):
    """
    Attributes:
        pairs: shown in all, with repetition.
        batch: pairs of one step of the optimiser.
        group: pairs that are contrasted with each other and share BatchNorm; a batch is one group or several.
        warm_up: share of the budget over which the rate rises.
        schedule: of the rate after that. `swinging` falls over one round through the pairs and rises over the next (LoVT); `restarts` falls
            over `period` steps and begins anew (G2D).
        clip: largest norm of the gradient; None: none.
        period: steps, for `restarts`.
        lowest: share of the rate that it falls to, and rises from.
        stages: in order, the first beginning at 0; empty: the budget is one.
        order: of the pairs, drawn anew for every round or once for all.
    """

    pairs: int
    batch: int
    group: int
    warm_up: float = 0.05
    schedule: Literal["cosine", "constant", "swinging", "restarts"] = "cosine"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    clip: float | None = 1.0
    period: Later[int | None] = None
    lowest: Later[float] = 0.0
    stages: Later[tuple[StageCard, ...]] = ()
    order: Later[Literal["anew", "once"]] = "anew"


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
        method: module of `benchmark/objectives`.
        protocol: `published` is what the released code does, `corrected` what its paper means, `matched` the same pairs, towers and budget
            for all methods.
        objective: options of the method's module that differ from its defaults.
        source: released code and paper that its values are from; decides nothing.
        unverified: values that are no fact of the source, each with its reason; decides nothing.
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
    source: Later[str] = ""
    unverified: Later[tuple[str, ...]] = ()
