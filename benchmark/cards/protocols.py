"""Protocols: the rules under which rows may be compared, and their switches."""

from __future__ import annotations

from typing import Any, Literal

from benchmark.cards.base import Card, Later


class Switches(Card):
    """Each documented difference between what a paper's code did and what it meant, one named switch each.

    The first five stand in every job. Switches that came later stand only in jobs whose head or kind of task reads them
    (`later_switches` of either); elsewhere they keep their default, so that no other job's key changes. A later default is what
    earlier jobs of every protocol did.

    Source: `docs/protocols/lovt.md`; numbers in brackets are its quirks.
    """

    data_order: Literal["one-seed", "per-run"] = "one-seed"  # [2] Lightning re-seeds at every fit
    plateau_after_warmup: Literal["undone", "kept"] = "undone"  # [1] learning rate rewritten before every batch
    batchnorm_at_unfreezing: Literal["next-epoch", "train"] = "next-epoch"  # [15] nobody calls train() in between
    background_at_positives: Literal["kept", "cleared"] = "kept"  # [5] noobj not cleared at the positive anchor
    object_cxr_shapes: Literal["released", "true"] = "released"  # [3] swapped width and height, box ellipses, swapped polygons
    loss_at_extremes: Later[Literal["from-logits", "from-probabilities"]] = "from-logits"  # [24] released: probabilities that round to 1
    dice_loss: Later[Literal["pooled", "per-class"]] = "pooled"  # of several classes: the pixels of all in one Dice, or the mean of each
    scored_in: Later[Literal["frame", "original"]] = "frame"  # pixels in which a test is scored: the task's frame, or the image's own
    linear_grid: Later[Literal["stride-32", "native", "7x7"]] = "stride-32"  # what a linear head averages the encoder's last map to

    @classmethod
    def came_later(cls) -> dict[str, Any]:
        """Switches that came later, with their defaults."""
        return dict(cls._later)


class Protocol(Card):
    """A set of rules under which rows may be compared.

    Attributes:
        statistics: whose mean and deviation normalise the images: the dataset card's for every backbone, or each backbone's own.
        equalise: whether datasets whose released conversion equalises histograms are equalised.
        alongside: another protocol; every task that offers it offers this one too. None leaves it to the tasks' cards.
    """

    name: str
    title: str
    switches: Switches
    statistics: Literal["dataset", "backbone"]
    equalise: Literal["as-released", "never"]
    alongside: str | None = None
