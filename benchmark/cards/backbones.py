"""Backbones: what they say of themselves, and what is known of them before they are built."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Literal, Self

from pydantic import model_validator

from benchmark.cards.base import Card, Later


class EncoderMode(StrEnum):
    FROZEN = "frozen"
    FINETUNE = "finetune"


LEAST_MEAN, MOST_MEAN = -1.0, 2.0  # of images from 0 to 1, with room for what authors made of theirs


class Normalisation(Card):
    """Mean and standard deviation on the [0, 1] scale, one value per channel or one for all."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @model_validator(mode="after")
    def _on_the_scale(self) -> Self:
        means = all(LEAST_MEAN <= value <= MOST_MEAN for value in self.mean)  # false for what is no number
        if not means or not all(value > 0 and math.isfinite(value) for value in self.std):
            raise ValueError("mean and std are of images from 0 to 1, std above 0; statistics of 0 to 255 are to be divided by 255")
        if not self.mean or not self.std or len({len(self.mean), len(self.std)} - {1}) > 1:
            raise ValueError("mean and std have one number for each channel, or one for all")
        return self


IMAGENET = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class Contamination(StrEnum):
    NONE = "none"
    SOURCE = "source"
    IMAGES = "images"
    LABELS = "labels"
    UNKNOWN = "unknown"


class BackboneSpec(Card):
    """What a backbone says of itself.

    Attributes:
        input_size: side of the square input it is made for, in pixels, which it must take; localized suites impose their own frame.
        in_channels: channels its first layer takes; adaptation from three equal channels happens inside the encoder.
        strides: feature level by stride, with its channels, for example {4: 64, 8: 128, 16: 256, 32: 512}.
        embed_dim: width of the pooled embedding.
        normalisation: the backbone's own statistics; None means the author gave none, and the leaderboard's protocol refuses it.
        pretraining: names of pretraining sets; None means unknown, which counts as contaminated, and () that it saw no image at all.
        contamination: dataset -> what pretraining saw of it, where that does not follow from `pretraining` (`benchmark.contamination`).
        taps: equal groups of channels in the map of a plain transformer, each from another block, shallow first; 1 for all others.
    """

    name: str
    input_size: int = 224
    in_channels: int = 3
    strides: dict[int, int]
    embed_dim: int
    normalisation: Normalisation | None = None
    pretraining: tuple[str, ...] | None = None
    contamination: dict[str, Contamination] = {}
    taps: int = 1


class PublishedFile(Card):
    """Where a card's weights file is published, for `lobe weights get`: in a package, on the Hugging Face hub, at an address, or by hand.

    Attributes:
        package: installed Python package that holds the file, as NAME==VERSION.
        hub: repository on the Hugging Face hub, as OWNER/NAME.
        revision: tag or commit of that repository; empty = not known, and the one met first is said.
        url: address of the file itself.
        page: where a person downloads it in a browser, for files that need an account or a click; also what to read when the rest fails.
        path: of the file inside the package or repository; empty = the name under `weights`.
        n_bytes: size of the file, where it is documented.
    """

    package: str = ""
    hub: str = ""
    revision: str = ""
    url: str = ""
    page: str = ""
    path: str = ""
    n_bytes: int | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [way for way in (self.package, self.hub, self.url) if way]
        if len(ways) > 1 or not (ways or self.page):
            raise ValueError("name one of package, hub and url, or a page alone")
        if self.package and not (self.path and self.package.partition("==")[2]):
            raise ValueError("a package is NAME==VERSION, with the `path` of the file in it")
        return self


class BackboneCard(Card):
    """A named backbone: how to build it, which file holds its weights, and what is known of them.

    Attributes:
        family: module in `benchmark/encoders` that builds it.
        model: architecture name inside the family.
        weights: None for random initialisation, a library's weight name, or the documented file name to be given as CARD@FILE.
        container: key of the set of weights that is meant, in a file that holds several, such as raw and averaged ones.
        minimum_loaded: least share (0..1) of encoder tensors that must come from the file.
        pretraining: pretraining sets, those inherited through initialisation included; None = unknown. An entry begins with the name of a
            dataset or of a collection; words behind it are for people.
        contamination: dataset -> what pretraining saw of it, where that does not follow from `pretraining` (`benchmark.contamination`).
        input_size: side of the square image that it is made for, in pixels; None = that of the task's frame.
        intensity: the method's own rule from stored grey values to the network's input, in words.
        origin: where the weights are published, at which revision.
        tokenizer: of a backbone with text: a folder or a file `tokenizer.json` beside the weights, or OWNER/NAME@REVISION on the hub.
        digest: of the published file, `md5:HEX` or `sha256:HEX`, where one is documented.
        published: where `lobe weights get` finds the file; None where nobody looked.
        status: verified = the published file was loaded here; reconstructed = built without one; unverified = layout from documents alone.
    """

    name: str
    title: str = ""
    family: str
    model: str
    weights: str | None = None
    layout: str = "torchvision"
    container: Later[str | None] = None
    minimum_loaded: float = 1.0
    normalisation: Normalisation | None = None
    pretraining: tuple[str, ...] | None = None
    contamination: dict[str, Contamination] = {}
    input_size: Later[int | None] = None
    tokenizer: Later[str | None] = None
    intensity: str = ""
    paper: str = ""
    origin: str = ""
    digest: str = ""
    published: Later[PublishedFile | None] = None
    licence: str = ""
    status: Literal["verified", "reconstructed", "unverified"] = "unverified"
    notes: str = ""
