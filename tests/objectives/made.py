"""Encoded pairs of random numbers for every objective, its smallest options, and the objective itself: float64, ragged reports."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from benchmark.objectives import convirt, g2d, gloria, local_region, lovt, mgca, prior
from benchmark.objectives.kit.base import Encoded, EncodedTexts, Objective, Widths
from benchmark.objectives.kit.pooling import AttentionPool

WIDTHS = Widths({2: 4, 4: 4, 8: 4, 16: 8}, 8)
SENTENCES = ([0, 0, 0, 1, 1, 2], [0, 0], [0, 1, 1, 1], [0, 0, 1], [0, 1, 2, 2, 3])  # of each token of each report, in turn

OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "convirt": lambda: convirt.ConVirt(WIDTHS, convirt.Options(stride=16, hidden=24, joint=4)),
    "lovt": lambda: lovt.Lovt(WIDTHS, lovt.Options(stride=16, hidden=24, joint=4, heads=2)),
    "lovt as released": lambda: lovt.Lovt(WIDTHS, lovt.Options(stride=16, hidden=24, joint=4, heads=2, counted="all")),
    "lovt as clip": lambda: lovt.Lovt(WIDTHS, lovt.Options(stride=16, hidden=24, joint=4, heads=2, local=0, report="largest")),
    "gloria": lambda: gloria.Gloria(WIDTHS, gloria.Options(stride=8, deepest=16)),
    "local region": lambda: local_region.LocalRegion(WIDTHS, local_region.Options(stride=16, joint=4, heads=2, regions=5)),
    "mgca": lambda: mgca.Mgca(WIDTHS, mgca.Options(stride=8, deepest=16, hidden=24, joint=4, prototypes=5)),
    "mgca as released": lambda: mgca.Mgca(
        WIDTHS, mgca.Options(stride=8, deepest=16, hidden=24, joint=4, prototypes=5, counted="all", aligned=False)
    ),
    "g2d": lambda: g2d.G2D(WIDTHS, g2d.Options(stride=16, side=4, joint=4, heads=2)),
    "prior": lambda: without_chance(
        prior.Prior(
            WIDTHS,
            prior.Options(
                stride=16, side=4, joint=8, heads=2, prototypes=5, queries=4, decoder_layers=1, decoder_heads=2, decoder_blocks=4
            ),
        )
    ),
}


def made(name: str, seed: int = 3) -> Objective:
    torch.manual_seed(seed)
    return OBJECTIVES[name]().double()


def encoded(n: int = 5, sides: int = 4) -> Encoded:
    """Pairs that need gradients, in the order of a group; those of one process are `own`."""
    generator = torch.Generator().manual_seed(11)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    maps = {stride: drawn(n, width, sides * 16 // stride, sides * 16 // stride) for stride, width in WIDTHS.maps.items()}
    owners = [SENTENCES[k % len(SENTENCES)] for k in range(n)]
    length = max(map(len, owners)) + 2
    sentence, word = torch.full((n, length), -1), torch.full((n, length), -1)
    mask = torch.zeros(n, length, dtype=torch.bool)
    for k, own in enumerate(owners):
        sentence[k, 1 : len(own) + 1] = torch.tensor(own)
        word[k, : len(own) + 2] = torch.arange(len(own) + 2)
        mask[k, : len(own) + 2] = True
    attention = drawn(n, length).masked_fill(~mask, float("-inf")).softmax(dim=1)
    texts = EncodedTexts(drawn(4, n, length, WIDTHS.text), mask, word, sentence, attention)
    return Encoded(drawn(n, 3, sides * 16, sides * 16), maps, texts, torch.arange(n))


def own(pairs: Encoded, rows: slice) -> Encoded:
    """A process's rows of a group, cut to its own longest report."""
    texts = pairs.texts
    mask = texts.mask[rows]
    length = int(mask.sum(dim=1).max()) if len(mask) else 1
    cut = EncodedTexts(
        texts.states[:, rows, :length],
        mask[:, :length],
        texts.word[rows, :length],
        texts.sentence[rows, :length],
        None if texts.attention is None else texts.attention[rows, :length],
    )
    return Encoded(pairs.images[rows], {stride: maps[rows] for stride, maps in pairs.maps.items()}, cut, pairs.keys[rows])


def without_chance(objective: Objective) -> Objective:
    """Without what falls out at random in training."""
    for layer in objective.modules():
        if isinstance(layer, nn.Dropout | nn.Dropout2d):
            layer.p = 0.0
    assert any(isinstance(layer, AttentionPool) for layer in objective.modules())
    return objective
