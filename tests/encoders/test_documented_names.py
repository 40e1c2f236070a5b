"""Every card's file at its full size, its tensors named and shaped as the documents say, finds a place in the card's encoder.

Names are written out here from the references (and, for the libraries' own layouts, from those libraries' releases), not read from LOBE's
encoders: a layer LOBE names otherwise is a missing tensor. Shapes alone, no numbers; loading is tested on small stand-ins beside this file.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from benchmark import registry
from benchmark.encoders.checkpoints import TensorAccount, _match, _refuse_second_copy, _with_one_prefix
from benchmark.encoders.layouts import Layout, layout_of
from benchmark.errors import CheckpointError

Names = dict[str, tuple[int, ...]]


def _under(prefix: str, names: Names) -> Names:
    return {prefix + name: shape for name, shape in names.items()}


def _layer(name: str, *shape: int) -> Names:
    """Weight and bias of a linear layer or convolution."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _norm(name: str, width: int) -> Names:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _statistics(name: str, width: int) -> Names:
    return {f"{name}.running_mean": (width,), f"{name}.running_var": (width,), f"{name}.num_batches_tracked": ()}


def _batch_norm(name: str, width: int) -> Names:
    return _norm(name, width) | _statistics(name, width)


def resnet50(channels: int = 3) -> Names:
    """docs/sources.md, GLoRIA: 53 convolutions and as many norms, 318 names."""
    names = {"conv1.weight": (64, channels, 7, 7)} | _batch_norm("bn1", 64)
    incoming = 64
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=1):
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            shapes = ((width, incoming, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1))
            for number, shape in enumerate(shapes, start=1):
                names |= {f"{at}.conv{number}.weight": shape} | _batch_norm(f"{at}.bn{number}", shape[0])
            if block == 0:
                names |= {f"{at}.downsample.0.weight": (4 * width, incoming, 1, 1)} | _batch_norm(f"{at}.downsample.1", 4 * width)
            incoming = 4 * width
    return names


def efficientnet_lite0() -> Names:
    """The port's own file, opened here: 16 blocks counted through, the first without expansion; 296 names with the classifier's two."""
    names = {"_conv_stem.weight": (32, 3, 3, 3)} | _batch_norm("_bn0", 32)
    incoming, number = 32, 0
    for width, kernel, blocks in ((16, 3, 1), (24, 3, 2), (40, 5, 2), (80, 3, 3), (112, 5, 3), (192, 5, 4), (320, 3, 1)):
        for _ in range(blocks):
            at, inner = f"_blocks.{number}", incoming * (6 if number else 1)
            if number:
                names |= {f"{at}._expand_conv.weight": (inner, incoming, 1, 1)} | _batch_norm(f"{at}._bn0", inner)
            names |= {f"{at}._depthwise_conv.weight": (inner, 1, kernel, kernel)} | _batch_norm(f"{at}._bn1", inner)
            names |= {f"{at}._project_conv.weight": (width, inner, 1, 1)} | _batch_norm(f"{at}._bn2", width)
            incoming, number = width, number + 1
    return names | {"_conv_head.weight": (1280, 320, 1, 1)} | _batch_norm("_bn1", 1280) | _layer("_fc", 1000, 1280)


def numbered(names: Names, last: int) -> Names:
    """docs/sources.md, BenchX: children by number, 0 the first convolution, up to stage `last`."""
    number = {"conv1": 0, "bn1": 1, **{f"layer{stage}": 3 + stage for stage in range(1, last + 1)}}
    split = {name: name.partition(".") for name in names}
    return {f"{number[head]}.{tail}": names[name] for name, (head, _, tail) in split.items() if head in number}


def bert() -> Names:
    """docs/sources.md, GLoRIA: BERT base, cased, 200 names with the old buffer of positions."""
    names = {
        "embeddings.position_ids": (1, 512),
        "embeddings.word_embeddings.weight": (28996, 768),
        "embeddings.position_embeddings.weight": (512, 768),
        "embeddings.token_type_embeddings.weight": (2, 768),
        **_norm("embeddings.LayerNorm", 768),
        **_layer("pooler.dense", 768, 768),
    }
    for layer in range(12):
        at = f"encoder.layer.{layer}"
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            names |= _layer(f"{at}.{part}", 768, 768)
        names |= _layer(f"{at}.intermediate.dense", 3072, 768) | _layer(f"{at}.output.dense", 768, 3072)
        names |= _norm(f"{at}.attention.output.LayerNorm", 768) | _norm(f"{at}.output.LayerNorm", 768)
    return names


