"""What the sealed encoder does to images, BatchNorm and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmark.cards import IMAGENET, BackboneRef, Normalisation
from benchmark.encoders import torchvision as family
from benchmark.encoders.build import build_backbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.errors import UsageError

GREY = Normalisation(mean=(0.49,), std=(0.25,))


@pytest.fixture
def images():
    return torch.randint(0, 256, (2, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return SealedEncoder(family.build("resnet18"), GREY)


def _statistics(encoder):
    return {name: tensor.clone() for name, tensor in encoder.backbone.state_dict().items()}


def _unchanged(encoder, before):
    return all(torch.equal(tensor, before[name]) for name, tensor in encoder.backbone.state_dict().items())


@pytest.mark.parametrize("give", [lambda u8: u8, lambda u8: u8[:, None], lambda u8: u8 / 255, lambda u8: (u8 / 255)[:, None]])
def test_every_form_of_input_is_normalised_the_same(encoder, images, give):
    expected = ((images.float() / 255 - 0.49) / 0.25)[:, None].expand(-1, 3, -1, -1)
    normalised = encoder.normalise(give(images))
    assert normalised.dtype == torch.float32
    assert torch.equal(normalised, expected)


def test_three_equal_channels_are_one_memory(encoder, images):
    assert encoder.normalise(images).stride(1) == 0


def test_each_channel_can_have_its_own_statistics(images):
    normalised = SealedEncoder(family.build("resnet18"), IMAGENET).normalise(images)
    for channel in range(3):
        assert torch.equal(normalised[:, channel], (images.float() / 255 - IMAGENET.mean[channel]) / IMAGENET.std[channel])


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(2, 3, 64, 64),
        torch.zeros(2, 64, 32),
        torch.zeros(64, 64),
        torch.zeros(2, 64, 64, dtype=torch.int64),
        255 * torch.ones(2, 64, 64),
    ],
)
def test_images_of_another_kind_are_refused(encoder, wrong):
    with pytest.raises(UsageError, match="encoder takes"):
        encoder.normalise(wrong)


def test_pyramid_is_the_backbones_on_normalised_images(encoder, images):
    with torch.no_grad():
        expected = encoder.backbone.pyramid(encoder.normalise(images), (4, 32))
    found = encoder.pyramid(images, (4, 32))
    assert found.keys() == {4, 32}
    assert all(torch.equal(found[stride], expected[stride]) for stride in expected)


def test_frozen_passes_are_bit_equal_without_gradient_and_leave_batchnorm_alone(encoder, images):
    before = _statistics(encoder)
    encoder.set_mode("frozen")
    first, second = encoder.pyramid(images), encoder.pyramid(images)
    assert all(torch.equal(first[stride], second[stride]) for stride in first)
    assert not any(features.requires_grad for features in first.values())
    assert _unchanged(encoder, before)


def test_frozen_stays_frozen_when_a_surrounding_model_is_put_in_train_mode(encoder, images):
    encoder.set_mode("frozen")
    frozen = encoder.pyramid(images, (32,))[32]
    nn.ModuleList([encoder, nn.Linear(1, 1)]).train()
    before = _statistics(encoder)
    assert torch.equal(encoder.pyramid(images, (32,))[32], frozen)
    assert _unchanged(encoder, before)


def test_training_uses_and_updates_batch_statistics_and_gives_gradients(encoder, images):
    encoder.set_mode("frozen")
    frozen, before = encoder.pyramid(images, (32,))[32], _statistics(encoder)
    encoder.set_mode("training")
    trained = encoder.pyramid(images, (32,))[32]
    assert not torch.allclose(trained, frozen)
    assert not torch.equal(encoder.backbone.network.bn1.running_mean, before["network.bn1.running_mean"])
    trained.sum().backward()
    assert encoder.backbone.network.conv1.weight.grad.abs().max() > 0


def test_unfrozen_has_gradients_but_the_frozen_numbers(encoder, images):
    frozen, before = encoder.pyramid(images, (32,))[32], _statistics(encoder)
    encoder.set_mode("unfrozen")
    unfrozen = encoder.pyramid(images, (32,))[32]
    assert torch.equal(unfrozen, frozen)
    assert unfrozen.requires_grad
    assert _unchanged(encoder, before)


def test_eval_gives_no_gradient_and_leaves_batchnorm_alone(encoder, images):
    encoder.set_mode("training")
    encoder.pyramid(images)
    encoder.set_mode("eval")
    before = _statistics(encoder)
    assert not encoder.pyramid(images, (32,))[32].requires_grad
    assert _unchanged(encoder, before)


def test_training_inside_no_grad_stays_without_gradient(encoder, images):
    encoder.set_mode("training")
    with torch.no_grad():
        assert not encoder.pyramid(images, (32,))[32].requires_grad


def test_an_encoder_without_words_has_no_joint_space(encoder, images):
    with pytest.raises(UsageError, match=r"resnet18 has no text side\."):
        encoder.embed_images(images)


def test_starts_frozen(encoder):
    assert encoder.mode == "frozen"
    assert not encoder.backbone.training


def test_statistics_are_no_part_of_the_saved_state(encoder):
    assert all(name.startswith("backbone.") for name in encoder.state_dict())


def test_channels_last_gives_the_same_maps(encoder, images):
    expected = encoder.pyramid(images, (32,))[32]
    last = SealedEncoder(encoder.backbone, GREY, channels_last=True)
    assert last.normalise(images).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last.pyramid(images, (32,))[32], expected, atol=1e-4, rtol=1e-4)


def test_images_are_fitted_to_the_patch_and_maps_brought_back_to_the_frame(encoder):
    seen = []

    class Patches(family.TorchvisionBackbone):
        input_multiple = 14

        def pyramid(self, images, strides=None):
            seen.append(images.shape[-1])
            return {8: images[..., ::8, ::8]}

    sealed = SealedEncoder(Patches("resnet18"), GREY)
    maps = sealed.pyramid(torch.zeros(1, 64, 64, dtype=torch.uint8), (8,))
    assert seen == [70]
    assert maps[8].shape[-2:] == (8, 8)


def test_normalisation_of_two_values_is_refused():
    with pytest.raises(UsageError, match="one value or three"):
        SealedEncoder(family.build("resnet18"), Normalisation(mean=(0.1, 0.2), std=(1.0, 1.0)))


@pytest.mark.parametrize(
    "name",
    [
        "torchvision:resnet18",
        "torchvision:densenet121",
        "torchvision:convnext_tiny",
        "torchvision:swin_t",
        "timm:resnet10t",
        "timm:convnext_atto",
        "timm:vit_tiny_patch16_224",
        "timm:efficientnet_b0",
    ],
)
def test_a_level_asked_for_alone_has_the_bits_it_has_among_others(images, name):
    """Stored features are those of whoever came first, who may have asked for other levels as well."""
    kind, _, model = name.partition(":")
    backbone, _ = build_backbone(BackboneRef(family=kind, model=model, digest=None), None, init_seed=0)
    encoder = SealedEncoder(backbone, GREY)
    together = encoder.pyramid(images)
    assert set(together) == set(backbone.spec.strides)
    for stride, level in together.items():
        assert torch.equal(encoder.pyramid(images, (stride,))[stride], level)
