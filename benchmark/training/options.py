"""How jobs are run: memory, checkpoints, compilation. Set by whoever executes them; changes no result beyond rounding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunOptions:
    """
    Attributes:
        feature_budget_bytes: memory for the features of frozen encoders, of a node until an executor divides it between the units it runs
            there at once; what does not fit is read from disk, or is recomputed.
        checkpoints: folder for mid-training checkpoints that every node sees; None = a job whose process is lost starts again.
        checkpoint_every_s: least time between two of them.
        micro_batches: pieces in which each batch passes, on a device with too little memory for all of it.
        units_at_once: units that an executor runs side by side on the node, so that none takes cores of another.
        compiled: runs the training network through torch.compile. Feature extraction and stacked linear heads are never compiled.
    """

    feature_budget_bytes: int = 2 * 2**30
    checkpoints: Path | None = None
    checkpoint_every_s: float = 600.0
    micro_batches: int = 1
    units_at_once: int = 1
    compiled: bool = False

    def most_at_once(self, batch_size: int) -> int | None:
        """Images of a batch that may pass at once; None = all."""
        return None if self.micro_batches == 1 else math.ceil(batch_size / self.micro_batches)
