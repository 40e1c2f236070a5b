"""Folders of open_clip: a ViT or a timm network for images, CLIP's own text tower or a BERT for texts.

`open_clip_config.json` says which. Tensors have open_clip's names, so that its files load strictly. What is not of these four kinds (a
tower of convolutions with attention pooling, a text tower of another pooling) is refused by the key that says so.
Source of the names: docs/sources.md, open_clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from benchmark import json_files
from benchmark.cards import Normalisation
from benchmark.encoders.base import Backbone, ImageEmbedding, TextEmbedding, VisionLanguageBackbone
from benchmark.encoders.clip import NORMALISATION, Activation, ClipBackbone, ClipShape
from benchmark.encoders.hf_folder import OPEN_CLIP, numbers, require_sizes
from benchmark.encoders.library_weights import LibraryWeights
from benchmark.encoders.text import ATTENTION
from benchmark.encoders.timm import TimmBackbone
from benchmark.errors import ConformanceError, EnvironmentProblem, UnknownName, UsageError
from benchmark.files import require_regular_in

DEFAULT_LAYOUT = "hf-text"
CONFIGURATION = OPEN_CLIP
WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
POOLERS = ("cls_last_hidden_state_pooler", "mean_pooler")
_NATIVE_VISION = {"layers", "width", "patch_size", "image_size", "head_width", "mlp_ratio"}
_NATIVE_TEXT = {"context_length", "vocab_size", "width", "heads", "layers"}
_TIMM_VISION = {"timm_model_name", "timm_model_pretrained", "timm_pool", "timm_proj", "timm_drop", "timm_drop_path", "image_size"}
_BERT_TEXT = {"hf_model_name", "hf_tokenizer_name", "hf_proj_type", "hf_pooler_type", "hf_model_pretrained", "context_length"}
_MLP_RATIO = 4.0


def is_folder(model: str) -> bool:
    """Whether there is a folder of open_clip's of this name."""
    return (Path(model) / CONFIGURATION).is_file()


