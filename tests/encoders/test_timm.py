"""timm's models as pyramids: hierarchical ones by stage, plain transformers as one grid."""

from __future__ import annotations

import pytest
import timm
import torch

from benchmark import registry
from benchmark.cards import IMAGENET, Normalisation
from benchmark.encoders import conformance
from benchmark.encoders import timm as family
from benchmark.encoders.checkpoints import load_checkpoint
from benchmark.encoders.library_weights import NotHere, without_asking
from benchmark.encoders.sealed import SealedEncoder
from benchmark.errors import CheckpointError, ConformanceError, EnvironmentProblem, UnknownName, UsageError


@pytest.mark.parametrize("model", ["resnet10t", "convnext_atto", "mobilenetv3_small_050"])
def test_hierarchical_model_keeps_its_contract(model):
    torch.manual_seed(0)
    conformance.check(SealedEncoder(family.build(model), IMAGENET), 64)


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


def test_single_grid_is_the_last_block_after_its_norm_at_the_patchs_stride(vit):
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        tokens = vit.network.forward_features(images)[:, vit.network.num_prefix_tokens :]
        maps = vit.pyramid(images)
    assert list(maps) == [16]
    torch.testing.assert_close(maps[16], tokens.transpose(1, 2).unflatten(2, (6, 6)), atol=1e-5, rtol=1e-4)


def test_single_grid_keeps_its_contract_also_where_the_patch_does_not_divide_the_frame(vit):
    assert vit.input_multiple == 16
    conformance.check(SealedEncoder(vit, IMAGENET), 96)
    maps = SealedEncoder(vit, IMAGENET).pyramid(torch.zeros(1, 104, 104, dtype=torch.uint8))
    assert {stride: features.shape[-1] for stride, features in maps.items()} == {16: 6}


def test_positions_are_interpolated_to_the_input_by_the_librarys_own_rule(vit):
    """The same weights in a model made for the other size, its table resampled beforehand, give the same features."""
    other = timm.create_model("test_vit", img_size=96, num_classes=0).eval()
    state = dict(vit.network.state_dict())
    state["pos_embed"] = timm.layers.resample_abs_pos_embed(state["pos_embed"], (6, 6), num_prefix_tokens=vit.network.num_prefix_tokens)
    other.load_state_dict(state)
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(vit.pooled(images), other(images), atol=1e-6, rtol=1e-6)


def test_dinov3_of_timm_is_one_grid_without_its_registers():
    """Its places turn by the input's grid, so no table is interpolated."""
    torch.manual_seed(0)
    dino = family.build("vit_tiny_patch16_dinov3_qkvb").eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        tokens = dino.network.forward_features(images)
        grid = dino.pyramid(images)[16]
    assert tokens.shape[1] == 1 + 4 + 16
    torch.testing.assert_close(grid.flatten(2).transpose(1, 2), tokens[:, 5:], atol=1e-5, rtol=1e-4)


def test_four_taps_are_four_blocks_side_by_side_the_last_being_the_plain_map(vit):
    with torch.no_grad():
        taps = family.build("test_vit+taps").eval()
        taps.network.load_state_dict(vit.network.state_dict())
        images = torch.randn(1, 3, 64, 64)
        groups, plain = taps.pyramid(images)[16].chunk(4, dim=1), vit.pyramid(images)[16]
    assert taps.spec.taps == 4
    torch.testing.assert_close(groups[-1], plain)
    assert not torch.allclose(groups[0], plain)


@pytest.mark.parametrize(("model", "message"), [("resnet10t+taps", "stages"), ("test_vit+top", r"test_vit\+taps")])
def test_taps_of_a_model_without_blocks_or_another_variant_is_refused(model, message):
    with pytest.raises(UsageError, match=message):
        family.build(model)


@pytest.mark.parametrize("model", ["swin_tiny_patch4_window7_224", "convnext_atto", "maxvit_pico_rw_256"])
def test_hierarchical_models_give_their_stages_also_at_another_size(model):
    with torch.device("meta"):
        backbone = family.build(model)
    assert {4, 8, 16, 32} <= set(backbone.spec.strides)


def test_swin_runs_at_another_frame_than_it_was_made_for():
    maps = family.build("swin_tiny_patch4_window7_224").eval().pyramid(torch.zeros(1, 3, 64, 64))
    assert {stride: tuple(features.shape[1:]) for stride, features in maps.items()} == {
        4: (96, 16, 16),
        8: (192, 8, 8),
        16: (384, 4, 4),
        32: (768, 2, 2),
    }


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


