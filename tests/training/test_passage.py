"""What one image passes through: multiply-adds counted as by hand, on the grids that the head reads, and nothing moved by counting."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmark.cards import IMAGENET, BackboneSpec, Switches
from benchmark.encoders.base import Backbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.heads.base import HeadRequest
from benchmark.heads.networks.pyramid import on_one_grid
from benchmark.registry import plugin
from benchmark.training.passage import passage_of_head

SIDE = 64
LINEAR, UNET = "rsna-linear-frozen-100", "covid-rural-unet-frozen-100"


class Patches(Backbone):
    """One convolution over patches and, where it is wanted, attention over them."""

    def __init__(self, patch: int, width: int = 8, attention: bool = False):
        super().__init__()
        self.spec = BackboneSpec(name="patches", strides={patch: width}, embed_dim=width)
        self.input_multiple = patch
        self.convolve = nn.Conv2d(3, width, patch, stride=patch)
        self.attend = nn.MultiheadAttention(width, 2, batch_first=True) if attention else None

    def pyramid(self, images, strides=None):
        maps = self.convolve(images)
        if self.attend is not None:
            places = maps.flatten(2).transpose(1, 2)
            maps = self.attend(places, places, places, need_weights=False)[0].transpose(1, 2).reshape(maps.shape)
        return dict.fromkeys(self.spec.strides, maps)

    def pooled(self, images):
        return self.convolve(images).mean(dim=(2, 3))


def passage(backbone: Backbone, head: str = "linear", **switches):
    encoder = SealedEncoder(backbone, IMAGENET)
    request = HeadRequest(backbone.spec.strides, 2, SIDE, Switches(**switches), backbone.spec.embed_dim)
    return passage_of_head(encoder, on_one_grid(request, plugin("heads", head).build), SIDE)


def test_multiply_adds_of_a_convolution_and_a_linear_head_are_those_by_hand() -> None:
    found = passage(Patches(16), linear_grid="native")
    assert found.macs == {"encoder": 4 * 4 * 8 * 3 * 16 * 16, "head": 4 * 4 * 8 * 2}
    assert (found.input_size, found.grids) == (64, (4,))


def test_a_head_on_an_averaged_map_reads_that_grid_and_costs_less() -> None:
    found = passage(Patches(16))
    assert (found.grids, found.macs["head"]) == ((2,), 2 * 2 * 8 * 2)


def test_a_patch_that_does_not_divide_the_frame_is_given_another_side() -> None:
    found = passage(Patches(14), linear_grid="native")
    assert (found.input_size, found.grids) == (70, (4,))
    assert found.macs["encoder"] == 5 * 5 * 8 * 3 * 14 * 14


def test_attention_is_counted_though_one_kernel_may_run_all_of_it() -> None:
    """Projections of queries, keys, values and output; scores and their sum."""
    without, found = passage(Patches(16)), passage(Patches(16, attention=True))
    assert found.macs["encoder"] - without.macs["encoder"] == 16 * 8 * 8 * 4 + 2 * 16 * 16 * 8


def test_a_network_that_cannot_be_counted_has_a_grid_and_no_multiply_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Patches(16)
    monkeypatch.setattr(backbone, "pyramid", lambda images, strides=None: {}[0])
    assert passage(backbone).macs == {}
    assert torch.backends.mha.get_fastpath_enabled()


def test_records_say_what_an_image_passed_through(small, tiny) -> None:
    backbone = tiny("passage")
    linear, unet = (small.fit(*small.one(task, backbone)) for task in (LINEAR, UNET))
    assert (linear.input_size, linear.grids, unet.grids) == (64, (2,), (2, 4, 8, 16, 32))
    assert (
        linear.macs["encoder"]
        == unet.macs["encoder"]
        == 32 * 32 * 9 * 3 * 4 + 16 * 16 * 9 * 4 * 8 + 8 * 8 * 9 * 64 + 16 * 9 * 64 + 4 * 9 * 8 * 16
    )
    assert linear.macs["head"] == 2 * 2 * 16 < unet.macs["head"]
    assert linear.parameters["trained"] == linear.parameters["head"] == 17
    assert type(linear).model_validate_json(linear.model_dump_json()) == linear
    earlier = linear.model_dump(mode="json", exclude={"input_size", "grids", "macs"})
    assert type(linear).model_validate(earlier).macs == {}
