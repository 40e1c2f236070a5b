"""Folders with both halves: transformers' CLIP and SigLIP, and open_clip's, equal their own libraries' arithmetic and load strictly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers

from benchmark import resolve
from benchmark.cards import IMAGENET, Normalisation
from benchmark.encoders import conformance, hf_text, open_clip
from benchmark.encoders.build import build_backbone
from benchmark.encoders.clip import ClipBackbone, ClipShape
from benchmark.encoders.sealed import SealedEncoder
from benchmark.encoders.text_contract import fault
from benchmark.errors import CheckpointChanged, ConformanceError, UsageError
from tests.text_folders import WORDS, with_words

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
IMAGE = SMALL | {"image_size": 64, "patch_size": 16}
TEXT = SMALL | {"vocab_size": len(WORDS), "max_position_embeddings": 8, "bos_token_id": 2, "eos_token_id": 8, "pad_token_id": 0}
TEXTS = ["no edema.", "mild effusion"]
STATISTICS = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def clip_folder(folder: Path) -> tuple[Path, transformers.CLIPModel]:
    torch.manual_seed(7)  # another than a backbone starts from
    model = transformers.CLIPModel(transformers.CLIPConfig(vision_config=IMAGE, text_config=TEXT, projection_dim=24)).eval()
    model.save_pretrained(with_words(folder))
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    return folder, model


def siglip_folder(folder: Path) -> tuple[Path, transformers.SiglipModel]:
    torch.manual_seed(7)  # another than a backbone starts from
    model = transformers.SiglipModel(transformers.SiglipConfig(vision_config=IMAGE, text_config=TEXT | {"projection_size": 32})).eval()
    model.save_pretrained(with_words(folder))
    return folder, model


def open_clip_folder(folder: Path, vision: dict, text: dict, joint: int, **model) -> Path:
    with_words(folder)
    config = {"model_cfg": {"embed_dim": joint, "vision_cfg": vision, "text_cfg": text, **model}, "preprocess_cfg": STATISTICS}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def native_folder(folder: Path) -> Path:
    """As open_clip's plain models: the exact GELU, heads of their own."""
    vision = {"layers": 2, "width": 64, "patch_size": 16, "image_size": 64, "head_width": 32}
    text = {"context_length": 8, "vocab_size": len(WORDS), "width": 32, "heads": 4, "layers": 2}
    open_clip_folder(folder, vision, text, 24)
    torch.manual_seed(1)
    torch.save(open_clip.build(str(folder)).network.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


def mixed_folder(folder: Path) -> Path:
    """As BiomedCLIP's: a timm ViT, a BERT, two layers behind it."""
    vision = {"timm_model_name": "test_vit", "timm_model_pretrained": False, "timm_pool": "", "timm_proj": "linear", "image_size": 224}
    bert = {"hf_model_name": "owner/bert", "hf_tokenizer_name": "owner/bert", "hf_pooler_type": "cls_last_hidden_state_pooler"}
    text = bert | {"hf_proj_type": "mlp", "context_length": 8}
    open_clip_folder(folder, vision, text, 24)
    transformers.BertConfig(**SMALL, vocab_size=len(WORDS), max_position_embeddings=8).save_pretrained(folder)
    torch.manual_seed(1)
    torch.save(open_clip.build(str(folder)).network.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


def resolved(folder: Path, cache: Path):
    found = resolve.backbone(f"hf:{folder}+text@DEFAULT", cache, reads_words=True)
    ref = found.named.ref.model_copy(update={"model": found.model})
    torch.manual_seed(5)
    backbone, account = build_backbone(ref, found.weights, init_seed=None, tokenizer=found.tokenizer)
    return found, backbone.eval(), account


MAKERS = {"clip": clip_folder, "siglip": siglip_folder, "native": native_folder, "mixed": mixed_folder}


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_a_folder_is_a_text_backbone_by_its_name_alone(tmp_path: Path, kind: str) -> None:
    MAKERS[kind](tmp_path / "towers")
    found, backbone, account = resolved(tmp_path / "towers", tmp_path / "cache")
    assert (account.share_loaded, account.missing, account.unexpected) == (1, (), ())
    assert found.named.label == "towers+text (DEFAULT)"
    assert str(tmp_path) not in found.named.ref.canonical
    assert len(found.named.ref.tokenizer) == 64
    encoder = SealedEncoder(backbone, IMAGENET)
    assert fault(encoder, torch.zeros(2, 64, 64, dtype=torch.uint8)) is None
    conformance.check(encoder, 64)
    with torch.no_grad():
        text = backbone.embed_texts(["no edema.", "no " * 20])
    assert text.n_truncated == 1
    assert text.mask[0].sum() == 3


@torch.no_grad()
@pytest.mark.parametrize("made", [clip_folder, siglip_folder])
def test_both_halves_equal_the_librarys_features(tmp_path: Path, made) -> None:
    folder, model = made(tmp_path / "towers")
    _, backbone, _ = resolved(folder, tmp_path / "cache")
    image, text = backbone.embed_images(IMAGES), backbone.embed_texts(TEXTS)
    tokens = backbone.tokenise(TEXTS, pad_to_limit=made is siglip_folder)
    mask = None if made is siglip_folder else tokens.mask.long()
    torch.testing.assert_close(image.global_, model.get_image_features(pixel_values=IMAGES).pooler_output, atol=1e-5, rtol=1e-5)
    theirs = model.get_text_features(input_ids=tokens.ids, attention_mask=mask).pooler_output
    torch.testing.assert_close(text.global_, theirs, atol=1e-5, rtol=1e-5)
    plain, _ = build_backbone(*_images_alone(folder, tmp_path), init_seed=None)
    torch.testing.assert_close(backbone.pyramid(IMAGES)[16], plain.eval().pyramid(IMAGES)[16])


def _images_alone(folder: Path, tmp_path: Path):
    found = resolve.backbone(f"hf:{folder}@DEFAULT", tmp_path / "cache")
    return found.named.ref.model_copy(update={"model": found.model}), found.weights


@torch.no_grad()
def test_a_place_that_stands_alone_reads_as_siglips_own_head_would(tmp_path: Path) -> None:
    folder, model = siglip_folder(tmp_path / "towers")
    _, backbone, _ = resolved(folder, tmp_path / "cache")
    states = model.vision_model(IMAGES).last_hidden_state
    expected = model.vision_model.head(states[1:, 6:7])
    torch.testing.assert_close(backbone.embed_images(IMAGES).local[1:, :, 1, 2], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_open_clips_plain_model_has_its_own_activation_and_heads(tmp_path: Path) -> None:
    _, backbone, _ = resolved(native_folder(tmp_path / "towers"), tmp_path / "cache")
    shape = ClipShape(**{**vars(backbone.shape), "activation": "quick_gelu"})
    openai = ClipBackbone("openai", shape).eval()
    openai.load_state_dict(backbone.state_dict())
    assert backbone.network.transformer.resblocks[0].attn.num_heads == 4
    assert not torch.allclose(openai.pooled(IMAGES), backbone.pooled(IMAGES), atol=1e-4)
    assert backbone.spec.normalisation == Normalisation(mean=(0.5,) * 3, std=(0.25,) * 3)


@torch.no_grad()
def test_a_timm_network_and_a_bert_are_put_together_as_the_configuration_says(tmp_path: Path) -> None:
    _, backbone, _ = resolved(mixed_folder(tmp_path / "towers"), tmp_path / "cache")
    names = set(backbone.network.state_dict())
    assert {"visual.trunk.cls_token", "visual.head.proj.weight", "text.proj.0.weight", "text.proj.2.weight", "logit_scale"} <= names
    bert, tokens = backbone.network.text.transformer, backbone.tokenise(TEXTS)
    first = bert(input_ids=tokens.ids, attention_mask=tokens.mask.long()).last_hidden_state[:, 0]
    torch.testing.assert_close(backbone.embed_texts(TEXTS).global_, backbone.network.text.proj(first))
    torch.testing.assert_close(backbone.embed_images(IMAGES).global_, backbone.network.visual.head.proj(backbone.pooled(IMAGES)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vision_cfg": {"layers": [3, 4, 6, 3]}}, "convolutions are not built"),
        ({"vision_cfg": {"layers": 2, "attentional_pool": True}}, "`attentional_pool` of `vision_cfg`"),
        ({"text_cfg": {"hf_model_name": "a/b", "hf_pooler_type": "max_pooler"}}, "has another partner"),
        ({"text_cfg": {"no_causal_mask": True}}, "`no_causal_mask` of `text_cfg`"),
    ],
)
def test_a_tower_of_another_kind_is_refused_by_the_key_that_says_so(tmp_path: Path, change: dict, said: str) -> None:
    folder = open_clip_folder(tmp_path / "towers", {"layers": 2}, {"layers": 2}, 24)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"] |= change
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ConformanceError, match=said):
        hf_text.build(str(folder))


def test_a_model_of_one_half_is_refused_and_names_the_other_way(tmp_path: Path) -> None:
    transformers.ViTConfig(**IMAGE).save_pretrained(tmp_path)
    with pytest.raises(ConformanceError, match=rf"vit is no CLIP and no SigLIP.*Images alone: hf:{tmp_path}\."):
        hf_text.build(str(tmp_path))


def test_a_folder_without_a_configuration_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no config\.json in this folder, and no open_clip_config\.json"):
        hf_text.build(str(tmp_path))
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"open_clip_config\.json is malformed"):
        hf_text.build(str(tmp_path))


def test_a_tokenizer_that_was_exchanged_after_planning_is_refused(tmp_path: Path) -> None:
    folder, _ = clip_folder(tmp_path / "towers")
    found = resolve.backbone(f"hf:{folder}+text@DEFAULT", tmp_path / "cache", reads_words=True)
    (folder / "vocab.txt").write_text("\n".join([*WORDS[:3], *reversed(WORDS[3:8]), WORDS[8]]) + "\n")
    ref = found.named.ref.model_copy(update={"model": found.model})
    with pytest.raises(CheckpointChanged, match=r"is another .* than the job was planned with"):
        build_backbone(ref, found.weights, init_seed=None, tokenizer=found.tokenizer)