def vit() -> Names:
    """docs/sources.md, BenchX: a ViT-B/16 in timm's (and MAE's) names."""
    names = {"cls_token": (1, 1, 768), "pos_embed": (1, 197, 768)} | _layer("patch_embed.proj", 768, 3, 16, 16) | _norm("norm", 768)
    for block in range(12):
        at = f"blocks.{block}"
        names |= _norm(f"{at}.norm1", 768) | _norm(f"{at}.norm2", 768)
        names |= _layer(f"{at}.attn.qkv", 2304, 768) | _layer(f"{at}.attn.proj", 768, 768)
        names |= _layer(f"{at}.mlp.fc1", 3072, 768) | _layer(f"{at}.mlp.fc2", 768, 3072)
    return names


def ported_vit() -> Names:
    """The same in the names of the PyTorch port that REFERS uses."""
    names = {"embeddings.cls_token": (1, 1, 768), "embeddings.position_embeddings": (1, 197, 768)}
    names |= _layer("embeddings.patch_embeddings", 768, 3, 16, 16) | _norm("encoder.encoder_norm", 768)
    for block in range(12):
        at = f"encoder.layer.{block}"
        names |= _norm(f"{at}.attention_norm", 768) | _norm(f"{at}.ffn_norm", 768)
        for part in ("query", "key", "value", "out"):
            names |= _layer(f"{at}.attn.{part}", 768, 768)
        names |= _layer(f"{at}.ffn.fc1", 3072, 768) | _layer(f"{at}.ffn.fc2", 768, 3072)
    return names


def _clip_blocks(layers: int, width: int) -> Names:
    names: Names = {}
    for block in range(layers):
        at = f"transformer.resblocks.{block}"
        names |= {f"{at}.attn.in_proj_weight": (3 * width, width), f"{at}.attn.in_proj_bias": (3 * width,)}
        names |= _layer(f"{at}.attn.out_proj", width, width) | _norm(f"{at}.ln_1", width) | _norm(f"{at}.ln_2", width)
        names |= _layer(f"{at}.mlp.c_fc", 4 * width, width) | _layer(f"{at}.mlp.c_proj", width, 4 * width)
    return names


def clip_visual(patch: int, layers: int, positions: int) -> Names:
    """The names of docs/sources.md, CLIP."""
    names = {"conv1.weight": (768, 3, patch, patch), "class_embedding": (768,), "positional_embedding": (positions, 768)}
    return names | _norm("ln_pre", 768) | _norm("ln_post", 768) | _clip_blocks(layers, 768)


def clip() -> Names:
    """The whole flat ViT-B/32 dict: 302 names."""
    names = _under("visual.", clip_visual(32, 12, 50) | {"proj": (768, 512)})
    names |= {"token_embedding.weight": (49408, 512), "positional_embedding": (77, 512), "text_projection": (512, 512), "logit_scale": ()}
    return names | _clip_blocks(12, 512) | _norm("ln_final", 512)


def swin_tiny() -> Names:
    """transformers' names of a Swin-T, patch 4, window 7."""
    names = _layer("embeddings.patch_embeddings.projection", 96, 3, 4, 4) | _norm("embeddings.norm", 96) | _norm("layernorm", 768)
    for stage, (depth, heads) in enumerate(((2, 3), (2, 6), (6, 12), (2, 24))):
        width = 96 * 2**stage
        for block in range(depth):
            at = f"encoder.layers.{stage}.blocks.{block}"
            for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
                names |= _layer(f"{at}.{part}", width, width)
            names |= {f"{at}.attention.self.relative_position_bias_table": (169, heads)}
            names |= {f"{at}.attention.self.relative_position_index": (49, 49)}
            names |= _norm(f"{at}.layernorm_before", width) | _norm(f"{at}.layernorm_after", width)
            names |= _layer(f"{at}.intermediate.dense", 4 * width, width) | _layer(f"{at}.output.dense", width, 4 * width)
        if stage < 3:
            at = f"encoder.layers.{stage}.downsample"
            names |= {f"{at}.reduction.weight": (2 * width, 4 * width)} | _norm(f"{at}.norm", 4 * width)
    return names


