"""Image encoders of Hugging Face transformers, by local folder or by name.

A folder (or a repository's name) gives the architecture by its `config.json`; a few architectures go by a name of their own
(`CONFIGURATIONS`). Weights come from a file, or from the folder's own `model.safetensors` as `hf:FOLDER@DEFAULT`. Only classes that
transformers ships are built: code in a folder is never run.
Plain transformers (ViT, DeiT, DINOv2, DINOv3, CLIP, SigLIP) give their last state after the final norm, at the stride of the patch; models
with stages (Swin, ConvNeXt, ResNet) give the stages. transformers' Swin needs 224 pixels or more.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, Dinov2Config, PreTrainedConfig, SiglipVisionConfig, SwinConfig

from benchmark.cards import BackboneSpec, Normalisation
from benchmark.encoders.base import Backbone
from benchmark.encoders.library_weights import LibraryWeights, fetched
from benchmark.encoders.released_names import use_released_names
from benchmark.errors import ConformanceError, EnvironmentProblem, UnknownName, UsageError

DEFAULT_LAYOUT = "hf"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
# Dual encoders: their image half is a model of its own.
VISION_HALVES = {"clip": "CLIPVisionModel", "siglip": "SiglipVisionModel", "siglip2": "Siglip2VisionModel"}
WINDOWED = ("swin", "swinv2")
# Architectures of released files that come without a configuration, or whose configuration is documented.
CONFIGURATIONS = {
    "dinov2-base-518": lambda: Dinov2Config(image_size=518, patch_size=14),
    "swin-tiny": lambda: SwinConfig(),
    # The image half of SigLIP-400M.
    "siglip-400m-448": lambda: SiglipVisionConfig(
        hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16, image_size=448, patch_size=14
    ),
}
_SAME_SCALE = 0.01  # share by which a factor may miss 1/255: configurations round it
_PROBE = 224  # side of the input on which strides are measured


def build(model: str) -> HuggingFaceBackbone:
    """A randomly initialised backbone of the folder's or repository's configuration.

    Raises:
        UsageError: no such folder, or no configuration in it.
        EnvironmentProblem: a repository's name that is not in the hub's cache and cannot be fetched.
        ConformanceError: not an image encoder, or one whose maps cannot be read.
    """
    return HuggingFaceBackbone(model, configuration(model))


def configuration(model: str) -> PreTrainedConfig:
    """The image half of a model's configuration; see `build` for errors."""
    if model in CONFIGURATIONS:
        return CONFIGURATIONS[model]()
    if _is_folder(model) and not (Path(model) / "config.json").is_file():
        raise UsageError(f"hf:{model}: there is no config.json in this folder.")
    try:
        config = AutoConfig.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise EnvironmentProblem(
            f"hf:{model} has no configuration that can be read here ({reason}). Give a local folder: hf:FOLDER."
        ) from None
    return getattr(config, "vision_config", config)


def library_weights(model: str, name: str) -> LibraryWeights:
    """The model's own weights file: `@DEFAULT`, or a file's name inside the folder or repository.

    Raises:
        UnknownName: no such file in the folder.
        EnvironmentProblem: not in the hub's cache and not to be had from the network.
    """
    names = WEIGHT_FILES if name == "DEFAULT" else (name,)
    if _is_folder(model):
        found = [Path(model) / candidate for candidate in names if (Path(model) / candidate).is_file()]
        if not found:
            raise UnknownName("weight", f"hf:{model}@{name}", sorted(p.name for p in Path(model).glob("*.*")))
        file = found[0]
    else:

        def download() -> Path:
            from huggingface_hub import hf_hub_download

            return Path(hf_hub_download(model, names[0]))

        file = fetched(f"hf:{model}@{name}", download)
    return LibraryWeights(file, f"{Path(model).name} {file.name}", own_normalisation(model), pretraining=None)


def own_normalisation(model: str) -> Normalisation | None:
    """Mean and deviation of the folder's `preprocessor_config.json`; None where there is none, or they are on another scale than 0 to 1.

    A configuration that switches the step off keeps statistics nobody used: then images pass as they are.
    """
    file = Path(model) / "preprocessor_config.json"
    if not file.is_file():
        return None
    content = json.loads(file.read_text(encoding="utf-8"))
    scale = content.get("rescale_factor", 1 / 255) if content.get("do_rescale", True) else 1.0
    if abs(255 * scale - 1) > _SAME_SCALE:
        return None
    if not content.get("do_normalize", True):
        return Normalisation(mean=(0.0,), std=(1.0,))
    if "image_mean" not in content or "image_std" not in content:
        return None
    return Normalisation(mean=tuple(content["image_mean"]), std=tuple(content["image_std"]))


