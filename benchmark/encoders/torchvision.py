"""torchvision's classifiers as feature pyramids.

`network` is torchvision's own model without its classifier, so checkpoints in torchvision's naming fit as they are.
Levels of ResNets and DenseNets are what LoVT's code reads: after the first activation (stride 2, before pooling) and after each stage.
Other models whose layers stand in one sequence (ConvNeXt, Swin, EfficientNet, MobileNet, VGG) give the last map of each
resolution. Plain transformers come from timm.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from benchmark.cards import IMAGENET, BackboneSpec, Normalisation
from benchmark.encoders.base import Backbone
from benchmark.encoders.library_weights import LibraryWeights, fetched, may_ask
from benchmark.errors import ConformanceError, UnknownName

DEFAULT_LAYOUT = "torchvision"
_PROBE = 224  # side of the input on which strides are measured


@dataclass(frozen=True)
class Level:
    """A level of a network: its stride, its channels, and the modules run after the level before it."""

    stride: int
    channels: int
    modules: tuple[str, ...]


def _resnet(first: int, *stages: int) -> tuple[Level, ...]:
    return (
        Level(2, first, ("conv1", "bn1", "relu")),
        Level(4, stages[0], ("maxpool", "layer1")),
        Level(8, stages[1], ("layer2",)),
        Level(16, stages[2], ("layer3",)),
        Level(32, stages[3], ("layer4",)),
    )


def _densenet(first: int, *stages: int) -> tuple[Level, ...]:
    return (
        Level(2, first, ("features.conv0", "features.norm0", "features.relu0")),
        Level(4, stages[0], ("features.pool0", "features.denseblock1")),
        Level(8, stages[1], ("features.transition1", "features.denseblock2")),
        Level(16, stages[2], ("features.transition2", "features.denseblock3")),
        Level(32, stages[3], ("features.transition3", "features.denseblock4", "features.norm5", "features.relu5")),
    )


# A ResNet-50 whose file ends after the third stage (MedKLIP, KAD at 224 px): stride 32 is its last map, averaged two by two.
_WITHOUT_LAYER4 = (*_resnet(64, 256, 512, 1024, 2048)[:-1], Level(32, 1024, ("halved",)))

ARCHITECTURES: dict[str, tuple[Level, ...]] = {
    "resnet18": _resnet(64, 64, 128, 256, 512),
    "resnet34": _resnet(64, 64, 128, 256, 512),
    "resnet50": _resnet(64, 256, 512, 1024, 2048),
    "resnet101": _resnet(64, 256, 512, 1024, 2048),
    "resnet152": _resnet(64, 256, 512, 1024, 2048),
    "resnext50_32x4d": _resnet(64, 256, 512, 1024, 2048),
    "resnext101_32x8d": _resnet(64, 256, 512, 1024, 2048),
    "resnext101_64x4d": _resnet(64, 256, 512, 1024, 2048),
    "wide_resnet50_2": _resnet(64, 256, 512, 1024, 2048),
    "wide_resnet101_2": _resnet(64, 256, 512, 1024, 2048),
    "resnet50-layer3": _WITHOUT_LAYER4,
    "resnet18-layer3": (*_resnet(64, 64, 128, 256, 512)[:-1], Level(32, 256, ("halved",))),
    "densenet121": _densenet(64, 256, 512, 1024, 1024),
    "densenet161": _densenet(96, 384, 768, 2112, 2208),
    "densenet169": _densenet(64, 256, 512, 1280, 1664),
    "densenet201": _densenet(64, 256, 512, 1792, 1920),
}


def build(model: str) -> TorchvisionBackbone | SequenceBackbone:
    """A randomly initialised backbone, its numbers drawn from torch's global generator.

    Raises:
        UnknownName: torchvision has no such classifier.
        ConformanceError: its layers stand in no sequence that levels could be read from.
    """
    _require_known(model)
    return TorchvisionBackbone(model) if model in ARCHITECTURES else SequenceBackbone(model)


def library_weights(model: str, name: str) -> LibraryWeights:
    """torchvision's weights file by name ("DEFAULT", "IMAGENET1K_V1", ...), from torch's cache or downloaded into it.

    Raises:
        UnknownName: no such architecture or weights.
        EnvironmentProblem: not in the cache and not to be had from the network.
    """
    _require_known(model)
    known = torchvision.models.get_model_weights(model.partition("-layer3")[0])
    if name != "DEFAULT" and name not in known.__members__:
        raise UnknownName("weight", f"{model}@{name}", [f"{model}@{member}" for member in ("DEFAULT", *known.__members__)])
    weights = getattr(known, name)
    path = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]

    def download() -> Path:
        if not may_ask():
            raise FileNotFoundError(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        digest_start = path.stem.rsplit("-", 1)[-1]  # torchvision puts the first digits of the SHA-256 into the name
        torch.hub.download_url_to_file(weights.url, str(path), hash_prefix=digest_start, progress=False)
        return path

    file, shown = path if path.is_file() else fetched(f"torchvision:{model}@{name}", download), weights.transforms()
    return LibraryWeights(
        file,
        f"{model} {weights.name}",
        Normalisation(mean=tuple(shown.mean), std=tuple(shown.std)),
        pretraining=("imagenet-1k",),
        as_built=IMAGENET,
    )


class TorchvisionBackbone(Backbone):
    """Runs no stage beyond the deepest level asked for."""

    def __init__(self, model: str):
        super().__init__()
        self.levels = ARCHITECTURES[model]
        name, cut, _ = model.partition("-layer3")
        self.network = getattr(torchvision.models, name)(weights=None)
        if cut:
            del self.network.layer4
            self.network.halved = nn.AvgPool2d(kernel_size=2)
        if model.startswith("densenet"):
            del self.network.classifier
            self.network.features.relu5 = nn.ReLU(inplace=True)  # torchvision applies it in its own forward
        else:
            del self.network.fc
        self.spec = BackboneSpec(
            name=model,
            strides={level.stride: level.channels for level in self.levels},
            embed_dim=self.levels[-1].channels,
            normalisation=IMAGENET,
            pretraining=(),
        )

    def pyramid(self, images: Tensor, strides: tuple[int, ...] | None = None) -> Mapping[int, Tensor]:
        return run_levels(self.network, self.levels, images, self.spec.strides if strides is None else strides)

    def pooled(self, images: Tensor) -> Tensor:
        deepest = self.levels[-1].stride
        return self.pyramid(images, (deepest,))[deepest].mean(dim=(2, 3))


def resnet(model: str, channels: int = 3) -> nn.Module:
    """torchvision's ResNet without classifier, for families that wrap one; `channels` of its first convolution."""
    network = getattr(torchvision.models, model)(weights=None)
    del network.fc
    if channels != 3:
        network.conv1 = nn.Conv2d(channels, network.conv1.out_channels, kernel_size=7, stride=2, padding=3, bias=False)
    return network


