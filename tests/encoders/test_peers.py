"""Files of the peers' documented layouts: made from the documented names with random values, loaded whole, and told from damaged ones."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import timm
import torch
import torchvision
import transformers
from safetensors.torch import save_file
from timm.models.davit import DaVit
from timm.models.vision_transformer import VisionTransformer

from benchmark import card_files, registry
from benchmark.encoders import clip
from benchmark.encoders import hf as hugging
from benchmark.encoders import timm as timms
from benchmark.encoders import torchvision as resnets
from benchmark.encoders.checkpoints import load_checkpoint
from benchmark.encoders.registered_vit import RegisteredVit
from benchmark.errors import CheckpointError

SWIN = transformers.SwinConfig(embed_dim=12, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], image_size=224)
DINO = transformers.Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14)
TINY_CLIP = clip.ClipShape(patch=16, width=64, layers=2, image_size=96, joint=0, head_width=32)
SIGLIP = transformers.SiglipVisionConfig(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
)
SMALL_EVA = timms.UNNAMED["eva-x-tiny"] | {"embed_dim": 24, "num_heads": 3, "depth": 2}
SMALL_EVA_BASE = timms.UNNAMED["eva-x-base"] | {"embed_dim": 24, "num_heads": 3, "depth": 2}
NUMBERS = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}


def _numbered(name: str) -> str:
    head, _, tail = name.partition(".")
    return f"{NUMBERS[head]}.{tail}"


def _ported(name: str) -> str:
    """timm's ViT names as the PyTorch port of the original ViT has them; `qkv` is split by the caller."""
    for one, other in (
        ("cls_token", "embeddings.cls_token"),
        ("pos_embed", "embeddings.position_embeddings"),
        ("patch_embed.proj", "embeddings.patch_embeddings"),
        ("blocks.", "encoder.layer."),
        ("norm1", "attention_norm"),
        ("norm2", "ffn_norm"),
        ("attn.proj", "attn.out"),
        ("mlp.", "ffn."),
    ):
        name = name.replace(one, other)
    return f"encoder.encoder_norm.{name.removeprefix('norm.')}" if name.startswith("norm.") else name


def _old_swin(name: str) -> str:
    """timm's Swin names as before 0.9: a stage shrinks at its end."""
    stage = re.match(r"layers\.(\d)\.downsample", name)
    return name.replace(f"layers.{stage[1]}", f"layers.{int(stage[1]) - 1}", 1) if stage else name


def _eva02(name: str) -> str:
    for one, other in (("mlp.fc2", "mlp.w3"), ("mlp.norm", "mlp.ffn_ln"), ("fc1_g", "w1"), ("fc1_x", "w2"), ("mlp.fc1", "mlp.w12")):
        name = name.replace(one, other)
    return name.replace("q_proj.bias", "q_bias").replace("v_proj.bias", "v_bias")


def _in_chunks(name: str) -> str:
    """Blocks as DINOv2 trains them, in chunks of one here, each numbered through."""
    return re.sub(r"^blocks\.(\d+)\.", r"blocks.\1.\1.", name)


def _chexfound(name: str) -> str:
    name = _in_chunks("register_tokens" if name == "reg_token" else name)
    return name.replace(".mlp.fc1.", ".mlp.w12.").replace(".mlp.fc2.", ".mlp.w3.")


def _florence(name: str) -> str:
    """timm's DaViT names as Florence has them."""
    which = "window_attn" if "spatial_block" in name else "channel_attn"
    name = re.sub(r"^stem\.", "stages.0.downsample.", name)
    name = re.sub(r"^stages\.(\d)\.downsample\.", r"convs.\1.", name)
    name = re.sub(r"^(convs\.\d)\.conv\.", r"\1.proj.", name)
    name = re.sub(r"^stages\.(\d)\.blocks\.", r"blocks.\1.", name)
    for one, other in ((".norm1.", f".{which}.norm."), (".attn.", f".{which}.fn."), (".norm2.", ".ffn.norm."), (".mlp.", ".ffn.fn.net.")):
        name = name.replace(one, other)
    return re.sub(r"\.cpe([12])\.proj\.", r".conv\1.fn.dw.", name).replace("head.norm.", "norms.")


