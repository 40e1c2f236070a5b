"""Features of a frozen backbone as arrays: of images in memory, or of a task's split. Computed once, then read from the cache.

Images pass in batches of one size, the last one padded, as in a job: an image has the same features whatever stands beside it.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from benchmark import private, resolve
from benchmark.cards import IMAGENET, POOLED, BackboneSpec, Normalisation, digest_of
from benchmark.encoders.base import Backbone
from benchmark.encoders.build import build_backbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.errors import UsageError
from benchmark.events import Steps
from benchmark.execute.work import WorkUnit
from benchmark.files import read_bytes, write_atomically
from benchmark.front.backbone_names import BackboneLike, name_of
from benchmark.front.pictures import Images, framed
from benchmark.kinds.base import Part
from benchmark.rate_search import BASE_SEED
from benchmark.training import feature_folders, feature_key
from benchmark.training.data import load
from benchmark.training.determinism import required_device
from benchmark.training.feature_store import FeatureSet
from benchmark.training.features import BATCH, FeatureBank
from benchmark.training.options import RunOptions
from benchmark.training.shared_work import SharedWork

Level = Literal["pooled", "deepest"] | int
"""The backbone's own image embedding, its coarsest map, or the map of a stride in pixels."""

FOLDER = "array-features"  # of the cache
Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, eq=False)
class Features:
    """Features of a split.

    Attributes:
        values: (N, D) float32 of the pooled embedding, (N, C, S / stride, S / stride) float32 of a map.
        ids: of the images, in the split's order.
        patients: None where unknown.
        truth: (N, C) of 0, 1 and -1 (unknown) where the task has labels of images; else None.
        classes: names of the C classes.
    """

    values: np.ndarray
    ids: tuple[str, ...]
    patients: tuple[str | None, ...]
    truth: np.ndarray | None
    classes: tuple[str, ...]


def of_images(
    backbone: BackboneLike | Backbone,
    images: Images,
    *,
    level: Level = "pooled",
    frame_size: int = 224,
    normalisation: Normalisation | None = None,
    intensity: Literal["as-stored", "equalised"] = "as-stored",
    device: Literal["cpu", "cuda"] = "cpu",
    cache: Path | None = None,
) -> np.ndarray:
    """Features of images in memory.

    Args:
        backbone: a name, file or function, whose features are kept in the cache; or a `Backbone` in memory, whose features are not, since
            nobody knows its code.
        images: grey, uint8; they are padded to squares and resized to the frame.
        frame_size: side of the frame in pixels.
        normalisation: None takes the backbone's own, ImageNet's where it states none.
        cache: folder of caches; None takes $LOBE_CACHE or the user's.

    Returns:
        float32, (N, D) for "pooled" and (N, C, h, w) for maps.

    Raises:
        LobeError: the backbone cannot be built, has no such level, or something else than grey images was given.
    """
    cache = resolve.cache_folder(cache)
    given = framed(images, frame_size, intensity).pixels
    known: dict[str, Any] | None = None
    if isinstance(backbone, Backbone):
        built = backbone
    else:
        found = resolve.backbone(name_of(backbone), cache)
        ref = found.named.self_normalised.model_copy(update={"model": found.model})
        built, _ = build_backbone(ref, found.weights, init_seed=BASE_SEED if ref.digest is None else None)
        known = found.named.ref.model_dump(mode="json")
    was_training = built.training
    encoder = SealedEncoder(built, normalisation or built.spec.normalisation or IMAGENET).to(required_device(device))
    stride = stride_of(level, built.spec)
    try:
        if known is None:
            return _computed(encoder, given, stride)
        about = {
            "format": 2,
            "backbone": known,
            "level": stride,
            "batch": BATCH,
            "shape": list(given.shape),
            **feature_key.of_encoder(encoder),
        }
        file = cache / FOLDER / f"{digest_of({**about, 'images': hashlib.sha256(given.tobytes()).hexdigest()})}.npy"
        stored = _read(file)
        if stored is None:
            stored = _computed(encoder, given, stride)
            _keep(file, stored)
        return stored
    finally:
        built.train(was_training)


