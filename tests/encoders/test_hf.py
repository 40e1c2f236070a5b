"""Models of transformers, by folder: their own configuration, their own features, and no code of the folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers

from benchmark.cards import IMAGENET, BackboneRef, Normalisation
from benchmark.encoders import conformance
from benchmark.encoders import hf as family
from benchmark.encoders.build import build_backbone
from benchmark.encoders.library_weights import NotHere, without_asking
from benchmark.encoders.sealed import SealedEncoder
from benchmark.errors import CheckpointError, ConformanceError, EnvironmentProblem, LobeError, UsageError

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
PLAIN = {
    "dinov2": transformers.Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14),
    "vit": transformers.ViTConfig(**SMALL, image_size=64, patch_size=16),
    "clip": transformers.CLIPVisionConfig(**SMALL, image_size=64, patch_size=16),
    "dinov2 with registers": transformers.Dinov2WithRegistersConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14, num_register_tokens=4
    ),
    "dinov3": transformers.DINOv3ViTConfig(**SMALL, image_size=64, patch_size=16, num_register_tokens=4),
    "siglip": transformers.SiglipVisionConfig(**SMALL, image_size=64, patch_size=16),
}
STAGES = {
    "swin": transformers.SwinConfig(embed_dim=12, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], image_size=224),
    "convnext": transformers.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1]),
    "resnet": transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic"),
}


@pytest.fixture
def folder(tmp_path: Path):
    """A folder with a DINOv2 of the library's own saving, and its image processor's statistics."""
    torch.manual_seed(0)
    model = transformers.Dinov2Model(PLAIN["dinov2"])
    model.save_pretrained(tmp_path / "tiny-dino")
    (tmp_path / "tiny-dino" / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25] * 3}))
    return tmp_path / "tiny-dino", model.eval()


@pytest.mark.parametrize("kind", sorted(PLAIN))
def test_plain_transformer_is_one_grid_at_its_patchs_stride_at_any_size(kind):
    torch.manual_seed(0)
    backbone = family.HuggingFaceBackbone(kind, PLAIN[kind])
    patch = PLAIN[kind].patch_size
    assert backbone.spec.strides == {patch: 32}
    conformance.check(SealedEncoder(backbone, IMAGENET), 6 * patch)


@pytest.mark.parametrize("kind", sorted(STAGES))
def test_model_with_stages_gives_them(kind):
    torch.manual_seed(0)
    backbone = family.HuggingFaceBackbone(kind, STAGES[kind])
    assert sorted(backbone.spec.strides) == [4, 8, 16, 32]
    conformance.check(SealedEncoder(backbone, IMAGENET), 224 if kind == "swin" else 64)


def test_swin_stages_are_those_before_downsampling():
    torch.manual_seed(0)
    backbone = family.HuggingFaceBackbone("swin", STAGES["swin"]).eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        found = backbone.network.encoder(
            *_embedded(backbone.network, images), output_hidden_states=True, output_hidden_states_before_downsampling=True
        )
        maps = backbone.pyramid(images)
    assert backbone.spec.strides == {4: 12, 8: 24, 16: 48, 32: 96}
    for stride, state in zip((4, 8, 16), found.reshaped_hidden_states[1:], strict=False):
        torch.testing.assert_close(maps[stride], state, atol=1e-6, rtol=1e-6)


def _embedded(network, images):
    return network.embeddings(images)


def test_folder_with_its_weights_equals_the_librarys_model(folder):
    path, model = folder
    weights = family.library_weights(str(path), "DEFAULT")
    assert weights.normalisation == Normalisation(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    ref = BackboneRef(family="hf", model=str(path), layout="hf", digest=None)
    backbone, account = build_backbone(ref, weights.path, init_seed=1)
    images = torch.randn(2, 3, 56, 56)
    with torch.no_grad():
        tokens = model(images).last_hidden_state
        features = backbone.eval().pyramid(images)[14]
    assert account.share_loaded == 1
    torch.testing.assert_close(features.flatten(2).transpose(1, 2), tokens[:, 1:], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(backbone.pooled(images), tokens[:, 0], atol=1e-6, rtol=1e-6)


def test_file_of_another_size_is_refused_with_the_account(folder):
    path, _ = folder
    config = PLAIN["dinov2"].to_dict() | {"hidden_size": 48}
    (path / "config.json").write_text(json.dumps(config))
    ref = BackboneRef(family="hf", model=str(path), layout="hf", digest=None)
    with pytest.raises(CheckpointError, match=r"(?s)wrong shape\s+\d+"):
        build_backbone(ref, path / "model.safetensors", init_seed=0)


def test_code_in_a_folder_is_not_run(tmp_path):
    trace = tmp_path / "trace"
    (tmp_path / "evil.py").write_text(f"import os\nos.mkdir({str(trace)!r})\n")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}}))
    with pytest.raises(EnvironmentProblem):
        family.build(str(tmp_path))
    assert not trace.exists()


def test_folder_without_configuration_is_a_sentence(tmp_path):
    with pytest.raises(UsageError, match=r"config\.json"):
        family.build(str(tmp_path))


def test_text_model_is_no_image_encoder(tmp_path):
    transformers.BertConfig(**SMALL).save_pretrained(tmp_path)
    with pytest.raises(ConformanceError, match="is no image encoder"):
        family.build(str(tmp_path))


@pytest.mark.parametrize("kind", ["dinov2 with registers", "dinov3"])
def test_registers_are_left_out_of_the_grid(kind):
    torch.manual_seed(0)
    backbone = family.HuggingFaceBackbone("tiny", PLAIN[kind]).eval()
    patch = PLAIN[kind].patch_size
    images = torch.randn(1, 3, 4 * patch, 4 * patch)
    with torch.no_grad():
        tokens = backbone.network(pixel_values=images).last_hidden_state
        grid = backbone.pyramid(images)[patch]
    assert tokens.shape[1] == 1 + 4 + 16
    torch.testing.assert_close(grid.flatten(2).transpose(1, 2), tokens[:, 5:], atol=1e-6, rtol=1e-6)


def test_tokens_of_which_nobody_knows_where_they_stand_are_refused():
    """YOLOS: a class token, the patches, and tokens for detections behind them."""
    config = transformers.YolosConfig(**SMALL, image_size=[64, 64], patch_size=16, num_detection_tokens=10)
    backbone = family.HuggingFaceBackbone("tiny", config).eval()
    for read in (backbone.pyramid, backbone.pooled):
        with torch.no_grad(), pytest.raises(ConformanceError, match=r"hf:tiny gives 11 tokens beside its patches; .* as a Python backbone"):
            read(torch.randn(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        (
            {"image_mean": [0.4] * 3, "image_std": [0.2] * 3, "rescale_factor": 0.00392156862},
            Normalisation(mean=(0.4,) * 3, std=(0.2,) * 3),
        ),
        ({"image_mean": [0.4] * 3, "image_std": [0.2] * 3, "do_normalize": False}, Normalisation(mean=(0.0,), std=(1.0,))),
        ({"image_mean": [120.0] * 3, "image_std": [60.0] * 3, "do_rescale": False}, None),
        ({"image_mean": [123.675, 116.28, 103.53], "image_std": [58.395, 57.12, 57.375]}, None),
        ({"image_mean": [0.0] * 3, "image_std": [1.0] * 3, "rescale_factor": 1 / 255, "rescale_offset": True}, None),
        ({"image_mean": [0.4] * 3, "image_std": [0.2] * 3, "rescale_offset": False}, Normalisation(mean=(0.4,) * 3, std=(0.2,) * 3)),
        ({"image_mean": [0.0] * 3, "image_std": [1.0] * 3, "rescale_factor": 2 / 255}, None),
        ({"size": {"height": 224}}, None),
    ],
)
def test_statistics_of_another_scale_or_of_a_step_that_is_off_are_not_taken(tmp_path, configuration, expected):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(configuration))
    assert family.own_normalisation(str(tmp_path)) == expected


def _saved(folder: Path, config, **extra) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config.to_dict() | extra))
    return folder


def test_weights_in_several_files_are_loaded_through_their_index(tmp_path):
    torch.manual_seed(3)
    model = transformers.ViTModel(transformers.ViTConfig(**SMALL, image_size=64, patch_size=16)).eval()
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    weights = family.library_weights(str(tmp_path), "DEFAULT")
    assert weights.path.name == "model.safetensors.index.json"
    backbone, account = build_backbone(BackboneRef(family="hf", model=str(tmp_path), layout="hf", digest=None), weights.path, init_seed=1)
    assert account.share_loaded == 1
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(backbone.eval().pooled(images), model(images, interpolate_pos_encoding=True).last_hidden_state[:, 0])


def test_folder_without_weights_names_its_files_and_no_command(tmp_path):
    _saved(tmp_path, PLAIN["vit"])
    with pytest.raises(UsageError, match=r"no weight called .*There are: config\.json") as refused:
        family.library_weights(str(tmp_path), "DEFAULT")
    assert "lobe list" not in str(refused.value)


def test_a_folder_that_is_empty_or_not_there_is_said_to_be_so(tmp_path):
    with pytest.raises(UsageError, match=r"the folder is empty. It should hold config\.json and model\.safetensors"):
        family.library_weights(str(tmp_path), "DEFAULT")
    with pytest.raises(UsageError, match="there is no such folder"):
        family.library_weights(str(tmp_path / "mistyped"), "DEFAULT")


def test_repository_gives_the_first_file_it_has_and_every_shard_of_an_index(tmp_path, monkeypatch):
    from huggingface_hub.errors import EntryNotFoundError

    index = {"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    asked = []

    def download(_repository, name, **_how):
        asked.append(name)
        if name == "model.safetensors":
            raise EntryNotFoundError("none")
        return str(tmp_path / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert family.library_weights("owner/model", "DEFAULT").path.name == "model.safetensors.index.json"
    assert asked == ["model.safetensors", "model.safetensors.index.json", "part-1.safetensors", "part-2.safetensors"]


def test_repository_without_any_weights_file_is_a_sentence_with_the_cure(monkeypatch):
    from huggingface_hub.errors import EntryNotFoundError

    def absent(_repository, name, **_how):
        raise EntryNotFoundError(f"404: {name}")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", absent)
    with pytest.raises(EnvironmentProblem, match=r"hf:owner/model@DEFAULT.*404: model\.safetensors.*hf:owner/model@FILE"):
        family.library_weights("owner/model", "DEFAULT")


def test_a_hub_that_may_not_be_asked_is_not(tmp_path, monkeypatch, no_network):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with without_asking(), pytest.raises(NotHere, match=r"hf:owner/model@DEFAULT are not on this machine"):
        family.library_weights("owner/model", "DEFAULT")


def test_model_without_any_feature_map_is_refused(monkeypatch):
    monkeypatch.setattr(family.HuggingFaceBackbone, "_states", lambda self, images: [])  # every image model of the pinned release has some
    with pytest.raises(ConformanceError, match="transformers' ResNetModel returns no feature maps"):
        family.HuggingFaceBackbone("resnet", STAGES["resnet"])


def test_masked_autoencoder_sees_the_whole_image_in_order(tmp_path):
    torch.manual_seed(3)
    decoder = {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2, "decoder_intermediate_size": 16}
    whole = transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**SMALL, image_size=64, patch_size=16, **decoder))
    whole.save_pretrained(tmp_path)
    file = family.library_weights(str(tmp_path), "DEFAULT").path
    backbone, account = build_backbone(BackboneRef(family="hf", model=str(tmp_path), layout="hf", digest=None), file, init_seed=1)
    assert account.share_loaded == 1
    assert account.unexpected == ()
    conformance.check(SealedEncoder(backbone, IMAGENET), 64)
    plain = transformers.ViTModel(PLAIN["vit"], add_pooling_layer=False).eval()
    plain.load_state_dict(whole.vit.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        tokens = plain(images).last_hidden_state[:, 1:]
        grid = backbone.eval().pyramid(images)[16]
    torch.testing.assert_close(grid.flatten(2).transpose(1, 2), tokens, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_folder_of_another_precision_runs_in_float32(tmp_path, key):
    torch.manual_seed(3)
    model = transformers.ViTModel(transformers.ViTConfig(**SMALL, image_size=64, patch_size=16)).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    _saved(tmp_path, PLAIN["vit"], **{key: "bfloat16"})
    file = family.library_weights(str(tmp_path), "DEFAULT").path
    backbone, _ = build_backbone(BackboneRef(family="hf", model=str(tmp_path), layout="hf", digest=None), file, init_seed=1)
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.float32}
    assert torch.equal(backbone.network.layernorm.weight, model.layernorm.weight.float())
    assert backbone.pyramid(torch.randn(1, 3, 64, 64))[16].dtype == torch.float32


@pytest.mark.parametrize("kind", sorted(PLAIN | STAGES))
def test_attention_is_the_one_that_the_library_chooses_by_itself_and_the_seed_gives_its_numbers(kind):
    config = (PLAIN | STAGES)[kind]
    half = {"clip": transformers.CLIPVisionModel, "siglip": transformers.SiglipVisionModel}.get(kind)
    torch.manual_seed(7)
    plain = half(config) if half else transformers.AutoModel.from_config(config)
    torch.manual_seed(7)
    ours = family.HuggingFaceBackbone(kind, type(config)(**config.to_diff_dict())).network
    assert ours.config._attn_implementation == plain.config._attn_implementation
    mine, theirs = next(ours.parameters()), next(getattr(plain, "vision_model", plain).parameters())
    assert torch.equal(mine, theirs)


def test_attention_that_needs_another_package_is_replaced_by_the_pinned_one(tmp_path):
    network = family.build(str(_saved(tmp_path, PLAIN["vit"], _attn_implementation="flash_attention_2"))).network
    assert network.config._attn_implementation == "sdpa"


def test_network_of_one_channel_sees_one_of_three_equal_channels(tmp_path):
    torch.manual_seed(3)
    config = transformers.ViTConfig(**SMALL, image_size=64, patch_size=16, num_channels=1)
    model = transformers.ViTModel(config).eval()
    backbone = family.HuggingFaceBackbone("grey", config).eval()
    backbone.network.load_state_dict(model.state_dict(), strict=False)
    conformance.check(SealedEncoder(backbone, Normalisation(mean=(0.5,), std=(0.25,))), 64)
    image = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone.pooled(image.expand(-1, 3, -1, -1)), model(image).last_hidden_state[:, 0])
    with pytest.raises(ConformanceError, match="takes 4 channels"):
        family.HuggingFaceBackbone("four", transformers.ViTConfig(**SMALL, num_channels=4))


BROKEN = {
    **{f"{key}={value}": {key: value} for key in ("hidden_size", "num_hidden_layers", "patch_size") for value in (-1, "x", None, 10**12)},
    "no heads": {"num_attention_heads": 0},
    "architecture without a model of its own": {"model_type": "trocr"},
    "a billion layers": {"num_hidden_layers": 10**9},
    "petabytes": {"hidden_size": 900_000, "intermediate_size": 900_000, "num_attention_heads": 2},
    "unknown activation": {"hidden_act": "nonesuch"},
    "unknown architecture": {"model_type": "nonesuch"},
    "architecture of another kind": {"model_type": ["vit"]},
    "no architecture": {"model_type": None},
    "dtype": {"dtype": "float33"},
    "channels": {"num_channels": "three"},
    "image size": {"image_size": [64]},
}


@pytest.mark.parametrize("kind", BROKEN)
def test_malformed_configuration_ends_in_a_sentence(tmp_path, kind):
    with pytest.raises(LobeError, match=r"hf:|config"):
        conformance.check(SealedEncoder(family.build(str(_saved(tmp_path, PLAIN["vit"], **BROKEN[kind]))), IMAGENET), 64)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", '{"model_type": "vit"', "\udcff", '{"vision_config": 3, "model_type": "clip"}']
)
def test_configuration_that_is_no_json_object_ends_in_a_sentence(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(LobeError, match="hf:"):
        family.build(str(tmp_path))


@pytest.mark.parametrize(
    "content",
    ["", "[]", "3", '{"image_mean": "x", "image_std": [1]}', '{"image_mean": [0.5], "image_std": [0]}', '{"rescale_factor": "x"}',
     '{"image_mean": [0.5, 0.5], "image_std": [0.5, 0.5]}', '{"image_mean": [0.5], "image_std": [0.5, 0.5, 0.5]}',
     '{"image_mean": [NaN], "image_std": [0.5]}'],
)  # fmt: skip
def test_malformed_statistics_end_in_a_sentence(tmp_path, content):
    (tmp_path / "preprocessor_config.json").write_text(content)
    with pytest.raises(UsageError, match=r"preprocessor_config\.json of hf:.*malformed"):
        family.own_normalisation(str(tmp_path))