def dinov2() -> Names:
    """transformers' names of a DINOv2 ViT-B/14 at 518 pixels: 37 x 37 patches and the class token."""
    names = {
        "embeddings.cls_token": (1, 1, 768),
        "embeddings.mask_token": (1, 768),
        "embeddings.position_embeddings": (1, 1370, 768),
        **_layer("embeddings.patch_embeddings.projection", 768, 3, 14, 14),
        **_norm("layernorm", 768),
    }
    for block in range(12):
        at = f"encoder.layer.{block}"
        for part in ("attention.attention.query", "attention.attention.key", "attention.attention.value", "attention.output.dense"):
            names |= _layer(f"{at}.{part}", 768, 768)
        names |= {f"{at}.layer_scale1.lambda1": (768,), f"{at}.layer_scale2.lambda1": (768,)}
        names |= _norm(f"{at}.norm1", 768) | _norm(f"{at}.norm2", 768)
        names |= _layer(f"{at}.mlp.fc1", 3072, 768) | _layer(f"{at}.mlp.fc2", 768, 3072)
    return names


def siglip_vision() -> Names:
    """transformers' names of the image half of SigLIP-400M at 448 pixels, its pooling head included."""
    names = {"embeddings.position_embedding.weight": (1024, 1152)} | _norm("post_layernorm", 1152)
    names |= _layer("embeddings.patch_embedding", 1152, 3, 14, 14)
    for block in range(27):
        at = f"encoder.layers.{block}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            names |= _layer(f"{at}.self_attn.{part}", 1152, 1152)
        names |= _norm(f"{at}.layer_norm1", 1152) | _norm(f"{at}.layer_norm2", 1152)
        names |= _layer(f"{at}.mlp.fc1", 4304, 1152) | _layer(f"{at}.mlp.fc2", 1152, 4304)
    head = {"probe": (1, 1, 1152), "attention.in_proj_weight": (3456, 1152), "attention.in_proj_bias": (3456,)}
    head |= _layer("attention.out_proj", 1152, 1152) | _norm("layernorm", 1152)
    return names | _under("head.", head | _layer("mlp.fc1", 4304, 1152) | _layer("mlp.fc2", 1152, 4304))


def old_swin_large() -> Names:
    """A Swin-L, window 12, in the names of timm 0.5.4, which Ark+ pins: a stage shrinks at its end."""
    names = _layer("patch_embed.proj", 192, 3, 4, 4) | _norm("patch_embed.norm", 192) | _norm("norm", 1536)
    for stage, (depth, heads) in enumerate(((2, 6), (2, 12), (18, 24), (2, 48))):
        width = 192 * 2**stage
        for block in range(depth):
            at = f"layers.{stage}.blocks.{block}"
            names |= _norm(f"{at}.norm1", width) | _norm(f"{at}.norm2", width)
            names |= {f"{at}.attn.relative_position_bias_table": (529, heads), f"{at}.attn.relative_position_index": (144, 144)}
            names |= _layer(f"{at}.attn.qkv", 3 * width, width) | _layer(f"{at}.attn.proj", width, width)
            names |= _layer(f"{at}.mlp.fc1", 4 * width, width) | _layer(f"{at}.mlp.fc2", width, 4 * width)
            names |= {f"{at}.attn_mask": (4, 144, 144)} if block % 2 and stage < 3 else {}
        if stage < 3:
            at = f"layers.{stage}.downsample"
            names |= {f"{at}.reduction.weight": (2 * width, 4 * width)} | _norm(f"{at}.norm", 4 * width)
    return names


def eva_x(width: int) -> Names:
    """EVA-02's names, which EVA-X's loader renames (hustvl/EVA-X at c65f047): attention and first layer fused in the two small ones."""
    names = {"cls_token": (1, 1, width), "pos_embed": (1, 197, width), "mask_token": (1, 1, width)}
    names |= _layer("patch_embed.proj", width, 3, 16, 16) | _norm("norm", width) | _layer("lm_head", 512, width)
    hidden = int(width * 8 / 3)
    for block in range(12):
        at = f"blocks.{block}"
        names |= _norm(f"{at}.norm1", width) | _norm(f"{at}.norm2", width) | _layer(f"{at}.attn.proj", width, width)
        names |= {f"{at}.attn.q_bias": (width,), f"{at}.attn.v_bias": (width,), f"{at}.attn.rope.freqs_cos": (196, 64)}
        names |= _layer(f"{at}.mlp.w3", width, hidden)
        if width < 768:
            names |= {f"{at}.attn.qkv.weight": (3 * width, width)} | _layer(f"{at}.mlp.w12", 2 * hidden, width)
        else:
            names |= {f"{at}.attn.{part}_proj.weight": (width, width) for part in "qkv"} | _norm(f"{at}.mlp.ffn_ln", hidden)
            names |= _layer(f"{at}.mlp.w1", hidden, width) | _layer(f"{at}.mlp.w2", hidden, width)
    return names


