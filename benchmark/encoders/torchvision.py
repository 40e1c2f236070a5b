"""ResNets and DenseNet-121 of torchvision as feature pyramids.

`network` is torchvision's own model without its classifier, so checkpoints in torchvision's naming fit as they are.
Levels are what LoVT's code reads: after the first activation (stride 2, before pooling) and after each stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from benchmark.cards import IMAGENET, BackboneSpec
from benchmark.encoders.base import Backbone
from benchmark.encoders.library_weights import LibraryWeights, fetched
from benchmark.errors import UnknownName

DEFAULT_LAYOUT = "torchvision"


@dataclass(frozen=True)
class _Level:
    stride: int
    channels: int
    modules: tuple[str, ...]


def _resnet(first: int, *stages: int) -> tuple[_Level, ...]:
    return (
        _Level(2, first, ("conv1", "bn1", "relu")),
        _Level(4, stages[0], ("maxpool", "layer1")),
        _Level(8, stages[1], ("layer2",)),
        _Level(16, stages[2], ("layer3",)),
        _Level(32, stages[3], ("layer4",)),
    )


_DENSENET121 = (
    _Level(2, 64, ("features.conv0", "features.norm0", "features.relu0")),
    _Level(4, 256, ("features.pool0", "features.denseblock1")),
    _Level(8, 512, ("features.transition1", "features.denseblock2")),
    _Level(16, 1024, ("features.transition2", "features.denseblock3")),
    _Level(32, 1024, ("features.transition3", "features.denseblock4", "features.norm5", "features.relu5")),
)

ARCHITECTURES: dict[str, tuple[_Level, ...]] = {
    "resnet18": _resnet(64, 64, 128, 256, 512),
    "resnet34": _resnet(64, 64, 128, 256, 512),
    "resnet50": _resnet(64, 256, 512, 1024, 2048),
    "resnet101": _resnet(64, 256, 512, 1024, 2048),
    "densenet121": _DENSENET121,
}


def build(model: str) -> TorchvisionBackbone:
    """A randomly initialised backbone, its numbers drawn from torch's global generator.

    Raises:
        UnknownName: not one of `ARCHITECTURES`.
    """
    _require_known(model)
    return TorchvisionBackbone(model)


def library_weights(model: str, name: str) -> LibraryWeights:
    """torchvision's weights file by name ("DEFAULT", "IMAGENET1K_V1", ...), from torch's cache or downloaded into it.

    Raises:
        UnknownName: no such architecture or weights.
        EnvironmentProblem: not in the cache and not to be had from the network.
    """
    _require_known(model)
    known = torchvision.models.get_model_weights(model)
    if name != "DEFAULT" and name not in known.__members__:
        raise UnknownName("weight", f"{model}@{name}", [f"{model}@{member}" for member in ("DEFAULT", *known.__members__)])
    weights = getattr(known, name)
    path = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]

    def download() -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        digest_start = path.stem.rsplit("-", 1)[-1]  # torchvision puts the first digits of the SHA-256 into the name
        torch.hub.download_url_to_file(weights.url, str(path), hash_prefix=digest_start, progress=False)
        return path

    file = path if path.is_file() else fetched(f"torchvision:{model}@{name}", download)
    return LibraryWeights(file, f"{model} {weights.name}", IMAGENET, pretraining=("imagenet-1k",))


class TorchvisionBackbone(Backbone):
    """Runs no stage beyond the deepest level asked for."""

    def __init__(self, model: str):
        super().__init__()
        self.levels = ARCHITECTURES[model]
        self.network = getattr(torchvision.models, model)(weights=None)
        if model == "densenet121":
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
        wanted = set(self.spec.strides if strides is None else strides)
        maps: dict[int, Tensor] = {}
        features = images
        for level in self.levels:
            for name in level.modules:
                features = self.network.get_submodule(name)(features)
            if level.stride in wanted:
                maps[level.stride] = features
            if level.stride >= max(wanted):
                break
        return maps

    def pooled(self, images: Tensor) -> Tensor:
        deepest = self.levels[-1].stride
        return self.pyramid(images, (deepest,))[deepest].mean(dim=(2, 3))


def _require_known(model: str) -> None:
    if model not in ARCHITECTURES:
        raise UnknownName("backbone", f"torchvision:{model}", [f"torchvision:{name}" for name in ARCHITECTURES])
