"""What a job trains on and with, built once as the harness builds it, so that every side of a bench starts from the same numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from benchmark.cards import EncoderMode, Experiment
from benchmark.contents import drained
from benchmark.encoders.build import build_backbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.heads.base import Head, HeadRequest, seeded_init
from benchmark.readers.base import open_reader
from benchmark.registry import plugin
from benchmark.training.data import JobData, choose, load
from benchmark.training.inputs import Inputs
from tests.perf.corpus import as_png, fastest_decoder
from tests.perf.plain_run import Images, PlainModel

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Ingredients:
    """Data of a job and where its other inputs lie; encoder and head are made anew for every side and run.

    Attributes:
        channels_last: memory format of encoder and head; the harness itself keeps torch's default.
    """

    experiment: Experiment
    inputs: Inputs
    data: JobData
    channels_last: bool = False

    @property
    def finetune(self) -> bool:
        return self.experiment.encoder is EncoderMode.FINETUNE

    @property
    def device(self) -> torch.device:
        return torch.device(self.experiment.device_type)

    def encoder(self) -> SealedEncoder:
        ref = self.experiment.backbone.model_copy(update={"model": self.inputs.backbone_model})
        backbone, _ = build_backbone(ref, self.inputs.weights, init_seed=ref.init_seed)
        return SealedEncoder(backbone, self.experiment.dataset.statistics, channels_last=self.channels_last).to(self.device)

    def head(self, encoder: SealedEncoder) -> Head:
        """The job's head as it begins."""
        e = self.experiment
        request = HeadRequest(
            channels=encoder.backbone.spec.strides,
            n_classes=len(e.dataset.classes),
            frame_size=e.dataset.frame_size,
            switches=e.switches,
        )
        head = seeded_init(lambda: plugin("heads", e.head).build(request), e.head_seed).to(self.device)
        return head.to(memory_format=torch.channels_last) if self.channels_last else head


def gather(experiment: Experiment, inputs: Inputs) -> Ingredients:
    """Fills the cache with the job's images and opens them."""
    return Ingredients(experiment, inputs, drained(load(experiment, inputs)))


def png_files(ingredients: Ingredients, folder: Path) -> tuple[dict[str, Images], str]:
    """Image files of every part as the plain side reads them, and the name of the fastest decoder; files already there are kept."""
    e, inputs = ingredients.experiment, ingredients.inputs
    reader = open_reader(inputs.card, inputs.dataset_root, shapes=e.switches.object_cxr_shapes)
    chosen = choose(e, reader, inputs.lists)
    files = {name: as_png(chosen[name], e.dataset.intensity, folder) for name in PARTS}
    decoder, decode = fastest_decoder(files["train"])
    return {name: Images(files[name], decode, e.dataset.frame_size) for name in PARTS}, decoder


def plain_model(ingredients: Ingredients, images: dict[str, Images], encoder: SealedEncoder, workers: int) -> PlainModel:
    """The model of the plain side, on an encoder that may serve several runs."""
    e, data = ingredients.experiment, ingredients.data
    order = torch.Generator().manual_seed(e.order_seed)
    return PlainModel(encoder, ingredients.head(encoder), data, images, workers, order, e.recipe.drop_last)
