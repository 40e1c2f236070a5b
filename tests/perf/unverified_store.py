"""An output folder of a community that no report has read yet: records, and the statistics of every test image beside them.

Run as a program it fills a folder, says what the arithmetic of its resamples takes alone, or reports on it and says what that took:
`python -m tests.perf.unverified_store FOLDER fill 20`, then `… FOLDER alone` and `… FOLDER report`. Statistics come from a few
made-up tests, linked to from every record: a report reads each of them all the same.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

import numpy as np

from benchmark import registry
from benchmark.cards import Job, Role
from benchmark.integrity import PREDICTIONS, bytes_digest, sealed
from benchmark.kinds.kit.stored import STATISTICS_FILE, ByImage, write_statistics
from benchmark.metrics import scores
from benchmark.metrics.boxes import Boxes, Detections
from benchmark.readers.base import ids_digest
from benchmark.store import Store
from tests.perf import many_records

SUITE, N_TASKS, N_RUNS, N_IMAGES = "grid", 60, 5, 200
N_TESTS = 8  # made-up tests of each task
BOXES_PER_IMAGE = 40  # that a detector proposes above confidence 0.001
SIDE = 64  # of a mask; only the numbers of its pixels are stored


def fill(out: Path, n_backbones: int) -> None:
    """Stores the final runs of so many backbones on 60 tasks, five of each, with statistics of 200 test images."""
    many_records.SUITE = SUITE
    store, tests = Store(out), _Tests(out)
    for n, job in enumerate(takewhile(lambda job: _number(job) < n_backbones, _jobs())):
        metrics, counts, content, source = tests.of(job, n)
        relative = f"{PREDICTIONS}/{job.key}/{STATISTICS_FILE}"
        (out / relative).parent.mkdir()
        os.link(source, out / relative)
        record = many_records.record_of(job, 1)
        changes = {
            "metrics": metrics,
            "counts": {**record.counts, "test": counts},
            "sample_digests": {"test": ids_digest(tests.ids, ordered=True), "test sorted": ids_digest(tests.ids)},
            "predictions": (relative,),
            "file_digests": {relative: content},
        }
        store.path(job.key).write_text(sealed(record.model_copy(update=changes)).model_dump_json(indent=1))


def _jobs():
    """Final runs on the first 60 tasks, one backbone after another."""
    names = registry.suite(SUITE).tasks[:N_TASKS]
    return (job for job in many_records.many_jobs() if job.experiment.role is Role.FINAL and job.labels.task in names)


def _number(job: Job) -> int:
    digest = job.experiment.backbone.digest
    return 0 if digest is None else int(digest, 16)


class _Tests:
    """Made-up tests: of each task a few, with the metrics that follow."""

    def __init__(self, out: Path):
        self.ids = tuple(f"image-{i:04}" for i in range(N_IMAGES))
        self.patients = tuple(f"patient-{i // 2:03}" for i in range(N_IMAGES))
        self.folder = out / "tests"
        self.folder.mkdir()
        (out / PREDICTIONS).mkdir(exist_ok=True)
        self._known: dict[tuple, tuple] = {}

    def of(self, job: Job, n: int) -> tuple[dict[str, float], dict[str, int], str, Path]:
        """Metrics, counts, digest of the statistics, and their file."""
        classes = job.experiment.dataset.classes
        make: Callable = _boxes if registry.task(job.labels.task).target == "boxes" else _masks
        name = (make.__name__, classes, n % N_TESTS)
        if name not in self._known:
            scored, counts = make(classes, np.random.default_rng(len(self._known)), np.random.default_rng(len(classes)))
            path = self.folder / f"{len(self._known)}.parquet"
            write_statistics(path, ByImage(self.ids, self.patients, scored.statistics), {})
            self._known[name] = (scored.metrics, counts, bytes_digest(path.read_bytes()), path)
        return self._known[name]


def _masks(classes: tuple[str, ...], rng: np.random.Generator, truth: np.random.Generator) -> tuple[scores.Scores, dict[str, int]]:
    """A quarter of the images shows a box of each class, which is found with some noise."""
    masks = np.zeros((N_IMAGES, len(classes), SIDE, SIDE), bool)
    for image, label in np.argwhere(truth.random(masks.shape[:2]) < 0.25):
        top, left, height, width = truth.integers(0, SIDE // 2, 4)
        masks[image, label, top : top + height + 4, left : left + width + 4] = True
    found = (0.6 * masks + 0.5 * rng.random(masks.shape)).clip(0, 1).astype(np.float32)
    return scores.score_segmentation(found, masks, classes, False, 64), {
        "images": N_IMAGES,
        "positives": int(masks.any(axis=(1, 2, 3)).sum()),
    }


def _boxes(classes: tuple[str, ...], rng: np.random.Generator, truth: np.random.Generator) -> tuple[scores.Scores, dict[str, int]]:
    """A quarter of the images has one or two boxes; 40 detections an image, some of them near a box."""
    n_boxes = np.where(truth.random(N_IMAGES) < 0.25, truth.integers(1, 3, N_IMAGES), 0)
    image = np.repeat(np.arange(N_IMAGES), n_boxes)
    size = truth.uniform(20, 90, (len(image), 2))
    boxes = np.concatenate([truth.uniform(0, 224 - size), size], axis=1)
    owner = np.repeat(np.arange(N_IMAGES), BOXES_PER_IMAGE)
    side = rng.uniform(10, 110, (len(owner), 2))
    xywh = np.concatenate([rng.uniform(0, np.maximum(224 - side, 1)), side], axis=1)
    confidence = rng.beta(0.4, 4, len(owner)).clip(0.001, 1)
    near = image * BOXES_PER_IMAGE
    xywh[near] = boxes * rng.normal(1, 0.08, boxes.shape)
    confidence[near] = rng.uniform(0.1, 1, len(near))
    labels, frame = np.zeros(len(owner), np.int64), "padded-224"
    scored = scores.score_detection(
        Detections(owner, xywh, labels, N_IMAGES, frame, confidence),
        Boxes(image, boxes, np.zeros(len(image), np.int64), N_IMAGES, frame),
        classes,
    )
    return scored, {"images": N_IMAGES, "positives": int((n_boxes > 0).sum()), "boxes": len(image)}


def alone(out: Path) -> dict[str, float]:
    """Seconds of a core in which the statistics of all runs are read once, their metrics computed and their reported one resampled, by
    those of every tenth; nothing is kept."""
    from benchmark.metrics.statistics import pooled_metric
    from benchmark.report import stored
    from benchmark.statistics.bootstrap import cluster_bootstrap
    from benchmark.submission.verified import fault_of_metrics, statistics_of

    records = Store(out).all()
    some, before = records[::10], time.process_time()
    for record in some:
        metric, found = record.job.experiment.report, statistics_of(record, out)
        assert found is not None
        assert fault_of_metrics(record, found.statistics) == ""
        images = stored.tested(found, metric)
        cluster_bootstrap(pooled_metric(images.statistics, metric), images.clusters)
    return {"cpu_s": (time.process_time() - before) * len(records) / len(some)}


def report(out: Path) -> dict[str, float]:
    """Writes the site, and says its seconds, those of all its processes' cores, and their most memory together, in MiB."""
    from joblib.externals.loky import get_reusable_executor

    from benchmark.api import write_report
    from benchmark.machine import peak_memory_bytes

    peaks, ended = dict[str, float](), threading.Event()
    watch = threading.Thread(target=_watch, args=(peaks, ended))
    watch.start()
    before, began = time.process_time(), time.perf_counter()
    written = write_report(out)
    wall = time.perf_counter() - began
    ended.set()
    watch.join()
    get_reusable_executor().shutdown(wait=True)  # what children took of a core is known when they have ended
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "wall_s": wall,
        "cpu_s": time.process_time() - before + children.ru_utime + children.ru_stime,
        "peak_mib": peak_memory_bytes() / 2**20 + sum(peaks.values()),
        "refused": len(written.refused),
    }


def _watch(peaks: dict[str, float], ended: threading.Event) -> None:
    """The most MiB that each child held since it runs its own program: `ru_maxrss` of a child begins with its parent's."""
    while not ended.wait(0.5):
        for task in Path("/proc/self/task").iterdir():
            for child in (task / "children").read_text().split():
                with suppress(OSError, ValueError, IndexError):
                    status = Path("/proc", child, "status").read_text()
                    peaks[child] = int(status.split("VmHWM:")[1].split()[0]) / 2**10


if __name__ == "__main__":
    folder, what = Path(sys.argv[1]), sys.argv[2]
    doing: dict[str, Callable[[], object]] = {
        "fill": lambda: fill(folder, int(sys.argv[3])),
        "alone": lambda: alone(folder),
        "report": lambda: report(folder),
    }
    print(json.dumps(doing[what]()))
