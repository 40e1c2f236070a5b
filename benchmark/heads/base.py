"""The interface of heads. The training loop knows heads only through this module.

A head reads levels of a feature pyramid (and perhaps the image), gives the sums its loss is made of, and turns its outputs into
predictions. The loss of a batch is a function of these sums alone, so a batch may be split over micro-batches and processes: the training
step adds the sums (`training.micro_batches`), and no head knows of it.
Module `benchmark/heads/<name>.py` states the head's facts and offers `build(request) -> Head`; with `size` it says what the head holds in
memory, for a forecast.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from benchmark.cards import Switches
from benchmark.errors import TrainingError
from benchmark.generators import drawn_from


@dataclass(frozen=True)
class HeadRequest:
    """Input of a head's `build`.

    Attributes:
        channels: stride -> channels the encoder offers.
        n_classes: mask or box classes.
        frame_size: side of the square input in pixels.
        switches: documented quirks, for heads that have some.
        embed_dim: width of the encoder's pooled embedding, for heads that read it.
    """

    channels: Mapping[int, int]
    n_classes: int
    frame_size: int
    switches: Switches
    embed_dim: int = 0


class TrueBoxes(NamedTuple):
    """Boxes of one batch: (B, M, 4) float32 xywh in frame pixels, (B, M) int64 labels, (B, M) bool that is False on padding."""

    xywh: Tensor
    labels: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Targets:
    """Ground truth of one batch, on the device of the batch.

    Attributes:
        masks: (B, C, S, S) float32 of 0 and 1, or None.
        boxes_xywh: (B, M, 4) float32 in frame pixels, padded with zeros to the batch's largest count, or None.
        box_labels: (B, M) int64.
        box_valid: (B, M) bool, False on padding.
        labels: (B, C) float32 of 0, 1 and -1 (unknown), or None.
        draws: epoch and place in its list of each image, where there are boxes. A head that draws random numbers takes an image's from
            these and its own seed: then they are the same in any batch, on any process, and after a restart.
    """

    masks: Tensor | None = None
    boxes_xywh: Tensor | None = None
    box_labels: Tensor | None = None
    box_valid: Tensor | None = None
    labels: Tensor | None = None
    draws: tuple[tuple[int, int], ...] = ()

    @property
    def true_masks(self) -> Tensor:
        """`masks`. Raises TypeError where the batch has none."""
        if self.masks is None:
            raise TypeError("This batch has no masks: a head that learns from masks was given another task's ground truth.")
        return self.masks

    @property
    def true_labels(self) -> Tensor:
        """`labels`. Raises TypeError where the batch has none."""
        if self.labels is None:
            raise TypeError("This batch has no labels: a head that learns from labels was given another task's ground truth.")
        return self.labels

    @property
    def true_boxes(self) -> TrueBoxes:
        """The boxes. Raises TypeError where the batch has none."""
        if self.boxes_xywh is None or self.box_labels is None or self.box_valid is None:
            raise TypeError("This batch has no boxes: a head that learns from boxes was given another task's ground truth.")
        return TrueBoxes(self.boxes_xywh, self.box_labels, self.box_valid)


@dataclass(frozen=True)
class ImageDetections:
    """Detections of one image: (n, 4) float32 xywh in frame pixels, (n,) float32 confidence falling, (n,) int64 labels."""

    boxes_xywh: Tensor
    confidence: Tensor
    labels: Tensor


class Head(nn.Module):
    """Base of all heads.

    Attributes:
        strides: pyramid levels the head reads; only these are computed. POOLED is the encoder's own image embedding, as (B, D, 1, 1).
        exclusive: for classification: each image has exactly one class.
        grid: cells per side of the one map that decides every pixel; None where finer maps or the image help.
        reads_image: True when the normalised image is a further input (the U-Net's last skip).
    """

    exclusive: ClassVar[bool] = False
    strides: tuple[int, ...]
    grid: int | None = None
    reads_image: bool = False

    @abstractmethod
    def forward(self, pyramid: Mapping[int, Tensor], images: Tensor | None = None) -> Any:
        """
        Args:
            pyramid: stride -> (B, C, S/stride, S/stride).
            images: (B, 3, S, S) normalised, when `reads_image`.
        """

    @abstractmethod
    def sums(self, outputs: Any, targets: Targets) -> Tensor:
        """(k,) float32 (or more): what adds up over images, so that the sums of a batch are those of its parts added.

        Computed in float32 under any autocast. A part without any image gives zeros that still depend on `outputs`, because its process
        takes part in every exchange of gradients.
        """

    @abstractmethod
    def loss_of(self, sums: Tensor, n_images: int) -> Tensor:
        """Scalar loss of a whole batch.

        Args:
            sums: (k,), of the whole batch.
            n_images: of the whole batch, at least 1.
        """

    def learn_at_once(self, outputs: Any, targets: Targets) -> None:
        """Keeps the outputs of all training images with their truth, instead of taking steps (`HeadFacts.at_once`).

        Args:
            outputs: of the head in training mode, of every training image, each once.

        Raises:
            TypeError: the head takes steps.
        """
        raise TypeError(f"{type(self).__name__} learns by steps, and its facts say that it keeps its examples at once.")

    def loss(self, outputs: Any, targets: Targets) -> Tensor:
        """Scalar float32 (or more) loss of a batch that is there as a whole."""
        return self.loss_of(self.sums(outputs, targets), count_images(outputs))

    @abstractmethod
    def predict(self, outputs: Any) -> Tensor | list[ImageDetections]: ...


def count_images(outputs: Any) -> int:
    """Images of a head's outputs: of one tensor, or of several, each with the images first."""
    return len(outputs if isinstance(outputs, Tensor) else outputs[0])


def require_numbers(what: str, values: Sequence[Tensor], *, finite: bool = False) -> None:
    """Refuses tensors in which something is no number: compared with a threshold it is below it, and reads as a prediction of nothing.

    Args:
        what: the tensors, in the plural, for the sentence.
        values: each with the images first.
        finite: infinity is refused too.

    Raises:
        TrainingError: says of how many images.
    """
    bad = torch.stack([(~each.isfinite() if finite else each.isnan()).flatten(1).any(dim=1) for each in values]).any(dim=0)
    if n_bad := int(bad.sum()):
        raise TrainingError(
            f"{what} of {n_bad:,} of {len(bad):,} images are not finite numbers: training diverged, or the encoder overflows at these "
            "images. Try a smaller learning rate, or a protocol in float32 or bfloat16."
        )


def at_least_float32(values: Tensor) -> Tensor:
    """Losses are computed in float32 under any autocast; float64 stays."""
    return values if values.dtype == torch.float64 else values.float()


def seeded_init(build, seed: int):
    """Builds a module with its random initialisation drawn from `seed`, leaving the process's generators as they were."""
    with drawn_from(seed):
        return build()
