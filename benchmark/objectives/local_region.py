"""LOBE's own reconstruction of LRCLR's idea, of which only the abstract is public: regions are chosen, and the report reads them.

Nothing here is the paper's: every size and loss is LOBE's choice (docs/sources.md, LRCLR), and no number made by it stands under that name.
`benchmark.encoders.local_region_clip` is the same as an adapter of a CLIP; this one runs over the encoders that all methods train.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.objectives.kit.base import Encoded, EncodedTexts, Objective, Widths, as_map, places, said
from benchmark.objectives.kit.group import Group
from benchmark.objectives.kit.layers import AttentionMean
from benchmark.objectives.kit.losses import contrast_sum

GREATEST_LOG_SCALE = math.log(100)


@dataclass(frozen=True)
class Options:
    """
    Attributes:
        stride: of the image map whose places are the regions.
        regions: chosen; more than there are keeps all, 0 chooses none.
        local: weight of the loss of reports and what they found in the regions; 0 leaves out what only it needs.
    """

    stride: int = 32
    joint: int = 512
    heads: int = 8
    regions: int = 12
    local: float = 1.0
    log_scale: float = math.log(1 / 0.07)


def build(widths: Widths, options: Options) -> Objective:
    return LocalRegion(widths, options)


class LocalRegion(Objective):
    def __init__(self, widths: Widths, options: Options):
        super().__init__()
        self.options, self.strides = options, (options.stride,)
        width, heads = widths.maps[options.stride], options.heads
        self.pool = AttentionMean(width, heads, "valid")
        self.block = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.image_projection = nn.Linear(width, options.joint, bias=False)
        self.text_projection = nn.Linear(widths.text, options.joint, bias=False)
        if options.local:
            self.words = nn.Linear(widths.text, width)
            self.asking = nn.MultiheadAttention(width, heads, batch_first=True)
            self.found_projection = nn.Linear(width, options.joint)
        self.logit_scale = nn.Parameter(torch.tensor(options.log_scale))

    def forward(self, encoded: Encoded, group: Group, done: float) -> dict[str, Tensor]:
        whole, regions = self.chosen(places(encoded.maps[self.options.stride]))
        image, report = self._image(whole, regions), self.text_vectors(encoded.texts, encoded.keys, group, done)
        scale = self.logit_scale.exp()
        losses = {"images and reports": contrast_sum(image, report, scale, group) / 2}
        if self.options.local:
            found = self.found(regions, encoded.texts)
            losses["reports and what they found"] = self.options.local * contrast_sum(found, report, scale, group) / 2
        return losses

    def image_vectors(self, maps: Mapping[int, Tensor], group: Group) -> Tensor:
        return self._image(*self.chosen(places(maps[self.options.stride])))

    def text_vectors(self, texts: EncodedTexts, keys: Tensor, group: Group, done: float) -> Tensor:
        return self.text_projection(texts.states[-1][:, 0])

    def place_vectors(self, maps: Mapping[int, Tensor], group: Group) -> Tensor:
        return as_map(self.image_projection(places(maps[self.options.stride])), maps[self.options.stride])

    def part_vectors(self, texts: EncodedTexts, keys: Tensor, group: Group, done: float) -> tuple[Tensor, Tensor]:
        return self.text_projection(texts.states[-1]), said(texts)

    def after_step(self) -> None:
        with torch.no_grad():
            self.logit_scale.clamp_(max=GREATEST_LOG_SCALE)

    def chosen(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """(b, D) the image's pool, and (b, k, D) the regions it looked at most, in falling order; of equal ones the first."""
        whole, weights = self.pool(regions)
        order = weights.argsort(dim=1, descending=True, stable=True)[:, : self.options.regions]
        return whole, regions.gather(1, order[..., None].expand(-1, -1, regions.shape[2]))

    def found(self, regions: Tensor, texts: EncodedTexts) -> Tensor:
        """(b, joint) what the words of each report found in the image's regions, their mean."""
        asked = self.asking(self.words(texts.states[-1]), regions, regions, need_weights=False)[0]
        mask = texts.mask[..., None]
        return self.found_projection((asked * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1))

    def _image(self, whole: Tensor, regions: Tensor) -> Tensor:
        """(b, joint) the pool after one more block with the chosen regions."""
        return self.image_projection(self.block(torch.cat([whole[:, None], regions], dim=1))[:, 0])
