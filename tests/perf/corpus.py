"""What the benches run on: small phantom corpora, jobs of LoVT's tasks cut to a stated size, and images as the plain side reads them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmark import registry, resolve
from benchmark.cards import Job
from benchmark.encoders import torchvision
from benchmark.encoders.build import FIXED_SEED
from benchmark.errors import DataError
from benchmark.imaging.equalise import equalise
from benchmark.imaging.geometry import Frame
from benchmark.machine import usable_cores
from benchmark.phantom.corpus import CorpusPlan, write_corpus
from benchmark.plan import Settings, plan
from benchmark.readers.base import Sample
from benchmark.training.inputs import Inputs

SIZE, SIZE_QUICK = 224, 64  # of the frame
PATIENTS = {"rsna": 110, "covid-rural": 40, "siim": 40, "object-cxr": 60, "nih-cxr": 60}
PATIENTS_QUICK = 14


def n_cores(quick: bool) -> int:
    """Threads of a side and workers of its loader: every core that this process may use, or one where times mean nothing."""
    return 1 if quick else usable_cores()


def frame_size(quick: bool) -> int:
    """Side of the frame: the protocol's, or one that heads still work at where times mean nothing."""
    return SIZE_QUICK if quick else SIZE


def shared_corpus(folder: Path, dataset: str, quick: bool) -> Path:
    """The corpus that all benches of one command use."""
    if quick:
        return corpus(folder, dataset, PATIENTS_QUICK, images_per_patient=(1, 1))
    return corpus(folder, dataset, PATIENTS[dataset])


def corpus(folder: Path, dataset: str, n_patients: int, workers: int = 1, **plan: Any) -> Path:
    """The root that holds a phantom corpus of the dataset with so many patients, made by so many processes when it is not there."""
    root = folder / f"data-{n_patients}"
    where = root / registry.dataset(dataset).folder
    if not where.exists():
        write_corpus(CorpusPlan(dataset=dataset, n_patients=n_patients, seed=1, **plan), where, workers=workers)
    return root


def jobs(
    folder: Path,
    root: Path,
    task: str,
    *,
    limit: int,
    threads: int,
    runs: int | None = None,
    card: dict[str, Any] | None = None,
    device_type: Literal["cpu", "cuda"] = "cpu",
    frame_size: int = SIZE,
    architecture: str = "resnet18",
    **recipe: Any,
) -> tuple[list[Job], Inputs]:
    """Jobs of a task on a network of fixed random weights, and where their inputs lie; `recipe` and `card` overwrite the card.

    Weights and caches are shared by all jobs of one `folder`.
    """
    given = registry.task(task)
    given = given.model_copy(update={"recipe": given.recipe.model_copy(update=recipe), "frame_size": frame_size, **(card or {})})
    about = registry.dataset(given.dataset)
    protocol = registry.protocol("published")
    dataset = resolve.dataset(about, root / about.folder, protocol, trains=given.words is None, limit=limit, cache=folder / "cache")
    backbone = resolve.backbone(f"torchvision:{architecture}@{fixed_weights(folder, architecture)}", folder / "cache")
    settings = Settings(runs=runs, limit=limit, threads=threads, device_type=device_type)
    planned = plan([given], [backbone.named], {given.dataset: dataset.ref}, protocol, settings)
    return planned, resolve.inputs(backbone, dataset, folder / "cache")


def fixed_weights(folder: Path, architecture: str = "resnet18") -> Path:
    """A weights file of one of torchvision's networks, the same every time: random, since speed does not depend on them."""
    file = folder / f"{architecture}.safetensors"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(FIXED_SEED + 1)  # other numbers than the ones a file is loaded over
            save_file(torchvision.build(architecture).network.state_dict(), file)
    return file


def as_png(samples: Sequence[Sample], intensity: str, folder: Path) -> list[Path]:
    """The images as the released code finds them: 8-bit PNG of the original size, the dataset's intensity rule already applied.

    Files that lie in the folder already are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for sample in samples:
        file = folder / f"{sample.id.replace('/', '_')}.png"
        if not file.exists():
            grey = sample.image()
            cv2.imwrite(str(file), equalise(grey) if intensity == "equalised" else grey)
        files.append(file)
    return files


def fastest_decoder(files: Sequence[Path]) -> tuple[str, Callable[[Path], np.ndarray]]:
    """The installed PNG decoder that reads these files soonest, and its name."""
    timed = {}
    for name, decode in DECODERS.items():
        decode(files[0])
        began = time.perf_counter()
        for file in files[:8]:
            decode(file)
        timed[name] = time.perf_counter() - began
    name = min(timed, key=timed.__getitem__)
    return name, DECODERS[name]


def _by_opencv(file: Path) -> np.ndarray:
    grey = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise DataError(f"OpenCV cannot read {file}. Remove the bench's folder and run it again.")
    return grey


def _by_pillow(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("L"))


DECODERS: dict[str, Callable[[Path], np.ndarray]] = {"OpenCV": _by_opencv, "Pillow": _by_pillow}


def resized(grey: np.ndarray, size: int) -> np.ndarray:
    """(size, size) uint8 in the padded frame."""
    height, width = grey.shape
    return Frame.of(height, width, size).place_image(grey)
