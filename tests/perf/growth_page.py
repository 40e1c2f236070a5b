"""The page and the table of `lobe bench growth`, made of its report alone: no number on them was typed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from tests.perf.growth_reach import SERIES, TARGETS, TOLERANCE, GrowthReport, Measured, Point, growth, verdict

PLOT = "growth.png"
NOT_MEASURED = "not measured"
HOW = """\
- **Images.** On one generated RSNA corpus for each `--limit` N (1.9 N images: for 3,200 the test split has 1,216): `lobe run` with a
  randomly initialised ResNet-18, `--profile smoke --seeds 1 --executor inline`, the task rsna-linear-frozen-100 on an empty cache, then
  rsna-yolov3-frozen-100 on the same cache, with the steps named above. The whole command counts, from the start of its process to the
  end; its phases are those of the record. Memory is the largest resident memory of that process. *Image* is an image of any split that
  the task uses.
- **Budget.** The YOLOv3 task at the largest size once more on the present commit, into another output folder, with `--cache-budget 1GB`.
- **One pass.** YOLOv3 and linear heads at 10 % and 100 % of labels, two seeds each, on one ResNet-18 with fixed weights, in one command
  with few steps, less the time that the same command takes again when everything is done. The other side of the ratio is measured once,
  on the present commit: the encoder alone over every image, once for all strides, and each head by the harness's own loop (steps,
  validation, test with all metrics) on features that lie in memory as tensors. Decoded images are there for both.
- **Files.** What one test writes that found made boxes (1,150 an image) on all test images of the largest corpus, by the same call as
  that of a run.
- **Records.** A store of made records, ten a backbone (two tasks, five seeds), each with predictions and statistics of its own:
  `lobe report`, the same again, and `lobe run` of all its jobs again.
- **Lists.** `lobe run --dry-run` of a task on a release with so many frontal images of MIMIC-CXR-JPG, all names of one picture.