@dataclass(frozen=True)
class Released:
    """How a file is made: a small stand-in of the encoder, its tensors' names, the containers around, and documented other tensors."""

    build: Callable
    prefix: str
    rename: Callable[[str], str] = str
    wrapper: str | None = None
    beside: tuple[str, ...] = ()
    more: dict = field(default_factory=dict)


def _resnet():
    return resnets.TorchvisionBackbone("resnet18")


def _cut():
    return resnets.TorchvisionBackbone("resnet50-layer3")


def _vit():
    return timms.build("test_vit")


def _swin():
    return timms.build("swin_tiny_patch4_window7_224")


def _eva(options):
    def build():
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(timms.UNNAMED, "small-eva", options)
            return timms.build("small-eva")

    return build


SMALL_VIT = timms._DINO_LARGE | {"img_size": 64, "embed_dim": 24, "depth": 2, "num_heads": 3}
SMALL_DAVIT = {"depths": (1, 1, 1, 1), "embed_dims": (8, 16, 24, 32), "num_heads": (1, 1, 1, 2), "window_size": 7, "num_classes": 0}
SMALL_VITS = {
    "xray-dino-small": lambda: VisionTransformer(**SMALL_VIT),
    "chexfound-small": lambda: RegisteredVit(4, gated=True, **SMALL_VIT),
    "davit-small": lambda: DaVit(**SMALL_DAVIT, down_kernel_size=3, channel_attn_v2=True, named_blocks=True),
}


def _small_vit(name: str):
    def build():
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(timms.UNNAMED_VITS, name, SMALL_VITS[name])
            return timms.build(name)

    return build


RELEASED = {
    "convirt-benchx": Released(_resnet, "visual.model.", wrapper="model", beside=("vis_proj.0.weight", "text.x")),
    "medclip-resnet": Released(_resnet, "vision_model.model.", beside=("vision_model.model.fc.weight", "text_model.x", "logit_scale")),
    "medclip-swin": Released(
        lambda: hugging.HuggingFaceBackbone("swin", SWIN),
        "vision_model.model.",
        beside=("vision_model.projection_head.weight", "logit_scale"),
    ),
    "medklip": Released(
        _cut,
        "module.res_features.",
        _numbered,
        "model",
        ("module.res_l1.weight", "module.decoder.x", "module.cl_fc.bias", "module.classifier.bias"),
    ),
    "kad": Released(
        _cut,
        "res_features.",
        _numbered,
        "image_encoder",
        ("resnet.conv1.weight", "res_l1.bias"),
        {"text_encoder": {"x": torch.ones(1)}, "model": {"y": torch.ones(1)}},
    ),
    "mflag": Released(_resnet, "encoder.", beside=("proj_v.0.weight", "proj_t.0.weight", "lm_model.x")),
    "mgca": Released(
        _resnet,
        "img_encoder_q.model.",
        wrapper="state_dict",
        beside=("img_encoder_q.global_embed.head.0.weight", "prototype_layer.weight", "text_encoder_q.x"),
    ),
    "mgca ViT": Released(_vit, "img_encoder_q.model.", wrapper="state_dict", beside=("img_encoder_q.local_embed.head.0.weight",)),
    "mrm": Released(_vit, "", wrapper="model", beside=("decoder_pred.weight", "mask_token", "bert_encoder.x", "bert_mlp.0.bias")),
    "refers": Released(_vit, "transformer.", _ported, None, ("head.weight",)),
    "refers BenchX": Released(_vit, "visual.vit.transformer.", _ported, "model", ("visual.vit.head.weight",)),
    "refers BenchX's other": Released(_vit, "visual.vit.", _ported, "model"),
    "ptunifier": Released(lambda: clip.ClipBackbone("tiny", TINY_CLIP), "vision_encoder.", wrapper="state_dict", beside=("cross_modal.x",)),
    "biovil": Released(
        _resnet, "encoder.encoder.", beside=("encoder.encoder.fc.weight", "projector.model.0.weight", "encoder.missing_previous_emb")
    ),
    "carzero": Released(
        _vit, "CARZero.img_encoder.model.", wrapper="state_dict", beside=("CARZero.text_encoder.x", "CARZero.fusion_module.y")
    ),
    "biomedclip": Released(_vit, "visual.trunk.", beside=("visual.head.proj.weight", "text.proj.0.weight", "logit_scale")),
    "eva-x": Released(_eva(SMALL_EVA), "", _eva02, "module", ("mask_token", "lm_head.weight", "rope.freqs_cos")),
    "eva-x-base": Released(_eva(SMALL_EVA_BASE), "", _eva02, beside=("mask_token", "lm_head.bias", "blocks.0.attn.rope.freqs_sin")),
    "ark-plus": Released(
        _swin,
        "",
        _old_swin,
        "teacher",
        ("head.weight", "projector.weight", "omni_heads.3.bias", "layers.0.blocks.1.attn_mask"),
        {"state_dict": {"student": torch.ones(1)}},
    ),
    "foundation-x": Released(
        _swin,
        "backbone.0.",
        _old_swin,
        "teacher_model",
        ("backbone.0.head.weight", "backbone.0.Segnorm2.weight", "backbone.0.Locnorm0.bias", "transformer.encoder.x", "layers.0.attn_mask"),
    ),
    "xray-dino": Released(_small_vit("xray-dino-small"), "", _in_chunks, beside=("mask_token",)),
    "chexfound": Released(
        _small_vit("chexfound-small"), "backbone.", _chexfound, "teacher", ("backbone.mask_token", "dino_head.mlp.0.weight", "ibot_head.x")
    ),
    "medimageinsight": Released(
        _small_vit("davit-small"), "image_encoder.", _florence, beside=("image_encoder.head.weight", "lang_encoder.x", "image_projection")
    ),
    "hf SigLIP": Released(
        lambda: hugging.HuggingFaceBackbone("siglip", SIGLIP),
        "vision_model.",
        beside=("vision_model.head.probe", "text_model.x", "logit_bias"),
    ),
    "hf": Released(lambda: hugging.HuggingFaceBackbone("dino", DINO), ""),
}


