"""timm's models as pyramids: hierarchical ones by stage, single-grid ones resampled."""

from __future__ import annotations

import pytest
import timm
import torch
from torch.nn import functional as F

from benchmark.cards import IMAGENET
from benchmark.encoders import timm as family
from benchmark.encoders.sealed import SealedEncoder
from benchmark.errors import ConformanceError, EnvironmentProblem, UnknownName


@pytest.mark.parametrize("model", ["resnet10t", "convnext_atto", "mobilenetv3_small_050"])
def test_hierarchical_model_keeps_its_contract(model):
    torch.manual_seed(0)
    SealedEncoder(family.build(model), IMAGENET).conformance(64)


def test_levels_equal_timms_own_feature_extractor():
    torch.manual_seed(0)
    backbone = family.build("resnet10t").eval()
    reference = timm.create_model("resnet10t", features_only=True, pretrained=False).eval()
    reference.load_state_dict(backbone.network.state_dict(), strict=False)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps, expected = backbone.pyramid(images), reference(images)
    assert list(maps) == [2, 4, 8, 16, 32]
    for features, other in zip(maps.values(), expected, strict=True):
        torch.testing.assert_close(features, other)


def test_deeper_stages_are_not_run():
    backbone = family.build("resnet10t").eval()
    backbone.network.layer4.register_forward_pre_hook(lambda *_: pytest.fail("layer4 was run"))
    assert set(backbone.pyramid(torch.randn(1, 3, 64, 64), (4, 16))) == {4, 16}


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    return family.build("test_vit").eval()


def test_single_grid_is_the_last_block_after_its_norm_resampled(vit):
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        tokens = vit.network.forward_features(images)[:, vit.network.num_prefix_tokens :]
        grid = tokens.transpose(1, 2).unflatten(2, (6, 6))
        maps = vit.pyramid(images)
    assert {stride: tuple(features.shape[-2:]) for stride, features in maps.items()} == {8: (12, 12), 16: (6, 6), 32: (3, 3)}
    torch.testing.assert_close(maps[16], grid, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(maps[32], F.interpolate(grid, size=(3, 3), mode="bilinear"), atol=1e-5, rtol=1e-4)


def test_single_grid_keeps_its_contract_also_where_the_patch_does_not_divide_the_frame(vit):
    assert vit.input_multiple == 16
    SealedEncoder(vit, IMAGENET).conformance(96)
    maps = SealedEncoder(vit, IMAGENET).pyramid(torch.zeros(1, 104, 104, dtype=torch.uint8))
    assert {stride: features.shape[-1] for stride, features in maps.items()} == {8: 13, 16: 6, 32: 3}


def test_unknown_model_suggests_the_nearest():
    with pytest.raises(UnknownName, match="timm:resnet18"):
        family.build("resnet181")


def test_model_without_intermediate_features_is_refused(monkeypatch):
    monkeypatch.setattr(family, "_network", lambda _model: torch.nn.Linear(1, 1))  # every model of the pinned timm has them
    with pytest.raises(ConformanceError, match="intermediate"):
        family.build("mobilevit_xxs")


def test_unknown_tag_suggests_the_nearest():
    with pytest.raises(UnknownName, match="a1_in1k"):
        family.library_weights("resnet50", "a1_in2k")


def test_weights_that_cannot_be_had_are_a_sentence_with_the_cure(monkeypatch):
    import huggingface_hub

    def offline(*_args, **_kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(EnvironmentProblem, match=r"timm:resnet50@a1_in1k.*unreachable.*timm:resnet50@FILE"):
        family.library_weights("resnet50", "a1_in1k")
