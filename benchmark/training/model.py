"""Encoder and head as one trainable model; the only place that decides which of them learns.

Frozen tasks may read features from a bank; the numbers are those of running the encoder for every batch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmark import parallel
from benchmark.encoders.sealed import SealedEncoder
from benchmark.heads.base import Head
from benchmark.kinds.base import Part
from benchmark.training.features import FeatureBank


class Model:
    """
    Args:
        encoder: sealed encoder, on `device`.
        head: on `device`.
        bank: frozen features of images that are not augmented; None runs the encoder for every batch.
        most: images that may pass at once where a whole batch is too many (`micro_batches`); None = any number.
    """

    def __init__(self, encoder: SealedEncoder, head: Head, bank: FeatureBank | None, device: torch.device, most: int | None = None):
        self.encoder, self.head, self.bank, self.device, self.most = encoder, head, bank, device, most
        self.replica = parallel.Replica()
        self.network: Callable[..., Any] = self._network  # or what `compiled.compile_network` makes of it

    def outputs(self, part: Part, index: np.ndarray) -> Any:
        """The head's outputs for the given images of a part, however many may pass at once."""
        return _joined([self.outputs_at_once(part, piece) for piece in self.pieces(index)])

    def pieces(self, index: np.ndarray) -> list[np.ndarray]:
        """Images that pass together: consecutive, as even as can be; a single piece where all may."""
        return [index] if self.most is None else np.array_split(index, max(math.ceil(len(index) / self.most), 1))

    def outputs_at_once(self, part: Part, index: np.ndarray) -> Any:
        images = None
        bank = self.bank if part.augmentation is None else None  # features of augmented images are constants of no epoch
        if bank is None or self.head.reads_image:
            images = self.encoder.normalise(part.images(index).to(self.device))
        kept = None if bank is None else {stride: level.to(self.device) for stride, level in bank.pyramid(part, index).items()}
        return self.network(images, kept)

    def _network(self, images: torch.Tensor | None, pyramid: Mapping[int, torch.Tensor] | None) -> Any:
        """The head's outputs from normalised images or kept features."""
        if pyramid is None:
            if images is None:
                raise TypeError("The network needs images, or the features kept of them.")
            pyramid = self.encoder.pyramid_of(images, self.head.strides)
        return self.head(pyramid, images)

    def start_epoch(self) -> None:
        """Everything to train mode, as a training framework does after validation; freezing is decided before each batch."""
        self.head.train()
        self.encoder.set_mode("training")

    def freeze_encoder(self) -> None:
        """Evaluation mode and no gradient, before every batch of a frozen encoder or a warm-up."""
        self.encoder.set_mode("frozen")

    def unfreeze_encoder(self, *, batchnorm_trains: bool) -> None:
        """Gradients from here on. Without `batchnorm_trains`, BatchNorm stays in evaluation mode until the next epoch (LoVT 2.4)."""
        self.encoder.set_mode("training" if batchnorm_trains else "unfrozen")

    def start_evaluation(self) -> None:
        self.head.eval()
        self.encoder.set_mode("eval")

    def trained_modules(self, finetune: bool) -> nn.ModuleList:
        """Modules the optimiser updates: the head, and the encoder in fine-tuning."""
        return nn.ModuleList([self.head, self.encoder]) if finetune else nn.ModuleList([self.head])

    def snapshot(self, finetune: bool) -> dict[str, torch.Tensor]:
        return copy.deepcopy(self.trained_modules(finetune).state_dict())

    def restore(self, state: dict[str, torch.Tensor], finetune: bool) -> None:
        self.trained_modules(finetune).load_state_dict(state)


def _joined(pieces: list[Any]) -> Any:
    """Outputs of consecutive images as those of all of them."""
    if len(pieces) == 1:
        return pieces[0]
    if isinstance(pieces[0], torch.Tensor):
        return torch.cat(pieces)
    return tuple(torch.cat(level) for level in zip(*pieces, strict=True))
