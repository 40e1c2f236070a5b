"""What PRIOR learns to make from a pair: the image from its places and what they heard, and sentences from places alone.

Source: PRIOR's released code at 086bf2e (docs/sources.md, PRIOR).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel


class ImageDecoder(nn.Module):
    """Blocks of upsampling by two and two convolutions, then one to a single channel.

    Args:
        widths: channels that come in, and after each block.
    """

    def __init__(self, widths: tuple[int, ...]):
        super().__init__()
        self.head = nn.Conv2d(widths[-1], 1, kernel_size=3, padding=1)
        self.blocks = nn.ModuleList(_block(incoming, outgoing) for incoming, outgoing in pairwise(widths))

    def forward(self, maps: Tensor) -> Tensor:
        """(b, 1, H, W) of (b, C, h, w), twice as large after each block."""
        for block in self.blocks:
            maps = block(F.interpolate(maps, scale_factor=2, mode="nearest"))
        return self.head(maps)


class SentenceDecoder(nn.Module):
    """Learned queries become sentence vectors by looking at an image's places, in a BERT with cross-attention.

    Args:
        causal: a query sees those before it alone, as in the released code, though their order means nothing.
    """

    def __init__(self, width: int, n_queries: int, n_layers: int, heads: int, *, causal: bool):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, n_queries, width))
        config = BertConfig(
            vocab_size=1,
            hidden_size=width,
            num_hidden_layers=n_layers,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            max_position_embeddings=n_queries,
            is_decoder=True,
            add_cross_attention=True,
            use_cache=False,
        )
        config._attn_implementation = "sdpa"
        self.decoder = BertModel(config, add_pooling_layer=False)
        self.causal = causal

    def forward(self, places: Tensor) -> Tensor:
        """(b, queries, D) of (b, N, D)."""
        n = self.queries.shape[1]
        seen = torch.ones(n, n, dtype=torch.bool, device=places.device)
        mask = (seen.tril() if self.causal else seen).expand(len(places), 1, n, n)
        queries = self.queries.expand(len(places), -1, -1)
        return self.decoder(inputs_embeds=queries, attention_mask=mask, encoder_hidden_states=places).last_hidden_state


def matched(drawn: Tensor, wanted: Tensor, put_back: str) -> Tensor:
    """(b, Q) order of the drawn sentences: by Hungarian matching, the least sum of L1 distances to the wanted ones.

    Distances that are not finite give any order: the losses made with it are not finite either, and the loop says so with its step.
    """
    costs = np.nan_to_num(torch.cdist(drawn.float(), wanted.float(), p=1).cpu().numpy())
    orders: Sequence[np.ndarray] = [linear_sum_assignment(cost)[1] for cost in costs]
    if put_back == "inverse":
        orders = [np.argsort(order) for order in orders]
    return torch.from_numpy(np.stack(orders) if len(orders) else np.zeros(drawn.shape[:2], np.int64)).to(drawn.device)


def _block(incoming: int, outgoing: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (incoming, outgoing):
        layers += [nn.Conv2d(width, outgoing, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(outgoing), nn.ReLU()]
    return nn.Sequential(*layers)