def _lovt(*, attends_regions: bool, attends_sentences: bool, normed: bool, local: bool) -> Names:
    """The names of docs/sources.md, LoVT."""
    names = _under("model_a.encoder.feature_extractor.backbone_layers.", resnet50())
    names |= _under("model_b.encoder.language_model.", bert())
    for side, width, attends in (("model_a", 2048, attends_regions), ("model_b", 768, attends_sentences)):
        if attends:
            at = f"{side}.encoder.global_aggregator.attention"
            names |= {f"{at}.in_proj_weight": (3 * width, width), f"{at}.in_proj_bias": (3 * width,)}
            names |= _layer(f"{at}.out_proj", width, width)
        for project in ("project_global", *(("project_local",) if local else ())):
            at = f"{side}.{project}"
            names |= _layer(f"{at}.projection_before", 2048, width) | _layer(f"{at}.projection_after", 512, 2048)
            names |= _batch_norm(f"{at}.norm", 2048) if normed else {}
    if local:
        names |= _batch_norm("ll_attention.norm", 512)
        for part in ("key", "value", "output"):
            names |= _layer(f"ll_attention.{part}_projection", 512, 512)
    others = ("loss_module.ll_alignments_a.0.pos_weights", "chexpert_bin_scan.x", "chexpert_bin_joint.x")
    return names | dict.fromkeys(others, (1,))


def _gloria() -> Names:
    names = _under("img_encoder.model.", resnet50()) | _layer("img_encoder.global_embedder", 768, 2048)
    names |= {"img_encoder.local_embedder.weight": (768, 1024, 1, 1)}
    return _under("gloria.", names | _under("text_encoder.model.", bert()))


def _prior() -> Names:
    """docs/sources.md, PRIOR: the full file."""
    names = _under("image_encoder.encoder.", resnet50(channels=1)) | _under("text_encoder.encoder.", bert())
    names |= {"image_encoder.atten_pool.positional_embedding": (50, 2048)}
    for part in ("k_proj", "q_proj", "v_proj", "c_proj"):
        names |= _layer(f"image_encoder.atten_pool.{part}", 2048, 2048) | _layer(f"global_text_attention.{part}", 768, 768)
    for part, width in (("global_image", 2048), ("local_image", 2048), ("global_text", 768), ("local_text", 768)):
        names |= _layer(f"{part}_projection", 768, width)
    for part in ("query1", "key1", "value1", "query2", "key2", "value2"):
        names |= _layer(f"local_cross_attention.{part}", 768, 768)
    names |= {"sentence_bank.embed.weight": (512, 768), "logit_scale": (), "local_logit_scale": (), "prototype_queries": (1, 16, 768)}
    others = ("predictor.0.weight", "predictor.2.weight", "sentence_decoder.x", "image_decoder.output_head.0.weight")
    return names | dict.fromkeys(others, (1,))


def _g2d_unet() -> Names:
    """docs/sources.md, G2D: 380 names."""
    names = _under("encoder.", resnet50()) | _layer("segmentation_head.0", 1, 16, 3, 3)
    for block, (incoming, outgoing) in enumerate(((3072, 256), (768, 128), (384, 64), (128, 32), (32, 16))):
        at = f"decoder.blocks.{block}"
        names |= {f"{at}.conv1.0.weight": (outgoing, incoming, 3, 3), f"{at}.conv2.0.weight": (outgoing, outgoing, 3, 3)}
        names |= _batch_norm(f"{at}.conv1.1", outgoing) | _batch_norm(f"{at}.conv2.1", outgoing)
    return names


def _g2d() -> Names:
    names = _under("img_model.", _g2d_unet()) | _under("lm_model.", bert()) | _layer("pseudo_conv", 128, 1024, 1, 1)
    names |= {"attnpool.positional_embedding": (65, 128), "attnpool.mhsa.in_proj_weight": (384, 128), "attnpool.mhsa.in_proj_bias": (384,)}
    names |= _layer("attnpool.mhsa.out_proj", 128, 128) | _layer("attnpool.c_proj", 128, 128)
    names |= {"proj_v.0.weight": (128, 2048, 1, 1), "proj_v.3.weight": (128, 128, 1, 1)} | _statistics("proj_v.1", 128)
    return names | {"proj_t.0.weight": (128, 768, 1), "proj_t.3.weight": (128, 128, 1)} | _statistics("proj_t.1", 128)


