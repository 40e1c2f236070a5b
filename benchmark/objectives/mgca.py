"""MGCA: whole images and reports, words and patches, and prototypes of whole pairs, each in both directions.

Source: MGCA's released code at 680fe4a (docs/sources.md, MGCA).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.objectives.kit.base import Encoded, EncodedTexts, Objective, Widths, as_map, places
from benchmark.objectives.kit.group import Group
from benchmark.objectives.kit.layers import Counted, NormedHead, clipped_weights, softmax_over
from benchmark.objectives.kit.losses import contrast_sum


@dataclass(frozen=True)
class Options:
    """
    Attributes:
        stride: of the map whose places are the patches.
        deepest: stride of the map whose mean is the image.
        weights: of the three losses.
        counted: whether padded words count in BatchNorm and as negatives.
        aligned: each word has the attention of its own pieces; released, that of the next ones.
        thaws: share of the budget after which prototypes are trained.
        slots: tokens that texts are padded to in the released code: there is a place for a word for each but the first, and a text that
            fills them loses its last word and [SEP]; None: as many places as words, and none is lost.
    """

    stride: int = 16
    deepest: int = 32
    hidden: int = 2048
    joint: int = 128
    prototypes: int = 500
    temperature: float = 0.07
    local_temperature: float = 0.1
    prototype_temperature: float = 0.2
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    counted: Counted = "valid"
    aligned: bool = True
    thaws: float = 0.02
    slots: int | None = None


def build(widths: Widths, options: Options) -> Objective:
    return Mgca(widths, options)


def turns(options: Options) -> tuple[float, ...]:
    """When prototypes are trained."""
    return (options.thaws,)


class Mgca(Objective):
    reads_attention = True

    def __init__(self, widths: Widths, options: Options):
        super().__init__()
        self.options, self.strides = options, tuple(sorted({options.stride, options.deepest}))
        width = {"image": widths.maps[options.deepest], "patch": widths.maps[options.stride], "report": widths.text, "word": widths.text}
        self.heads = nn.ModuleDict(
            {
                name: NormedHead(w, options.hidden, options.joint, options.counted, bias=True, affine=True, ends_in_norm=True)
                for name, w in width.items()
            }
        )
        self.prototype_layer = nn.Linear(options.joint, options.prototypes, bias=False)
        self.after_step()

    def forward(self, encoded: Encoded, group: Group, done: float) -> dict[str, Tensor]:
        options, texts = self.options, encoded.texts
        words, mask, attention = words_of(texts, group, aligned=options.aligned, slots=options.slots)
        image, report = self.embed(encoded, group, done)
        patches = self.heads["patch"](places(encoded.maps[options.stride]), group)
        words = self.heads["word"](words, group, mask)
        # No switch of `requires_grad`: what is trained has to be known before the losses, or processes sum no gradient of it in that step.
        prototypes = self.prototype_layer.weight if done >= options.thaws else self.prototype_layer.weight.detach()
        return losses(image, patches, report, words, mask, attention, prototypes, options, group)

    def image_vectors(self, maps: Mapping[int, Tensor], group: Group) -> Tensor:
        return self.heads["image"](maps[self.options.deepest].mean(dim=(2, 3)), group)

    def text_vectors(self, texts: EncodedTexts, keys: Tensor, group: Group, done: float) -> Tensor:
        return self.heads["report"](texts.states[-1][:, 0], group)

    def place_vectors(self, maps: Mapping[int, Tensor], group: Group) -> Tensor:
        head, stride = ("patch", self.options.stride) if self.aligns_parts_alone else ("image", self.options.deepest)
        return as_map(self.heads[head](places(maps[stride]), group), maps[stride])

    def part_vectors(self, texts: EncodedTexts, keys: Tensor, group: Group, done: float) -> tuple[Tensor, Tensor]:
        words, mask, _ = words_of(texts, group, aligned=self.options.aligned, slots=self.options.slots)
        return self.heads["word" if self.aligns_parts_alone else "report"](words, group, mask), mask

    @property
    def aligns_parts_alone(self) -> bool:
        """Whether the losses of words and patches train their heads; without a weight these stay as they were drawn."""
        return self.options.weights[1] != 0

    def after_step(self) -> None:
        """Prototypes have length 1 before each use, as released: their gradient does not go through that."""
        with torch.no_grad():
            self.prototype_layer.weight.copy_(F.normalize(self.prototype_layer.weight, dim=1))


def losses(
    image: Tensor,
    patches: Tensor,
    report: Tensor,
    words: Tensor,
    mask: Tensor,
    attention: Tensor,
    prototypes: Tensor,
    options: Options,
    group: Group,
    looked: Tensor | None = None,
) -> dict[str, Tensor]:
    """The three weighted losses of vectors that are not normalised yet, with prototypes that are.

    Args:
        image, report: (b, D).
        patches: (b, P, D).
        words: (b, n, D).
        mask: (b, n) bool, False on padding.
        attention: (b, n) of [CLS] to the words.
        prototypes: (K, D), each of length 1.
        looked: (b, P) of a ViT's class token to the patches; None for a convolutional network, whose patches weigh the same.
    """
    image, patches, report, words = (F.normalize(one, dim=-1) for one in (image, patches, report, words))
    whole = contrast_sum(image, report, 1 / options.temperature, group)
    of_words = words_and_context(words, patches, mask, clipped_weights(attention), options)
    weights = patches.new_full(patches.shape[:2], 1 / patches.shape[1]) if looked is None else clipped_weights(looked)
    heard = softmax_over(patches @ words.transpose(1, 2) / options.local_temperature, mask[:, None]) @ words
    if looked is None or options.counted == "valid":  # the released code forgets it for the ViT
        heard = F.normalize(heard, dim=2)
    of_patches = both_ways(patches @ heard.transpose(1, 2) / options.local_temperature, weights, None)
    first, second, third = options.weights
    return {
        "images and reports": first * whole,
        "words": second * group.mean(of_words),
        "patches": second * group.mean(of_patches),
        "prototypes": third * prototype_loss(image @ prototypes.T, report @ prototypes.T, options.prototype_temperature, group),
    }


def words_and_context(words: Tensor, patches: Tensor, mask: Tensor, weights: Tensor, options: Options) -> Tensor:
    """(b,) how well each word finds its own reading of the patches among those of the text's other words, and back."""
    context = F.normalize((words @ patches.transpose(1, 2) / options.local_temperature).softmax(dim=2) @ patches, dim=2)
    return both_ways(words @ context.transpose(1, 2) / options.local_temperature, weights, mask if options.counted == "valid" else None)


