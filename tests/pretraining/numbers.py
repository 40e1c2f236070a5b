"""Inputs of the reference's test vectors: seeded normal numbers, and parameters filled in a given order."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

RELATIVE = 2e-5  # of the vectors, which were computed in float32


def r(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def leaf(seed: int, shape: tuple[int, ...]) -> Tensor:
    return r(seed, shape).requires_grad_()


def fill(parameters: Iterable[tuple[Tensor, bool]], seed: int) -> None:
    """Fills parameters in order; True marks the weight of a norm, which lies around one."""
    with torch.no_grad():
        for k, (parameter, is_norm) in enumerate(parameters):
            values = r(seed + k, tuple(parameter.shape))
            scale = np.prod(parameter.shape[1:]) ** -0.5 if parameter.dim() > 1 else 0.1
            parameter.copy_(values * float(scale) + float(is_norm))


def of_linear(*layers: torch.nn.Module) -> list[tuple[Tensor, bool]]:
    return [(one, False) for layer in layers for one in (layer.weight, layer.bias) if one is not None]


def of_norm(layer: torch.nn.Module) -> list[tuple[Tensor, bool]]:
    return [(layer.weight, True), (layer.bias, False)]


def norm(*tensors: Tensor) -> list[float]:
    """Frobenius norms of gradients."""
    return [float(tensor.grad.norm()) for tensor in tensors]
