"""Each broken promise of a backbone is found, and the method at fault named."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmark.cards import BackboneSpec, Normalisation
from benchmark.encoders import conformance
from benchmark.encoders.base import Backbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.errors import ConformanceError, UsageError

GREY = Normalisation(mean=(0.49,), std=(0.25,))


class Good(Backbone):
    """Two levels: stride 4 and 8."""

    def __init__(self):
        super().__init__()
        self.spec = BackboneSpec(name="tiny", strides={4: 6, 8: 8}, embed_dim=8)
        self.first = nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.BatchNorm2d(6), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(6, 8, 2, 2), nn.BatchNorm2d(8), nn.ReLU())

    def prepare(self, images):
        return images

    def pyramid(self, images, strides=None):
        fine = self.first(self.prepare(images))
        maps = {4: fine, 8: self.second(fine)}
        return maps if strides is None else {stride: maps[stride] for stride in strides}

    def pooled(self, images):
        return self.pyramid(images)[8].mean((2, 3))


class WrongStrides(Good):
    def pyramid(self, images, strides=None):
        return {2 * stride: features for stride, features in super().pyramid(images, strides).items()}


class SwappedLevels(Good):
    def pyramid(self, images, strides=None):
        maps = super().pyramid(images)
        maps = {4: maps[8], 8: maps[4]}
        return maps if strides is None else {stride: maps[stride] for stride in strides}


class IgnoresRequest(Good):
    def pyramid(self, images, strides=None):
        return super().pyramid(images)


class ReturnsList(Good):
    def pyramid(self, images, strides=None):
        return list(super().pyramid(images).values())


class NotFinite(Good):
    def pyramid(self, images, strides=None):
        return {stride: features / 0 for stride, features in super().pyramid(images, strides).items()}


class DropoutLeftOn(Good):
    def prepare(self, images):
        return nn.functional.dropout(images, 0.5, training=True)


class BatchNormLeftOn(Good):
    def pyramid(self, images, strides=None):
        self.first.train()
        return super().pyramid(images, strides)


class MixesImages(Good):
    def pyramid(self, images, strides=None):
        return {stride: features - features.mean(0, keepdim=True) for stride, features in super().pyramid(images, strides).items()}


class NormalisesAgain(Good):
    def prepare(self, images):
        mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        return (images - mean) / std


class StandardisesEachImage(Good):
    def prepare(self, images):
        return (images - images.mean((1, 2, 3), keepdim=True)) / images.std((1, 2, 3), keepdim=True)


class CutsGradient(Good):
    def pyramid(self, images, strides=None):
        with torch.no_grad():
            return super().pyramid(images, strides)


class Detaches(Good):
    def pyramid(self, images, strides=None):
        maps = super().pyramid(images, strides)
        return {stride: features.detach().requires_grad_() for stride, features in maps.items()}


class WrongEmbedding(Good):
    def pooled(self, images):
        return self.pyramid(images)[4].mean((2, 3))


class EmbedsAtRandom(Good):
    def pooled(self, images):
        return nn.functional.dropout(super().pooled(images), 0.5, training=True)


class EmbeddingsLookAtTheBatch(Good):
    def pooled(self, images):
        embedded = super().pooled(images)
        return embedded - embedded.mean(0)


class NormalisesForTheEmbeddingOnly(Good):
    def pooled(self, images):
        return super().pooled((images - 0.485) / 0.229)


class NormalisesAfterResizing(Good):
    def pooled(self, images):
        images = nn.functional.interpolate(images, size=(48, 48), mode="bilinear", align_corners=True)
        return super().pooled((images - 0.485) / 0.229)


class DividesByTheSpread(Good):
    def pyramid(self, images, strides=None):
        maps = super().pyramid(images, strides)
        return {stride: features / images.std((1, 2, 3), keepdim=True) for stride, features in maps.items()}

    def pooled(self, images):
        return self.pyramid(images, (8,))[8].mean((2, 3))


class SaysOneChannel(Good):
    def __init__(self):
        super().__init__()
        self.spec = self.spec.model_copy(update={"in_channels": 1})


class IsMadeForAnotherSize(Good):
    """Its table of positions fits the harness's frame and not the size that it names itself."""

    def __init__(self):
        super().__init__()
        self.spec = self.spec.model_copy(update={"input_size": 96})
        self.positions = nn.Parameter(torch.ones(1, 6, 8, 8))

    def pyramid(self, images, strides=None):
        fine = self.first(self.prepare(images)) * self.positions
        maps = {4: fine, 8: self.second(fine)}
        return maps if strides is None else {stride: maps[stride] for stride in strides}


class NamesNoSize(Good):
    def __init__(self):
        super().__init__()
        self.spec = self.spec.model_copy(update={"input_size": 0})


class Crashes(Good):
    def pyramid(self, images, strides=None):
        raise ValueError("shapes cannot be multiplied")


class NoSpec(Good):
    def __init__(self):
        super().__init__()
        self.spec = {"name": "tiny"}


class NamesNoLevel(Good):
    def __init__(self):
        super().__init__()
        self.spec = self.spec.model_copy(update={"strides": {}})


class ReturnsArrays(Good):
    def pyramid(self, images, strides=None):
        return {stride: features.detach().numpy() for stride, features in super().pyramid(images, strides).items()}


class ChangesItsMapInPlace(Good):
    """Whoever asks for the fine level alone gets it before the deeper layers have written into it."""

    def pyramid(self, images, strides=None):
        maps = {4: self.first(self.prepare(images)).clone()}
        if strides is None or 8 in strides:
            maps[8] = self.second(maps[4].clone())
            maps[4] = maps[4] * 2
        return maps if strides is None else {stride: maps[stride] for stride in strides}


