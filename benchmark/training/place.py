"""Where a job's inputs lie on this machine. Never hashed: moving data changes no result."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from benchmark.cards import BackboneRef, DatasetCard, digest_of
from benchmark.encoders.sources import SourceFile
from benchmark.training.sizes import SplitSizes

FEATURE_BUDGET_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Place:
    """Paths and cards a worker needs; it looks nothing up.

    Attributes:
        card: the resolved dataset card.
        dataset_root: folder of the public release.
        cache: folder of the decode-once caches.
        backbone_model: what the family builds: an architecture, or the file and function of the author's own.
        weights: weights file, or None.
        release: which release or re-release the reader recognised.
        phantom: True when the data was generated.
        known_release: True when counts and digests are those of the card (or of the phantom's own description).
        feature_budget_bytes: memory for the features of frozen encoders, of a node until an executor divides it between the units it runs
            there at once; what does not fit goes to disk, or is recomputed.
        decode_workers: threads that decode images.
        lists: folder of the dataset's split lists, for a split given by lists instead of a rule.
        checkpoints: folder for mid-training checkpoints that every node sees; None = long jobs start again when they are lost.
        checkpoint_every_s: least time between two of them.
        micro_batches: pieces in which each batch passes, on a device with too little memory for all of it.
        sources: files that the author's own backbone was planned with.
        compiled: by `torch.compile`, whatever runs for every batch; not what computes kept features, nor linear heads side by side.
        splits: name and images of each split of the dataset that was planned; empty where nobody counted. Prices jobs, decides no result.
    """

    card: DatasetCard
    dataset_root: Path
    cache: Path
    backbone_model: str
    weights: Path | None
    release: str
    phantom: bool
    known_release: bool
    feature_budget_bytes: int = FEATURE_BUDGET_BYTES
    decode_workers: int = 1
    lists: Path | None = None
    checkpoints: Path | None = None
    checkpoint_every_s: float = 600.0
    micro_batches: int = 1
    compiled: bool = False
    sources: tuple[SourceFile, ...] = ()
    splits: tuple[tuple[str, SplitSizes], ...] = ()

    def sizes_of(self, split: str) -> SplitSizes | None:
        """Images of a split by name; None where nobody counted."""
        return dict(self.splits).get(split)

    def most_at_once(self, batch_size: int) -> int | None:
        """Images of a batch that may pass at once; None = all."""
        return None if self.micro_batches == 1 else math.ceil(batch_size / self.micro_batches)


def place_key(backbone: BackboneRef, dataset: str) -> tuple[str, str]:
    """What a place is found by: the backbone's identity and the dataset's name. Labels will not do, two backbones may share one."""
    return digest_of(backbone.model_copy(update={"init_seed": None}).model_dump(mode="json")), dataset
