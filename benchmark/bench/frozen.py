"""Linear tasks on a frozen encoder: the whole job graph of a task (every learning rate, every run), the project's way and the plain way."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from benchmark import registry
from benchmark.bench.corpus import as_png, corpus, fastest_decoder, jobs
from benchmark.bench.measure import Report, Row, Timed, report
from benchmark.bench.plain_run import Images, PlainRun, Split
from benchmark.bench.plain_run import run as plain_run
from benchmark.cards import Job, Record, Role
from benchmark.encoders.build import build_backbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.errors import TrainingError
from benchmark.execute.work import Finished, WorkUnit, run_unit
from benchmark.heads.base import HeadRequest, seeded_init
from benchmark.plan import select_learning_rate
from benchmark.readers.base import open_reader
from benchmark.registry import plugin
from benchmark.training.data import choose, load
from benchmark.training.determinism import prepare_process
from benchmark.training.place import Place

SIDES = (
    "plain: every epoch decodes 8-bit PNG files with the fastest installed decoder, resizes, and runs the encoder; one run after another, "
    "as many loader workers as cores; masks ready-made. fast: raw files into an empty decode-once cache, one feature pass, all runs of a "
    "stage side by side, the full test metrics and the files of predictions. The fast side runs before and after the plain one."
)
TARGETS = {
    "rsna-linear-frozen-10": 30.0,  # 8
    "covid-rural-linear-frozen-100": 30.0,  # 12
    "object-cxr-linear-frozen-100": 30.0,  # 17
    "nih-cxr-linear-frozen-100": 5.0,  # 18
}
PATIENTS = {"rsna": 110, "covid-rural": 90, "object-cxr": 110, "nih-cxr": 110}
TOLERANCE = 1e-5


def run(quick: bool, folder: Path) -> Report:
    started = time.monotonic()
    cores = os.cpu_count() or 1
    epochs, images, batch, runs = (1, 8, 4, 1) if quick else (2, 64, 16, None)
    tasks = ("covid-rural-linear-frozen-100",) if quick else tuple(TARGETS)
    rows: list[Row] = []
    for task in tasks:
        dataset = registry.task(task).dataset
        root = corpus(folder, dataset, 14 if quick else PATIENTS[dataset])
        grid = registry.task(task).recipe.grid[: 2 if quick else None]
        planned, place = jobs(
            folder,
            root,
            task,
            limit=images,
            threads=cores,
            runs=runs,
            card={"fraction": 1.0},  # the images of a share of labels are a matter of `images` here
            batch_size=batch,
            max_epochs=epochs,
            grid=grid,
        )
        rows += _task(task, planned, place, folder / task, cores)
    sizes = {"epochs a run": epochs, "images a split, at most": images, "batch": batch, "runs": runs or 5, "threads and workers": cores}
    return report("frozen", SIDES, quick, sizes, rows, started)


def _task(task: str, planned: list[Job], place: Place, folder: Path, cores: int) -> list[Row]:
    prepare_process(cores)
    slow = _Plain(planned, replace(place, cache=folder / "truth"), folder / "png", cores)  # its files are made outside the clock
    first, first_s = _fast(planned, replace(place, cache=folder / "first" / "images"))
    began = time.perf_counter()
    plain = slow.all()
    plain_s = time.perf_counter() - began
    second, second_s = _fast(planned, replace(place, cache=folder / "second" / "images"))
    costs = _costs(list(first.values()) + list(second.values()), list(plain.values()))
    compared = {
        "compared": "selected epoch, validation metrics and test Dice of every run",
        "difference": _difference([first, second], plain),
        "tolerance": TOLERANCE,
    }
    measured = Row(
        what=f"{task}, at the reduced size",
        plain=Timed(seconds=(plain_s, plain_s)),
        fast=Timed(seconds=(first_s, second_s)),
        details={
            "decoder of the plain side": slow.decoder,
            **{f"{name}, ms an image": round(value * 1000, 4) for name, value in costs.items()},
            "ceiling: plain epoch / head-only epoch (computed)": round(costs["plain epoch"] / costs["head-only epoch of a run"], 1),
        },
        **compared,
    )
    return [measured, *_whole(task, costs, compared)]


def _fast(planned: list[Job], place: Place) -> tuple[dict[str, Record], float]:
    began = time.perf_counter()
    records = {e.record.key: e.record for e in run_unit(WorkUnit("bench", tuple(planned), place)) if isinstance(e, Finished)}
    seconds = time.perf_counter() - began
    for record in records.values():
        if record.failure is not None:
            raise TrainingError(f"{record.job.labels.task} failed, so there is nothing to measure: {record.failure.sentence}")
    return records, seconds


def _difference(sides: list[dict[str, Record]], plain: dict[str, PlainRun]) -> float | None:
    """The largest difference of numbers; None where a run selected another epoch."""
    found = []
    for record, run in ((side[key], run) for side in sides for key, run in plain.items()):
        if record.selected_epoch != run.selected.epoch:
            return None
        found += [abs(record.validation[name] - value) for name, value in run.selected.metrics.items()]
        select = record.job.experiment.select
        found.append(abs(record.metrics[select] - run.test[select]))
    return max(found)


class _Plain:
    """The plain side of a task."""

    def __init__(self, planned: list[Job], place: Place, png: Path, cores: int):
        self.planned, self.cores = planned, cores
        experiment = planned[0].experiment
        loading = load(experiment, place)
        try:
            while True:
                next(loading)
        except StopIteration as ended:
            data = ended.value
        self.batch_size = data.batch_size
        reader = open_reader(place.card, place.dataset_root, shapes=experiment.switches.object_cxr_shapes)
        chosen = choose(experiment, reader, place.lists)
        self.splits = {}
        for name, samples in chosen.items():
            files = as_png(samples, experiment.dataset.intensity, png / name)
            self.decoder, decode = fastest_decoder(files)
            self.splits[name] = Split(getattr(data, name), Images(files, decode))
        ref = experiment.backbone.model_copy(update={"model": place.backbone_model})
        self.encoder = SealedEncoder(build_backbone(ref, place.weights, init_seed=ref.init_seed)[0], experiment.dataset.statistics)

    def all(self) -> dict[str, PlainRun]:
        """Every run of the task, one after another, the final ones with the rate the selection found."""
        found: dict[str, PlainRun] = {}
        values: dict[float, float] = {}
        for job in self.planned:
            e = job.experiment
            rate = e.learning_rate if e.learning_rate is not None else select_learning_rate(e.recipe.grid, values)
            request = HeadRequest(
                channels=self.encoder.backbone.spec.strides,
                n_classes=len(e.dataset.classes),
                frame_size=e.dataset.frame_size,
                switches=e.switches,
            )
            head = seeded_init(lambda e=e, request=request: plugin("heads", e.head).build(request), e.head_seed)
            found[job.key] = plain_run(e, rate, self.encoder, head, self.splits, self.batch_size, self.cores)
            if e.role is Role.SELECTION:
                values[rate] = found[job.key].selected.metrics[e.select]
        return found


def _costs(fast: list[Record], plain: list[PlainRun]) -> dict[str, float]:
    """Seconds an image, by what is done with it."""
    counts = {name: c["images"] for name, c in fast[0].counts.items()}
    steps = fast[0].curve[0].step
    experiment = fast[0].job.experiment
    seen = steps * min(experiment.recipe.batch_size, max(counts["train"] // 2, 1)) + counts["validation"]  # in an epoch
    seconds = {name: sum(r.timings_s[name] for r in fast) for name in fast[0].timings_s}
    return {
        "decode and cache, once": seconds["data"] / 2 / sum(counts.values()),
        "features, once": seconds["features"] / 2 / sum(counts.values()),
        "head-only epoch of a run": seconds["training"] / sum(len(r.curve) for r in fast) / seen,
        "test of a run with all metrics": (seconds["test"] + seconds["storing"]) / len(fast) / counts["test"],
        "plain epoch": sum(sum(run.epoch_s) for run in plain) / sum(len(run.epoch_s) for run in plain) / seen,
        "plain test": sum(run.test_s for run in plain) / len(plain) / counts["test"],
    }


def _whole(task: str, cost: dict[str, float], compared: dict) -> list[Row]:
    """The whole protocol's time on both sides, computed from the costs, at the fewest epochs patience allows and at the most."""
    card = registry.task(task)
    expected = registry.dataset(card.dataset).splits[card.split].expected
    images = {name: expected[name].n_images for name in ("train", "validation", "test")}
    images["train"] = round(images["train"] * card.fraction)
    images["validation"] = round(images["validation"] * card.recipe.validation_subset)
    n_runs = card.runs + len(card.recipe.grid)
    rows = []
    for epochs in (card.recipe.patience + 1, card.recipe.max_epochs):
        seen = n_runs * epochs * (images["train"] + images["validation"])
        tested = n_runs * images["test"]
        once = sum(images.values()) * (cost["decode and cache, once"] + cost["features, once"])
        rows.append(
            Row(
                what=f"{task}, {n_runs} runs of {epochs} epochs on all images (computed)",
                plain=Timed(seconds=(seen * cost["plain epoch"] + tested * cost["plain test"],)),
                fast=Timed(seconds=(once + seen * cost["head-only epoch of a run"] + tested * cost["test of a run with all metrics"],)),
                target=TARGETS[task],
                details={"runs": n_runs, "epochs a run": epochs, **{f"{name} images": n for name, n in images.items()}},
                **compared,
            )
        )
    return rows
