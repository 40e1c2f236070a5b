"""Linear tasks on a frozen encoder: the whole job graph of a task (every learning rate, every run), the project's way and the plain way."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from benchmark import registry
from benchmark.cards import Job, Record, Role
from benchmark.errors import TrainingError
from benchmark.events import Finished
from benchmark.execute.work import WorkUnit, run_unit
from benchmark.rate_search import select_learning_rate
from benchmark.training.determinism import prepare_process
from benchmark.training.inputs import Inputs
from benchmark.training.sizes import batch_size
from tests.perf import memory, plain_run, protocol
from tests.perf.corpus import frame_size, jobs, n_cores, shared_corpus
from tests.perf.ingredients import gather, plain_model, png_files
from tests.perf.measure import BenchResult, Compared, Measurement, Timed, alternate, report

SIDES = (
    "plain: every epoch decodes 8-bit PNG files with the fastest installed decoder, resizes, and runs the encoder; one run after another, "
    "as many loader workers as cores; masks ready-made. fast: raw files into an empty decode-once cache, one feature pass, all runs of a "
    "stage side by side, the full test metrics and the files of predictions. The sides take turns: plain, fast, plain, fast. The ceiling "
    "is what an image of an epoch costs the plain side over what it costs a head that finds its features ready: no sharing beats it."
)
TARGETS = {
    "rsna-linear-frozen-10": 30.0,  # 8
    "covid-rural-linear-frozen-100": 30.0,  # 12
    "object-cxr-linear-frozen-100": 30.0,  # 17
    "nih-cxr-linear-frozen-100": 5.0,  # 18
}
TOLERANCE = 1e-5


def run(quick: bool, folder: Path) -> BenchResult:
    started = time.monotonic()
    cores = n_cores(quick)
    epochs, images, batch, runs, rounds = (1, 8, 4, 1, 1) if quick else (2, 16, 8, None, 2)
    tasks = ("covid-rural-linear-frozen-100",) if quick else tuple(TARGETS)
    rows: list[Measurement] = []
    for task in tasks:
        dataset = registry.task(task).dataset
        root = shared_corpus(folder, dataset, quick)
        grid = registry.task(task).recipe.grid[: 2 if quick else None]
        planned, inputs = jobs(
            folder / "frozen",
            root,
            task,
            limit=images,
            threads=cores,
            runs=runs,
            card={"fraction": 1.0},  # the images of a share of labels are a matter of `images` here
            batch_size=batch,
            max_epochs=epochs,
            grid=grid,
            frame_size=frame_size(quick),
        )
        rows += _task(task, planned, inputs, folder / "frozen" / task, cores, rounds)
    rows.append(memory.row(quick, folder, cores))
    sizes = {
        "epochs a run": epochs,
        "images a split, at most": images,
        "batch": batch,
        "final runs": runs or 5,
        "turns of each side": rounds,
        "threads and workers": cores,
    }
    return report("frozen", SIDES, quick, sizes, rows, started)


def _task(task: str, planned: list[Job], inputs: Inputs, folder: Path, cores: int, rounds: int) -> list[Measurement]:
    prepare_process(cores)
    slow = _Plain(planned, replace(inputs, cache=folder / "truth"), folder / "png", cores)  # its files are made outside the clock
    empty = iter(folder / f"fast-{turn}" / "images" for turn in range(rounds))
    plain_runs: list[dict[str, plain_run.PlainRun]] = []
    fast_runs: list[dict[str, Record]] = []
    plain, fast, _, _ = alternate(
        lambda: plain_runs.append(slow.all()), lambda: fast_runs.append(_fast(planned, replace(inputs, cache=next(empty)))), rounds
    )
    costs = _costs(fast_runs, plain_runs)
    compared: Compared = {
        "compared": "selected epoch, validation metrics and test Dice of every run",
        "difference": _difference(fast_runs, plain_runs),
        "tolerance": TOLERANCE,
    }
    ceiling = {
        "ceiling: plain / head-only, an image of an epoch (computed)": round(costs["plain epoch"] / costs["head-only epoch of a run"], 1)
    }
    measured = Measurement(
        what=f"{task}, {len(planned)} runs at the reduced size",
        plain=plain,
        fast=fast,
        details={
            **ceiling,
            "epochs a run": planned[0].experiment.recipe.max_epochs,
            "decoder of the plain side": slow.decoder,
            "encoder, built and checked, ms a run": round(costs["encoder of a run"] * 1000, 1),
            **{f"{name}, ms an image": round(value * 1000, 4) for name, value in costs.items() if name != "encoder of a run"},
        },
        **compared,
    )
    return [measured, *_whole(task, costs, compared, ceiling)]


def _fast(planned: list[Job], inputs: Inputs) -> dict[str, Record]:
    records = {e.record.key: e.record for e in run_unit(WorkUnit("bench", tuple(planned), inputs)) if isinstance(e, Finished)}
    for record in records.values():
        if record.failure is not None:
            raise TrainingError(f"{record.job.labels.task} failed, so there is nothing to measure: {record.failure.sentence}")
    return records


def _difference(fast: list[dict[str, Record]], plain: list[dict[str, plain_run.PlainRun]]) -> float | None:
    """The largest difference of numbers; None where a run selected another epoch."""
    found = []
    for record, run in ((records[key], run) for records, runs in zip(fast, plain, strict=True) for key, run in runs.items()):
        if record.selected_epoch != run.selected.epoch:
            return None
        found += [abs(record.validation[name] - value) for name, value in run.selected.metrics.items()]
        select = record.job.experiment.select
        found.append(abs(record.metrics[select] - run.test[select]))
    return max(found)


class _Plain:
    """The plain side of a task."""

    def __init__(self, planned: list[Job], inputs: Inputs, png: Path, cores: int):
        self.planned, self.cores = planned, cores
        self.given = gather(planned[0].experiment, inputs)
        self.images, self.decoder = png_files(self.given, png)
        self.encoder = self.given.encoder()

    def all(self) -> dict[str, plain_run.PlainRun]:
        """Every run of the task, one after another, the final ones with the rate the selection found."""
        found: dict[str, plain_run.PlainRun] = {}
        values: dict[float, float] = {}
        for job in self.planned:
            e = job.experiment
            rate = e.learning_rate if e.learning_rate is not None else select_learning_rate(e.recipe.grid, values)
            model = plain_model(replace(self.given, experiment=e), self.images, self.encoder, self.cores)
            found[job.key] = plain_run.run(e, rate, model)
            if e.role is Role.SELECTION:
                values[rate] = found[job.key].selected.metrics[e.select]
        return found


def _costs(fast: list[dict[str, Record]], plain: list[dict[str, plain_run.PlainRun]]) -> dict[str, float]:
    """Seconds an image, by what is done with it, over all rounds; of the encoder a run, though all runs of a stage share it."""
    records = [record for found in fast for record in found.values()]
    runs = [run for found in plain for run in found.values()]
    counts = {name: c["images"] for name, c in records[0].counts.items()}
    epochs, e = sum(len(record.curve) for record in records), records[0].job.experiment
    batch = batch_size(e.recipe, e.limit, counts["train"])
    seen = records[0].curve[0].step * batch + counts["validation"]  # in an epoch
    seconds = {name: sum(record.timings_s[name] for record in records) for name in records[0].timings_s}
    return {
        "decode and cache, once": seconds["data"] / len(fast) / sum(counts.values()),
        "encoder of a run": seconds["encoder"] / len(records),
        "features, once": seconds["features"] / len(fast) / sum(counts.values()),
        "head-only epoch of a run": seconds["training"] / epochs / seen,
        "test of a run with all metrics": (seconds["test"] + seconds["storing"]) / len(records) / counts["test"],
        "plain epoch": sum(run.seconds["train"] + run.seconds["validation"] for run in runs) / epochs / seen,
        "plain test": sum(run.seconds["test"] for run in runs) / len(runs) / counts["test"],
    }


def _whole(task: str, cost: dict[str, float], compared: Compared, ceiling: dict[str, float]) -> list[Measurement]:
    """The whole protocol's time on both sides, computed from the costs, at the fewest epochs patience allows and at the most."""
    size, epoch, slow = protocol.full_size(task), cost["head-only epoch of a run"], cost["plain epoch"]
    once = cost["decode and cache, once"] + cost["features, once"]
    fast = protocol.ImageCosts(
        once=once, train=epoch, validation=epoch, test=cost["test of a run with all metrics"], run=cost["encoder of a run"]
    )
    plain = protocol.ImageCosts(once=0.0, train=slow, validation=slow, test=cost["plain test"])
    images = {"train images": size.train, "validation images": size.validation, "test images": size.test}
    return [
        Measurement(
            what=f"{task}, {size.runs} runs of {epochs} epochs on all images (computed)",
            plain=Timed(seconds=(protocol.task_seconds(size, plain, epochs),)),
            fast=Timed(seconds=(protocol.task_seconds(size, fast, epochs),)),
            target=TARGETS[task],
            details={**ceiling, "runs": size.runs, "epochs a run": epochs, **images},
            **compared,
        )
        for epochs in (size.fewest_epochs, size.most_epochs)
    ]
