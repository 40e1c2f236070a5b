"""The page of measurements, made of the JSON files alone: no number on it was typed.

The arithmetic floor is counted, not measured: operations and bytes of the linear head follow from the shapes.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.bench.measure import Report, Row, Timed

COLUMNS = ("what", "plain", "fast", "ratio (spread)", "target", "same numbers")
FRAME, GRID, CHANNELS = 224, 7, 512  # a linear head on ResNet-18


def cells(row: Row) -> tuple[str, ...]:
    """One row of a table; `-` where there is no target."""
    low, high = min(row.ratios), max(row.ratios)
    spread = f" ({low:.3g} to {high:.3g})" if len(row.ratios) > 1 else ""
    sign = "≥" if row.goal == "faster" else "≤"
    target = "–" if row.target is None else f"{sign} {row.target:g}: {'reached' if row.reached else 'not reached'}"
    return row.what, _seconds(row.plain), _seconds(row.fast), f"{row.ratio:.3g}{spread}", target, _sameness(row)


def markdown(reports: Sequence[Report]) -> str:
    """The whole page. A quick report is refused a place among measurements: it is listed as not measured."""
    lines = [
        "# Performance",
        "",
        "Made by `lobe bench all --page docs/performance.md` from the JSON files of the benches; do not edit.",
        "",
        "Both sides of a row run in turn in one process or command, on generated images, and must give the same numbers. A ratio is the",
        "median over neighbouring pairs, its spread the smallest and largest pair. It is plain / fast (more is better), but fast / plain",
        "where the target begins with ≤. Rows marked *computed* are arithmetic on costs measured in the same run.",
        "",
    ]
    measured = [report for report in reports if not report.quick]
    if not measured:
        lines += ["Nothing has been measured yet on a machine worth naming. `lobe bench all` takes at most an hour on two cores.", ""]
    for report in measured:
        lines += _section(report)
    lines += _floor(next((report for report in measured if report.bench == "frozen"), None))
    return "\n".join(lines) + "\n"


def _section(report: Report) -> list[str]:
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


def _floor(frozen: Report | None) -> list[str]:
    """Operations and bytes of one image, epoch and run of a linear head, and the measured time beside them."""
    pixels = FRAME * FRAME
    upsample = 2 * (GRID * GRID * FRAME + GRID * pixels)
    classify = 2 * CHANNELS * GRID * GRID
    lines = [
        "## The arithmetic floor",
        "",
        f"One class map of a linear head on {CHANNELS} channels and a {GRID} x {GRID} grid at {FRAME} px, in one training step:",
        "",
        f"- classification, forward and backward: {2 * classify / 1e6:.2f} MFLOP on {4 * CHANNELS * GRID * GRID / 1e3:.0f} kB of features;",
        f"- upsampling and its transpose: {2 * upsample / 1e6:.2f} MFLOP (half as much again where there is truth);",
        f"- {pixels:,} sigmoids, {4 * pixels:,} multiplications and additions, and two sums over {4 * pixels / 1e3:.0f} kB that stay in "
        "the processor's cache;",
        f"- truth: {pixels // 8 / 1e3:.1f} kB of bits.",
        "",
    ]
    if frozen is None:
        return [*lines, "The distance to it is stated when `lobe bench frozen` has been run."]
    name = "head-only epoch of a run, ms an image"
    found = [(row.what.partition(",")[0], row.details[name]) for row in frozen.rows if name in row.details]
    lines += [f"Measured for a whole epoch of one run, training and validation together ({name}):", ""]
    return [*lines, *(f"- {task}: {value}" for task, value in found)]


def _sameness(row: Row) -> str:
    if row.difference is None:
        return "no: a side failed or chose another epoch"
    return f"yes (largest difference {row.difference:.1g})" if row.equal else f"no: {row.difference:.3g} > {row.tolerance:g}"


def _seconds(timed: Timed) -> str:
    value = timed.median
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:,.3g} s" if value < 1000 else f"{value / 3600:,.1f} h"
