"""Image encoders of Hugging Face transformers, by local folder or by name.

A folder (or a repository's name) gives the architecture by its `config.json`; a few architectures go by a name of their own
(`CONFIGURATIONS`). Weights come from a file, or from the folder's own `model.safetensors` as `hf:FOLDER@DEFAULT`. Only classes that
transformers ships are built: code in a folder is never run.
Plain transformers (ViT, DeiT, DINOv2, DINOv3, CLIP, SigLIP) give their last state after the final norm, at the stride of the patch; models
with stages (Swin, ConvNeXt, ResNet) give the stages. transformers' Swin needs 224 pixels or more. A masked autoencoder's encoder sees the
whole image: its mask is off. Networks run in float32, also where the folder was saved in another type.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, Dinov2Config, PreTrainedConfig, SiglipVisionConfig, SwinConfig

from benchmark.cards import BackboneSpec
from benchmark.encoders.base import Backbone
from benchmark.encoders.hf_folder import own_normalisation, require_sizes
from benchmark.encoders.library_weights import LibraryWeights, fetched, may_ask
from benchmark.encoders.released_names import use_released_names
from benchmark.encoders.shards import is_index, shards_of
from benchmark.errors import ConformanceError, EnvironmentProblem, LobeError, UnknownName, UsageError
from benchmark.files import require_regular_in

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DEFAULT_LAYOUT = "hf"
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
# Dual encoders: their image half is a model of its own.
VISION_HALVES = {"clip": "CLIPVisionModel", "siglip": "SiglipVisionModel", "siglip2": "Siglip2VisionModel"}
WINDOWED = ("swin", "swinv2")
MASKED_AUTOENCODERS = ("vit_mae",)
# How attention is computed, where a configuration does not say: what transformers chooses by itself today. Its digits differ from eager's.
ATTENTION = "sdpa"
_KNOWN_ATTENTION = ("sdpa", "eager")
_MOST_PARAMETERS = 20_000_000_000
# Architectures of released files that come without a configuration, or whose configuration is documented.
CONFIGURATIONS = {
    "dinov2-base-518": lambda: Dinov2Config(image_size=518, patch_size=14),
    "swin-tiny": lambda: SwinConfig(),
    # The image half of SigLIP-400M.
    "siglip-400m-448": lambda: SiglipVisionConfig(
        hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16, image_size=448, patch_size=14
    ),
}
_PROBE = 224  # side of the input on which strides are measured


def build(model: str) -> HuggingFaceBackbone:
    """A randomly initialised backbone of the folder's or repository's configuration.

    Raises:
        UsageError: no such folder, or no configuration in it.
        EnvironmentProblem: a repository's name that is not in the hub's cache and cannot be fetched.
        ConformanceError: not an image encoder, one whose maps cannot be read, or a configuration that describes no network.
    """
    config = configuration(model)
    try:
        return HuggingFaceBackbone(model, config)
    except LobeError:
        raise
    except Exception as error:  # a wrong value fails in as many places as a network has
        raise ConformanceError(
            f"hf:{model}: transformers cannot build its configuration ({reason_of(error)}). Is config.json whole?"
        ) from None


def configuration(model: str) -> PreTrainedConfig:
    """The image half of a model's configuration; see `build` for errors."""
    if model in CONFIGURATIONS:
        return CONFIGURATIONS[model]()
    if _is_folder(model) and not (Path(model) / "config.json").is_file():
        raise UsageError(f"hf:{model}: there is no config.json in this folder.")
    if _is_folder(model):
        require_regular_in(model)
    try:
        config = AutoConfig.from_pretrained(model, trust_remote_code=False)
        config = getattr(config, "vision_config", config)
        require_sizes(config.to_dict(), f"hf:{model}")
    except LobeError:
        raise
    except Exception as error:  # malformed values fail in as many ways as there are keys
        advice = "Is its config.json whole?" if _is_folder(model) else "Give a local folder: hf:FOLDER."
        raise EnvironmentProblem(f"hf:{model} has no configuration that can be read here ({reason_of(error)}). {advice}") from None
    return config


def library_weights(model: str, name: str) -> LibraryWeights:
    """The model's own weights file: `@DEFAULT`, or a file's name inside the folder or repository.

    Raises:
        UsageError: no such folder, or an empty one.
        UnknownName: no such file in the folder.
        EnvironmentProblem: not in the hub's cache and not to be had from the network.
    """
    names = WEIGHT_FILES if name == "DEFAULT" else (name,)
    if _is_folder(model):
        found = [Path(model) / candidate for candidate in names if (Path(model) / candidate).is_file()]
        if not found:
            held = sorted(p.name for p in Path(model).glob("*"))
            if not held:
                there = "the folder is empty" if Path(model).is_dir() else "there is no such folder"
                raise UsageError(f"hf:{model}@{name}: {there}. It should hold config.json and {' or '.join(names)}.")
            raise UnknownName("weight", f"hf:{model}@{name}", held)
        file = found[0]
    else:
        file = fetched(f"hf:{model}@{name}", lambda: _downloaded(model, names))
    return LibraryWeights(file, f"{Path(model).name} {file.name}", own_normalisation(model), pretraining=None)