def _made(case: str):
    """The encoder with one set of weights, and the file's content with another, whose values are also returned by the encoder's names."""
    released = RELEASED[case]
    torch.manual_seed(0)
    backbone = released.build()
    generator = torch.Generator().manual_seed(3)
    weights = {
        name: torch.rand(tensor.shape, generator=generator) * 0.1 + 0.05 if tensor.is_floating_point() else tensor
        for name, tensor in backbone.network.state_dict().items()
    }
    named = {}
    for name, tensor in weights.items():
        if released.rename is _ported and ".qkv." in name:
            for part, which in zip(tensor.chunk(3), ("query", "key", "value"), strict=True):
                named[released.prefix + _ported(name).replace("qkv", which)] = part
        else:
            named[released.prefix + released.rename(name)] = tensor
    tensors = named | dict.fromkeys(released.beside, torch.ones(1))
    content = {released.wrapper: tensors, "epoch": 3, **released.more} if released.wrapper else tensors
    return backbone, content, tensors, weights, next(name for name in reversed(named) if name.endswith("weight"))


def _layout(case: str) -> str:
    return case.partition(" ")[0]


@pytest.mark.parametrize("case", sorted(RELEASED))
def test_documented_file_loads_whole(tmp_path, case):
    backbone, content, _, weights, _ = _made(case)
    torch.save(content, tmp_path / "released.pt")
    account = load_checkpoint(backbone.network, tmp_path / "released.pt", _layout(case), 1.0)
    assert (account.share_loaded, account.unexpected, account.resampled) == (1, (), ())
    assert account.loaded
    assert len(account.ignored) == len(RELEASED[case].beside)
    state = backbone.network.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize("case", sorted(RELEASED))
