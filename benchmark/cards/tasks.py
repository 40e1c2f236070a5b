"""Tasks and the suites that list them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from benchmark.cards.backbones import EncoderMode
from benchmark.cards.base import Card, Later, Target


class Recipe(Card):
    """How one head is trained. Values of LoVT's table 1.1 and 1.2 unless a card says otherwise.

    Attributes:
        learning_rate: used as is when `grid` is empty; otherwise the value in the released config, kept for the record.
        grid: learning rates in the order tried; the first entry wins ties.
        max_steps: optimiser steps after which training ends, also within an epoch; None leaves it to epochs and patience.
        warmup_steps: training batches with a frozen encoder at `warmup_learning_rate` (fine-tuning only).
        validation_subset: share of the validation list, taken from its head.
        optimiser, betas: Adam as LoVT uses it unless a card says otherwise; not part of older jobs' keys.
        augmentation: of training images and their masks (`benchmark.imaging.augment`); None as LoVT, and not part of older jobs' keys.
    """

    batch_size: int
    learning_rate: float
    grid: tuple[float, ...] = ()
    max_epochs: int
    max_steps: int | None = None
    patience: int
    min_delta: float = 1e-5
    warmup_steps: int = 0
    warmup_learning_rate: float = 1e-3
    plateau_factor: float = 0.5
    plateau_patience: int = 3
    weight_decay: float = 1e-6
    drop_last: bool = True
    validation_subset: float = 1.0
    optimiser: Later[Literal["adam", "adamw"]] = "adam"
    betas: Later[tuple[float, float]] = (0.9, 0.999)
    augmentation: Later[Literal["scale-rotate"] | None] = None


class Words(Card):
    """What a task that trains nothing asks of images and texts. Prompts are named on a card and resolved in a job.

    Attributes:
        prompts: name of a prompt set; None for tasks that read reports or phrases.
        similarity: of image and text: the backbone's own, the cosine of the global embeddings, GLoRIA's best word, or the mean of both.
        decision: each finding on its own, or the class with the highest score.
        across_images: "standardised" takes each class relative to the other images of the split, as GLoRIA released it.
        matches: what retrieval counts as found: a report of the same words, or one of the same class.
        own_report: whether an image's own report stays among the candidates; only where classes match.
        rerank: so many candidates of the global order are put in order again by `similarity`; None ranks all of them by it.
        prompts_read: "as-released" reads prompts as the backbone's own released zero-shot code does (`embed_prompts`): GLoRIA counts a
            prompt's characters where it means words, PRIOR averages [SEP] too. Backbones without such code read them as any text.
        found_in: what a grounded finding is compared with: its boxes, or its masks where the release has some.
        told_apart: what grounding has columns of its own for: the card's classes, or groups in which the release puts its phrases.
    """

    prompts: str | None = None
    similarity: Literal["own", "global", "local", "combined"] = "own"
    decision: Literal["each", "highest"] = "each"
    across_images: Literal["alone", "standardised"] = "alone"
    matches: Literal["text", "class"] = "text"
    own_report: Literal["kept", "removed"] = "kept"
    rerank: int | None = None
    prompts_read: Later[Literal["as-texts", "as-released"]] = "as-texts"
    found_in: Later[Literal["boxes", "masks"]] = "boxes"
    told_apart: Later[Literal["classes", "groups"]] = "classes"


class TaskCard(Card):
    """One task: data, head, encoder mode, recipe, and which number is reported.

    Attributes:
        version: goes up whenever a change alters results.
        select: validation metric for early stopping, checkpoint and learning rate; the highest value is the best.
        report: test metric in tables; the highest value is the best.
        published: (table, column) of the paper's number in `results/published`.
        words: what is asked, for tasks that train nothing; they have no recipe to speak of, and no selection.
        words_as_released: what the protocol `published` asks instead, where the released procedure differs.
        parent: the task whose recipe this one takes, for cells of a grid.
        frame_size: side of the square padded frame in pixels; a multiple of 32.
    """

    id: str
    version: int
    title: str
    dataset: str
    split: str = "lovt"
    head: str
    encoder: EncoderMode
    fraction: float
    target: Target
    frame_size: int = Field(default=224, gt=0, multiple_of=32)
    recipe: Recipe
    select: str
    report: str
    runs: int = 5
    protocols: tuple[str, ...]
    published: tuple[str, str] | None = None
    words: Words | None = None
    words_as_released: Words | None = None
    parent: str | None = None


class SuiteCard(Card):
    """A named list of tasks.

    Attributes:
        suites: other suites whose tasks come after its own, each task once.
        reference: backbone that all others are compared with over the tasks, by its name on the command line; empty for suites without.
        extended: another suite whose tasks are shown beside these in columns of their own, and are in no headline.
    """

    name: str
    title: str
    description: str
    tasks: tuple[str, ...] = ()
    suites: tuple[str, ...] = ()
    default_protocol: str = "published"
    reference: str = ""
    extended: str = ""

    @property
    def core(self) -> tuple[str, ...]:
        """Tasks that a headline may average: its own, without those of `extended`."""
        return self.tasks


class GridCard(Card):
    """A suite given by its axes instead of its tasks.

    Attributes:
        parents: suites whose tasks lend recipe and metric.
        heads: dataset -> heads it has annotations for.
        fractions: shares of the training list.
        shares: dataset -> its own shares, where its card does not count the training list.
    """

    name: str
    title: str
    description: str
    parents: tuple[str, ...]
    default_protocol: str
    fractions: tuple[float, ...]
    heads: dict[str, tuple[str, ...]]
    shares: dict[str, tuple[float, ...]] = {}