def _with(names: Names, *others: str) -> Names:
    return names | dict.fromkeys(others, (1,))


def _fully_connected(classes: int = 1000) -> Names:
    return _layer("fc", classes, 2048)


WHOLE_LOVT = {"attends_regions": True, "attends_sentences": True, "normed": True, "local": True}
CLIP_LIKE = WHOLE_LOVT | {"attends_sentences": False, "local": False}
DOCUMENTED: dict[str, tuple[Callable[[], Names], ...]] = {  # card: what its file may hold
    "lovt": (lambda: _lovt(**WHOLE_LOVT), lambda: _lovt(**CLIP_LIKE)),
    "lovt-text": (lambda: _lovt(**WHOLE_LOVT),),
    "lovt-clip-text": (lambda: _lovt(**CLIP_LIKE),),
    "lovt-convirt-text": (lambda: _lovt(**CLIP_LIKE | {"attends_regions": False, "normed": False}),),
    "lovt-baseline": (lambda: resnet50() | _fully_connected(),),
    "gloria": (_gloria,),
    "gloria-text": (_gloria,),
    "prior": (lambda: resnet50(channels=1), _prior),
    "prior-text": (_prior,),
    "g2d": (resnet50, lambda: _under("backbone.", resnet50()), _g2d),
    "g2d-unet": (_g2d_unet,),
    "g2d-text": (_g2d,),
    "local-region-clip": (clip, lambda: _under("model.", clip())),
    "convirt-benchx": (lambda: _with(_under("visual.model.", resnet50()), "vis_proj.0.weight", "vis_proj.2.bias"),),
    "medclip-resnet": (
        lambda: _with(
            _under("vision_model.model.", resnet50() | {"fc.weight": (512, 2048)}), "logit_scale", "text_model.projection_head.weight"
        ),
    ),
    "medclip-swin": (
        lambda: _with(
            _under("vision_model.model.", swin_tiny()),
            "vision_model.projection_head.weight",
            "logit_scale",
            "text_model.model.pooler.dense.bias",
        ),
    ),
    "medklip": (
        lambda: _with(
            _under("module.res_features.", numbered(resnet50(), 3)),
            *("module.res_l1.weight", "module.res_l2.bias", "module.decoder.x", "module.disease_embedding_layer.weight"),
            *("module.cl_fc.weight", "module.classifier.bias"),
        ),
    ),
    "mflag": (resnet50, lambda: _with(_under("encoder.", resnet50()), "proj_v.0.weight", "proj_t.0.weight", "lm_model.x")),
    "mgca-resnet": (
        lambda: _with(
            _under("img_encoder_q.model.", resnet50()),
            *("img_encoder_q.global_embed.head.0.weight", "img_encoder_q.local_embed.head.0.weight", "prototype_layer.weight"),
            "text_encoder_q.model.x",
        ),
    ),
    "mgca-vit": (lambda: _with(_under("img_encoder_q.model.", vit()), "img_encoder_q.global_embed.head.0.weight", "text_encoder_q.x"),),
    "mrm": (lambda: _with(vit(), "decoder_embed.weight", "mask_token", "bert_encoder.model.x", "bert_mlp.weight"),),
    "refers": (
        lambda: _with(_under("transformer.", ported_vit()), "head.weight"),
        lambda: _under("visual.vit.", ported_vit()),
        lambda: _with(_under("visual.vit.transformer.", ported_vit()), "visual.vit.head.weight"),
    ),
    "ptunifier": (lambda: _with(_under("vision_encoder.visual.", clip_visual(16, 11, 325)), "multi_modal_vision_layers.0.x"),),
    "biovil": (
        lambda: _with(_under("encoder.encoder.", resnet50() | _fully_connected()), "projector.model.0.weight", "projector.model.3.bias"),
    ),
    "biovil-t": (
        lambda: _with(
            _under("encoder.encoder.", resnet50() | _fully_connected()), "projector.model.0.weight", "encoder.missing_previous_emb"
        ),
    ),
    "kad-224": (lambda: _with(_under("res_features.", numbered(resnet50(), 3)), "resnet.conv1.weight", "res_l1.weight", "res_l2.bias"),),
    "kad-512": (lambda: _with(_under("res_features.", numbered(resnet50(), 4)), "resnet.conv1.weight", "res_l1.weight", "res_l2.bias"),),
    "carzero": (lambda: _with(_under("CARZero.img_encoder.model.", vit()), "CARZero.text_encoder.x", "CARZero.fusion_module.x"),),
    "chexzero": (clip,),
    "rad-dino": (dinov2,),
    "biomedclip": (lambda: _with(_under("visual.trunk.", vit()), "visual.head.proj.weight", "text.transformer.x", "text.proj.0.weight"),),
    "medsiglip": (lambda: _with(_under("vision_model.", siglip_vision()), "text_model.head.weight", "logit_scale", "logit_bias"),),
    "efficientnet-lite0": (efficientnet_lite0,),
    "eva-x-tiny": (lambda: eva_x(192),),
    "eva-x-small": (lambda: eva_x(384),),
    "eva-x-base": (lambda: eva_x(768),),
    "ark-plus": (lambda: _with(old_swin_large(), "head.weight", "projector.weight", "omni_heads.0.weight"),),
}
FILES = [(card, number) for card, files in sorted(DOCUMENTED.items()) for number in range(len(files))]


