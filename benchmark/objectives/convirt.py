"""ConVIRT: whole images and reports find each other.

Source: LoVT's released code at f548985, where ConVIRT is a configuration; the authors released no training code. Mean of the last map, the
largest value over the report's tokens, two linear layers without norm, image to text weighs three times text to image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from benchmark.objectives.kit.base import Encoded, EncodedTexts, Objective, Widths, as_map, places, sentence_maxima, text_maxima
from benchmark.objectives.kit.group import Group
from benchmark.objectives.kit.layers import Projection
from benchmark.objectives.kit.losses import contrast


@dataclass(frozen=True)
class Options:
    """
    Attributes:
        stride: of the image map.
        weights: of the loss from image to text and from text to image.
    """

    stride: int = 32
    hidden: int = 2048
    joint: int = 512
    temperature: float = 0.1
    weights: tuple[float, float] = (0.75, 0.25)


def build(widths: Widths, options: Options) -> Objective:
    return ConVirt(widths, options)


class ConVirt(Objective):
    def __init__(self, widths: Widths, options: Options):
        super().__init__()
        self.options, self.strides = options, (options.stride,)
        self.model_a, self.model_b = _Side(widths.maps[options.stride], options), _Side(widths.text, options)

    def forward(self, encoded: Encoded, group: Group, done: float) -> dict[str, Tensor]:
        image, report = self.embed(encoded, group, done)
        there, back = contrast(image, report, 1 / self.options.temperature, group)
        return {"image to text": self.options.weights[0] * there, "text to image": self.options.weights[1] * back}

    def image_vectors(self, maps: Mapping[int, Tensor], group: Group) -> Tensor:
        return self.model_a.project_global(maps[self.options.stride].mean(dim=(2, 3)), group)

    def text_vectors(self, texts: EncodedTexts, keys: Tensor, group: Group, done: float) -> Tensor:
        return self.model_b.project_global(text_maxima(texts), group)

    def place_vectors(self, maps: Mapping[int, Tensor], group: Group) -> Tensor:
        return as_map(self.model_a.project_global(places(maps[self.options.stride]), group), maps[self.options.stride])

    def part_vectors(self, texts: EncodedTexts, keys: Tensor, group: Group, done: float) -> tuple[Tensor, Tensor]:
        each, mask = sentence_maxima(texts, group)
        return self.model_b.project_global(each, group), mask


class _Side(nn.Module):
    def __init__(self, width: int, options: Options):
        super().__init__()
        self.project_global = Projection(width, options.hidden, options.joint, None)
