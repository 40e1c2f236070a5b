"""Many linear heads over one batch: upsampling, sigmoid and Dice in one pass, in pieces that stay in the processor's cache.

Bilinear upsampling is a fixed linear map U (S x g), so a map's logits are U Z U^T. The Dice loss needs only sums of p and p t, and its
gradient is a sum of two maps whose factors are known once those sums are: nothing of size S x S outlives a piece, and no sigmoid is taken
twice. Every head goes through the same operations on the same shapes, so its bits do not depend on who else is in the stack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.heads.networks.dice_loss import EPSILON
from benchmark.heads.networks.linear import Linear
from benchmark.metrics.dice import MASK_THRESHOLD, DiceCounts

PIECE_MAPS = 8  # 1.6 MB at 224 px


@dataclass(frozen=True)
class _Piece:
    """Maps of one batch that are treated together: all with ground truth, or all without.

    Attributes:
        maps: (k,) int64 positions in the batch's B C maps.
        truth: (k, S, S) float32 of 0 and 1, or None when all of it is 0.
    """

    maps: Tensor
    truth: Tensor | None


class LinearStack:
    """Linear heads of one frozen encoder and dataset. CPU, float32.

    Args:
        heads: of the same channels, classes and frame.
    """

    def __init__(self, heads: Sequence[Linear]):
        self.heads = tuple(heads)
        self._biases = [_bias(head) for head in heads]
        size, grid = heads[0].frame_size, heads[0].grid
        self.upsample = upsampling(grid, size)
        self._down = self.upsample.T.contiguous()
        self._grid = grid
        self._n_groups = heads[0].dice.n_groups  # of classes that share a numerator and a denominator of the loss
        self._probabilities, self._slopes, self._products = (torch.empty(PIECE_MAPS, size, size) for _ in range(3))

    @torch.no_grad()
    def gradients(self, members: Sequence[int], pyramid: Mapping[int, Tensor], masks: np.ndarray) -> list[Tensor]:
        """Sets `.grad` of the named heads to that of `dice_loss` on this batch.

        Args:
            members: positions in `heads`.
            pyramid: stride -> (B, D, h, w) float32, the batch's features.
            masks: (B, C, S, S) bool.

        Returns:
            The loss of each member, scalars float32.
        """
        features = self._features(pyramid)
        maps = {m: self._maps(m, features) for m in members}
        sums = {m: np.zeros((2, self._n_groups)) for m in members}  # of p, and of p where there is truth
        slopes = {m: torch.zeros_like(maps[m]) for m in members}  # U^T (p (1 - p)) U
        slopes_in_truth = {m: torch.zeros_like(maps[m]) for m in members}
        for piece in _pieces(masks):
            k = len(piece.maps)
            slope, product = self._slopes[:k], self._products[:k]
            for m in members:
                probabilities = self._sigmoid(maps[m][piece.maps])
                torch.addcmul(probabilities, probabilities, probabilities, value=-1, out=slope)
                slopes[m][piece.maps] = self._downsample(slope)
                self._add(sums[m][0], piece, probabilities)
                if piece.truth is not None:
                    self._add(sums[m][1], piece, torch.mul(probabilities, piece.truth, out=product))
                    slopes_in_truth[m][piece.maps] = self._downsample(torch.mul(slope, piece.truth, out=product))
        n_positive = self._positives(np.array([np.count_nonzero(mask) for mask in masks.reshape(-1, masks[0, 0].size)], np.int64))
        losses = []
        for m in members:
            loss, of_truth, of_all = self._dice(sums[m], n_positive)
            self._set_gradient(m, of_truth * self._grouped(slopes_in_truth[m]) + of_all * self._grouped(slopes[m]), features)
            losses.append(loss)
        return losses

    @torch.no_grad()
    def measure(self, members: Sequence[int], pyramid: Mapping[int, Tensor], masks: np.ndarray) -> list[tuple[Tensor, DiceCounts]]:
        """Loss of the batch and pixel counts of its images, per member; arguments as in `gradients`."""
        features = self._features(pyramid)
        n_images, n_classes = masks.shape[:2]
        maps = {m: self._maps(m, features) for m in members}
        sums = {m: np.zeros((2, self._n_groups)) for m in members}
        predicted = {m: np.zeros(n_images * n_classes, np.int64) for m in members}
        both = {m: np.zeros(n_images * n_classes, np.int64) for m in members}
        flat = masks.reshape(n_images * n_classes, -1)
        true = np.array([np.count_nonzero(mask) for mask in flat], np.int64)
        for piece in _pieces(masks):
            product = self._products[: len(piece.maps)]
            for m in members:
                probabilities = self._sigmoid(maps[m][piece.maps])
                self._add(sums[m][0], piece, probabilities)
                foreground = probabilities.numpy().reshape(len(piece.maps), -1) >= np.float32(MASK_THRESHOLD)
                for position, mask in zip(piece.maps.tolist(), foreground, strict=True):
                    predicted[m][position] = np.count_nonzero(mask)
                    if piece.truth is not None:
                        both[m][position] = np.count_nonzero(mask & flat[position])
                if piece.truth is not None:
                    self._add(sums[m][1], piece, torch.mul(probabilities, piece.truth, out=product))
        shape = (n_images, n_classes)
        found = []
        for m in members:
            loss, _, _ = self._dice(sums[m], self._positives(true))
            tp, fp, fn = both[m], predicted[m] - both[m], true - both[m]
            found.append((loss, DiceCounts(tp.reshape(shape), fp.reshape(shape), fn.reshape(shape))))
        return found

    def _add(self, sums: np.ndarray, piece: _Piece, values: Tensor) -> None:
        """Adds the sums of (k, S, S) values to those of their groups."""
        if self._n_groups == 1:
            sums += _total(values)
        else:
            np.add.at(sums, piece.maps.numpy() % self._n_groups, values.sum(dim=(1, 2)).double().numpy())

    def _positives(self, of_maps: np.ndarray) -> np.ndarray:
        """(n_groups,) pixels of truth, from those of each of the B C maps."""
        return of_maps.reshape(-1, self._n_groups).sum(axis=0)

    def _dice(self, sums: np.ndarray, n_positive: np.ndarray) -> tuple[Tensor, float | Tensor, float | Tensor]:
        """The loss, and the two factors of its gradient (`_dice`) for maps as `_grouped` has them."""
        if self._n_groups == 1:
            return _dice(float(sums[0, 0]), float(sums[1, 0]), int(n_positive[0]))
        found = [_dice(float(p), float(p_in_truth), int(n)) for p, p_in_truth, n in zip(*sums, n_positive, strict=True)]
        of_truth, of_all = (torch.tensor(each)[:, None, None] / self._n_groups for each in list(zip(*found, strict=True))[1:])
        return torch.stack([loss for loss, _, _ in found]).mean(), of_truth, of_all

    def _grouped(self, maps: Tensor) -> Tensor:
        """(B C, g, g) as (images, groups, g, g); with one group all maps are its own."""
        return maps.view(-1, self._n_groups, self._grid, self._grid)

    def _features(self, pyramid: Mapping[int, Tensor]) -> Tensor:
        """(B, D, g g)."""
        return self.heads[0].features(pyramid).flatten(2)

    def _maps(self, member: int, features: Tensor) -> Tensor:
        """(B C, g, g) logits before upsampling."""
        weight, bias = self.heads[member].classify.weight.flatten(1), self._biases[member]
        logits = torch.bmm(weight.expand(len(features), *weight.shape), features) + bias[:, None]
        return logits.view(-1, self._grid, self._grid)

    def _sigmoid(self, maps: Tensor) -> Tensor:
        """(k, S, S) probabilities, in memory that the next call overwrites."""
        k = len(maps)
        rows = torch.matmul(maps, self._down)
        return torch.bmm(self.upsample.expand(k, *self.upsample.shape), rows, out=self._probabilities[:k]).sigmoid_()

    def _downsample(self, values: Tensor) -> Tensor:
        """(k, g, g) U^T values U, the transpose of upsampling."""
        return torch.matmul(torch.bmm(self._down.expand(len(values), *self._down.shape), values), self.upsample)

    def _set_gradient(self, member: int, of_maps: Tensor, features: Tensor) -> None:
        weight = self.heads[member].classify.weight
        per_class = of_maps.view(len(features), -1, features.shape[2])
        weight.grad = torch.bmm(per_class, features.transpose(1, 2)).sum(dim=0).view_as(weight)
        self._biases[member].grad = per_class.sum(dim=(0, 2))


def _bias(head: Linear) -> Tensor:
    bias = head.classify.bias
    if bias is None:
        raise TypeError("The convolution of a linear head has no bias; a stack sums with one.")
    return bias


def upsampling(grid: int, size: int) -> Tensor:
    """(size, grid) float32: the matrix of one axis of bilinear upsampling (`align_corners=False`)."""
    return F.interpolate(torch.eye(grid)[None], size=size, mode="linear", align_corners=False)[0].T.contiguous()


def _pieces(masks: np.ndarray) -> list[_Piece]:
    """The batch's maps, those with truth first: without truth half of the work falls away."""
    flat = masks.reshape(-1, *masks.shape[2:])
    positive = flat.reshape(len(flat), -1).any(axis=1)
    pieces = []
    for kind in (True, False):
        chosen = np.flatnonzero(positive == kind)
        for start in range(0, len(chosen), PIECE_MAPS):
            maps = chosen[start : start + PIECE_MAPS]
            pieces.append(_Piece(torch.from_numpy(maps), torch.from_numpy(flat[maps]).float() if kind else None))
    return pieces


def _total(values: Tensor) -> float:
    """Sum of (k, S, S), each map in float32, their sums in float64."""
    return float(values.sum(dim=(1, 2)).sum(dtype=torch.float64))


def _dice(p: float, p_in_truth: float, n_positive: int) -> tuple[Tensor, float, float]:
    """`dice_loss` from its sums, and the two factors of its gradient: d loss / d p = first where there is truth, plus second everywhere."""
    total = max(p + n_positive, EPSILON) if p == p else p  # a probability that is not a number must show in the loss
    counts = float(n_positive > 0)
    loss = (1 - 2 * p_in_truth / total) * counts
    return torch.tensor(loss, dtype=torch.float32), -2 / total * counts, 2 * p_in_truth / total**2 * counts