def test_renamed_prefix_or_missing_layer_is_refused_with_the_account(tmp_path, case):
    backbone, _, tensors, _, last = _made(case)
    torch.save({"state_dict": {f"other.{name}": tensor for name, tensor in tensors.items()}}, tmp_path / "renamed.pt")
    with pytest.raises(CheckpointError, match=r"(?s)loaded +\d.*missing +\d"):
        load_checkpoint(backbone.network, tmp_path / "renamed.pt", _layout(case), 1.0)
    torch.save({"state_dict": {name: tensor for name, tensor in tensors.items() if name != last}}, tmp_path / "less.pt")
    with pytest.raises(CheckpointError, match=r"(?s)loaded +\d.*missing +1"):
        load_checkpoint(backbone.network, tmp_path / "less.pt", _layout(case), 1.0)


@pytest.mark.parametrize("case", [case for case in sorted(RELEASED) if RELEASED[case].rename is _ported])
def test_queries_without_their_keys_fill_no_attention(tmp_path, case):
    backbone, _, tensors, _, _ = _made(case)
    missing = next(name for name in tensors if name.endswith("attn.key.weight"))
    torch.save({name: tensor for name, tensor in tensors.items() if name != missing}, tmp_path / "less.pt")
    with pytest.raises(CheckpointError, match=r"(?s)missing +1  blocks\.0\.attn\.qkv\.weight.*unexpected +2 .*attn\.query\.weight"):
        load_checkpoint(backbone.network, tmp_path / "less.pt", _layout(case), 1.0)