def _downloaded(repository: str, names: Sequence[str]) -> Path:
    """The first of the files that the repository has; with an index, every file it names."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    absent: list[Exception] = []
    for name in names:
        try:
            found = Path(hf_hub_download(repository, name, local_files_only=not may_ask()))
        except EntryNotFoundError as error:
            absent.append(error)
            continue
        if is_index(found):
            for shard in shards_of(found, here=False):
                hf_hub_download(repository, shard.name, local_files_only=not may_ask())
        return found
    raise absent[0]


class HuggingFaceBackbone(Backbone):
    """Runs the whole model: transformers offers no early stop.

    Attributes:
        input_multiple: side of a patch, for plain transformers.
    """

    def __init__(self, name: str, config: PreTrainedConfig):
        super().__init__()
        channels = getattr(config, "num_channels", 3)
        if channels not in (1, 3):
            raise ConformanceError(f"hf:{name} takes {channels} channels; radiographs have one, given as one or three equal ones.")
        self.channels = channels
        self._masked = config.model_type in MASKED_AUTOENCODERS
        if self._masked:
            config.mask_ratio = 0.0
        self.network = _image_model(config, name)
        sides = getattr(config, "patch_size", None) if not hasattr(config, "depths") else None
        self.patch: int | None = sides[0] if isinstance(sides, (list, tuple)) else sides
        self.input_multiple = self.patch or 1
        embeddings = getattr(self.network, "embeddings", None)
        interpolates = embeddings is not None and "interpolate_pos_encoding" in inspect.signature(embeddings.forward).parameters
        # Without it transformers refuses any other size than the configuration's; some models (DINOv2) always interpolate.
        self._options = {"interpolate_pos_encoding": True} if interpolates else {}
        # Class token, DeiT's second one, DINOv3's registers: these stand before the patches.
        self._beside = (0, 1, 2, 1 + (getattr(config, "num_register_tokens", 0) or 0))
        self._index: dict[int, int] = {}
        with torch.no_grad():
            if self.patch:
                strides = {self.patch: config.hidden_size}
            else:
                strides, self._index = self._measured()
        width = strides[max(strides)]
        self.spec = BackboneSpec(
            name=Path(name).name,
            in_channels=channels,
            strides=strides,
            embed_dim=width,
            normalisation=own_normalisation(name),
            pretraining=(),
        )

    def pyramid(self, images: Tensor, strides: tuple[int, ...] | None = None) -> Mapping[int, Tensor]:
        wanted = sorted(self.spec.strides if strides is None else strides)
        if self.patch:
            return {self.patch: self._grid(images, self.patch)}
        states = self._states(images)
        return {stride: states[self._index[stride]] for stride in wanted}

    def pooled(self, images: Tensor) -> Tensor:
        deepest = max(self.spec.strides)
        if not self.patch:
            return self._states(images)[self._index[deepest]].mean(dim=(2, 3))
        tokens = self.tokens(images, self.patch)
        n_patches = (images.shape[-1] // self.patch) ** 2
        return tokens[:, 0] if tokens.shape[1] > n_patches else tokens.mean(dim=1)

    def tokens(self, images: Tensor, patch: int) -> Tensor:
        """(N, T, width) of a plain transformer after its last norm: class and register tokens first, then the patches, row by row.

        Raises:
            ConformanceError: there are other tokens beside the patches, and nothing says where.
        """
        tokens = self.network(pixel_values=images[:, : self.channels], **self._options, **self._in_order(images, patch)).last_hidden_state
        n_beside = tokens.shape[1] - (images.shape[-2] // patch) * (images.shape[-1] // patch)
        if n_beside not in self._beside:  # YOLOS's detection tokens stand behind them
            raise ConformanceError(
                f"hf:{self.spec.name} gives {n_beside} tokens beside its patches; where they stand is not known. "
                "Write it as a Python backbone."
            )
        final = getattr(self.network, "post_layernorm", None)  # CLIP's last state is before its last norm
        return tokens if final is None or self.network.config.model_type.startswith("siglip") else final(tokens)

    def _in_order(self, images: Tensor, patch: int) -> dict[str, Tensor]:
        """A masked autoencoder shuffles patches by noise, even if it keeps them all: rising noise keeps their order."""
        if not self._masked:
            return {}
        n_patches = (images.shape[-2] // patch) * (images.shape[-1] // patch)
        return {"noise": torch.arange(n_patches, device=images.device).expand(len(images), -1) / n_patches}

    def _grid(self, images: Tensor, patch: int) -> Tensor:
        side = images.shape[-1] // patch
        tokens = self.tokens(images, patch)[:, -side * side :]  # class and register tokens come first
        return tokens.transpose(1, 2).unflatten(2, (side, side))

    def _states(self, images: Tensor) -> list[Tensor]:
        if self.network.config.model_type in WINDOWED:
            return self._windowed_states(images)
        found = self.network(pixel_values=images[:, : self.channels], output_hidden_states=True, **self._options)
        return [state for state in found.hidden_states if state.dim() == 4]

    def _windowed_states(self, images: Tensor) -> list[Tensor]:
        """Each stage before it is downsampled, which transformers returns only after; the last one after the final norm."""
        states: list[Tensor] = []

        def remember(_block: nn.Module, _arguments: tuple, output: Tensor | tuple) -> None:
            states.append(output if isinstance(output, Tensor) else output[0])

        stages = self.network.get_submodule("encoder.layers").children()
        handles = [list(stage.get_submodule("blocks").children())[-1].register_forward_hook(remember) for stage in stages]
        try:
            self.network(pixel_values=images[:, : self.channels], **self._options)
        finally:
            for handle in handles:
                handle.remove()
        states[-1] = self.network.get_submodule("layernorm")(states[-1])
        sides = [math.isqrt(state.shape[1]) for state in states]
        return [state.transpose(1, 2).unflatten(2, (side, side)) for state, side in zip(states, sides, strict=True)]

    def _measured(self) -> tuple[dict[int, int], dict[int, int]]:
        strides: dict[int, int] = {}
        index: dict[int, int] = {}
        was_training = self.network.training
        self.network.eval()
        for place, state in enumerate(self._states(torch.zeros(1, 3, _PROBE, _PROBE))):
            strides[_PROBE // state.shape[-1]], index[_PROBE // state.shape[-1]] = state.shape[1], place
        self.network.train(was_training)
        if not strides:
            raise ConformanceError(f"transformers' {type(self.network).__name__} returns no feature maps.")
        return strides, index


def _image_model(config: PreTrainedConfig, name: str) -> PreTrainedModel:
    import transformers

    half = VISION_HALVES.get(config.model_type.removesuffix("_vision_model"))
    kind = getattr(transformers, half) if half else transformers.MODEL_MAPPING.get(type(config), None)
    if getattr(config, "_attn_implementation", None) not in _KNOWN_ATTENTION:
        config._attn_implementation = ATTENTION if getattr(kind, "_supports_sdpa", False) else "eager"

    def make() -> PreTrainedModel:
        if half:
            model = getattr(transformers, half)._from_config(config, dtype=torch.float32)
            return getattr(model, "vision_model", model)
        return AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)

    try:
        _require_size(make, name)
        model = make()
    except (ValueError, AttributeError) as error:
        raise ConformanceError(f"hf:{name} is no image encoder that transformers builds ({reason_of(error)}).") from None
    if model.main_input_name != "pixel_values":
        raise ConformanceError(f"hf:{name}: transformers' {type(model).__name__} is no image encoder.")
    # Layers that no map passes through; many files lack them, so they would count as missing.
    if hasattr(getattr(model, "pooler", None), "dense"):
        model.register_module("pooler", None)
    if getattr(model, "use_head", False):
        vars(model)["use_head"] = False  # torch takes every attribute that a class does not declare for a tensor or a module
        del model.head
    use_released_names(model)
    return model


def _require_size(make: Callable[[], nn.Module], name: str) -> None:
    """Counts parameters without memory for them, where the architecture can be built so."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            n_parameters = sum(parameter.numel() for parameter in make().parameters())
    except Exception:
        return
    if n_parameters > _MOST_PARAMETERS:
        raise ConformanceError(f"hf:{name} describes {n_parameters:,} parameters; no image encoder has more than {_MOST_PARAMETERS:,}.")


def reason_of(error: Exception) -> str:
    """The first two lines of an error, cut."""
    lines = [line.strip() for line in str(error).strip().split("\n") if line.strip()]
    return " ".join(lines[:2])[:200] or type(error).__name__


def _is_folder(model: str) -> bool:
    return Path(model).is_dir() or model.startswith((".", "/", "~"))