def both_ways(scores: Tensor, weights: Tensor, mask: Tensor | None) -> Tensor:
    """(b,) weighted cross-entropy of (b, N, N) scores whose diagonal is right, the mean of rows and columns."""
    right = scores.diagonal(dim1=1, dim2=2)
    if mask is not None:
        smallest = torch.finfo(scores.dtype).min
        rows, columns = scores.masked_fill(~mask[:, None], smallest), scores.masked_fill(~mask[..., None], smallest)
    else:
        rows = columns = scores
    return (weights * (rows.logsumexp(dim=2) + columns.logsumexp(dim=1) - 2 * right)).sum(dim=1) / 2


def prototype_loss(of_images: Tensor, of_reports: Tensor, temperature: float, group: Group) -> Tensor:
    """Each side's prototypes, evened out over the group, are what the other side has to predict. Scores are (b, K) cosines."""
    there = codes(of_images, group) * F.log_softmax(of_reports / temperature, dim=1)
    back = codes(of_reports, group) * F.log_softmax(of_images / temperature, dim=1)
    return -group.mean((there + back).sum(dim=1)) / 2


def codes(scores: Tensor, group: Group, sharpness: float = 0.05, rounds: int = 3) -> Tensor:
    """(b, K) shares of prototypes, each prototype used as often as the others: Sinkhorn's rounds over the whole group. Detached."""
    found = (scores.detach() / sharpness).exp()
    found = found / group.total(found.sum())
    for _ in range(rounds):
        found = found / group.total(found.sum(dim=0, keepdim=True)) / found.shape[1]
        found = found / found.sum(dim=1, keepdim=True) / group.n
    return found * group.n


def words_of(texts: EncodedTexts, group: Group, *, aligned: bool, slots: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Words (b, n, W) as sums of their pieces, (b, n) bool where there is one, and (b, n) attention of [CLS] to them.

    [SEP] counts as a word, [CLS] does not.

    Args:
        aligned: else a word has the attention of the pieces one token after its own, as in the released code.
        slots: see `Options.slots`.
    """
    assert texts.attention is not None
    last = texts.word.amax(dim=1)
    numbers = torch.arange(1, slots or group.longest(last + 1), device=texts.word.device)
    owned = texts.word[:, None] == numbers[None, :, None]
    if slots:  # its walk over tokens ends before the last of them, and only [SEP] ends a word
        lost = torch.where(texts.mask.sum(dim=1) == slots, last - 1, last + 1)
        owned = owned & (numbers[None, :] < lost[:, None])[..., None]
    attention = texts.attention if aligned else F.pad(texts.attention[:, 1:], (0, 1))
    shares = owned.to(texts.states.dtype)
    return shares @ texts.states[-1], owned.any(dim=2), (shares @ attention[..., None].to(shares.dtype))[..., 0]
