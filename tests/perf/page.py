"""Measurements as rows of data, and the page docs/performance.md, made of these rows alone: no number on it was typed.

Operations are counted, by torch or from shapes; a floor is counted operations at a measured speed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from docsite import performance
from docsite.performance import About, Data, Detail, Measured
from docsite.tables import cell, table
from tests.perf.measure import BenchResult, Measurement

FRAME, GRID, CHANNELS = 224, 7, 512  # a linear head on ResNet-18
NOT_MEASURED = "not measured"
MEASURES = {
    "startup": "how soon `lobe list tasks` answers, against importing torch; planning 136 jobs for each of 1,000 backbones",
    "metrics": "LoVT's mAP and COCO AP of 5,000 images, against the packages that define them",
    "pipeline": "images to normalised network input from the decode-once cache, against decoding and resizing files",
    "step": "a training step, a validation forward and a whole run, against a bare loop over tensors in memory; memory formats, compiling; "
    "GPU steps where there is one",
    "frozen": "every run of four linear tasks on a frozen encoder, against decoding and encoding every image in every epoch",
    "suite": "LoVT's 18 tasks as `lobe run` executes them, against the plain way and against the sum of the bare loops",
    "pretrain": "steps of every method that is trained here, against a bare loop over tensors in memory; operations and memory",
}
# Names that `step` gives to what this page computes with.
PRODUCT = "GFLOP/s of a large matrix product"
FLOPS = "GFLOP an image"
PER_IMAGE = "ms an image"


def cells(row: Measurement) -> tuple[str, ...]:
    """A measurement under the columns of its table."""
    return performance.cells(_measured(row))


def data_of(results: Iterable[BenchResult]) -> Data:
    """What was measured, as rows. A quick report is refused a place among measurements."""
    found = [_data(report) for report in results if not report.quick]
    return _joined(found)


def write(results: Iterable[BenchResult], path: Path) -> None:
    """Adds results to the rows in `data/` beside the page, in place of what is there of the same benches, and writes the page of all rows.

    Raises:
        ValueError: a file of rows that is there holds others.
    """
    folder = path.parent / "data"
    new, known = data_of(results), performance.read(folder)
    measured = new.benches()
    data = _joined((new if name in measured else known).of(name) for name in MEASURES)
    performance.write(data, folder)
    path.write_text(markdown(data), encoding="utf-8")


def markdown(data: Data) -> str:
    """The whole page."""
    measured = {name: data.of(name) for name in MEASURES if name in data.benches()}
    head = ("bench", "measures", "rows", "targets reached", "same numbers", "commit", "date")
    lines = [
        "# Performance",
        "",
        "Made by `lobe bench all --page docs/performance.md` of the rows in `docs/data`; do not edit.",
        "",
        "Both sides of a row run in turn in one process or command, on generated images, and must give the same numbers. A ratio is the",
        "median over neighbouring pairs, its spread the smallest and largest pair. It is plain / fast (more is better), but fast / plain",
        "where the target begins with ≤. Rows marked *computed* are arithmetic on costs measured in the same run.",
        "",
        "## What is measured, and how to repeat it",
        "",
        *table(head, ((name, what, *_standing(measured.get(name))) for name, what in MEASURES.items())),
        "",
        "`lobe bench NAME --out DIR` runs one on an otherwise idle machine and writes `DIR/NAME.json`; `all` runs them all, in sizes meant",
        "for an hour on two cores; `--page FILE` puts every file in `DIR` among the rows and makes this page of them. A bench without a",
        "file there keeps its rows. `--quick` is a miniature that shows that a bench runs: its times mean nothing and never come here.",
        "Every process uses all cores, and data is made anew in a temporary folder. `make gpu` looks at a GPU in at most ten minutes, its",
        "speed included: [gpu.md](gpu.md).",
        "",
        "## Every measurement",
        "",
        f"The rows are data: [{performance.ROWS}](data/{performance.ROWS}), a line a measurement; where its time goes,",
        f"[{performance.DETAILS}](data/{performance.DETAILS}); the two sides, sizes and machine of each bench,",
        f"[{performance.RUNS}](data/{performance.RUNS}). What is empty was not noted.",
        "",
        "<!-- site: performance -->",
        "",
        *_missed(data.rows),
        *_floor_of_steps(measured.get("step")),
        *_floor_of_linear(measured.get("frozen")),
    ]
    return "\n".join(lines) + "\n"


def _joined(found: Iterable[Data]) -> Data:
    parts = [(one.rows, one.details, one.runs) for one in found]
    return Data(*(tuple(row for one in same for row in one) for same in zip(*parts, strict=True))) if parts else Data()


def _data(report: BenchResult) -> Data:
    bench, commit = report.bench, report.machine.get("commit", "unknown")
    run = {"sides": report.sides, "seconds": f"{report.seconds:.0f}", "finished at": report.finished_at}
    parts: dict[str, Mapping[str, object]] = {"run": run, "size": report.sizes, "machine": report.machine}
    return Data(
        tuple(_measured(row, bench, commit, report.finished_at[:10]) for row in report.rows),
        tuple(Detail(bench, row.what, name, str(value)) for row in report.rows for name, value in row.details.items()),
        tuple(About(bench, part, name, str(value)) for part, values in parts.items() for name, value in values.items()),
    )


def _measured(row: Measurement, bench: str = "", commit: str = "", date: str = "") -> Measured:
    several = len(row.ratios) > 1
    return Measured(
        bench=bench,
        what=row.what,
        plain_s=_number(row.plain.median),
        fast_s=_number(row.fast.median),
        ratio=_number(row.ratio),
        ratio_low=_number(min(row.ratios)) if several else "",
        ratio_high=_number(max(row.ratios)) if several else "",
        goal=row.goal,
        target="" if row.target is None else _number(row.target),
        reached="" if row.reached is None else _yes(row.reached),
        same_numbers=_yes(row.equal),
        largest_difference="" if row.difference is None else _number(row.difference),
        tolerance=_number(row.tolerance),
        commit=commit,
        date=date,
    )


def _standing(data: Data | None) -> tuple[str, ...]:
    """Rows, targets, numbers, commit and date of one bench."""
    if data is None:
        return (NOT_MEASURED, "–", "–", "–", "–")
    with_target = [row for row in data.rows if row.target]
    reached, same = sum(row.reached == "yes" for row in with_target), sum(row.same_numbers == "yes" for row in data.rows)
    commit, date = data.about("machine").get("commit", "unknown"), data.about("run")["finished at"][:10]
    n = len(data.rows)
    return str(n), f"{reached} of {len(with_target)}" if with_target else "–", f"{same} of {n}", f"`{commit}`", date


def _missed(rows: Sequence[Measured]) -> list[str]:
    """A table of the rows that miss their target."""
    lines = ["## Targets that are not reached", ""]
    missed = [row for row in rows if row.reached == "no"]
    if not missed:
        return [*lines, "None." if rows else f"Not known: {NOT_MEASURED}.", ""]
    columns = [n for n, title in enumerate(performance.COLUMNS) if title != "verdict"]  # which is one for all
    shown = ((f"`{row.bench}`", *(cell(performance.cells(row)[n]) for n in columns)) for row in missed)
    return [*lines, *table(("bench", *(performance.COLUMNS[n] for n in columns)), shown), ""]


def _floor_of_steps(step: Data | None) -> list[str]:
    """Counted operations of a step, the time they would take at the speed of a large matrix product, and the measured time."""
    lines = ["## The arithmetic floor of a step", ""]
    if step is None:
        return [*lines, f"Operations of every step, and the distance to them: {NOT_MEASURED} (`lobe bench step`).", ""]
    speed = float(step.about("size")[PRODUCT])
    lines += [
        "Operations are counted in matrix products and convolutions by `torch.utils.flop_counter`. In the same run a large matrix product",
        f"reached {speed:,.0f} GFLOP/s; the floor is the time at that speed, the distance the measured time over the floor.",
        "",
        "| step | GFLOP an image | floor, ms an image | measured, ms an image | distance |",
        "|---|---|---|---|---|",
    ]
    for row in step.rows:
        details = step.detail(row)
        if FLOPS in details:
            flops, measured = float(details[FLOPS]), float(details[PER_IMAGE])
            floor = flops / speed * 1000
            lines.append(f"| {cell(row.what)} | {flops:.3g} | {floor:.3g} | {measured:.3g} | {measured / floor:.3g} |")
    return [*lines, ""]


def _floor_of_linear(frozen: Data | None) -> list[str]:
    """Operations and bytes of one image, epoch and run of a linear head, and the measured time beside them."""
    pixels = FRAME * FRAME
    upsample = 2 * (GRID * GRID * FRAME + GRID * pixels)
    classify = 2 * CHANNELS * GRID * GRID
    lines = [
        "## The arithmetic floor of a linear head",
        "",
        f"One class map on {CHANNELS} channels and a {GRID} x {GRID} grid at {FRAME} px, in one training step:",
        "",
        f"- classification, forward and backward: {2 * classify / 1e6:.2f} MFLOP on {4 * CHANNELS * GRID * GRID / 1e3:.0f} kB of features;",
        f"- upsampling and its transpose: {2 * upsample / 1e6:.2f} MFLOP (half as much again where there is truth);",
        f"- {pixels:,} sigmoids, {4 * pixels:,} multiplications and additions, and two sums over {4 * pixels / 1e3:.0f} kB that stay in "
        "the processor's cache;",
        f"- truth: {pixels // 8 / 1e3:.1f} kB of bits.",
        "",
    ]
    if frozen is None:
        return [*lines, f"The time it takes: {NOT_MEASURED} (`lobe bench frozen`)."]
    name = "head-only epoch of a run, ms an image"
    found = [(row.what.partition(",")[0], details[name]) for row in frozen.rows if name in (details := frozen.detail(row))]
    lines += [f"Measured for a whole epoch of one run, training and validation together ({name}):", ""]
    return [*lines, *(f"- {task}: {value}" for task, value in found)]


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _number(value: float) -> str:
    """Six significant digits; of a million and more all that stand before the point."""
    return f"{value:.0f}" if abs(value) >= 1e6 else f"{value:.6g}"