def _reference(case: str, weights: dict, images):
    """The deepest map of the library's own class with the same weights, and no part of LOBE's encoder."""
    built = RELEASED[case].build
    if built is _resnet:
        network = torchvision.models.resnet18(weights=None)
        network.load_state_dict(weights, strict=False)
        return torch.nn.Sequential(*list(network.eval().children())[:-2])(images)
    if built is _cut:
        network = torchvision.models.resnet50(weights=None)
        network.load_state_dict(weights, strict=False)
        return torch.nn.functional.avg_pool2d(torch.nn.Sequential(*list(network.eval().children())[:-3])(images), 2)
    if (name := OWN_SMALL.get(case)) is not None:
        network = SMALL_VITS[name]().eval()
        network.load_state_dict(weights, strict=False)
        found, side = network.forward_features(images), images.shape[-1] // 16
        return found if found.dim() == 4 else found[:, network.num_prefix_tokens :].transpose(1, 2).unflatten(2, (side, side))
    if built is _swin:
        network = timm.create_model("swin_tiny_patch4_window7_224", num_classes=0)
        network.load_state_dict(weights, strict=False)  # tables of the windows' places are no weights
        return (
            network.eval().layers(network.patch_embed(images)).permute(0, 3, 1, 2)
        )  # as timm's features: the last norm is the classifier's
    if case in LIBRARY_CLASSES:
        network = LIBRARY_CLASSES[case]()
        _load_own(network, weights)
        tokens = network.eval()(images).last_hidden_state
        side = round(tokens.shape[1] ** 0.5)
        return tokens[:, -(side**2) :].transpose(1, 2).unflatten(2, (side, side))
    network = timm.create_model("test_vit", num_classes=0, img_size=64) if built is _vit else timm.models.eva.Eva(**_options(case))
    network.load_state_dict(weights | ({"pos_embed": _at_four(network, weights)} if built is _vit else {}))
    return (
        network.eval().forward_features(images)[:, network.num_prefix_tokens :].transpose(1, 2).unflatten(2, (images.shape[-1] // 16,) * 2)
    )


OWN_SMALL = {"xray-dino": "xray-dino-small", "chexfound": "chexfound-small", "medimageinsight": "davit-small"}
LIBRARY_CLASSES = {
    "hf": lambda: transformers.Dinov2Model(DINO),
    "hf SigLIP": lambda: transformers.SiglipVisionModel(SIGLIP),
    "medclip-swin": lambda: transformers.SwinModel(SWIN, add_pooling_layer=False),
}
# Of the input; others 64.
SIDES = dict.fromkeys(["ark-plus", "foundation-x", "medclip-swin", "eva-x", "eva-x-base"], 224) | {"hf": 56, "hf SigLIP": 56}


def _options(case: str) -> dict:
    return SMALL_EVA if case == "eva-x" else SMALL_EVA_BASE


def _at_four(network, weights):
    return timm.layers.resample_abs_pos_embed(weights["pos_embed"], (4, 4), num_prefix_tokens=network.num_prefix_tokens)


def _load_own(network, weights: dict) -> None:
    """Through a folder, as transformers itself reads released names."""
    prefix = "vision_model." if isinstance(network, transformers.SiglipVisionModel) else ""
    with tempfile.TemporaryDirectory() as folder:
        network.config.save_pretrained(folder)
        save_file({prefix + name: tensor.contiguous() for name, tensor in weights.items()}, Path(folder) / "model.safetensors")
        loaded = type(network).from_pretrained(folder)
    network.load_state_dict(loaded.state_dict())


@pytest.mark.parametrize("case", sorted(set(RELEASED) - {"ptunifier"}))  # its class is compared with transformers' in test_clip
def test_loaded_encoder_equals_the_librarys_class_with_the_same_weights(tmp_path, case):
    backbone, content, _, weights, _ = _made(case)
    torch.save(content, tmp_path / "released.pt")
    load_checkpoint(backbone.network, tmp_path / "released.pt", _layout(case), 1.0)
    side = SIDES.get(case, 64)
    images = torch.randn(1, 3, side, side)
    with torch.no_grad():
        maps = backbone.eval().pyramid(images)
        reference = _reference(case, weights, images)
    torch.testing.assert_close(maps[max(maps)], reference, atol=1e-6, rtol=1e-5)


def test_file_with_a_fourth_stage_does_not_fill_an_encoder_without_one(tmp_path):
    """KAD at 512 pixels holds layer4; under the 224 card its deepest features would silently be left out."""
    backbone, content, tensors, *_ = _made("kad")
    tensors["res_features.7.0.conv1.weight"] = torch.ones(1)
    torch.save(content, tmp_path / "kad.pt")
    with pytest.raises(CheckpointError, match="larger or different architecture"):
        load_checkpoint(backbone.network, tmp_path / "kad.pt", "kad", 1.0)


def test_every_peers_card_has_a_layout_that_is_tested_here():
    tested = {_layout(case) for case in RELEASED} | {"clip", "clip-text"}  # tested with their towers
    names = card_files._load(registry.content("backbones") / "peers.yaml")["backbones"]
    assert {entry["layout"] for entry in names} <= tested


@pytest.mark.parametrize("name", sorted(registry.backbones()))
def test_card_says_where_weights_come_from_and_what_they_saw(name):
    card = registry.backbones()[name]
    assert set(card.contamination) <= set(registry.datasets())
    assert card.licence
    assert card.weights is None or card.paper or card.family == "torchvision"
    assert card.weights is None or card.origin or card.family in ("torchvision", "timm")
    assert card.pretraining is not None or not card.contamination  # without a set there is nothing to say of a dataset


@torch.no_grad()
def test_registers_stand_between_class_token_and_patches_and_have_no_position():
    torch.manual_seed(1)
    network = RegisteredVit(4, gated=True, **SMALL_VIT).eval()
    patches = torch.randn(1, 4, 4, 24)
    tokens = network._pos_embed(patches)
    assert tokens.shape == (1, 1 + 4 + 16, 24)
    torch.testing.assert_close(tokens[:, 0], network.cls_token[:, 0] + network.pos_embed[:, 0])
    torch.testing.assert_close(tokens[:, 1:5], network.reg_token)
    torch.testing.assert_close(tokens[:, 5:], patches.flatten(1, 2) + network.pos_embed[:, 1:])


def test_the_gated_layers_have_the_width_that_dinov2_gives_them():
    with torch.device("meta"):
        block = RegisteredVit(4, gated=True, **timms._DINO_LARGE).blocks[0].mlp
    assert (block.fc1.weight.shape, block.fc2.weight.shape) == ((5_472, 1_024), (1_024, 2_736))
