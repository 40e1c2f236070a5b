"""Any timm model that can return its intermediate features, as a feature pyramid.

`network` is timm's own model without its classifier, so checkpoints in timm's naming fit as they are. Hierarchical models give their
stages; a model with one grid (a ViT) gives its last block after the final norm, resampled bilinearly to strides 8, 16 and 32.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import timm
from torch import Tensor
from torch.nn import functional as F

from benchmark.cards import BackboneSpec, Normalisation
from benchmark.encoders.base import Backbone
from benchmark.encoders.library_weights import LibraryWeights, fetched
from benchmark.errors import ConformanceError, EnvironmentProblem, UnknownName

DEFAULT_LAYOUT = "timm"
RESAMPLED_STRIDES = (8, 16, 32)


def build(model: str) -> TimmBackbone:
    """A randomly initialised backbone, its numbers drawn from torch's global generator.

    Raises:
        UnknownName: timm has no such model.
        ConformanceError: the model cannot return intermediate features.
    """
    if not timm.is_model(model):
        raise UnknownName("backbone", f"timm:{model}", [f"timm:{name}" for name in timm.list_models()])
    return TimmBackbone(model)


def library_weights(model: str, name: str) -> LibraryWeights:
    """timm's weights by tag ("DEFAULT" or for example "a1_in1k"), from the hub's cache or downloaded into it.

    Raises:
        UnknownName: timm has no such model or tag.
        EnvironmentProblem: not in the cache and not to be had from the network.
    """
    tagged = model if name == "DEFAULT" else f"{model}.{name}"
    known = timm.list_pretrained(f"{model}.*")
    if name != "DEFAULT" and tagged not in known:
        raise UnknownName("weight", f"{model}@{name}", [f"{model}@{other.split('.', 1)[1]}" for other in known])
    config = timm.get_pretrained_cfg(tagged)
    if config is None or not config.hf_hub_id:
        raise EnvironmentProblem(f"timm publishes no weights file for {tagged}; give one as timm:{model}@FILE.")

    def download() -> Path:
        from huggingface_hub import hf_hub_download  # only here: importing it costs a second nobody else needs to wait

        return Path(hf_hub_download(config.hf_hub_id, config.hf_hub_filename or "model.safetensors"))

    file = fetched(f"timm:{model}@{name}", download)
    return LibraryWeights(file, f"{config.architecture} {config.tag}", Normalisation(mean=config.mean, std=config.std), pretraining=None)


class TimmBackbone(Backbone):
    """Runs no stage beyond the deepest level asked for, where timm's model can stop early.

    Attributes:
        input_multiple: the input's side must be a multiple of this (the patch of a ViT); the sealed encoder resizes if it is not.
    """

    def __init__(self, model: str):
        super().__init__()
        self.network = _network(model)
        if not hasattr(self.network, "forward_intermediates"):
            raise ConformanceError(f"timm:{model} cannot return intermediate features (timm gives it no forward_intermediates).")
        grids = {info["reduction"]: (index, info["num_chs"]) for index, info in enumerate(self.network.feature_info)}
        self.single_grid = len(grids) == 1
        self.input_multiple = next(iter(grids)) if self.single_grid else 1
        self._index = {stride: index for stride, (index, _) in grids.items()}
        channels = {stride: channels for stride, (_, channels) in grids.items()}
        if self.single_grid:
            channels = dict.fromkeys(RESAMPLED_STRIDES, next(iter(channels.values())))
        config = self.network.pretrained_cfg
        self.spec = BackboneSpec(
            name=model,
            strides=channels,
            embed_dim=getattr(self.network, "head_hidden_size", None) or self.network.num_features,
            normalisation=Normalisation(mean=config["mean"], std=config["std"]) if config.get("mean") else None,
            pretraining=(),
        )

    def pyramid(self, images: Tensor, strides: tuple[int, ...] | None = None) -> Mapping[int, Tensor]:
        wanted = tuple(sorted(self.spec.strides if strides is None else strides))
        if not self.single_grid:
            return dict(zip(wanted, self._intermediates(images, [self._index[stride] for stride in wanted]), strict=True))
        (features,) = self._intermediates(images, list(self._index.values()))
        side = images.shape[-1]
        return {
            stride: F.interpolate(features, size=(side // stride, side // stride), mode="bilinear", align_corners=False)
            for stride in wanted
        }

    def pooled(self, images: Tensor) -> Tensor:
        return self.network(images)

    def _intermediates(self, images: Tensor, indices: list[int]) -> list[Tensor]:
        return self.network.forward_intermediates(
            images, indices=indices, norm=self.single_grid, stop_early=True, output_fmt="NCHW", intermediates_only=True
        )


def _network(model: str):
    """The model without classifier; a ViT takes any input size, where timm offers that."""
    try:
        return timm.create_model(model, pretrained=False, num_classes=0, dynamic_img_size=True)
    except TypeError:
        return timm.create_model(model, pretrained=False, num_classes=0)
