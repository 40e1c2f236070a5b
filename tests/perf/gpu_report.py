"""What `make gpu` found, as a plain document, and the page made of it alone: no number on it was typed."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 1
Outcome = Literal["ok", "differs", "failed", "not run"]
WORDS = {"ok": "ok", "differs": "differs", "failed": "**failed**", "not run": "not run"}

# Of the project's requirements, those that the check imports: what a machine without network must be given, with what they need in turn.
NEEDS = (
    "albumentations", "filelock", "huggingface-hub", "jinja2", "matplotlib", "mmcv-lite", "mmdet", "mmengine", "numpy",
    "opencv-python-headless", "pandas", "pillow", "platformdirs", "pyarrow", "pycocotools", "pydantic", "pydicom",
    "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "PyYAML", "requests", "rich", "safetensors", "scikit-image",
    "scikit-learn", "scipy", "setuptools", "timm", "torch", "torchvision", "transformers", "urllib3",
)  # fmt: skip


class Line(BaseModel):
    """One thing that was looked at.

    Attributes:
        outcome: `differs` where equality was looked for, is not promised on a GPU, and was not found.
        values: measured or counted, by name with its unit.
    """

    model_config = ConfigDict(frozen=True)

    what: str
    outcome: Outcome
    detail: str = ""
    values: Mapping[str, float | int | str] = {}


class Step(BaseModel):
    """One step: its lines, or those it had before it failed or its time was up.

    Attributes:
        log: the end of what it printed, where it failed.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    title: str
    seconds: float
    budget_s: float
    lines: tuple[Line, ...] = ()
    error: str = ""
    log: str = ""

    @property
    def outcome(self) -> Outcome:
        found = [line.outcome for line in self.lines]
        if self.error or "failed" in found:
            return "failed"
        return "not run" if not found or set(found) == {"not run"} else "differs" if "differs" in found else "ok"


class GpuResult(BaseModel):
    """The whole check.

    Attributes:
        device_type: on which it ran; on a CPU it is a miniature that shows that the script runs.
        machine: device, versions, processor and commit.
        packages: distribution -> version, of everything that was imported.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: int = SCHEMA_VERSION
    device_type: Literal["cpu", "cuda"]
    steps: tuple[Step, ...]
    seconds: float
    budget_s: float
    machine: dict[str, str]
    packages: dict[str, str]
    finished_at: str

    @property
    def failed(self) -> bool:
        return any(step.outcome == "failed" for step in self.steps)


def markdown(report: GpuResult | None) -> str:
    """The page; without a report it says that nothing was measured."""
    lines = [
        "# On a GPU",
        "",
        "Made by `make gpu` from its JSON file; do not edit.",
        "",
        *(_measured(report) if report is not None else ["No GPU has been measured with this script yet.", ""]),
        "## How to repeat it",
        "",
        "```",
        "make gpu",
        "python -m tests.perf.gpu_check --out lobe-gpu --page docs/gpu.md    # the same, in any environment",
        "```",
        "",
        "One command of at most ten minutes, for one GPU or several, without Ray, network, data or weights: images are generated, networks",
        "begin with random weights. Every step runs in processes of its own and has a time of its own; one that fails, or takes longer, is",
        "reported and the others go on. `lobe-gpu/gpu.json` holds everything, `lobe-gpu/gpu.md` is this page of it. `--page` writes the",
        "page elsewhere too, unless the check ran on a CPU: there it is a miniature that shows that the script runs, and its times mean",
        "nothing. `--commit TEXT` names the commit where the code is no checkout, `--step NAME` runs one step.",
        "",
        "A machine that has only torch for its GPU needs these packages beside it, in the versions of `constraints.txt`, and what they",
        "need in turn. The `packages` of a `gpu.json`, of a CPU's too, name all that was imported, with versions. A package that is",
        "missing fails the steps that need it.",
        "",
        *textwrap.wrap(f"{', '.join(NEEDS)}.", 140, break_on_hyphens=False),
        "",
    ]
    return "\n".join(lines)


def _measured(report: GpuResult) -> list[str]:
    small = report.device_type == "cpu"
    machine = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    lines = [
        *(["**On the CPU, small: this shows that the script runs. Nothing was measured.**", ""] if small else []),
        f"Measured {report.finished_at} in {report.seconds:.0f} s of at most {report.budget_s:.0f}, on: {machine}.",
        "",
        "| step | outcome | seconds |",
        "|---|---|---|",
        *(f"| {step.title} | {WORDS[step.outcome]} | {step.seconds:.1f} |" for step in report.steps),
        "",
    ]
    for step in report.steps:
        lines += [f"## {step.title}", ""]
        if step.lines:
            lines += ["| what | outcome | found |", "|---|---|---|"]
            lines += [f"| {_cell(line.what)} | {WORDS[line.outcome]} | {_cell(_found(line))} |" for line in step.lines]
            lines.append("")
        if step.error:
            lines += [f"Failed: {_cell(step.error.strip().splitlines()[-1])}", ""]
    return lines


def _found(line: Line) -> str:
    values = "; ".join(f"{name} {_number(value)}" for name, value in line.values.items())
    return ". ".join(text for text in (line.detail, values) if text)


def _number(value: float | int | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")
