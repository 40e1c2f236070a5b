"""CLIP's towers equal the library's at every size, and the adapter on them keeps its promises."""

from __future__ import annotations

import pytest
import torch
import transformers

from benchmark.cards import IMAGENET
from benchmark.encoders import clip, conformance
from benchmark.encoders.checkpoints import load_checkpoint
from benchmark.encoders.clip import ClipBackbone, ClipShape
from benchmark.encoders.local_region_clip import LocalRegionClip, rollout
from benchmark.encoders.sealed import SealedEncoder
from benchmark.errors import CheckpointError

SHAPE = ClipShape(
    patch=16, width=64, layers=2, image_size=64, joint=24, head_width=32, vocabulary=50, context=12, text_width=64, text_layers=2
)
IDS = torch.tensor([[48, 3, 4, 49, 0, 0], [48, 5, 6, 7, 8, 49]])
MASK = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])


def _built(shape=SHAPE):
    torch.manual_seed(0)
    return ClipBackbone("tiny", shape).eval()


def _library(backbone):
    """transformers' own CLIP with the same weights, its names mapped by hand."""
    tower = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        vision_config={**tower, "image_size": 64, "patch_size": 16},
        text_config={**tower, "vocab_size": 50, "max_position_embeddings": 12, "bos_token_id": 48, "eos_token_id": 49},
        projection_dim=24,
    )
    model = transformers.CLIPModel(config).eval()
    ours, state = backbone.network.state_dict(), {"logit_scale": backbone.network.logit_scale}
    for theirs, own in (("vision_model", "visual."), ("text_model", "")):
        for layer in range(2):
            at, to = f"{own}transformer.resblocks.{layer}.", f"{theirs}.encoder.layers.{layer}."
            for kind in ("weight", "bias"):
                parts = ours[f"{at}attn.in_proj_{kind}"].chunk(3)
                state |= {f"{to}self_attn.{name}_proj.{kind}": part for name, part in zip("qkv", parts, strict=True)}
                for one, other in (
                    ("attn.out_proj", "self_attn.out_proj"),
                    ("ln_1", "layer_norm1"),
                    ("ln_2", "layer_norm2"),
                    ("mlp.c_fc", "mlp.fc1"),
                    ("mlp.c_proj", "mlp.fc2"),
                ):
                    state[f"{to}{other}.{kind}"] = ours[f"{at}{one}.{kind}"]
    state |= {
        "vision_model.embeddings.class_embedding": ours["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": ours["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": ours["visual.positional_embedding"],
        "text_model.embeddings.token_embedding.weight": ours["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": ours["positional_embedding"],
        "visual_projection.weight": ours["visual.proj"].T,
        "text_projection.weight": ours["text_projection"].T,
    }
    for theirs, own in (("pre_layrnorm", "ln_pre"), ("post_layernorm", "ln_post")):
        state |= {f"vision_model.{theirs}.{kind}": ours[f"visual.{own}.{kind}"] for kind in ("weight", "bias")}
    state |= {f"text_model.final_layer_norm.{kind}": ours[f"ln_final.{kind}"] for kind in ("weight", "bias")}
    model.load_state_dict(state)
    return model


def test_both_towers_equal_the_librarys():
    backbone = _built()
    model, images = _library(backbone), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        seen = model.vision_model(images)
        said = model.text_model(IDS, MASK.long())
        torch.testing.assert_close(backbone.pooled(images), seen.pooler_output, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(backbone.embed_images(images).global_, model.visual_projection(seen.pooler_output), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(backbone.text_states(IDS)[MASK], said.last_hidden_state[MASK], atol=1e-6, rtol=1e-5)


def test_documented_number_of_tensors():
    with torch.device("meta"):
        state = clip.build("vit-b-32+text").network.state_dict()
    assert len(state) == 302
    assert state["visual.positional_embedding"].shape == (50, 768)
    assert state["visual.transformer.resblocks.11.attn.in_proj_weight"].shape == (2304, 768)
    assert state["token_embedding.weight"].shape == (49408, 512)
    assert state["logit_scale"].shape == ()


def test_flat_file_fills_the_image_tower_and_its_text_is_ignored(tmp_path):
    source = _built()
    torch.save(source.network.state_dict(), tmp_path / "clip.pt")
    torch.manual_seed(1)
    images_only = ClipBackbone("images", ClipShape(**{**vars(SHAPE), "vocabulary": 0})).eval()
    account = load_checkpoint(images_only.network, tmp_path / "clip.pt", "clip", 1.0)
    assert (account.unexpected, account.missing) == ((), ())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(images_only.pyramid(images)[16], source.pyramid(images)[16])
    torch.save({f"renamed.{name}": tensor for name, tensor in source.network.state_dict().items()}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"prefix:renamed\."):
        load_checkpoint(images_only.network, tmp_path / "other.pt", "clip", 1.0)


def test_file_with_positions_of_another_size_is_loaded_and_said_so(tmp_path):
    larger = ClipBackbone("larger", ClipShape(**{**vars(SHAPE), "image_size": 96}))
    torch.save(larger.network.state_dict(), tmp_path / "clip.pt")
    account = load_checkpoint(_built().network, tmp_path / "clip.pt", "clip-text", 1.0)
    assert account.resampled == ("visual.positional_embedding",)
    assert "resampled" in account.table()


def test_contract_at_the_tables_size_and_at_another():
    conformance.check(SealedEncoder(_built(), IMAGENET), 64)
    conformance.check(SealedEncoder(_built(), IMAGENET), 96)


# ------------------------------------------------------------------------------------------------------ local_region_clip


def _adapter(**options):
    torch.manual_seed(0)
    return LocalRegionClip(SHAPE, **options).eval()


@pytest.mark.parametrize("scorer", ["cls_last", "rollout", "learned"])
def test_selection_is_deterministic_and_of_the_size_asked_for(scorer):
    backbone, images = _adapter(scorer=scorer, n_regions=5), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        (regions, order), (again, _) = backbone.regions(images), backbone.regions(images)
    assert regions.shape == (2, 6, 64)
    assert torch.equal(regions, again)
    assert all(len(set(row.tolist())) == 5 for row in order)


def test_selecting_every_region_is_an_identity_but_for_order():
    backbone, images = _adapter(n_regions=16), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        regions, order = backbone.regions(images)
        tokens = backbone.network.visual(images)[0]
    assert sorted(order[0].tolist()) == list(range(16))
    torch.testing.assert_close(regions[0, 1:][order[0].argsort()], tokens[0, 1:])


def test_rows_of_the_rollout_sum_to_one():
    attention = [torch.rand(2, 2, 5, 5).softmax(dim=-1) for _ in range(3)]
    torch.testing.assert_close(rollout(attention).sum(dim=-1), torch.ones(2, 5))


def test_masked_words_change_no_output():
    backbone, images = _adapter(n_regions=4), torch.randn(2, 3, 64, 64)
    other = torch.where(MASK, IDS, 9)
    with torch.no_grad():
        for one, two in zip(backbone.interact(images, IDS, MASK), backbone.interact(images, other, MASK), strict=True):
            torch.testing.assert_close(one, two)


def test_with_frozen_encoders_gradients_reach_only_the_new_layers():
    backbone, images = _adapter(n_regions=4), torch.randn(2, 3, 64, 64)
    backbone.network.requires_grad_(False)
    of_regions, of_text = backbone.interact(images, IDS, MASK)
    image, text = backbone.embed_images(images).global_, backbone.clip.text_states(IDS)[:, 0] @ backbone.network.text_projection
    (backbone.loss(image, text, of_regions) + of_text.square().mean()).backward()
    assert all(parameter.grad is None for parameter in backbone.network.parameters())
    assert all(parameter.grad is not None for parameter in backbone.adapter.parameters())


def test_feature_levels_are_the_clip_encoders_own():
    backbone, images = _adapter(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(backbone.pyramid(images)[16], backbone.clip.pyramid(images)[16])
