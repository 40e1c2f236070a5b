"""Models of transformers, by folder: their own configuration, their own features, and no code of the folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers

from benchmark.cards import IMAGENET, BackboneRef, Normalisation
from benchmark.encoders import hf as family
from benchmark.encoders.build import build_backbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.errors import CheckpointError, ConformanceError, EnvironmentProblem, UsageError

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
    SealedEncoder(backbone, IMAGENET).conformance(6 * patch)


@pytest.mark.parametrize("kind", sorted(STAGES))
def test_model_with_stages_gives_them(kind):
    torch.manual_seed(0)
    backbone = family.HuggingFaceBackbone(kind, STAGES[kind])
    assert sorted(backbone.spec.strides) == [4, 8, 16, 32]
    SealedEncoder(backbone, IMAGENET).conformance(224 if kind == "swin" else 64)


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


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        (
            {"image_mean": [0.4] * 3, "image_std": [0.2] * 3, "rescale_factor": 0.00392156862},
            Normalisation(mean=(0.4,) * 3, std=(0.2,) * 3),
        ),
        ({"image_mean": [0.4] * 3, "image_std": [0.2] * 3, "do_normalize": False}, Normalisation(mean=(0.0,), std=(1.0,))),
        ({"image_mean": [120.0] * 3, "image_std": [60.0] * 3, "do_rescale": False}, None),
        ({"image_mean": [0.0] * 3, "image_std": [1.0] * 3, "rescale_factor": 2 / 255}, None),
        ({"size": {"height": 224}}, None),
    ],
)
def test_statistics_of_another_scale_or_of_a_step_that_is_off_are_not_taken(tmp_path, configuration, expected):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(configuration))
    assert family.own_normalisation(str(tmp_path)) == expected
