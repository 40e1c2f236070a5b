"""A trained model as a function of images: the head of a stored run on its backbone, for pictures of one's own.

Runs store no weights, so the run's model is trained once more, held to what the run stored of its validation, and kept in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from benchmark import private
from benchmark.cards import Job, Record
from benchmark.encoders.weights_file import read_set
from benchmark.errors import LobeError, UsageError
from benchmark.execute.work import WorkUnit
from benchmark.files import write_atomically
from benchmark.front.pictures import Framed, Images, framed
from benchmark.heads.base import ImageDetections
from benchmark.training.loop import Precision
from benchmark.training.model import Model
from benchmark.training.refit import rebuilt, refit, require_same

FOLDER = "probes"  # of the cache
BATCH = 16


@dataclass(frozen=True, eq=False)
class Boxes:
    """Detections of one image, the most confident first.

    Attributes:
        xywh: (n, 4) float64 in pixels of the image: left, top, width, height.
        confidence: (n,) float32.
        labels: (n,) names of classes.
    """

    xywh: np.ndarray
    confidence: np.ndarray
    labels: tuple[str, ...]


class Probe:
    """The model of one run. `probe(images)` gives what the task predicts: probabilities of classes, maps of them, or boxes.

    Attributes:
        job: the run's.
        classes: names, in the order of the columns and channels.
    """

    def __init__(self, job: Job, model: Model):
        self.job, self._model = job, model
        self.classes = job.experiment.dataset.classes

    @property
    def target(self) -> str:
        """ "masks", "boxes" or "labels"."""
        return self.job.experiment.dataset.target

    def __repr__(self) -> str:
        labels = self.job.labels
        return f"<Probe {labels.task} · {labels.backbone} · run {labels.run_number}: {self.target} of {', '.join(self.classes)}>"

    def __call__(self, images: Images) -> np.ndarray | list[np.ndarray] | list[Boxes]:
        """What `probabilities` gives for labels, `maps` for masks, and `boxes` for boxes.

        Raises:
            UsageError: the task predicts none of them.
        """
        given: dict[str, Callable[[Images], np.ndarray | list[np.ndarray] | list[Boxes]]]
        given = {"labels": self.probabilities, "masks": self.maps, "boxes": self.boxes}
        if self.target not in given:
            raise UsageError(f"{self.job.labels.task} predicts {self.target}, which a probe does not give; it gives {', '.join(given)}.")
        return given[self.target](images)

    def probabilities(self, images: Images) -> np.ndarray:
        """(N, C) float32 of grey images, (N, H, W) uint8 or a list of (H, W).

        Raises:
            UsageError: the task predicts no labels of images.
        """
        self._require("labels", "probabilities")
        found = [np.asarray(predicted, np.float32) for _, predicted in self._predicted(framed(images, *self._frame))]
        return np.concatenate(found) if found else np.zeros((0, len(self.classes)), np.float32)

    def maps(self, images: Images) -> list[np.ndarray]:
        """A (C, H, W) float32 probability of each pixel for each image, in its own pixels, bilinear from the task's frame.

        Raises:
            UsageError: the task predicts no masks.
        """
        self._require("masks", "maps")
        given, found = framed(images, *self._frame), []
        for start, predicted in self._predicted(given):
            for place, image in enumerate(np.asarray(predicted, np.float32)):
                found.append(np.stack([given.frames[start + place].map_to_original(channel) for channel in image]))
        return found

    def masks(self, images: Images, threshold: float = 0.5) -> list[np.ndarray]:
        """(C, H, W) bool for each image: where `maps` is above the threshold. A job's own scores are computed in the task's frame.

        Raises:
            UsageError: the task predicts no masks.
        """
        return [image > threshold for image in self.maps(images)]

    def boxes(self, images: Images) -> list[Boxes]:
        """Detections in each image, in its own pixels, cut at its edge.

        Raises:
            UsageError: the task predicts no boxes.
        """
        self._require("boxes", "boxes")
        given, found = framed(images, *self._frame), []
        for start, predicted in self._predicted(given):
            for place, detections in enumerate(predicted):
                found.append(self._in_pixels(detections, given, start + place))
        return found

    # ------------------------------------------------------------------------------------------------------------- inside

    @property
    def _frame(self) -> tuple[int, Any]:
        return self.job.experiment.dataset.frame_size, self.job.experiment.dataset.intensity

    def _require(self, target: str, method: str) -> None:
        if self.target != target:
            raise UsageError(f"{self.job.labels.task} predicts {self.target}, so its probe has no {method}. Call the probe itself.")

    def _predicted(self, given: Framed) -> Iterator[tuple[int, Any]]:
        """The first image of each batch, and what the head predicts of the batch."""
        model, autocast = self._model, Precision(self.job.experiment, self._model.device).autocast
        model.start_evaluation()
        for start in range(0, len(given.pixels), BATCH):
            with torch.no_grad(), autocast():
                images = model.encoder.normalise(torch.from_numpy(given.pixels[start : start + BATCH]).to(model.device))
                outputs = model.network(images, None)
            with torch.no_grad():
                predicted = model.head.predict(outputs)
            yield start, predicted.cpu().numpy() if isinstance(predicted, torch.Tensor) else predicted

    def _in_pixels(self, detections: ImageDetections, given: Framed, place: int) -> Boxes:
        frame = given.frames[place]
        xywh = frame.to_original(detections.boxes_xywh.cpu().numpy())
        corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1).clip(0, [frame.width, frame.height] * 2)
        cut = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        labels = tuple(self.classes[label] for label in detections.labels.tolist())
        return Boxes(cut, detections.confidence.cpu().numpy(), labels)


def probe_of(unit: WorkUnit, record: Record, cache: Path) -> Probe:
    """The model of a stored run: from the cache, or trained again and kept there.

    Args:
        unit: holds the record's job, and where its inputs lie.
        cache: folder of caches.

    Raises:
        LobeError: the run trains nothing, or cannot be trained here as it was.
    """
    (job,) = [job for job in unit.jobs if job.key == record.key]
    if job.experiment.words is not None:
        raise UsageError(f"{job.labels.task} trains nothing, so there is no probe of it: ask the backbone itself.")
    if record.learning_rate is None:
        raise UsageError(f"The record {record.key} names no learning rate, so its model cannot be trained again. Compute it anew.")
    file = cache / FOLDER / f"{job.key}.safetensors"
    if file.exists():
        try:
            return Probe(job, rebuilt(job, unit.inputs, read_set(file).tensors))
        except (LobeError, RuntimeError, OSError):  # damaged, or of another release: trained again
            file.unlink(missing_ok=True)
    model, metrics = refit(job, unit.inputs, record.learning_rate)
    require_same(record, metrics)
    _keep(file, model, job)
    return Probe(job, model)


def _keep(file: Path, model: Model, job: Job) -> None:
    state = model.snapshot(finetune=job.experiment.encoder == "finetune")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    try:
        private.folder(file.parent)
        write_atomically(file, save(tensors), private.opener)
    except OSError:  # a disk that takes nothing costs the cache alone
        return


def require_one(found: Sequence[Record], asked: str) -> Record:
    """The only record of what was asked for.

    Raises:
        UsageError: there is none, it failed, or there are several.
    """
    if not found:
        raise UsageError(f"There is no stored result of {asked}. Evaluate it first: lobe.evaluate(...).")
    if len(found) > 1:
        each = [record.job.labels for record in found]
        told = "; ".join(f"{one.backbone}, {one.task}, {one.protocol}, run {one.run_number}" for one in each)
        raise UsageError(f"Several stored results are of {asked}: {told}. Say more.")
    if found[0].failure is not None:
        raise UsageError(f"{asked} failed: {found[0].failure.sentence}")
    return found[0]
