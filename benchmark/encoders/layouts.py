"""How released files name an encoder's tensors: prefixes, renamed layers, shards to put together, and what is no part of the encoder.

Loading and accounting are `checkpoints`' task. A layout is named in a card; where its names come from is said in that card.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Size, Tensor

from benchmark.errors import CardError

PREFIX_LAYOUT = "prefix:"
SHARD = "#"  # `qkv.weight#0`: first of three tensors that are one in the encoder
_TABLES = ("pos_embed", "positional_embedding", "position_embeddings", "position_embedding.weight")


@dataclass(frozen=True)
class Layout:
    """How a file names an encoder's tensors.

    Attributes:
        prefixes: what may stand before the encoder's own names. The one that fits most is taken; tensors without it are no part.
        rename: (pattern, replacement) regular expressions applied in order to what follows the prefix. `NAME#0`, `#1`, `#2` are joined.
        ignore: patterns (fnmatch, on full names in the file) of tensors known to be no part of the encoder.
        container: key of the file under which the tensors lie, where it holds several.
        grey_stem: a first convolution of three channels is summed to one. One of one channel is spread over three in every layout.
        closed: nothing may be left over under the prefix: the list of tensors is documented.
    """

    prefixes: tuple[str, ...] = ("",)
    rename: tuple[tuple[str, str], ...] = ()
    ignore: tuple[str, ...] = ()
    container: str | None = None
    grey_stem: bool = False
    closed: bool = False


CLASSIFIERS = ("fc.*", "classifier.*", "head.*", "head_dist.*")
# Buffers that timm's attention models recompute, and a token that only masked pretraining reads.
_RECOMPUTED = ("*relative_position_index", "*attn_mask", "mask_token")

# torchvision's own DenseNet files still have a point where its module names may no longer have one.
_OLD_DENSENET = ((r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),)

# A ResNet kept as a list of its children: 2 and 3 are activation and pooling, without tensors.
_NUMBERED = ((r"^0\.", "conv1."), (r"^1\.", "bn1."), (r"^4\.", "layer1."), (r"^5\.", "layer2."), (r"^6\.", "layer3."), (r"^7\.", "layer4."))

# The PyTorch port of the original ViT, to timm's names.
_PORTED_VIT = (
    (r"^transformer\.", ""),
    (r"^embeddings\.cls_token", "cls_token"),
    (r"^embeddings\.position_embeddings", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.", "patch_embed.proj."),
    (r"^encoder\.layer\.(\d+)\.attention_norm\.", r"blocks.\1.norm1."),
    (r"^encoder\.layer\.(\d+)\.ffn_norm\.", r"blocks.\1.norm2."),
    (r"^encoder\.layer\.(\d+)\.attn\.query\.(\w+)$", rf"blocks.\1.attn.qkv.\2{SHARD}0"),
    (r"^encoder\.layer\.(\d+)\.attn\.key\.(\w+)$", rf"blocks.\1.attn.qkv.\2{SHARD}1"),
    (r"^encoder\.layer\.(\d+)\.attn\.value\.(\w+)$", rf"blocks.\1.attn.qkv.\2{SHARD}2"),
    (r"^encoder\.layer\.(\d+)\.attn\.out\.", r"blocks.\1.attn.proj."),
    (r"^encoder\.layer\.(\d+)\.ffn\.", r"blocks.\1.mlp."),
    (r"^encoder\.encoder_norm\.", "norm."),
)

# A Swin whose stages shrink at their end (timm before 0.9, as Microsoft's), to timm's, which shrink at their start. Deepest first: each
# rule is applied to what the one before it left.
_SHRINKS_AT_THE_END = tuple((rf"^layers\.{n}\.downsample\.", f"layers.{n + 1}.downsample.") for n in (2, 1, 0))

# EVA-02's names, to timm's: what timm's own loader of EVA files renames.
_EVA02 = (
    (r"\.mlp\.ffn_ln\.", ".mlp.norm."),
    (r"\.attn\.inner_attn_ln\.", ".attn.norm."),
    (r"\.mlp\.w12\.", ".mlp.fc1."),
    (r"\.mlp\.w1\.", ".mlp.fc1_g."),
    (r"\.mlp\.w2\.", ".mlp.fc1_x."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
)

# EfficientNet-Lite0 as ported from the original TensorFlow code: blocks counted through, to timm's blocks by stage. The first has no
# expansion, so that each of its names means the next layer of the others.
_LITE0_STAGES = (1, 2, 2, 3, 3, 4, 1)
_LITE0_FLAT = [f"{stage}.{block}" for stage, n_blocks in enumerate(_LITE0_STAGES) for block in range(n_blocks)]
_LITE0 = (
    *((rf"^_blocks\.{flat}\.", f"blocks.{place}.") for flat, place in enumerate(_LITE0_FLAT)),
    (r"^(blocks\.0\.0\.)_depthwise_conv\.", r"\1conv_dw."),
    (r"^(blocks\.0\.0\.)_project_conv\.", r"\1conv_pw."),
    (r"^(blocks\.0\.0\.)_bn([12])\.", r"\1bn\2."),
    (r"\._expand_conv\.", ".conv_pw."),
    (r"\._depthwise_conv\.", ".conv_dw."),
    (r"\._project_conv\.", ".conv_pwl."),
    (r"\._bn0\.", ".bn1."),
    (r"\._bn1\.", ".bn2."),
    (r"\._bn2\.", ".bn3."),
    (r"^_conv_(stem|head)\.", r"conv_\1."),
    (r"^_bn0\.", "bn1."),
    (r"^_bn1\.", "bn2."),
)

# A ViT cut into chunks of blocks, which are numbered through inside them (DINOv2's training code).
_CHUNKS = (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.")
# Florence's names of a DaViT, to timm's: what timm's own loader of Florence-2 renames.
_FLORENCE = (
    (r"^convs\.0\.proj\.", "stem.conv."),
    (r"^convs\.0\.norm\.", "stem.norm."),
    (r"^convs\.(\d+)\.proj\.", r"stages.\1.downsample.conv."),
    (r"^convs\.(\d+)\.norm\.", r"stages.\1.downsample.norm."),
    (r"^blocks\.(\d+)\.", r"stages.\1.blocks."),
    (r"\.(?:window|channel)_attn\.norm\.", ".norm1."),
    (r"\.(?:window|channel)_attn\.fn\.", ".attn."),
    (r"\.ffn\.norm\.", ".norm2."),
    (r"\.ffn\.fn\.net\.", ".mlp."),
    (r"\.conv([12])\.fn\.dw\.", r".cpe\1.proj."),
    (r"^norms\.", "head.norm."),
)

_CLIP_TEXT = ("token_embedding.*", "positional_embedding", "transformer.*", "ln_final.*", "text_projection", "logit_scale")
_CLIP_SIZES = ("input_resolution", "context_length", "vocab_size")

LAYOUTS: dict[str, Layout] = {
    "torchvision": Layout(rename=_OLD_DENSENET, ignore=CLASSIFIERS),
    "timm": Layout(ignore=(*CLASSIFIERS, *_RECOMPUTED)),
    "hf": Layout(
        prefixes=("", "vision_model.", "vit.", "deit.", "dinov2.", "swin.", "convnext.", "resnet.", "beit."),
        ignore=(
            *CLASSIFIERS,
            "decoder.*",  # of a masked autoencoder
            "pooler.*",
            "*.pooler.*",
            "vision_model.head.*",
            "text_model.*",
            "*_projection.*",
            "logit_*",
            "*.relative_position_index",
        ),
    ),
    # Both halves of a CLIP or SigLIP, under transformers' names or open_clip's.
    "hf-text": Layout(ignore=("*.position_ids", "logit_*", "attn_mask", "text.transformer.pooler.*"), closed=True),
    # LoVT, ConVIRT and CLIP* of the LoVT repository: a Lightning checkpoint whose side `a` is the image (docs/protocols/lovt.md).
    "lovt": Layout(
        prefixes=("model_a.encoder.feature_extractor.backbone_layers.",),
        ignore=(
            "model_a.encoder.global_aggregator.*",
            "model_a.project_*",
            "model_b.*",
            "ll_attention.*",
            "loss_module.*",
            "chexpert_bin_*",
            "model_a.encoder.feature_extractor.backbone_layers.fc.*",
        ),
    ),
    # The same file with its text side: names are kept whole.
    "lovt-text": Layout(
        ignore=("loss_module.*", "chexpert_bin_*", "*.position_ids", "model_a.encoder.feature_extractor.backbone_layers.fc.*"), closed=True
    ),
    # What `lobe pretrain` writes.
    "dual-encoder": Layout(closed=True),
    "gloria": Layout(prefixes=("gloria.",), ignore=("gloria.text_encoder.*",), closed=True),
    # PRIOR's encoder file is a bare ResNet; the full file puts it under `image_encoder.encoder.`.
    "prior": Layout(
        prefixes=("image_encoder.encoder.", "encoder.", ""),
        ignore=(
            "fc.*",
            "encoder.fc.*",
            "image_encoder.encoder.fc.*",
            "image_encoder.atten_pool.*",
            "text_encoder.*",
            "global_*",
            "local_*",
            "predictor.*",
            "prototype_queries",
            "sentence_*",
            "image_decoder.*",
            "logit_scale",
        ),
        grey_stem=True,
        closed=True,
    ),
    "prior-text": Layout(
        ignore=(
            "predictor.*",
            "prototype_queries",
            "sentence_decoder.*",
            "image_decoder.*",
            "text_encoder.encoder.embeddings.position_ids",
        ),
        grey_stem=True,
        closed=True,
    ),
    "g2d": Layout(
        prefixes=("img_model.encoder.", "encoder.backbone.", "backbone.", "encoder.", ""),
        ignore=(
            *(f"{prefix}fc.*" for prefix in ("", "img_model.encoder.", "encoder.backbone.", "backbone.", "encoder.")),
            *("img_model.decoder.*", "img_model.segmentation_head.*", "decoder.*", "segmentation_head.*"),
            *("attnpool.*", "lm_model.*", "proj_v.*", "proj_t.*", "pseudo_conv.*", "*_local_atten_layer.*"),
        ),
        closed=True,
    ),
    "g2d-unet": Layout(
        prefixes=("img_model.", ""), ignore=("attnpool.*", "lm_model.*", "proj_v.*", "proj_t.*", "pseudo_conv.*"), closed=True
    ),
    "g2d-text": Layout(ignore=("pseudo_conv.*", "lm_model.embeddings.position_ids"), closed=True),
    "clip": Layout(
        prefixes=("", "model.", "clip."), ignore=tuple(f"{p}{n}" for p in ("", "model.", "clip.") for n in (*_CLIP_TEXT, *_CLIP_SIZES))
    ),
    "clip-text": Layout(prefixes=("", "model.", "clip."), ignore=tuple(f"{p}{n}" for p in ("", "model.", "clip.") for n in _CLIP_SIZES)),
    # Peers. Layouts as documented for BenchX's files and the methods' own.
    "convirt-benchx": Layout(prefixes=("visual.model.",), ignore=("visual.model.fc.*", "*"), closed=True),
    "medclip-resnet": Layout(
        prefixes=("vision_model.model.",), ignore=("vision_model.model.fc.*", "text_model.*", "logit_scale"), closed=True
    ),
    "medclip-swin": Layout(
        prefixes=("vision_model.model.",),
        ignore=("vision_model.projection_head.*", "text_model.*", "logit_scale", "vision_model.model.*relative_position_index"),
        closed=True,
    ),
    "medklip": Layout(
        prefixes=("module.res_features.", "res_features."),
        rename=_NUMBERED,
        ignore=tuple(
            f"{prefix}{name}"
            for prefix in ("module.", "")
            for name in ("res_l1.*", "res_l2.*", "decoder.*", "disease_embedding_layer.*", "cl_fc.*", "classifier.*", "decoder_norm.*")
        ),
        container="model",
        closed=True,
    ),
    "kad": Layout(
        prefixes=("res_features.",),
        rename=_NUMBERED,
        ignore=("resnet.*", "res_l1.*", "res_l2.*"),  # `resnet.` is a second copy of the same tensors
        container="image_encoder",
        closed=True,
    ),
    "mflag": Layout(prefixes=("encoder.", ""), ignore=("proj_v.*", "proj_t.*", "lm_model.*"), closed=True),
    "mgca": Layout(
        prefixes=("img_encoder_q.model.",),
        ignore=("img_encoder_q.global_embed.*", "img_encoder_q.local_embed.*", "prototype_layer.*", "text_encoder_q.*", "*_atten_layer.*"),
        closed=True,
    ),
    "mrm": Layout(ignore=("decoder_*", "mask_token", "bert_encoder.*", "bert_mlp.*")),
    "refers": Layout(
        prefixes=("transformer.", "visual.vit.transformer.", "visual.vit.", ""), rename=_PORTED_VIT, ignore=("head.*", "*.head.*")
    ),
    "ptunifier": Layout(prefixes=("vision_encoder.",), ignore=("*",)),
    "biovil": Layout(
        prefixes=("encoder.encoder.",),
        ignore=("encoder.encoder.fc.*", "projector.*", "encoder.missing_previous_emb", "encoder.vit_pooler.*", "encoder.backbone_to_vit.*"),
        closed=True,
    ),
    "carzero": Layout(prefixes=("CARZero.img_encoder.model.",), ignore=("CARZero.*",), closed=True),
    # open_clip's file of a timm tower with a BERT.
    "biomedclip": Layout(prefixes=("visual.trunk.",), ignore=("visual.head.*", "text.*", "logit_scale"), closed=True),
    "eva-x": Layout(rename=_EVA02, ignore=("mask_token", "lm_head.*", "*rope.*"), closed=True),
    # Fused queries and keys have their biases apart, separate ones inside.
    "eva-x-base": Layout(
        rename=(*_EVA02, (r"\.attn\.([qv])_bias$", r".attn.\1_proj.bias")), ignore=("mask_token", "lm_head.*", "*rope.*"), closed=True
    ),
    "efficientnet-lite0": Layout(rename=_LITE0, ignore=("_fc.*",), closed=True),
    "ark-plus": Layout(
        rename=_SHRINKS_AT_THE_END,
        ignore=("head.*", "projector.*", "omni_heads.*", "*.relative_position_index", "*.attn_mask"),
        container="teacher",
        closed=True,
    ),
    # The encoder of an object detector; beside its last norm each stage has two more, for boxes and for masks.
    "foundation-x": Layout(
        prefixes=("backbone.0.",),
        rename=_SHRINKS_AT_THE_END,
        ignore=("*", *(f"backbone.0.{name}" for name in ("head*", "Segnorm*", "Locnorm*", "*relative_position_index", "*attn_mask"))),
        container="teacher_model",
    ),
    "xray-dino": Layout(rename=(_CHUNKS,), ignore=("mask_token",), closed=True),
    "chexfound": Layout(
        prefixes=("backbone.",),
        rename=(_CHUNKS, (r"^register_tokens$", "reg_token"), (r"\.mlp\.w12\.", ".mlp.fc1."), (r"\.mlp\.w3\.", ".mlp.fc2.")),
        ignore=("backbone.mask_token", "dino_head.*", "ibot_head.*"),
        container="teacher",
        closed=True,
    ),
    # The image half of a UniCL; the prefix is recalled.
    "medimageinsight": Layout(
        prefixes=("image_encoder.", "vision_tower.", ""),
        rename=_FLORENCE,
        ignore=("head.*", "image_encoder.head.*", "lang_*", "text_projection", "image_projection", "logit_scale"),
    ),
}


def layout_of(name: str) -> Layout:
    """The named layout; `prefix:TEXT` is torchvision's and timm's with TEXT before every name.

    Raises:
        CardError: no such layout.
    """
    if name.startswith(PREFIX_LAYOUT):
        prefix = name.removeprefix(PREFIX_LAYOUT)
        return Layout(prefixes=(prefix,), rename=_OLD_DENSENET, ignore=tuple(prefix + pattern for pattern in (*CLASSIFIERS, *_RECOMPUTED)))
    if name not in LAYOUTS:
        raise CardError(f"There is no checkpoint layout {name!r}; use one of {', '.join(sorted(LAYOUTS))}, or {PREFIX_LAYOUT}TEXT.")
    return LAYOUTS[name]


def fit_shape(tensor: Tensor, shape: Size, name: str, layout: Layout) -> Tensor | None:
    """The tensor in the encoder's shape, or None where that would be another tensor.

    Allowed: axes of length one that come or go (a Linear saved as a 1 x 1 convolution); a table of positions of another grid, interpolated
    as timm does; a first convolution of one channel, spread over three, which gives the same for three equal channels; and, where the
    layout says so, one of three channels, summed to one. Only a first convolution takes three channels.
    """
    if tensor.shape == shape:
        return tensor
    if [n for n in tensor.shape if n != 1] == [n for n in shape if n != 1]:
        return tensor.reshape(shape)
    if name.endswith(_TABLES) and tensor.shape[-1] == shape[-1] and tensor.dim() in (2, 3):
        return _positions(tensor, shape)
    channels = (tensor.shape[1], shape[1]) if tensor.dim() == len(shape) == 4 else ()
    if tensor.shape[:1] == shape[:1] and tensor.shape[2:] == shape[2:]:
        if channels == (3, 1) and layout.grey_stem:
            return tensor.sum(dim=1, keepdim=True)
        if channels == (1, 3):
            return tensor.expand(shape) / 3
    return None


def _positions(table: Tensor, shape: Size) -> Tensor | None:
    from timm.layers import resample_abs_pos_embed

    old, new = table.shape[-2], shape[-2]
    for n_prefix in (1, 0, 2, 5):  # class token; none; distilled; four registers
        side = math.isqrt(max(0, new - n_prefix))
        if side**2 == new - n_prefix and math.isqrt(max(0, old - n_prefix)) ** 2 == old - n_prefix:
            rows = table.reshape(1, old, -1)
            return resample_abs_pos_embed(rows, [side, side], num_prefix_tokens=n_prefix).reshape(shape)
    return None
