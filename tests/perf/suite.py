"""The whole suite of LoVT, cut to a stated size, three ways: as `lobe run` executes it, the plain way, and as bare loops, its floor."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmark import registry
from benchmark.cards import EncoderMode, Experiment, Job, Record
from benchmark.errors import TrainingError, UsageError
from benchmark.events import Finished
from benchmark.execute.inline import InlineExecutor
from benchmark.execute.schedule import Schedule
from benchmark.execute.work import units
from benchmark.store import Store
from benchmark.training.determinism import prepare_process
from benchmark.training.inputs import Inputs
from tests.perf import bare, plain_run, protocol
from tests.perf.corpus import frame_size, jobs, n_cores, shared_corpus
from tests.perf.ingredients import gather, plain_model, png_files
from tests.perf.measure import BenchResult, Compared, Measurement, Timed, report

SIDES = (
    "fast: the suite as `lobe run` executes it inline, from raw files and an empty cache to stored records, everything counted. plain: "
    "each job in turn from 8-bit PNG files made beforehand, decoded, resized and encoded every epoch, as many loader workers as cores, the "
    "selection's metrics only. floor: bare loops that do the same forwards and backwards on tensors in memory, and one feature pass a "
    "frozen encoder. One run a task, no grid: what sharing gains over many runs is in the rows marked computed, and for linear heads "
    "(trained one by one here) in `frozen`. At the reduced size what a run costs once (an encoder built and held to its contract, "
    "decoding, opening the dataset) weighs far more than in a full run, which the computed rows stand for; they let every run build its "
    "encoder, though frozen ones share it."
)
QUICK = ("covid-rural-linear-frozen-100", "covid-rural-unet-frozen-100", "covid-rural-unet-finetune-100")
NEAR = 1.20
TOLERANCE = 1e-5


@dataclass
class _Ways:
    """What each way gave, by task: records and runs of the last round, seconds of every round."""

    wall: dict[str, list[float]] = field(default_factory=lambda: {"fast": [], "plain": [], "floor": []})
    records: dict[str, Record] = field(default_factory=dict)
    plain: dict[str, plain_run.PlainRun] = field(default_factory=dict)
    floor: dict[str, bare.BareRun] = field(default_factory=dict)


def run(quick: bool, folder: Path) -> BenchResult:
    started = time.monotonic()
    cores = n_cores(quick)
    limit, batch, epochs, rounds = (4, 2, 1, 1) if quick else (16, 8, 1, 2)
    tasks = QUICK if quick else registry.suite("lovt-18").tasks
    own = folder / "suite"
    planned: list[Job] = []
    by_dataset: dict[str, Inputs] = {}  # of the one backbone
    for task in tasks:
        dataset = registry.task(task).dataset
        root = shared_corpus(folder, dataset, quick)
        made, inputs = jobs(
            own,
            root,
            task,
            limit=limit,
            threads=cores,
            runs=1,
            batch_size=batch,
            grid=(),
            max_epochs=epochs,
            warmup_steps=0,
            frame_size=frame_size(quick),
            patience=epochs,
        )
        planned += made
        by_dataset[dataset] = inputs
    prepare_process(cores)
    found = _Ways()
    sides = _Others(planned, by_dataset, own, cores)
    for turn in range(rounds):
        found.wall["plain"].append(_timed(lambda: sides.plain(found)))
        found.wall["fast"].append(_timed(lambda turn=turn: _fast(planned, by_dataset, own / f"out-{turn}", found)))
        found.wall["floor"].append(sides.floor(found))
    sizes = {
        "tasks": len(tasks),
        "images a split, at most": limit,
        "epochs a run": epochs,
        "batch": batch,
        "rounds": rounds,
        "threads": cores,
    }
    return report("suite", SIDES, quick, sizes, _rows(planned, found), started)


def _timed(work) -> float:
    return bare.timed(work)[0]


def _fast(planned: Sequence[Job], by_dataset: dict[str, Inputs], out: Path, found: _Ways) -> None:
    store = Store(out)
    fresh = {dataset: _in_cache(inputs, out / "images") for dataset, inputs in by_dataset.items()}
    for event in InlineExecutor().run(Schedule(units(planned, {job.key: fresh[job.experiment.dataset.name] for job in planned}))):
        if isinstance(event, Finished):
            record = store.put(event.record, event.files)
            if record.failure is not None:
                raise TrainingError(f"{record.job.labels.task} failed, so there is nothing to measure: {record.failure.sentence}")
            found.records[record.job.labels.task] = record


class _Others:
    """The plain way and the floor, with everything made beforehand that is not theirs to do."""

    def __init__(self, planned: Sequence[Job], by_dataset: dict[str, Inputs], own: Path, cores: int):
        self.cores = cores
        self.ingredients, self.images = {}, {}
        for job in planned:
            inputs = by_dataset[job.experiment.dataset.name]
            task = job.labels.task
            self.ingredients[task] = gather(job.experiment, _in_cache(inputs, own / "truth"))
            self.images[task], _ = png_files(self.ingredients[task], own / "png" / job.experiment.dataset.name)

    def plain(self, found: _Ways) -> None:
        for task, given in self.ingredients.items():
            model = plain_model(given, self.images[task], given.encoder(), self.cores)
            found.plain[task] = plain_run.run(given.experiment, _rate(given.experiment), model)

    def floor(self, found: _Ways) -> float:
        """Seconds inside the bare loops."""
        kept: dict[tuple, bare.Kept] = {}
        for task, given in self.ingredients.items():
            e = given.experiment
            found.floor[task] = bare.run(given, _rate(e), kept.setdefault((e.dataset.name, e.head), {}))
        return sum(run.total_s for run in found.floor.values())


def _rate(experiment: Experiment) -> float:
    if experiment.learning_rate is None:
        raise UsageError("The learning rate is chosen among several: the suite is measured on jobs without a grid.")
    return experiment.learning_rate


def _in_cache(inputs: Inputs, images: Path) -> Inputs:
    return replace(inputs, cache=images)


def _rows(planned: Sequence[Job], found: _Ways) -> list[Measurement]:
    plain, fast, floor = (Timed(seconds=tuple(found.wall[side])) for side in ("plain", "fast", "floor"))
    against_plain: Compared = {
        "compared": "selected epoch, losses of every epoch, validation metrics and test selection metric of every task",
        "difference": _against_plain(found),
        "tolerance": TOLERANCE,
    }
    against_floor: Compared = {
        "compared": "losses of every epoch of every task",
        "difference": _against_floor(found),
        "tolerance": TOLERANCE,
    }
    n = len(planned)
    rows = [
        Measurement(
            what=f"{n} tasks at the reduced size, against the sum of the bare loops' floors",
            plain=floor,
            fast=fast,
            goal="near",
            target=NEAR,
            details={**_seconds_by_phase(found), **{task: _three(task, found) for task in found.records}},
            **against_floor,
        ),
        Measurement(what=f"{n} tasks at the reduced size, against the plain way", plain=plain, fast=fast, **against_plain),
    ]
    for name in ("fewest_epochs", "most_epochs"):
        hours = _whole(planned, found, name)
        what = f"all runs of {n} tasks on all images, the {name.replace('_', ' ')} (computed)"
        details = {f"hours, {side}": round(seconds / 3600, 2) for side, seconds in hours.items()}
        rows.append(
            Measurement(
                what=f"{what}, against the plain way",
                plain=_once(hours, "plain"),
                fast=_once(hours, "fast"),
                details=details,
                **against_plain,
            )
        )
        rows.append(
            Measurement(
                what=f"{what}, against the floor",
                plain=_once(hours, "floor"),
                fast=_once(hours, "fast"),
                goal="near",
                target=NEAR,
                **against_floor,
            )
        )
    return rows


def _once(seconds: dict[str, float], side: str) -> Timed:
    return Timed(seconds=(seconds[side],))


def _seconds_by_phase(found: _Ways) -> dict[str, float]:
    phases = {
        name: sum(record.timings_s[name] for record in found.records.values()) for name in next(iter(found.records.values())).timings_s
    }
    return {f"fast, seconds in {name}": round(seconds, 2) for name, seconds in phases.items()}


def _three(task: str, found: _Ways) -> str:
    fast, plain = sum(found.records[task].timings_s.values()), sum(found.plain[task].seconds.values())
    return f"fast {fast:.2f} s, plain {plain:.2f} s, floor {found.floor[task].total_s:.2f} s"


def _against_plain(found: _Ways) -> float | None:
    """The largest difference of numbers; None where a run selected another epoch."""
    differences = []
    for task, record in found.records.items():
        run, select = found.plain[task], record.job.experiment.select
        if record.selected_epoch != run.selected.epoch:
            return None
        for line, other in zip(record.curve, run.selected.curve, strict=True):
            differences += [abs(line.train_loss - other.train_loss), abs(line.validation_loss - other.validation_loss)]
        differences += [abs(record.validation[name] - value) for name, value in run.selected.metrics.items()]
        if select in record.metrics and select in run.test:
            differences.append(abs(record.metrics[select] - run.test[select]))
    return max(differences)


def _against_floor(found: _Ways) -> float:
    pairs = (
        (line, losses)
        for task, record in found.records.items()
        for line, losses in zip(record.curve, found.floor[task].losses, strict=True)
    )
    return max(max(abs(line.train_loss - train), abs(line.validation_loss - validation)) for line, (train, validation) in pairs)


def _whole(planned: Sequence[Job], found: _Ways, epochs: str) -> dict[str, float]:
    """Seconds of the full protocol by side: per image and task, from the last round.

    Decoding is counted once a dataset, features once a frozen encoder, dataset and head, each for the largest of its tasks.
    """
    total = dict.fromkeys(("plain", "fast", "floor"), 0.0)
    shared: dict[tuple, list[tuple[float, float, int, int]]] = {}
    for job in planned:
        e, task = job.experiment, job.labels.task
        record, size, floor = found.records[task], protocol.full_size(task), found.floor[task]
        fast, at_least = protocol.of_run(record, floor)
        slow = {name: found.plain[task].seconds[name] / count for name, count in protocol.images_seen(record).items()}
        for side, costs in (("plain", protocol.ImageCosts(once=0.0, **slow)), ("fast", fast), ("floor", at_least)):
            total[side] += protocol.run_seconds(size, costs, getattr(size, epochs))
        shared.setdefault((e.dataset.name,), []).append((record.timings_s["data"], 0.0, protocol.n_images(record), size.images))
        if e.encoder is EncoderMode.FROZEN:
            both = record.timings_s["features"], floor.seconds["features"]
            shared.setdefault((e.dataset.name, e.head), []).append((*both, protocol.n_images(record), size.images))
    for uses in shared.values():
        ours_s, floor_s, at_once, images = zip(*uses, strict=True)
        total["fast"] += sum(ours_s) / max(at_once) * max(images)
        total["floor"] += sum(floor_s) / max(at_once) * max(images)
    return total
