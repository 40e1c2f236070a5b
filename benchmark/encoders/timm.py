"""Any timm model that can return its intermediate features, as a feature pyramid.

`network` is timm's own model without its classifier, so checkpoints in timm's naming fit as they are. Hierarchical models give their
stages. A model with one grid (a ViT) gives its last block after the final norm, at the stride of its patch; timm interpolates its table
of positions to the input. Heads that read several levels put a trained pyramid before it (`networks.pyramid`). `MODEL+taps` gives four
blocks instead, at a quarter, half, three quarters and the end of the depth, each after the final norm.
A few released architectures that timm can build but has no name for go by a name of their own (`UNNAMED`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypedDict, cast

import timm
import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from benchmark.cards import BackboneSpec, Normalisation
from benchmark.encoders.base import Backbone
from benchmark.encoders.library_weights import LibraryWeights, fetched, may_ask
from benchmark.encoders.registered_vit import RegisteredVit, VitOptions
from benchmark.errors import ConformanceError, EnvironmentProblem, UnknownName, UsageError

DEFAULT_LAYOUT = "timm"
TAPS = 4


class EvaOptions(TypedDict, total=False):
    """What is said of an EVA network; the rest is timm's default."""

    img_size: int
    patch_size: int
    depth: int
    embed_dim: int
    num_heads: int
    mlp_ratio: float
    qkv_fused: bool
    scale_mlp: bool
    swiglu_mlp: bool
    use_rot_pos_emb: bool
    ref_feat_shape: tuple[int, int]
    use_fc_norm: bool
    num_classes: int
    dynamic_img_size: bool


# EVA-X (hustvl/EVA-X at c65f047, eva_x.py). Its loader moves the file's last norm behind the mean; here it stays before it, where masked
# pretraining had it, so that every place of the map is normed.
_EVA_X: EvaOptions = {
    "img_size": 224,
    "patch_size": 16,
    "depth": 12,
    "mlp_ratio": 4 * 2 / 3,
    "swiglu_mlp": True,
    "use_rot_pos_emb": True,
    "ref_feat_shape": (14, 14),
    "use_fc_norm": False,
    "num_classes": 0,
    "dynamic_img_size": True,
}
UNNAMED: dict[str, EvaOptions] = {
    "eva-x-tiny": _EVA_X | {"embed_dim": 192, "num_heads": 3},
    "eva-x-small": _EVA_X | {"embed_dim": 384, "num_heads": 6},
    "eva-x-base": _EVA_X | {"embed_dim": 768, "num_heads": 12, "qkv_fused": False, "scale_mlp": True},
}
# DINOv2's ViT-L at patch 16, as trained on radiographs (docs/sources.md, XRay-DINO and CheXFound).
_DINO_LARGE: VitOptions = {
    "img_size": 512,
    "patch_size": 16,
    "embed_dim": 1024,
    "depth": 24,
    "num_heads": 16,
    "init_values": 1e-5,
    "num_classes": 0,
    "dynamic_img_size": True,
}
UNNAMED_VITS: dict[str, Callable[[], nn.Module]] = {
    "xray-dino-large": lambda: VisionTransformer(**_DINO_LARGE),
    "chexfound-large": lambda: RegisteredVit(4, gated=True, **_DINO_LARGE),
}


def build(model: str) -> TimmBackbone:
    """A randomly initialised backbone, its numbers drawn from torch's global generator.

    Raises:
        UnknownName: timm has no such model.
        ConformanceError: the model cannot return intermediate features.
        UsageError: `+taps` on a model with stages.
    """
    name, plus, variant = model.partition("+")
    if plus and variant != "taps":
        raise UsageError(f"timm:{model}: the only variant of a model is {name}+taps.")
    if name not in UNNAMED and name not in UNNAMED_VITS and not timm.is_model(name):
        raise UnknownName("backbone", f"timm:{model}", [f"timm:{name}" for name in (*timm.list_models(), *UNNAMED, *UNNAMED_VITS)])
    return TimmBackbone(model)


