"""Protocols: the rules under which rows may be compared, and their switches."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator

from benchmark.cards.backbones import EncoderMode
from benchmark.cards.base import Card, Later

OTHER_HEADS = "other"  # in a protocol's grids, for heads that are not named


class Switches(Card):
    """Each documented difference between what a paper's code did and what it meant, one named switch each.

    The first five stand in every job. Switches that came later stand only in jobs that read them: those of `READ_BY_TRAINING` in jobs
    that train, all others where the head or the kind of task says so (`later_switches` of either). Elsewhere they keep their default, so
    that no other job's key changes. A later default is what earlier jobs of every protocol did.

    Source: `docs/protocols/lovt.md`; numbers in brackets are its quirks. From `label_draw` on: `docs/protocols/lobe.md`.
    """

    data_order: Literal["one-seed", "per-run"] = "one-seed"  # [2] Lightning re-seeds at every fit
    plateau_after_warmup: Literal["undone", "kept"] = "undone"  # [1] learning rate rewritten before every batch
    batchnorm_at_unfreezing: Literal["next-epoch", "train"] = "next-epoch"  # [15] nobody calls train() in between
    background_at_positives: Literal["kept", "cleared"] = "kept"  # [5] noobj not cleared at the positive anchor
    object_cxr_shapes: Literal["released", "true"] = "released"  # [3] swapped width and height, box ellipses, swapped polygons
    loss_at_extremes: Later[Literal["from-logits", "from-probabilities"]] = "from-logits"  # [24] released: probabilities that round to 1
    label_draw: Later[Literal["prefix", "nested"]] = "prefix"  # a share of labels: the list's head, or a stratified draw by the run's seed
    validation_labels: Later[Literal["as-released", "at-most-training"]] = "as-released"  # validation images at a share of training images
    selection: Later[Literal["one-seed", "two-seeds"]] = "one-seed"  # two: seeds of no reported run, and the test split stays closed
    grid_edge: Later[Literal["kept", "extended"]] = "kept"  # a winning rate on the edge of the grid: taken, or one more step is tried
    dice_loss: Later[Literal["pooled", "per-class"]] = "pooled"  # of several classes: the pixels of all in one Dice, or the mean of each
    scored_in: Later[Literal["frame", "original"]] = "frame"  # pixels in which a test is scored: the task's frame, or the image's own
    linear_grid: Later[Literal["stride-32", "native", "7x7"]] = "stride-32"  # what a linear head averages the encoder's last map to

    @classmethod
    def came_later(cls) -> dict[str, Any]:
        """Switches that came later, with their defaults."""
        return dict(cls._later)


READ_BY_TRAINING = frozenset({"label_draw", "validation_labels", "selection", "grid_edge"})
"""Switches that came later and that every job with a training run reads, whatever its head."""


class Protocol(Card):
    """A set of rules under which rows may be compared.

    Attributes:
        statistics: whose mean and deviation normalise the images: the dataset card's for every backbone, or each backbone's own.
        equalise: whether datasets whose released conversion equalises histograms are equalised.
        version: of the rules, for people: keys follow the rules themselves.
        geometry: "as-task" takes a task's frame and the backbone's own grid; "controlled" pools the map of linear tasks to 7 x 7;
            "native" takes the backbone's own input size too. Rows of two geometries are never ranked together.
        grids: encoder mode -> head -> learning rates in the order tried, in place of the task's own; `OTHER_HEADS` for heads not named.
        alongside: another protocol; every task that offers it offers this one too. None leaves it to the tasks' cards.
    """

    name: str
    title: str
    switches: Switches
    statistics: Literal["dataset", "backbone"]
    equalise: Literal["as-released", "never"]
    alongside: str | None = None
    version: int = 1
    geometry: Literal["as-task", "controlled", "native"] = "as-task"
    grids: dict[EncoderMode, dict[str, tuple[float, ...]]] = {}

    @field_validator("grids")
    @classmethod
    def _rising(cls, grids: dict[EncoderMode, dict[str, tuple[float, ...]]]) -> dict[EncoderMode, dict[str, tuple[float, ...]]]:
        for by_head in grids.values():
            for head, rates in by_head.items():
                if len(rates) < 2 or list(rates) != sorted(set(rates)) or rates[0] <= 0:
                    raise ValueError(f"the rates of {head} are not two or more that rise from above 0")
        return grids

    def grid_of(self, head: str, encoder: EncoderMode) -> tuple[float, ...]:
        """Learning rates of this protocol; empty where it leaves them to the task."""
        by_head = self.grids.get(encoder, {})
        return by_head.get(head, by_head.get(OTHER_HEADS, ()))
