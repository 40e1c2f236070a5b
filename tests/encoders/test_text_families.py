"""Families with a text side: what one is without its text encoder, what is projected into the joint space, and names that are none."""

from __future__ import annotations

import re

import pytest
import torch
import transformers

from benchmark.encoders import g2d, gloria, local_region_clip, lovt, prior
from benchmark.encoders.clip import ClipShape
from benchmark.encoders.text import Tokenizer
from benchmark.errors import UnknownName, UsageError

BERT = transformers.BertConfig(vocab_size=16, hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32)
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "edema", "no", "."]
CLIP = ClipShape(
    patch=16, width=64, layers=2, image_size=64, joint=24, head_width=32, vocabulary=50, context=12, text_width=64, text_layers=2
)
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    transformers.BertConfig(vocab_size=len(VOCABULARY)).save_pretrained(folder)
    return Tokenizer(folder, gloria.MAX_TOKENS)


@pytest.mark.parametrize(
    ("family", "model", "nearest"),
    [
        (g2d, "resnet5", "g2d:resnet50"),
        (gloria, "resnet18", "gloria:resnet50"),
        (gloria, "resnet50+texts", "gloria:resnet50+text"),
        (prior, "resnet50+texts", "prior:resnet50+text"),
        (lovt, "convirtt", "lovt:convirt"),
        (local_region_clip, "vit-b-33", "local_region_clip:vit-b-32"),
    ],
    ids=lambda given: getattr(given, "__name__", given),
)
def test_an_unknown_model_suggests_the_nearest_name_that_can_be_typed(family, model: str, nearest: str) -> None:
    with pytest.raises(UnknownName, match=rf"no backbone called .*{re.escape(model)}'\. Did you mean .*{re.escape(nearest)}"):
        family.build(model)


@pytest.mark.parametrize(
    ("backbone", "whole"),
    [
        (lambda: g2d.G2D("resnet18"), "g2d:unet+text"),
        (lambda: gloria.Gloria("resnet18"), "gloria:resnet50+text"),
        (lambda: prior.Prior("resnet18"), "prior:resnet50+text"),
    ],
    ids=["g2d", "gloria", "prior"],
)
def test_the_image_half_alone_names_the_whole_when_it_is_asked_for_words(backbone, whole: str, tokenizer) -> None:
    made = backbone()
    made.tokenizer = tokenizer
    with pytest.raises(UsageError) as refused:
        made.embed_texts(["No edema."])
    assert str(refused.value).endswith(f"was built for images alone. For words name it with its text encoder: {whole}.")


@torch.no_grad()
@pytest.mark.parametrize(
    ("backbone", "projected"),
    [
        (lambda: gloria.Gloria("resnet18", BERT), lambda made, pooled: made.network.img_encoder.global_embedder(pooled)),
        (lambda: prior.Prior("resnet18", BERT), lambda made, pooled: made.network.global_image_projection(pooled)),
        (lambda: lovt.Lovt("lovt", "resnet18", BERT), lambda made, pooled: made.network.model_a.project_global(pooled)),
        (lambda: lovt.Lovt("convirt", "resnet18", BERT), lambda made, pooled: made.network.model_a.project_global(pooled)),
    ],
    ids=["gloria", "prior", "lovt", "convirt"],
)
def test_the_pooled_image_is_what_is_projected_into_the_joint_space(backbone, projected) -> None:
    torch.manual_seed(0)
    made = backbone().eval()
    pooled = made.pooled(IMAGES)
    assert pooled.shape == (2, made.spec.embed_dim)
    torch.testing.assert_close(projected(made, pooled), made.embed_images(IMAGES).global_, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("variant", "apart"), [("lovt", True), ("clip", False), ("convirt", False)])
def test_a_phrase_meets_places_in_the_space_of_lovts_local_losses(variant: str, apart: bool, tokenizer) -> None:
    """Its whole texts and its regions have projections of their own, which no loss brings together."""
    torch.manual_seed(0)
    made = lovt.Lovt(variant, "resnet18", BERT).eval()
    made.tokenizer = tokenizer
    text = made.embed_texts(["Edema.", "No edema. Edema."])
    assert text.mask.tolist() == [[True, False], [True, True]]
    means = torch.stack([text.local[0, :, 0], text.local[1].mean(dim=1)])
    torch.testing.assert_close(made.among_places(text), means if apart else text.global_)


@torch.no_grad()
def test_the_pooled_image_of_local_region_clip_is_clips_own() -> None:
    torch.manual_seed(0)
    made = local_region_clip.LocalRegionClip(CLIP).eval()
    pooled = made.pooled(IMAGES)
    assert torch.equal(pooled, made.clip.pooled(IMAGES))
    assert pooled.shape == (2, made.spec.embed_dim)
