"""Attention decides which places of the deepest map count, one query for each finding, and a linear layer reads what it gathers.

For encoders whose information lies in places and not in their pooled embedding, as after masked image modelling. Attentive probing is from
Chen et al., Context autoencoder for self-supervised representation learning (2022): one cross-attention with a learned query on frozen
features, then a linear classifier. Here each class has a query of its own, since findings lie in different places.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from benchmark.cards import HeadFacts, HeadSize

if TYPE_CHECKING:
    from benchmark.heads.base import Head, HeadRequest

FACTS = HeadFacts(title="attentive probe", target="labels", smoke_steps=100, step_s=0.003, reads="deepest", linear=False)


def build(request: HeadRequest) -> Head:
    """The probe on the encoder's deepest level."""
    from benchmark.heads.networks.attentive import Attentive

    return Attentive(request)


def size(channels: Mapping[int, int], n_classes: int, frame_size: int) -> HeadSize:
    """What it holds; arguments as of `HeadRequest`."""
    deepest = max(channels)
    width, n_places = channels[deepest], (frame_size // deepest) ** 2
    parameters = 2 * width + n_classes * width + 2 * width * (width + 1) + n_classes * (width + 1)
    of_places = (4 * width + 2) * n_places  # the map, normalised, keys and values; mean and deviation of the norm
    return HeadSize((deepest,), parameters, of_places + n_classes * (3 * width + 8 * n_places))
