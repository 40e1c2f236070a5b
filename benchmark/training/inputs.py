"""Where the inputs of a job lie. Never hashed: moving data changes no result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmark.cards import DatasetCard
from benchmark.encoders.sources import SourceFile
from benchmark.own.rooms import PlannedModule
from benchmark.training.sizes import SplitSizes


@dataclass(frozen=True, eq=False)
class Inputs:
    """Paths and cards that a worker needs; it looks nothing up. Attached to jobs when they are planned (`resolve.inputs`).

    Compared by identity: jobs of one backbone and one dataset, as resolved, hold one object, and may share a work unit.

    Attributes:
        card: the resolved dataset card.
        dataset_root: folder of the public release.
        cache: folder of the decode-once caches.
        backbone_model: what the family builds: an architecture, or the file and function of the author's own.
        weights: weights file, or None.
        tokenizer: folder or file of the tokenizer that a card names, or None.
        release: which release or re-release the reader recognised.
        phantom: True when the data was generated.
        known_release: True when counts and digests are those of the card (or of the phantom's own description).
        lists: folder of the dataset's split lists, for a split given by lists instead of a rule.
        sources: files that the author's own backbone was planned with.
        sizes: images of each split as counted; None where nobody counted. Prices jobs, decides no result.
        own: the user's own modules that jobs on this dataset and backbone are computed with.
    """

    card: DatasetCard
    dataset_root: Path
    cache: Path
    backbone_model: str
    weights: Path | None
    release: str
    phantom: bool
    known_release: bool
    lists: Path | None = None
    sources: tuple[SourceFile, ...] = ()
    sizes: SplitSizes | None = None
    own: tuple[PlannedModule, ...] = ()
    tokenizer: Path | None = None