class IsNotFiniteAtItsSize(Good):
    def __init__(self):
        super().__init__()
        self.spec = self.spec.model_copy(update={"input_size": 96})

    def pyramid(self, images, strides=None):
        return {stride: features / (images.shape[-1] != 96) for stride, features in super().pyramid(images, strides).items()}


class EmbedsNoNumbers(Good):
    def pooled(self, images):
        return super().pooled(images) / 0


class EmbeddingDividesByTheSpread(Good):
    def pooled(self, images):
        return super().pooled(images) / images.std((1, 2, 3))[:, None]


class Counts(Good):
    """Its buffer takes no part in what it returns."""

    def __init__(self):
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def pyramid(self, images, strides=None):
        self.passes += 1
        return super().pyramid(images, strides)


def _check(backbone_class):
    torch.manual_seed(0)
    encoder = SealedEncoder(backbone_class(), GREY)
    conformance.check(encoder, 32)
    return encoder


def test_good_backbone_passes_and_is_left_as_it_was():
    torch.manual_seed(0)
    encoder = SealedEncoder(Good(), GREY)
    encoder.set_mode("training")
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    conformance.check(encoder, 32)
    assert encoder.mode == "training"
    assert encoder.backbone.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    assert all(parameter.grad is None for parameter in encoder.parameters())


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (WrongStrides, r"pyramid\(\).*\[8, 16\].*\[4, 8\]"),
        (SwappedLevels, r"pyramid\(\).*shape"),
        (IgnoresRequest, r"pyramid\(\).*asked for stride 4 alone"),
        (ReturnsList, r"pyramid\(\).*list"),
        (NotFinite, r"pyramid\(\).*NaN or infinity"),
        (DropoutLeftOn, r"pyramid\(\).*dropout"),
        (BatchNormLeftOn, r"pyramid\(\)"),
        (MixesImages, r"pyramid\(\).*alone than in a batch"),
        (NormalisesAgain, r"pyramid\(\).*second time"),
        (StandardisesEachImage, r"pyramid\(\).*second time"),
        (CutsGradient, r"pyramid\(\).*without gradient"),
        (Detaches, r"pyramid\(\).*no gradient"),
        (EmbedsAtRandom, r"pooled\(\).*dropout"),
        (EmbeddingsLookAtTheBatch, r"pooled\(\).*alone than in a batch"),
        (NormalisesForTheEmbeddingOnly, r"pooled\(\).*second time"),
        (NormalisesAfterResizing, r"pooled\(\).*second time"),
        (DividesByTheSpread, r"pyramid\(\).*black image"),
        (WrongEmbedding, r"pooled\(\).*\(2, 6\).*\(2, 8\)"),
        (SaysOneChannel, r"pyramid\(\) gives its first layer 3 channel\(s\); `spec.in_channels` promises 1"),
        (IsMadeForAnotherSize, r"pyramid\(\) does not take the 96 px of `spec.input_size`"),
        (NamesNoSize, r"spec names an `input_size` of 0 pixels"),
        (Crashes, r"pyramid\(\).*shapes cannot be multiplied"),
        (NoSpec, r"spec"),
        (NamesNoLevel, r"spec names no feature level in `strides`"),
        (ReturnsArrays, r"pyramid\(\) returned ndarray at stride 4, not a tensor"),
        (ChangesItsMapInPlace, r"pyramid\(\) returns another map at stride 4 when asked for it alone"),
        (IsNotFiniteAtItsSize, r"pyramid\(\) does not take the 96 px of `spec.input_size`: at stride . it returned .*all finite: False"),
        (EmbedsNoNumbers, r"pooled\(\) returned NaN or infinity\.$"),
        (EmbeddingDividesByTheSpread, r"pooled\(\) returned NaN or infinity for a black image"),
        (Counts, r"pyramid\(\) changed passes in eval mode"),
    ],
)
def test_broken_backbone_is_found_and_the_method_named(broken, message):
    with pytest.raises(ConformanceError, match=message):
        _check(broken)


def test_grey_stem_is_no_second_normalisation():
    class GreyStem(Good):
        def __init__(self):
            super().__init__()
            self.first[0] = nn.Conv2d(1, 6, 4, 4)
            self.spec = self.spec.model_copy(update={"in_channels": 1})

        def prepare(self, images):
            return images[:, :1]

    _check(GreyStem)


def test_resizing_before_the_first_layer_is_no_second_normalisation():
    class Resizes(Good):
        def pooled(self, images):
            return super().pooled(nn.functional.interpolate(images, size=(40, 40), mode="bilinear", align_corners=True))

    _check(Resizes)


@pytest.mark.parametrize("stem", ["patches cut by hand", "another picture"])
def test_a_first_layer_that_sees_no_picture_to_compare_is_no_second_normalisation(stem: str):
    class OwnStem(Good):
        def __init__(self):
            super().__init__()
            if stem == "patches cut by hand":
                self.first[0] = nn.Conv2d(48, 6, 1)

        def prepare(self, images):
            return nn.functional.pixel_unshuffle(images, 4) if stem == "patches cut by hand" else 3 * images.flip(-1)

    _check(OwnStem)


@pytest.mark.parametrize("size", [32, 96], ids=["frame", "own size"])
def test_a_sentence_of_the_backbones_own_is_kept(size: int):
    class Refuses(Good):
        def __init__(self):
            super().__init__()
            self.spec = self.spec.model_copy(update={"input_size": 96})

        def pyramid(self, images, strides=None):
            if images.shape[-1] == size:
                raise UsageError("Fetch the tokenizer first.")
            return super().pyramid(images, strides)

    with pytest.raises(UsageError, match=r"^Fetch the tokenizer first\.$"):
        _check(Refuses)