def build(model: str) -> Backbone:
    """A randomly initialised backbone of the folder's configuration.

    Raises:
        UsageError: the configuration is malformed.
        ConformanceError: a tower of another kind, or sizes that no network has.
        EnvironmentProblem: its BERT's configuration is neither in the folder nor to be had from the hub.
    """
    file = Path(model) / CONFIGURATION
    try:
        require_regular_in(model)
        config = json_files.read(file)
        inner = config["model_cfg"]
        vision, text, joint = dict(inner["vision_cfg"]), dict(inner["text_cfg"]), int(inner["embed_dim"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"{file} is malformed ({str(error)[:100]}). It holds `model_cfg` with `embed_dim`, `vision_cfg` and `text_cfg`."
        ) from None
    for part in (inner, vision, text):
        require_sizes(part, str(file))
    name, statistics = Path(model).name, _statistics(config, file)
    try:
        if "timm_model_name" in vision or "hf_model_name" in text:
            return _mixed(name, vision, text, joint, statistics, Path(model))
        return _native(name, vision, text, joint, statistics, activation="quick_gelu" if inner.get("quick_gelu") else "gelu", file=file)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ConformanceError(f"{file} describes no network that can be built ({str(error)[:200]}).") from None


def library_weights(model: str, name: str) -> LibraryWeights:
    """The folder's own weights file.

    Raises:
        UnknownName: no such file in it.
    """
    names = WEIGHT_FILES if name == "DEFAULT" else (name,)
    found = next((Path(model) / one for one in names if (Path(model) / one).is_file()), None)
    if found is None:
        raise UnknownName("weight", f"hf:{model}@{name}", sorted(p.name for p in Path(model).glob("*.*")))
    statistics = _statistics(json_files.read(Path(model) / CONFIGURATION), Path(model) / CONFIGURATION)
    return LibraryWeights(found, f"{Path(model).name} {found.name}", statistics, pretraining=None, as_built=statistics)


class MixedTowers(VisionLanguageBackbone):
    """A timm network and a BERT.

    Args:
        projection: of texts, `linear` or `mlp`; None where the widths are equal.
        pooler: one of `POOLERS`.
    """

    def __init__(
        self, name: str, trunk: TimmBackbone, bert: PreTrainedConfig, joint: int, projection: str | None, pooler: str, max_tokens: int
    ):
        super().__init__()
        self.max_tokens, self._pooler = max_tokens, pooler
        self._images = (trunk,)  # a tuple, so that its tensors are registered once
        self.network = _Towers(trunk, bert, joint, projection)
        self.input_multiple = getattr(trunk, "input_multiple", 1)
        self.spec = trunk.spec.model_copy(update={"name": name})

    def pyramid(self, images: Tensor, strides: tuple[int, ...] | None = None) -> Mapping[int, Tensor]:
        return self._images[0].pyramid(images, strides)

    def pooled(self, images: Tensor) -> Tensor:
        return self._images[0].pooled(images)

    def embed_images(self, images: Tensor) -> ImageEmbedding:
        """Local: each place of the deepest map, projected as the pooled vector is."""
        places, project = self.pyramid(images, (max(self.spec.strides),))[max(self.spec.strides)], self.network.visual.head
        return ImageEmbedding(project(self.pooled(images)), project(places.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))

    def embed_texts(self, texts: Sequence[str]) -> TextEmbedding:
        tokens = self.tokenise(texts)
        states = self.network.text.transformer(input_ids=tokens.ids, attention_mask=tokens.mask.long()).last_hidden_state
        kept = tokens.mask[..., None]
        whole = states[:, 0] if self._pooler == POOLERS[0] else (states * kept).sum(dim=1) / kept.sum(dim=1)
        project = self.network.text.proj
        return TextEmbedding(project(whole), project(states).transpose(1, 2), tokens.words, tokens.n_truncated)


class _Towers(nn.Module):
    def __init__(self, trunk: TimmBackbone, bert: PreTrainedConfig, joint: int, projection: str | None):
        super().__init__()
        self.visual = _Visual(trunk, joint)
        self.text = _Text(bert, joint, projection)
        self.logit_scale = nn.Parameter(torch.tensor(0.0))


class _Visual(nn.Module):
    def __init__(self, trunk: TimmBackbone, joint: int):
        super().__init__()
        self.trunk = trunk.network
        self.head = nn.Sequential()
        self.head.add_module("proj", nn.Linear(trunk.spec.embed_dim, joint, bias=False))


class _Text(nn.Module):
    def __init__(self, bert: Any, joint: int, projection: str | None):
        super().__init__()
        bert._attn_implementation = ATTENTION
        self.transformer = AutoModel.from_config(bert, dtype=torch.float32, trust_remote_code=False)
        if hasattr(self.transformer, "pooler"):
            self.transformer.pooler = None  # neither of `POOLERS` reads it, and files lack it
        self.proj = _projection(bert.hidden_size, joint, projection)


def _native(name: str, vision: dict, text: dict, joint: int, statistics: Normalisation, *, activation: Activation, file: Path) -> Backbone:
    _require_known(vision, _NATIVE_VISION, "vision_cfg", file)
    _require_known(text, _NATIVE_TEXT, "text_cfg", file)
    if not isinstance(vision.get("layers", 12), int) or vision.get("mlp_ratio", _MLP_RATIO) != _MLP_RATIO:
        raise ConformanceError(f"{file}: `layers` and `mlp_ratio` of `vision_cfg` are those of no plain ViT; convolutions are not built.")
    shape = ClipShape(
        patch=vision.get("patch_size", 16),
        width=vision.get("width", 768),
        layers=vision.get("layers", 12),
        image_size=vision.get("image_size", 224),
        joint=joint,
        head_width=vision.get("head_width", 64),
        vocabulary=text.get("vocab_size", 49408),
        context=text.get("context_length", 77),
        text_width=text.get("width", 512),
        text_layers=text.get("layers", 12),
        text_heads=text.get("heads", 8),
        activation=activation,
    )
    made = ClipBackbone(name, shape)
    made.spec = made.spec.model_copy(update={"normalisation": statistics})
    return made


def _mixed(name: str, vision: dict, text: dict, joint: int, statistics: Normalisation, folder: Path) -> Backbone:
    file = folder / CONFIGURATION
    if "timm_model_name" not in vision or "hf_model_name" not in text:
        raise ConformanceError(f"{file}: a timm network and a BERT are built together, and here one of them has another partner.")
    _require_known(vision, _TIMM_VISION, "vision_cfg", file)
    _require_known(text, _BERT_TEXT, "text_cfg", file)
    if vision.get("timm_proj", "linear") != "linear":
        raise ConformanceError(f"{file}: `timm_proj` of `vision_cfg` is {vision['timm_proj']!r}; built is linear.")
    pooler = text.get("hf_pooler_type", POOLERS[0])
    if pooler not in POOLERS:
        raise ConformanceError(f"{file}: `hf_pooler_type` is {pooler!r}; built are {', '.join(POOLERS)}.")
    trunk = TimmBackbone(vision["timm_model_name"])
    trunk.spec = trunk.spec.model_copy(update={"normalisation": statistics})
    own_pool = getattr(trunk.network, "global_pool", "")
    if vision.get("timm_pool", "") not in ("", own_pool):
        raise ConformanceError(f"{file}: `timm_pool` of `vision_cfg` is {vision['timm_pool']!r}, and the network's own is {own_pool!r}.")
    bert = _bert(folder, text["hf_model_name"])
    limit = min(text.get("context_length", 77), bert.max_position_embeddings)
    return MixedTowers(name, trunk, bert, joint, text.get("hf_proj_type"), pooler, limit)


def _bert(folder: Path, name: str) -> Any:
    """Its configuration: the folder's `config.json`, or that of the name on the hub."""
    beside = (folder / "config.json").is_file()
    try:
        config = AutoConfig.from_pretrained(str(folder) if beside else name, trust_remote_code=False)
    except Exception as error:
        raise EnvironmentProblem(
            f"{folder.name}: the configuration of its text encoder {name} cannot be read ({str(error).strip()[:150]}). Put its config.json "
            f"into {folder}."
        ) from None
    if config.model_type not in ("bert", "roberta"):
        raise ConformanceError(f"{folder.name}: its text encoder is a {config.model_type}; built are bert and roberta.")
    require_sizes(config.to_dict(), f"config.json of {folder.name}")
    return config


def _projection(width: int, joint: int, kind: str | None) -> nn.Module:
    if kind is None and width == joint:
        return nn.Identity()
    if kind == "linear":
        return nn.Linear(width, joint, bias=False)
    if kind == "mlp":
        inner = (width + joint) // 2
        return nn.Sequential(nn.Linear(width, inner, bias=False), nn.GELU(), nn.Linear(inner, joint, bias=False))
    raise ConformanceError(f"`hf_proj_type` of `text_cfg` is {kind!r}; built are linear and mlp.")


def _statistics(config: Mapping[str, Any], file: Path) -> Normalisation:
    """Of `preprocess_cfg`; OpenAI's where it says nothing, as in open_clip."""
    said = config.get("preprocess_cfg") or {}
    try:
        return Normalisation(
            mean=numbers(said.get("mean", list(NORMALISATION.mean))),
            std=numbers(said.get("std", list(NORMALISATION.std))),
        )
    except (ValueError, TypeError, AttributeError) as error:
        reason = str(error).rpartition("Value error, ")[2].partition(" [type=")[0]  # of pydantic's sentence, the one of `Normalisation`
        raise UsageError(f"{file}: `preprocess_cfg` is malformed ({reason[:150]}).") from None


def _require_known(found: Mapping[str, Any], known: set[str], where: str, file: Path) -> None:
    if unknown := sorted(found.keys() - known):
        raise ConformanceError(f"{file}: `{unknown[0]}` of `{where}` says something of the network that is not built here.")