def test_model_whose_weights_timm_does_not_publish_says_how_to_give_them():
    with pytest.raises(EnvironmentProblem, match=r"publishes no weights file for beit3_giant.*give one as timm:beit3_giant\w+@FILE"):
        family.library_weights("beit3_giant_patch14_224", "DEFAULT")


def test_fetched_weights_come_with_their_tag_and_statistics(tmp_path, monkeypatch):
    import huggingface_hub

    asked = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *given, **how: asked.append(given) or str(tmp_path / given[1]))
    found = family.library_weights("resnet50", "a1_in1k")
    assert asked == [("timm/resnet50.a1_in1k", "model.safetensors")]
    assert (found.path, found.title, found.pretraining) == (tmp_path / "model.safetensors", "resnet50 a1_in1k", None)
    assert found.normalisation == IMAGENET


@pytest.mark.parametrize(("tag", "own"), [("DEFAULT", None), ("augreg_in21k", None), ("dino", IMAGENET), ("mae", IMAGENET)])
def test_a_tag_has_statistics_of_its_own_where_the_model_is_built_with_others(tmp_path, monkeypatch, tag: str, own: Normalisation | None):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *given, **how: str(tmp_path / given[1]))
    found = family.library_weights("vit_base_patch16_224", tag)
    half = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert (found.own, found.normalisation, found.as_built) == (own, own or half, half)
    with torch.device("meta"):
        assert family.build("vit_base_patch16_224").spec.normalisation == found.as_built


def test_weights_that_cannot_be_had_are_a_sentence_with_the_cure(monkeypatch):
    import huggingface_hub

    def offline(*_args, **_kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(EnvironmentProblem, match=r"timm:resnet50@a1_in1k.*unreachable.*timm:resnet50@FILE"):
        family.library_weights("resnet50", "a1_in1k")


def test_a_hub_that_may_not_be_asked_is_not(tmp_path, monkeypatch, no_network):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with without_asking(), pytest.raises(NotHere, match=r"timm:resnet50@a1_in1k are not on this machine"):
        family.library_weights("resnet50", "a1_in1k")


# --------------------------------------------------------------------------------------- files of other code for timm's networks


def lite0_names() -> list[str]:
    """Names in the published EfficientNet-Lite0, in the order of its modules: 16 blocks counted through, the first without expansion."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = ["_conv_stem.weight", *(f"_bn0.{part}" for part in norm)]
    for block in range(16):
        for conv, bn in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
            if block or conv != "_expand_conv":
                names += [f"_blocks.{block}.{conv}.weight", *(f"_blocks.{block}.{bn}.{part}" for part in norm)]
    return [*names, "_conv_head.weight", *(f"_bn1.{part}" for part in norm), "_fc.weight", "_fc.bias"]


@pytest.fixture(scope="module")
def lite0_file(tmp_path_factory):
    """(timm's own network, the same weights under the published names): the two list their tensors in one order."""
    torch.manual_seed(3)
    source = timm.create_model("tf_efficientnet_lite0").eval()
    for name, buffer in source.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    path = tmp_path_factory.mktemp("lite0") / "weights.pth"
    torch.save(dict(zip(lite0_names(), source.state_dict().values(), strict=True)), path)
    return source, path


def test_published_lite0_file_loads_whole_by_its_names_and_computes_the_same(lite0_file):
    source, path = lite0_file
    card = registry.backbones()["efficientnet-lite0"]
    backbone = family.build(card.model).eval()
    account = load_checkpoint(backbone.network, path, card.layout, card.minimum_loaded)
    assert account.counts == {"loaded": 245, "ignored": 2, "missing": 0, "unexpected": 0, "wrong_shape": 0}
    assert account.ignored == ("_fc.weight", "_fc.bias")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone.pooled(images), source.forward_head(source.forward_features(images), pre_logits=True))
    conformance.check(SealedEncoder(backbone, card.normalisation), 64)


def test_a_lite0_file_with_a_block_too_many_or_too_few_is_refused(lite0_file, tmp_path):
    content = torch.load(lite0_file[1], weights_only=True)
    network = family.build("tf_efficientnet_lite0").network
    torch.save(content | {"_blocks.16._expand_conv.weight": torch.ones(1)}, tmp_path / "more.pth")
    with pytest.raises(CheckpointError, match="larger or different architecture"):
        load_checkpoint(network, tmp_path / "more.pth", "efficientnet-lite0", 1.0)
    torch.save({name: tensor for name, tensor in content.items() if not name.startswith("_blocks.9.")}, tmp_path / "fewer.pth")
    with pytest.raises(CheckpointError, match=r"blocks\.4\.1\.conv_pw\.weight"):
        load_checkpoint(network, tmp_path / "fewer.pth", "efficientnet-lite0", 1.0)