On the present commit, a report again, a run again and a plan are timed three times where the first takes 20 s or less, and the median
counts; YOLOv3 runs and lists between the smallest and the largest, and stores above the smallest, are measured there alone. Every step
is a process of its own. Data is generated once for both commits, outside the clock; caches and results are each commit's own, and sides
take turns. A bench that was stopped goes on with the step that it was at. An exponent is the slope of log(cost) over log(size) by least
squares: 1 where cost is proportional, less where part of it is fixed; beside it that of the last step alone, and the larger of the two
is held to the target."""


def markdown(report: GrowthReport | None, plot: str | None = PLOT) -> str:
    """The whole page; without a report it says what would be measured. A miniature's numbers are refused a place on it.

    Args:
        plot: name of the picture beside the page; None leaves it out.
    """
    lines = [
        "# Growth",
        "",
        "Made by `lobe bench growth --page docs/growth.md`; do not edit.",
        "",
        "How time, memory and bytes grow with images and records, on this commit and on one before it.",
        "",
    ]
    if report is None or report.quick:
        said = (
            "Not measured on this commit." if report is None else "A miniature ran, which shows that the bench runs: nothing is measured."
        )
        lines += [said, "", "## Targets", "", "| what | target | verdict |", "|---|---|---|"]
        lines += [f"| {target.what} | ≤ {_value(target.most, target.unit)} | {NOT_MEASURED} |" for target in TARGETS]
        return "\n".join([*lines, "", "## How it is measured", "", HOW, ""])
    sizes = ", ".join(f"{name} {value}" for name, value in report.sizes.items())
    about = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    took = f"{report.seconds / 60:.0f} min" + (f" in {report.sittings} sittings" if report.sittings > 1 else "")
    lines += [f"`{report.command}`, {sizes}. Took {took}. Measured {report.finished_at} on:", f"{about}.", ""]
    lines += ["## Targets", "", *_rows(("what", *(_name(side) for side in report.sides), "target", "verdict"), _reach(report)), ""]
    lines += [same_numbers(report), "", "## What was not reached", "", *not_reached(report), ""]
    lines += ["## How cost grows", "", *([f"![Cost over size, on two logarithmic axes]({plot})", ""] if plot else []), *_growths(report)]
    return "\n".join([*lines, "## How it is measured", "", HOW, ""])


def table(report: GrowthReport) -> Table:
    """What was reached, for the terminal."""
    shown = Table(title=f"bench growth{' (quick: times mean nothing)' if report.quick else ''}", box=None, header_style="bold")
    for column in ("what", *(side.name for side in report.sides), "target", "verdict"):
        shown.add_column(column, overflow="fold")
    for cells in _reach(report):
        shown.add_row(*cells)
    return shown


def not_reached(report: GrowthReport) -> list[str]:
    """A line for every target that was missed or not measured, with the reason; one line where there is none."""
    now = report.sides[-1]
    lines = []
    for target in TARGETS:
        said = verdict(target, report)
        if said == "not reached":
            lines.append(f"- {target.what}: {_value(target.value(now), target.unit)}, target ≤ {_value(target.most, target.unit)}.")
        elif said == NOT_MEASURED:
            size = f" at {target.size:,}" if target.size is not None else ""
            lines.append(f"- {target.what}: {NOT_MEASURED}{size}.")
    lines += [f"- Failed on {_name(side)}: {step}: {why}" for side in report.sides for step, why in side.failures.items()]
    return lines or ["Nothing: every target was reached."]


def same_numbers(report: GrowthReport) -> str:
    """A sentence on whether both commits gave the same metrics."""
    if report.difference is None:
        return "The numbers of two commits were not compared."
    verb = "agree" if report.equal else "**differ**"
    return (
        f"The two commits {verb}: of {report.compared} metrics of the runs on images the largest difference is {report.difference:.2g} "
        f"(at most {TOLERANCE:g} is rounding)."
    )


def draw(report: GrowthReport, file: Path) -> None:
    """Cost over size on two logarithmic axes: seconds and memory over images, bytes over test images, seconds over records."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(11, 9), layout="constrained")
    panels = (
        (
            ("linear_s", "yolo_s", "yolo_features_s", "yolo_test_s", "yolo_storing_s"),
            "images (test images for test and storing)",
            "seconds",
        ),
        (("linear_memory", "yolo_memory"), "images", "peak memory, MB"),
        (("linear_bytes", "yolo_bytes"), "test images", "files of a run, MB"),
        (("report_s", "resume_s", "list_s"), "records, or images of a list", "seconds"),
    )
    for axes, (names, x, y) in zip(figure.subplots(2, 2).flat, panels, strict=True):
        for number, name in enumerate(names):
            title: str | None = SERIES[name].title  # once for both sides
            for side, line in zip(reversed(report.sides), ("-", "--"), strict=False):
                points = [point for point in side.series.get(name, ()) if point.value > 0]
                if points:
                    x_values, values = [point.x for point in points], [point.value for point in points]
                    axes.plot(x_values, values, line, marker="o", markersize=4, color=f"C{number}", label=title)
                    title = None
        axes.set(xlabel=x, ylabel=y)
        if not axes.lines:
            axes.text(0.5, 0.5, NOT_MEASURED, ha="center", transform=axes.transAxes)
            continue
        axes.set(xscale="log", yscale="log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_locator(LogLocator(subs=(2, 5)))
            axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
            first, last = axis.get_view_interval()
            wide = axis is axes.xaxis and last > 100 * first  # its labels would stand in each other
            axis.set_minor_formatter(NullFormatter() if wide else StrMethodFormatter("{x:,g}"))
        axes.grid(True, which="major", alpha=0.3)
        axes.legend(fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)  # never before the data
    if len(report.sides) > 1:
        figure.suptitle(f"solid: {_plain_name(report.sides[-1])}, dashed: {_plain_name(report.sides[0])}", fontsize="medium")
    figure.savefig(file, dpi=110)


def write_page(report: GrowthReport, page: Path) -> None:
    """Writes the page, and the picture beside it where there is something to draw."""
    plot = None if report.quick else page.with_suffix(".png")
    if plot is not None:
        draw(report, plot)
    page.write_text(markdown(report, None if plot is None else plot.name), encoding="utf-8")


def _reach(report: GrowthReport) -> list[tuple[str, ...]]:
    return [
        (
            target.what,
            *(_value(target.value(side), target.unit) for side in report.sides),
            f"≤ {_value(target.most, target.unit)}",
            verdict(target, report),
        )
        for target in TARGETS
    ]


def _growths(report: GrowthReport) -> list[str]:
    """A table for each set of sizes; a cell is the cost, and in brackets what it is per image, box or record."""
    lines: list[str] = []
    by_sizes: dict[tuple[int, ...], list[str]] = {}
    for name in SERIES:
        sizes = tuple(sorted({point.size for side in report.sides for point in side.series.get(name, ())}))
        if sizes:
            by_sizes.setdefault(sizes, []).append(name)
    for sizes, names in by_sizes.items():
        rows = [_growth_row(name, side, sizes) for name in names for side in report.sides]
        lines += [*_rows(("what", "per", "side", *(f"{size:,}" for size in sizes), "exponent", "last step"), rows), ""]
    return lines


def _growth_row(name: str, side: Measured, sizes: Sequence[int]) -> tuple[str, ...]:
    series, points = SERIES[name], side.series.get(name, ())
    found = growth(points)
    cells = (_cost(side.at(name, size), series.unit) for size in sizes)
    exponents = ("–", "–") if found is None else (f"{found.fitted:.2f}", f"{found.last:.2f}")
    return (series.title, series.per, _name(side), *cells, *exponents)


def _cost(point: Point | None, unit: str) -> str:
    if point is None:
        return "–"
    if not unit:
        return _value(point.value, unit)
    each = _value(point.value / point.x * 1000, {"s": "ms", "MB": "kB"}[unit])
    return f"{_value(point.value, unit)} ({each})"


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{text} {unit}".strip()


def _rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return lines + ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]


def _name(side: Measured) -> str:
    return f"{side.name} (`{side.commit}`)"


def _plain_name(side: Measured) -> str:
    return f"{side.name} ({side.commit})"