def library_weights(model: str, name: str) -> LibraryWeights:
    """timm's weights by tag ("DEFAULT" or for example "a1_in1k"), from the hub's cache or downloaded into it.

    Raises:
        UnknownName: timm has no such model or tag.
        NotHere: not in the cache, and nobody may be asked.
        EnvironmentProblem: not in the cache and not to be had from the network.
    """
    model = model.partition("+")[0]
    tagged = model if name == "DEFAULT" else f"{model}.{name}"
    known = timm.list_pretrained(f"{model}.*")
    if name != "DEFAULT" and tagged not in known:
        raise UnknownName("weight", f"{model}@{name}", [f"{model}@{other.split('.', 1)[1]}" for other in known])
    config = timm.get_pretrained_cfg(tagged)
    repository = None if config is None else config.hf_hub_id
    if config is None or not repository:
        raise EnvironmentProblem(f"timm publishes no weights file for {tagged}; give one as timm:{model}@FILE.")

    def download() -> Path:
        from huggingface_hub import hf_hub_download  # only here: importing it costs a second nobody else needs to wait

        return Path(hf_hub_download(repository, config.hf_hub_filename or "model.safetensors", local_files_only=not may_ask()))

    file, built = fetched(f"timm:{model}@{name}", download), timm.get_pretrained_cfg(model)
    return LibraryWeights(
        file,
        f"{config.architecture} {config.tag}",
        Normalisation(mean=config.mean, std=config.std),
        pretraining=None,
        as_built=None if built is None else Normalisation(mean=built.mean, std=built.std),
    )


class _Level(TypedDict):
    reduction: int
    num_chs: int


class _Levelled(nn.Module):
    """What timm's models have that give levels; timm declares its models as plain modules."""

    feature_info: Sequence[_Level]
    num_features: int
    forward_intermediates: Callable[..., list[Tensor]]


class TimmBackbone(Backbone):
    """Runs no stage beyond the deepest level asked for, where timm's model can stop early.

    Attributes:
        input_multiple: the input's side must be a multiple of this (the patch of a ViT); the sealed encoder resizes if it is not.
    """

    def __init__(self, model: str):
        super().__init__()
        model, plus, variant = model.partition("+")
        network = _network(model)
        if not hasattr(network, "forward_intermediates"):
            raise ConformanceError(f"timm:{model} cannot return intermediate features (timm gives it no forward_intermediates).")
        self.network = cast(_Levelled, network)
        grids = {info["reduction"]: (index, info["num_chs"]) for index, info in enumerate(self.network.feature_info)}
        self.single_grid = len(grids) == 1
        self.input_multiple = next(iter(grids)) if self.single_grid else 1
        if plus and not self.single_grid:
            raise UsageError(f"timm:{model}{plus}{variant}: only a plain transformer has taps; {model} gives its stages.")
        self._index = {stride: [index] for stride, (index, _) in grids.items()}
        channels = {stride: channels for stride, (_, channels) in grids.items()}
        if plus:
            depth = len(self.network.feature_info)
            self._index = {stride: [depth * tap // TAPS - 1 for tap in range(1, TAPS + 1)] for stride in grids}
            channels = {stride: TAPS * width for stride, width in channels.items()}
        config = getattr(self.network, "pretrained_cfg", None) or {}
        self.spec = BackboneSpec(
            name=model + plus + variant,
            strides=channels,
            embed_dim=getattr(self.network, "head_hidden_size", None) or self.network.num_features,
            normalisation=Normalisation(mean=config["mean"], std=config["std"]) if config.get("mean") else None,
            pretraining=(),
            taps=TAPS if plus else 1,
        )

    def pyramid(self, images: Tensor, strides: tuple[int, ...] | None = None) -> Mapping[int, Tensor]:
        wanted = tuple(sorted(self.spec.strides if strides is None else strides))
        indices = [index for stride in wanted for index in self._index[stride]]
        levels = self.network.forward_intermediates(
            images, indices=indices, norm=self.single_grid, stop_early=True, output_fmt="NCHW", intermediates_only=True
        )
        return {wanted[0]: torch.cat(levels, dim=1)} if self.single_grid else dict(zip(wanted, levels, strict=True))

    def pooled(self, images: Tensor) -> Tensor:
        return self.network(images)


def _network(model: str) -> nn.Module:
    """The model without classifier, for any input size where timm offers that: by interpolated positions, or by padded windows."""
    if model in UNNAMED:
        return Eva(**UNNAMED[model])
    if model in UNNAMED_VITS:
        return UNNAMED_VITS[model]()
    create = partial(timm.create_model, model, pretrained=False, num_classes=0)
    for attempt in (partial(create, dynamic_img_size=True), partial(create, strict_img_size=False), create):
        try:
            return attempt()
        except TypeError:
            continue
    raise AssertionError("timm builds every model without options")  # pragma: no cover: the last attempt returns or raises
