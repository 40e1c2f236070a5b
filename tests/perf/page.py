"""The page of measurements, made of the JSON files alone: no number on it was typed.

Operations are counted, by torch or from shapes; a floor is counted operations at a measured speed.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.perf.measure import BenchResult, Measurement, Timed

COLUMNS = ("what", "plain", "fast", "ratio (spread)", "target", "same numbers")
FRAME, GRID, CHANNELS = 224, 7, 512  # a linear head on ResNet-18
NOT_MEASURED = "not measured on this commit"
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
    """One row of a table; `-` where there is no target."""
    low, high = min(row.ratios), max(row.ratios)
    spread = f" ({low:.3g} to {high:.3g})" if len(row.ratios) > 1 else ""
    sign = "≥" if row.goal == "faster" else "≤"
    target = "–" if row.target is None else f"{sign} {row.target:g}: {'reached' if row.reached else 'not reached'}"
    return row.what, _seconds(row.plain), _seconds(row.fast), f"{row.ratio:.3g}{spread}", target, _sameness(row)


def markdown(results: Sequence[BenchResult]) -> str:
    """The whole page. A quick report is refused a place among measurements: its bench is listed as not measured."""
    measured = {report.bench: report for report in results if not report.quick}
    lines = [
        "# Performance",
        "",
        "Made by `lobe bench all --page docs/performance.md` from the JSON files of the benches; do not edit.",
        "",
        "Both sides of a row run in turn in one process or command, on generated images, and must give the same numbers. A ratio is the",
        "median over neighbouring pairs, its spread the smallest and largest pair. It is plain / fast (more is better), but fast / plain",
        "where the target begins with ≤. Rows marked *computed* are arithmetic on costs measured in the same run.",
        "",
        "## What is measured, and how to repeat it",
        "",
        "| `lobe bench …` | measures | on this page |",
        "|---|---|---|",
        *(f"| `{name}` | {what} | {_standing(measured.get(name))} |" for name, what in MEASURES.items()),
        "",
        "`lobe bench NAME --out DIR` runs one on an otherwise idle machine and writes `DIR/NAME.json`; `all` runs them all, in sizes meant",
        "for an hour on two cores; `--page FILE` makes this page of every file in `DIR`. `--quick` is a miniature that shows that a bench",
        "runs: its times mean nothing and never come here. Every process uses all cores, and data is made anew in a temporary folder.",
        "`make gpu` looks at a GPU in at most ten minutes, its speed included: [gpu.md](gpu.md).",
        "",
        *(line for name in MEASURES if name in measured for line in _section(measured[name])),
    ]
    lines += _floor_of_steps(measured.get("step"))
    lines += _floor_of_linear(measured.get("frozen"))
    return "\n".join(lines) + "\n"


def _standing(report: BenchResult | None) -> str:
    return NOT_MEASURED if report is None else f"measured on commit `{report.machine.get('commit', 'unknown')}`"


def _section(report: BenchResult) -> list[str]:
    machine = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    sizes = ", ".join(f"{name} {value}" for name, value in report.sizes.items())
    lines = [f"## {report.bench}", "", report.sides, "", f"Sizes: {sizes}. Took {report.seconds:.0f} s. Measured {report.finished_at} on:"]
    lines += [f"{machine}.", "", "| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(cell.replace("|", "/") for cell in cells(row)) + " |" for row in report.rows]
    detailed = [row for row in report.rows if row.details]
    if detailed:
        lines += ["", "Where the time goes:", ""]
        lines += [f"- {row.what}: " + "; ".join(f"{name} {value}" for name, value in row.details.items()) for row in detailed]
    return [*lines, ""]


def _floor_of_steps(step: BenchResult | None) -> list[str]:
    """Counted operations of a step, the time they would take at the speed of a large matrix product, and the measured time."""
    lines = ["## The arithmetic floor of a step", ""]
    if step is None:
        return [*lines, f"Operations of every step, and the distance to them: {NOT_MEASURED} (`lobe bench step`).", ""]
    speed = float(step.sizes[PRODUCT])
    lines += [
        "Operations are counted in matrix products and convolutions by `torch.utils.flop_counter`. In the same run a large matrix product",
        f"reached {speed:,.0f} GFLOP/s; the floor is the time at that speed, the distance the measured time over the floor.",
        "",
        "| step | GFLOP an image | floor, ms an image | measured, ms an image | distance |",
        "|---|---|---|---|---|",
    ]
    for row in step.rows:
        if FLOPS in row.details:
            flops, measured = float(row.details[FLOPS]), float(row.details[PER_IMAGE])
            floor = flops / speed * 1000
            lines.append(f"| {row.what} | {flops:.3g} | {floor:.3g} | {measured:.3g} | {measured / floor:.3g} |")
    return [*lines, ""]


def _floor_of_linear(frozen: BenchResult | None) -> list[str]:
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
    found = [(row.what.partition(",")[0], row.details[name]) for row in frozen.rows if name in row.details]
    lines += [f"Measured for a whole epoch of one run, training and validation together ({name}):", ""]
    return [*lines, *(f"- {task}: {value}" for task, value in found)]


def _sameness(row: Measurement) -> str:
    if row.difference is None:
        return "no: a side failed or chose another epoch"
    return f"yes (largest difference {row.difference:.1g})" if row.equal else f"no: {row.difference:.3g} > {row.tolerance:g}"


def _seconds(timed: Timed) -> str:
    value = timed.median
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:,.3g} s" if value < 1000 else f"{value / 3600:,.1f} h"
