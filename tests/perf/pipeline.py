"""Images to network input: batches assembled from the decode-once cache against decoding and resizing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmark.encoders.base import Backbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.kinds.base import Part
from benchmark.readers.base import open_reader
from benchmark.training.data import choose, load_part
from benchmark.training.determinism import prepare_process
from tests.perf.corpus import as_png, fastest_decoder, frame_size, jobs, n_cores, shared_corpus
from tests.perf.measure import BenchResult, Measurement, Timed, alternate, report
from tests.perf.plain_run import Images

SIDES = (
    "plain: a loader with as many workers as cores decodes 8-bit PNG files of the original size with the fastest installed decoder, "
    "resizes and normalises. fast: rows of the memory-mapped cache, normalised; three channels are one memory seen three times; the same "
    "passes ten times over, and a tenth of their time. "
    "Batches are let go as soon as the next one is made."
)
BATCH = 64
TARGET = 100.0
TASK = "rsna-linear-frozen-100"


def run(quick: bool, folder: Path) -> BenchResult:
    started = time.monotonic()
    cores = n_cores(quick)
    repeats = 1 if quick else 5
    root = shared_corpus(folder, "rsna", quick)
    (job, *_), inputs = jobs(
        folder / "pipeline",
        root,
        TASK,
        limit=8 if quick else 64,
        threads=cores,
        runs=1,
        card={"fraction": 1.0},
        frame_size=frame_size(quick),
    )
    prepare_process(cores)
    size = job.experiment.dataset.frame_size
    part = load_part(job.experiment, inputs, "train")
    reader = open_reader(inputs.card, inputs.dataset_root)
    files = as_png(choose(job.experiment, reader)["train"], job.experiment.dataset.intensity, folder / "pipeline" / "png")
    decoder, decode = fastest_decoder(files)
    encoder = SealedEncoder(_NoNetwork(), job.experiment.dataset.statistics)
    rounds = 1 if quick else 4  # of the plain side: workers start once for several passes over the images
    often = 1 if quick else 10  # the fast side is so short that the end of the other's workers would be measured with it

    def slow(passes: int = rounds) -> Iterator[torch.Tensor]:
        loader = DataLoader(Images(files * passes, decode, size), batch_size=BATCH, num_workers=cores)
        return (encoder.normalise(batch) for batch in loader)

    def from_cache(passes: int = rounds) -> Iterator[torch.Tensor]:
        return (part.images(index) for _ in range(passes) for index in _indices(part))

    forms: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        f"normalised float32 (N, 1, {size}, {size}), channels as a view": encoder.normalise,
        f"normalised float32 (N, 3, {size}, {size}), contiguous": lambda images: encoder.normalise(images).contiguous(),
        f"uint8 (N, {size}, {size})": lambda images: images,
    }

    def from_cache_as(form: Callable[[torch.Tensor], torch.Tensor]) -> None:
        _exhaust(map(form, from_cache(rounds * often)))

    expected = torch.cat(list(slow(1)))
    found = torch.cat([encoder.normalise(images) for images in from_cache(1)])
    rows = []
    for what, form in forms.items():
        plain, fast, _, _ = alternate(lambda: _exhaust(slow()), partial(from_cache_as, form), repeats)
        fast = Timed(seconds=tuple(seconds / often for seconds in fast.seconds))
        rows.append(
            Measurement(
                what=what,
                plain=plain,
                fast=fast,
                target=TARGET if form == encoder.normalise else None,
                compared="every normalised value of every image",
                difference=float((expected - found).abs().max()),
                tolerance=0,
                details={
                    "plain, ms an image": round(plain.median / len(part) / rounds * 1000, 4),
                    "fast, ms an image": round(fast.median / len(part) / rounds * 1000, 4),
                    "decoder of the plain side": decoder,
                },
            )
        )
    sizes = {"images": len(part), "passes": rounds, "batch": BATCH, "workers": cores, "repetitions": repeats}
    return report("pipeline", SIDES, quick, sizes, rows, started)


def _indices(part: Part) -> list[np.ndarray]:
    return [np.arange(start, min(start + BATCH, len(part))) for start in range(0, len(part), BATCH)]


class _NoNetwork(Backbone):
    """Stands where an encoder needs a backbone and only its normalisation is asked for."""

    def pyramid(self, images: torch.Tensor, strides: tuple[int, ...] | None = None) -> Mapping[int, torch.Tensor]:
        raise NotImplementedError("The pipeline is measured without a network.")

    def pooled(self, images: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("The pipeline is measured without a network.")


def _exhaust(batches: Iterator[torch.Tensor]) -> None:
    for _ in batches:
        pass
