"""The k nearest training images vote, by the cosine of pooled embeddings: what the representation holds without any training.

Weighted as DINO does it (Caron et al., Emerging properties in self-supervised vision transformers, 2021): k = 20, and each neighbour's vote
is exp(cosine / 0.07), as in Wu et al. (Unsupervised feature learning via non-parametric instance discrimination, 2018). Findings that may
occur together are voted on one by one; an unknown label has no vote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.cards import HeadFacts

if TYPE_CHECKING:
    from benchmark.heads.base import Head, HeadRequest

FACTS = HeadFacts(
    title="nearest neighbours",
    target="labels",
    smoke_steps=1,
    step_s=0.001,
    memory_bytes=5 * 2**30,  # 87,000 images of ChestX-ray14 at 2,048 numbers are 0.7 GB, and a state is copied twice
    reads="pooled",
    linear=False,
    at_once=True,
)


def build(request: HeadRequest) -> Head:
    """An empty memory for the encoder's pooled embedding."""
    from benchmark.heads.networks.nearest_neighbour import NearestNeighbour

    return NearestNeighbour(request)
