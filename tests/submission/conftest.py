"""An output folder of full-scale results on generated data, made without training: predictions are the truth with mistakes drawn by a seed.

Everything else is as a run stores it: jobs that cards plan, statistics and predictions of the kind, digests, counts, checksums.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmark import registry, resolve
from benchmark.cards import BackboneRef, Job, Record
from benchmark.kinds.base import Part, ScoredSplit
from benchmark.kinds.kit.stored import write
from benchmark.kinds.segmentation import encode
from benchmark.metrics.boxes import Detections
from benchmark.metrics.scores import score_detection, score_segmentation
from benchmark.plan import NamedBackbone, Settings, plan
from benchmark.store import Store
from benchmark.submission.manifest import Manifest
from benchmark.submission.pack import pack
from tests.submission.forging import Files, contents, records_of

SUITE = "demo"
MASKS, BOXES = "covid-rural-linear-frozen-demo", "rsna-yolov3-frozen-demo"
BACKBONES = (
    NamedBackbone("resnet18 (random)", BackboneRef(family="torchvision", model="resnet18", digest=None)),
    NamedBackbone("resnet18 (mine.pt)", BackboneRef(family="torchvision", model="resnet18", digest="5" * 64)),
)


@pytest.fixture(scope="session")
def made(corpora: Path, image_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that every test has a copy of."""
    return make_store(tmp_path_factory.mktemp("submitted") / "out", corpora, image_cache)


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture(scope="session")
def packed_once(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Files, Manifest]:
    """What the packed store holds of two tasks; use `honest`."""
    files, manifest = contents(pack(made, tmp_path_factory.mktemp("packed") / "honest.zip", allow_phantom=True).file)
    left_out = {raw["key"] for raw in records_of(files) if raw["job"]["labels"]["task"] not in (MASKS, BOXES)}
    kept = {name: content for name, content in files.items() if not any(key in name for key in left_out)}
    return kept, manifest.model_copy(update={"tasks": (MASKS, BOXES), "suite": None})


@pytest.fixture
def honest(packed_once: tuple[Files, Manifest]) -> tuple[Files, Manifest]:
    """Files of the packed store, to be changed, and its manifest."""
    return dict(packed_once[0]), packed_once[1]


def make_store(out: Path, corpora: Path, cache: Path, tasks: tuple[str, ...] | None = None, redistribution: str | None = None) -> Path:
    """Writes an output folder with one run of every task of the suite by two backbones.

    Args:
        redistribution: in place of what the datasets' cards say.
    """
    from benchmark.training import data
    from benchmark.training.record import sample_digests

    store, rules = Store(out), registry.protocol("corrected")
    for name in tasks or registry.suite(SUITE).tasks:
        card = registry.task(name)
        about = registry.dataset(card.dataset)
        dataset = resolve.dataset(about, corpora / about.folder, rules, card.split, cache=cache)
        found = plan([card], BACKBONES, {about.name: dataset.ref}, rules, Settings(suite=SUITE))
        for number, job in enumerate(found):
            inputs = resolve.inputs(resolve.ResolvedBackbone(BACKBONES[0], "resnet18", None), dataset, cache / "images")
            parts = [data.load_part(job.experiment, inputs, split) for split in ("train", "validation", "test")]
            tested = predicted(parts[-1], np.random.default_rng([number, len(name)]))
            files = _files(out.parent / "work", job, parts[-1], tested)
            record = Record(
                key=job.key,
                job=job,
                status="ok",
                scale="full",
                phantom=True,
                redistribution=redistribution or about.redistribution,
                metrics=tested.metrics,
                validation={job.experiment.select: 0.5},
                counts={p.name: {"images": len(p), "positives": p.n_positive(), "boxes": sum(map(len, p.labels))} for p in parts},
                sample_digests=sample_digests(parts),
                learning_rate=job.experiment.learning_rate,
                environment={"torch": "2", "device": "one"},
                finished_at="2026-01-01T00:00:00+0000",
            )
            with store.lock():
                store.put(record, files)
    return out


def predicted(part: Part, random: np.random.Generator) -> ScoredSplit:
    """The truth of a part with mistakes, scored as a job scores it."""
    classes = registry.dataset("rsna").classes  # those of COVID Rural too
    if part.kind.target == "boxes":
        truth = part.truth()
        shifted = np.maximum(truth.xywh + random.normal(0, 4, truth.xywh.shape), 1)
        confidence = random.uniform(0.3, 1, len(truth.image)).astype(np.float32).astype(np.float64)
        found = Detections(truth.image, shifted.astype(np.float32).astype(np.float64), truth.label, truth.n_images, truth.frame, confidence)
        scored = score_detection(found, truth, classes)
        return ScoredSplit(scored.metrics, scored.statistics, found, ())
    masks = part.masks(np.arange(len(part)))
    wrong = masks ^ (random.uniform(size=masks.shape) < random.uniform(0.02, 0.2))
    scored = score_segmentation(wrong.astype(np.float32), masks, classes, true_masks=False, batch_size=4)
    return ScoredSplit(scored.metrics, scored.statistics, encode(wrong), ())


def _files(work: Path, job: Job, part: Part, tested: ScoredSplit) -> dict[str, bytes]:
    folder = work / job.key
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, job, part, tested, with_examples=False)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