@cache
def _encoder(name: str) -> dict[str, torch.Tensor]:
    card = registry.backbones()[name]
    with torch.device("meta"):
        backbone = registry.plugin("encoders", card.family).build(card.model)
    return getattr(backbone, "network", backbone).state_dict()


def _of_shapes(names: Names) -> dict[str, torch.Tensor]:
    """Tensors of one element seen at every place: full shapes, no memory."""
    return {name: torch.zeros(()).expand(shape) for name, shape in names.items()}


def account_of(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], layout: Layout) -> TensorAccount:
    """What would become of a file's tensors in an encoder's, by names and shapes alone; nothing is loaded."""
    return _match(found, wanted, _with_one_prefix(layout, found, wanted))[1]


@pytest.mark.parametrize(("name", "number"), FILES)
def test_documented_names_at_full_size_fill_the_cards_encoder(name, number):
    card = registry.backbones()[name]
    account = account_of(_of_shapes(DOCUMENTED[name][number]()), _encoder(name), layout_of(card.layout))
    assert (account.missing, account.wrong_shape, account.unexpected) == ((), (), ())
    assert account.share_loaded == 1
    assert card.minimum_loaded == 1


@pytest.mark.parametrize(("name", "number"), FILES)
def test_no_documented_file_is_taken_for_one_that_holds_its_encoder_twice(name, number):
    card = registry.backbones()[name]
    names, encoder, layout = DOCUMENTED[name][number](), _encoder(name), layout_of(card.layout)
    found = {name: torch.full((), place).expand(shape) for place, (name, shape) in enumerate(names.items())}  # no two are equal
    _refuse_second_copy(found, encoder, _with_one_prefix(layout, found, encoder), Path("weights.pt"))


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_one_name_less_or_another_prefix_is_seen(name):
    card = registry.backbones()[name]
    names, encoder, layout = DOCUMENTED[name][0](), _encoder(name), layout_of(card.layout)
    whole = account_of(_of_shapes(names), encoder, layout)
    gone = next(n for n in reversed(names) if n not in whole.ignored and n.endswith("weight"))
    less = account_of(_of_shapes({n: s for n, s in names.items() if n != gone}), encoder, layout)
    assert len(less.missing) == 1
    renamed = account_of(_of_shapes(_under("other.", names)), encoder, layout)
    assert renamed.share_loaded == 0
    for account in (less, renamed):
        with pytest.raises(CheckpointError, match=r"(?s)loaded +\d.*missing +\d"):
            account.require(card.minimum_loaded)


# Cards whose files' names are known in part or from code alone: `test_peers.py` holds their layouts on small stand-ins.
NOT_LISTED = {"chexfound", "chexzero-text", "foundation-x", "medimageinsight", "xray-dino"}


def test_every_card_that_takes_a_file_is_documented_here():
    """Cards with a library's own weights excepted: those files are the library's, in its own names."""
    taking = {name for name, card in registry.backbones().items() if card.weights and "." in card.weights}
    assert taking - NOT_LISTED == set(DOCUMENTED) - NOT_LISTED


def test_counts_of_the_references():
    counts = {"resnet50": len(resnet50()), "bert": len(bert()), "gloria": len(_gloria()), "g2d": len(_g2d_unet()), "clip": len(clip())}
    counts |= {"efficientnet-lite0": len(efficientnet_lite0())}
    assert counts == {"resnet50": 318, "bert": 200, "gloria": 521, "g2d": 380, "clip": 302, "efficientnet-lite0": 296}