def of_split(unit: WorkUnit, split: Split, level: Level = "pooled") -> Features:
    """Features of a split as a frozen job reads them, kept with those of all jobs of the backbone on the dataset.

    Args:
        unit: holds a job that trains a head on a frozen encoder, and where its inputs lie.

    Raises:
        LobeError: as of a run of the job.
    """
    job, inputs, options, shared = unit.jobs[-1], unit.inputs, RunOptions(), SharedWork()
    experiment = job.experiment
    loading = Steps(load(experiment, inputs))
    for _ in loading:
        pass
    part = {one.name: one for one in loading.result.parts}[split]
    encoder = shared.encoder_of(experiment, inputs, required_device(experiment.device_type))
    encoder.set_mode("frozen")
    strides = (stride_of(level, encoder.backbone.spec),)
    folder = inputs.cache.parent / feature_folders.FOLDER
    recipe = feature_key.recipe("pyramid", encoder, experiment, part.cache, BATCH)
    autocast = torch.autocast(encoder.mean.device.type, dtype=torch.float16, enabled=experiment.precision == "float16")
    stored = FeatureSet.open(folder, recipe, len(part.cache))
    bank = FeatureBank(encoder, strides, options.feature_budget_bytes, lambda: autocast, folder=folder, stored=stored)
    bank.prepare(part)
    found = [_values(bank.pyramid(part, index)[strides[0]], strides[0]) for index in _batches(len(part))]
    return Features(np.concatenate(found), part.ids, part.patients, _truth(part), experiment.dataset.classes)


def stride_of(level: Level, spec: BackboneSpec) -> int:
    """The stride of a level; `POOLED` for the embedding.

    Raises:
        UsageError: the backbone has no such level; says which it has.
    """
    if level == "pooled":
        return POOLED
    stride = max(spec.strides) if level == "deepest" else level
    if stride not in spec.strides:
        offered = ", ".join(map(str, sorted(spec.strides)))
        raise UsageError(f"{spec.name} has no level {level!r}. It has pooled, deepest, and the strides {offered}.")
    return stride


def _truth(part: Part) -> np.ndarray | None:
    told = {"labels": np.asarray}
    return told[part.kind.target](part.annotations) if part.kind.target in told else None


def _computed(encoder: SealedEncoder, images: np.ndarray, stride: int) -> np.ndarray:
    found = []
    with torch.no_grad():
        for index in _batches(len(images)):
            padded = np.concatenate([index, np.repeat(index[-1:], BATCH - len(index))])
            pyramid = encoder.pyramid(torch.from_numpy(images[padded]).to(encoder.mean.device), (stride,))
            found.append(_values(pyramid[stride][: len(index)], stride))
    if not found:
        raise UsageError("There are no images: give at least one.")
    return np.concatenate(found)


def _values(level: torch.Tensor, stride: int) -> np.ndarray:
    """(N, D) of the pooled level, else (N, C, h, w), also of a map of one place."""
    flat = level.flatten(1) if stride == POOLED else level
    return np.ascontiguousarray(flat.float().cpu().numpy())


def _batches(n: int) -> list[np.ndarray]:
    return [np.arange(start, min(start + BATCH, n)) for start in range(0, n, BATCH)]


def _read(file: Path) -> np.ndarray | None:
    """What was kept; None where nothing is, or it is damaged and has to be computed again."""
    try:
        content = read_bytes(file)
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            return None
        found: np.ndarray = np.load(io.BytesIO(content[32:]), allow_pickle=False)
        return found
    except (OSError, ValueError, EOFError):
        return None


def _keep(file: Path, values: np.ndarray) -> None:
    """Behind its own SHA-256; a disk that takes nothing costs the cache alone."""
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    try:
        private.folder(file.parent)
        write_atomically(file, hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue(), private.opener)
    except OSError:
        return
