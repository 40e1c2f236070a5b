"""What decides the bits of a frozen encoder's features, as far as it can be said before they are computed.

The key of a feature set is made of it. Too much in it costs a pass; too little would give a job features that it would not have computed:
sums of floats depend on the processor, on the number of threads and on the libraries, so all of these are in it. What each image holds is
no part of the key: rows know it (`feature_store`).
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from benchmark import encoders
from benchmark.cards import Experiment
from benchmark.encoders.describe import state_digest
from benchmark.encoders.sealed import SealedEncoder
from benchmark.imaging.cache import ImageCache

LAYOUT = 1  # goes up when stored features change meaning
LIBRARIES = ("torch", "torchvision", "timm", "transformers", "numpy", "opencv-python-headless", "opencv-python")
# Start the names of variables that choose the kernels of the libraries under torch.
SWITCHES = ("MKL_", "DNNL_", "ONEDNN_", "ATEN_CPU", "CUBLAS_", "CUDNN_", "NVIDIA_TF32", "TORCH_ALLOW_TF32", "TORCH_CUDNN")
CPU_LINES = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "cache size", "CPU implementer", "CPU part", "Features")


def recipe(what: str, encoder: SealedEncoder, experiment: Experiment, cache: ImageCache, batch: int) -> dict[str, Any]:
    """Everything that decides the bits of a set, ready for JSON; equal for jobs that may share their features.

    Args:
        what: is computed of an image.
        encoder: as built, on its device.
        cache: of the images; its name stands for dataset, ids, size, intensity and decoders.
        batch: images that pass at once.
    """
    return {
        "layout": LAYOUT,
        "what": what,
        "dataset": cache.recipe.dataset,
        "images": cache.path.name,
        "backbone": experiment.backbone.model_dump(mode="json"),
        "precision": experiment.precision,
        "batch": batch,
        **of_encoder(encoder),
    }


def of_encoder(encoder: SealedEncoder) -> dict[str, Any]:
    """The part of it that an encoder decides on its device, whatever the images."""
    normalisation = encoder.normalisation
    return {
        "weights": state_digest(encoder.backbone),
        "normalisation": {"mean": list(normalisation.mean), "std": list(normalisation.std)},
        "memory_format": str(encoder.memory_format),
        "code": _code_digest(),
        "machine": _machine(encoder.mean.device),
    }


def _machine(device: torch.device) -> dict[str, Any]:
    """Device, threads, libraries and their switches."""
    here: dict[str, Any] = {
        "device": device.type,
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__config__.show(),
        "matmul": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "libraries": _versions(),
        "switches": {name: value for name, value in sorted(os.environ.items()) if name.startswith(SWITCHES)},
    }
    if device.type == "cuda":  # pragma: no cover: needs CUDA; `make gpu` runs it
        here |= {
            "gpu": torch.cuda.get_device_name(device),
            "gpu_capability": list(torch.cuda.get_device_capability(device)),
            "cudnn": [torch.backends.cudnn.version(), torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32],
            "tf32": torch.backends.cuda.matmul.allow_tf32,
        }
    return here


def _versions() -> dict[str, str]:
    found = {}
    for package in LIBRARIES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def _processor() -> dict[str, str]:
    """The first processor's own description; libraries choose kernels, and block sizes, by it."""
    found = {"machine": platform.machine(), "processor": platform.processor()}
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n", 1)[0].splitlines()
    except (OSError, UnicodeDecodeError):
        return found
    said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return found | {name: said[name] for name in CPU_LINES if name in said}


@functools.cache
def _code_digest() -> str:
    """SHA-256 of the modules that build and run encoders: a mended one computes other features from the same weights."""
    sha, folder = hashlib.sha256(), Path(encoders.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        sha.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return sha.hexdigest()