def run_levels(network: nn.Module, levels: tuple[Level, ...], images: Tensor, strides: Iterable[int]) -> dict[int, Tensor]:
    """Feature maps of a network at the wanted strides; nothing beyond the deepest of them is run."""
    wanted = set(strides)
    maps: dict[int, Tensor] = {}
    features = images
    for level in levels:
        for name in level.modules:
            features = network.get_submodule(name)(features)
        if level.stride in wanted:
            maps[level.stride] = features
        if level.stride >= max(wanted):
            break
    return maps


class SequenceBackbone(Backbone):
    """A model whose `features` are one sequence: the last map of each resolution is a level. Measured once on shapes alone."""

    def __init__(self, model: str):
        super().__init__()
        self.network = getattr(torchvision.models, model)(weights=None)
        stages = _stages(copy.deepcopy(self.network).to("meta"), model)
        for name in ("classifier", "head", "fc"):
            if hasattr(self.network, name):
                delattr(self.network, name)
        self._last = {stride: index for stride, (index, _) in stages.items()}
        deepest = max(stages)
        self.spec = BackboneSpec(
            name=model,
            strides={stride: channels for stride, (_, channels) in stages.items()},
            embed_dim=stages[deepest][1],
            normalisation=IMAGENET,
            pretraining=(),
        )

    def pyramid(self, images: Tensor, strides: tuple[int, ...] | None = None) -> Mapping[int, Tensor]:
        wanted = {self._last[stride]: stride for stride in (self.spec.strides if strides is None else strides)}
        maps: dict[int, Tensor] = {}
        features = images
        for index in range(max(wanted) + 1):
            features = self.network.features[index](features)
            if index in wanted:
                maps[wanted[index]] = self._channels_first(wanted[index], features)
        return maps

    def pooled(self, images: Tensor) -> Tensor:
        deepest = max(self.spec.strides)
        return self.pyramid(images, (deepest,))[deepest].mean(dim=(2, 3))

    def _channels_first(self, stride: int, features: Tensor) -> Tensor:
        if not isinstance(self.network, torchvision.models.SwinTransformer):
            return features
        normed = self.network.norm(features) if stride == max(self._last) else features
        return normed.permute(0, 3, 1, 2)


def _stages(network: nn.Module, model: str) -> dict[int, tuple[int, int]]:
    """Stride -> (index of the last layer of that resolution, channels)."""
    sequence = getattr(network, "features", None)
    if not isinstance(sequence, nn.Sequential):
        raise ConformanceError(f"torchvision:{model} has no sequence of layers to read levels from; timm has most models: timm:{model}.")
    features = torch.empty(1, 3, _PROBE, _PROBE, device="meta")
    last_channels = isinstance(network, torchvision.models.SwinTransformer)
    stages: dict[int, tuple[int, int]] = {}
    for index, layer in enumerate(sequence):
        features = layer(features)
        side, channels = (features.shape[1], features.shape[3]) if last_channels else (features.shape[2], features.shape[1])
        if side < _PROBE and _PROBE % side == 0:
            stages[_PROBE // side] = (index, channels)
    return stages


def _require_known(model: str) -> None:
    known = [*torchvision.models.list_models(module=torchvision.models), *ARCHITECTURES]
    if model not in known:
        raise UnknownName("backbone", f"torchvision:{model}", [f"torchvision:{name}" for name in known])