class HuggingFaceBackbone(Backbone):
    """Runs the whole model: transformers offers no early stop.

    Attributes:
        input_multiple: side of a patch, for plain transformers.
    """

    def __init__(self, name: str, config: PreTrainedConfig):
        super().__init__()
        self.network = _image_model(config, name)
        self.patch = getattr(config, "patch_size", None) if not hasattr(config, "depths") else None
        self.patch = self.patch[0] if isinstance(self.patch, (list, tuple)) else self.patch
        self.input_multiple = self.patch or 1
        embeddings = getattr(self.network, "embeddings", None)
        interpolates = embeddings is not None and "interpolate_pos_encoding" in inspect.signature(embeddings.forward).parameters
        # Without it transformers refuses any other size than the configuration's; some models (DINOv2) always interpolate.
        self._options = {"interpolate_pos_encoding": True} if interpolates else {}
        with torch.no_grad():
            if self.patch:
                strides, self._index = {self.patch: config.hidden_size}, {}
            else:
                strides, self._index = self._measured()
        width = strides[max(strides)]
        self.spec = BackboneSpec(
            name=Path(name).name, strides=strides, embed_dim=width, normalisation=own_normalisation(name), pretraining=()
        )

    def pyramid(self, images: Tensor, strides: tuple[int, ...] | None = None) -> Mapping[int, Tensor]:
        wanted = sorted(self.spec.strides if strides is None else strides)
        if self.patch:
            return {self.patch: self._grid(images)}
        states = self._states(images)
        return {stride: states[self._index[stride]] for stride in wanted}

    def pooled(self, images: Tensor) -> Tensor:
        deepest = max(self.spec.strides)
        if not self.patch:
            return self._states(images)[self._index[deepest]].mean(dim=(2, 3))
        tokens = self._tokens(images)
        n_patches = (images.shape[-1] // self.patch) ** 2
        return tokens[:, 0] if tokens.shape[1] > n_patches else tokens.mean(dim=1)

    def _tokens(self, images: Tensor) -> Tensor:
        tokens = self.network(pixel_values=images, **self._options).last_hidden_state
        final = getattr(self.network, "post_layernorm", None)  # CLIP's last state is before its last norm
        return tokens if final is None or self.network.config.model_type.startswith("siglip") else final(tokens)

    def _grid(self, images: Tensor) -> Tensor:
        side = images.shape[-1] // self.patch
        tokens = self._tokens(images)[:, -side * side :]  # class and register tokens come first
        return tokens.transpose(1, 2).unflatten(2, (side, side))

    def _states(self, images: Tensor) -> list[Tensor]:
        if self.network.config.model_type in WINDOWED:
            return self._windowed_states(images)
        found = self.network(pixel_values=images, output_hidden_states=True, **self._options)
        return [state for state in found.hidden_states if state.dim() == 4]

    def _windowed_states(self, images: Tensor) -> list[Tensor]:
        """Each stage before it is downsampled, which transformers returns only after; the last one after the final norm."""
        states: list[Tensor] = []

        def remember(_block: nn.Module, _arguments: tuple, output: Tensor | tuple) -> None:
            states.append(output if isinstance(output, Tensor) else output[0])

        handles = [stage.blocks[-1].register_forward_hook(remember) for stage in self.network.encoder.layers]
        try:
            self.network(pixel_values=images, **self._options)
        finally:
            for handle in handles:
                handle.remove()
        states[-1] = self.network.layernorm(states[-1])
        sides = [math.isqrt(state.shape[1]) for state in states]
        return [state.transpose(1, 2).unflatten(2, (side, side)) for state, side in zip(states, sides, strict=True)]

    def _measured(self) -> tuple[dict[int, int], dict[int, int]]:
        strides, index = {}, {}
        was_training = self.network.training
        self.network.eval()
        for place, state in enumerate(self._states(torch.zeros(1, self.network.config.num_channels, _PROBE, _PROBE))):
            strides[_PROBE // state.shape[-1]], index[_PROBE // state.shape[-1]] = state.shape[1], place
        self.network.train(was_training)
        if not strides:
            raise ConformanceError(f"transformers' {type(self.network).__name__} returns no feature maps.")
        return strides, index


def _image_model(config: PreTrainedConfig, name: str) -> nn.Module:
    import transformers

    half = VISION_HALVES.get(config.model_type.removesuffix("_vision_model"))
    try:
        if half:
            model = getattr(transformers, half)(config)
            model = getattr(model, "vision_model", model)
        else:
            model = AutoModel.from_config(config, trust_remote_code=False)
    except (ValueError, AttributeError) as error:
        raise ConformanceError(f"hf:{name} is no image encoder that transformers builds ({str(error).splitlines()[0][:160]}).") from None
    if model.main_input_name != "pixel_values":
        raise ConformanceError(f"hf:{name}: transformers' {type(model).__name__} is no image encoder.")
    # Layers that no map passes through; many files lack them, so they would count as missing.
    if hasattr(getattr(model, "pooler", None), "dense"):
        model.pooler = None
    if getattr(model, "use_head", False):
        model.use_head = False
        del model.head
    use_released_names(model)
    return model


def _is_folder(model: str) -> bool:
    return Path(model).is_dir() or model.startswith((".", "/", "~"))
