"""The decoder must be the library's own, to the weight and to the value; what the library does not define is LOBE's, and stated."""

from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch

from benchmark.cards import Switches
from benchmark.errors import ConformanceError, UsageError
from benchmark.heads.base import HeadRequest, Targets, seeded_init
from benchmark.heads.networks import smp_unet
from benchmark.heads.networks.mixed_loss import mixed_loss_of, mixed_sums

RESNET50 = {2: 64, 4: 256, 8: 512, 16: 1024, 32: 2048}
SMALL = {2: 4, 4: 8, 8: 8, 16: 16, 32: 64}


def _request(channels, n_classes=1, frame_size=64):
    return HeadRequest(channels=channels, n_classes=n_classes, frame_size=frame_size, switches=Switches())


def _pyramid(channels, n=2, size=64):
    return {stride: torch.randn(n, width, size // stride, size // stride) for stride, width in channels.items()}


def test_names_and_shapes_are_those_of_the_released_decoders() -> None:
    """docs/sources.md, G2D: keys and shapes of `decoder.*` and `segmentation_head.*`."""
    with torch.device("meta"):
        head = smp_unet.SmpUNet(_request(RESNET50, frame_size=224))
    shapes = {name: tuple(tensor.shape) for name, tensor in head.state_dict().items()}
    first = [shapes[f"decoder.blocks.{k}.conv1.0.weight"] for k in range(5)]
    assert first == [(256, 3072, 3, 3), (128, 768, 3, 3), (64, 384, 3, 3), (32, 128, 3, 3), (16, 32, 3, 3)]
    assert shapes["segmentation_head.0.weight"] == (1, 16, 3, 3)
    assert len(shapes) == 380 - 318
    assert sum(p.numel() for p in head.parameters()) == 9_012_928 + 145


def test_equal_to_the_librarys_unet_on_its_own_features() -> None:
    torch.manual_seed(0)
    theirs = smp.Unet("resnet18", encoder_weights=None, classes=2).eval()
    channels = dict(zip((2, 4, 8, 16, 32), theirs.encoder.out_channels[1:], strict=True))
    ours = smp_unet.SmpUNet(_request(channels, n_classes=2)).eval()
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if not k.startswith("encoder.")})
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        maps = dict(zip(channels, theirs.encoder(images)[1:], strict=True))
        assert torch.equal(ours(maps), theirs(images))


def test_initialisation_is_the_librarys() -> None:
    def theirs():
        decoder = smp.decoders.unet.decoder.UnetDecoder((3, *SMALL.values()), (256, 128, 64, 32, 16))
        head = smp.base.SegmentationHead(16, 1)
        smp.base.initialization.initialize_decoder(decoder)
        smp.base.initialization.initialize_head(head)
        return torch.nn.ModuleDict({"decoder": decoder, "segmentation_head": head})

    ours = seeded_init(lambda: smp_unet.SmpUNet(_request(SMALL)), 3).state_dict()
    expected = seeded_init(theirs, 3).state_dict()
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) for name in ours)


def test_every_level_reaches_the_output_and_the_image_is_not_asked_for() -> None:
    head = smp_unet.SmpUNet(_request(SMALL, n_classes=2)).eval()
    assert not head.reads_image
    pyramid = _pyramid(SMALL)
    output = head(pyramid)
    assert output.shape == (2, 2, 64, 64)
    for stride in SMALL:
        assert not torch.equal(head(dict(pyramid) | {stride: pyramid[stride] + 1}), output), stride


@pytest.mark.parametrize("channels", [{4: 8, 8: 8, 16: 8, 32: 8}, {8: 8, 32: 64}, {16: 32}, {4: 8, 16: 32}])
def test_a_missing_stride_means_no_skip_and_a_finer_end_fewer_levels(channels) -> None:
    head = smp_unet.SmpUNet(_request(channels))
    assert len(head.decoder.blocks) == max(channels).bit_length() - 1
    assert [block.conv1[0].out_channels for block in head.decoder.blocks] == [256, 128, 64, 32, 16][-len(head.decoder.blocks) :]
    assert head(_pyramid(channels)).shape == (2, 1, 64, 64)


@pytest.mark.parametrize(("channels", "problem"), [({14: 8}, "stride 14"), ({64: 8, 32: 8}, "start at stride 64"), ({1: 8}, "stride 1")])
def test_strides_it_cannot_use_are_refused(channels, problem) -> None:
    with pytest.raises(ConformanceError, match=problem):
        smp_unet.SmpUNet(_request(channels))


def test_a_frame_that_leaves_a_remainder_is_refused() -> None:
    with pytest.raises(UsageError, match="100 px leaves a remainder"):
        smp_unet.SmpUNet(_request(SMALL, frame_size=100))


def test_loss_is_the_mixed_loss_and_falls_when_trained_on_two_images() -> None:
    torch.manual_seed(0)
    head = smp_unet.SmpUNet(_request(SMALL))
    pyramid, masks = _pyramid(SMALL), torch.zeros(2, 1, 64, 64)
    masks[0, 0, 16:40, 8:32] = 1
    targets = Targets(masks=masks)
    optimiser = torch.optim.Adam(head.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        outputs = head(pyramid)
        loss = head.loss(outputs, targets)
        assert torch.equal(loss, mixed_loss_of(mixed_sums(outputs, masks)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert head.predict(outputs).min() >= 0
