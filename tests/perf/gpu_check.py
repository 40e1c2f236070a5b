"""`make gpu`: one prepared look at a machine's GPU, in minutes. What it does: `gpu_steps`; what comes out, and what it needs: `gpu_report`.

Every step is a process that is ended when its time is up, so that a step that hangs costs its own time and no other's. They are forked from
a server that has imported everything and never touched CUDA.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from benchmark import json_files
from benchmark.files import write_atomically
from tests.perf.gpu_report import GpuResult, Line, Step, markdown

BUDGET_S = 540.0  # of all steps together; ten minutes with what is around them
CPU_SLACK = 10  # times a step's own time, where other work may share the cores
PRELOADED = ["torch", "torchvision", "tests.perf.gpu_steps", "benchmark.execute.inline", "benchmark.training.fit"]
STEPS = {  # name -> title, most seconds
    "machine": ("The machine, and generated data", 60.0),
    "tasks": ("Three tasks at full batch, through the product", 150.0),
    "twice": ("The same once more, compared bit by bit", 90.0),
    "sharing": ("Two processes on one device at once", 60.0),
    "memory": ("Out of memory, then micro-batches", 60.0),
    "compile": ("`--compile`", 130.0),
    "several": ("One job over two devices", 60.0),
    "rows": ("Rows of `lobe bench step`", 120.0),  # last: what the time allows
}


def check(out: Path, names: Sequence[str] = tuple(STEPS), budget_s: float = BUDGET_S, commit: str | None = None) -> GpuResult:
    """Runs the steps and writes `out/gpu.json` and `out/gpu.md`.

    Args:
        names: of `STEPS`; `machine` makes the data of the others.
        budget_s: no step goes on after so many seconds.
        commit: of the code, where it is no checkout.
    """
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # asking for a device must leave CUDA alone, or no process could be forked
    import torch

    from tests.perf.measure import machine

    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    device_type: Literal["cpu", "cuda"] = "cuda" if torch.cuda.is_available() else "cpu"
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOADED)
    steps: list[Step] = []
    modules: set[str] = set()
    device: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="lobe-gpu-") as folder:
        for name in names:
            title, most = STEPS[name]
            most *= 1 if device_type == "cuda" else CPU_SLACK
            left = min(most, budget_s - (time.monotonic() - started))
            step, found = _run(server, name, title, left, Path(folder))
            steps.append(step)
            modules |= found
            if name == "machine" and step.lines:
                device = {key: str(value) for key, value in step.lines[0].values.items()}
            print(f"{title}: {step.outcome}, {step.seconds:.1f} s", flush=True)
    report = GpuResult(
        device_type=device_type,
        steps=tuple(steps),
        seconds=round(time.monotonic() - started, 1),
        budget_s=budget_s,
        machine=device | machine() | ({} if commit is None else {"commit": commit}),
        packages=_packages(modules),
        finished_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    )
    write_atomically(out / "gpu.json", report.model_dump_json(indent=1).encode())
    write_atomically(out / "gpu.md", markdown(report).encode())
    return report


def _run(server, name: str, title: str, most: float, folder: Path) -> tuple[Step, set[str]]:
    """One step in a process group of its own, which is ended with all it started."""
    started = time.monotonic()
    if most <= 0:
        return Step(name=name, title=title, seconds=0.0, budget_s=0.0, lines=(Line(what=title, outcome="not run", detail=NO_TIME),)), set()
    told, log = folder / f"{name}.jsonl", folder / f"{name}.log"
    process = server.Process(target=_step, args=(name, folder, told, log))
    process.start()
    process.join(most)
    late = process.is_alive()
    with contextlib.suppress(ProcessLookupError, PermissionError):  # its own children may outlive it
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()  # of a busy machine it may not have come to its own group yet
    process.join()
    lines: list[Line] = []
    modules: set[str] = set()
    error = f"Its {most:.0f} s were over." if late else ""
    for text in told.read_text(encoding="utf-8").splitlines() if told.exists() else ():
        event = json_files.parse(text)
        if "line" in event:
            lines.append(Line.model_validate(event["line"]))
        modules |= set(event.get("modules", ()))
        error = event.get("error", error)
    if process.exitcode != 0 and not error:
        error = f"Its process ended with {process.exitcode}."
    seconds = round(time.monotonic() - started, 1)
    step = Step(name=name, title=title, seconds=seconds, budget_s=most, lines=tuple(lines), error=error)
    return step.model_copy(update={"log": _tail(log)}) if step.outcome == "failed" else step, modules


NO_TIME = "no time was left"


def _step(name: str, folder: Path, told: Path, log: Path) -> None:
    """Runs a step in its own process: writes every line as soon as it is known; what it prints goes to the log."""
    os.setsid()
    with log.open("w", encoding="utf-8") as printed:
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
    from tests.perf import gpu_steps

    with told.open("w", encoding="utf-8") as file:

        def tell(event: dict) -> None:
            file.write(json.dumps(event) + "\n")
            file.flush()

        try:
            for line in gpu_steps.run(name, folder):
                tell({"line": line.model_dump(mode="json")})
        except Exception:
            tell({"error": traceback.format_exc()[-4000:]})
        tell({"modules": sorted({module.partition(".")[0] for module in list(sys.modules)})})


def _packages(modules: Iterable[str]) -> dict[str, str]:
    """Distributions of imported modules, with their versions."""
    of_module = importlib.metadata.packages_distributions()
    names = {name for module in modules for name in of_module.get(module, ())}
    return {name: importlib.metadata.version(name) for name in sorted(names, key=str.lower)}


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-4000:] if log.exists() else ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.perf.gpu_check", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "lobe-gpu")), help="folder for gpu.json and gpu.md")
    parser.add_argument("--page", type=Path, help="also write the page there, if it was a GPU that was measured")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="seconds of all steps together")
    parser.add_argument("--commit", help="of the code, where it is no checkout")
    parser.add_argument("--step", action="append", choices=list(STEPS), help="only these; repeatable")
    given = parser.parse_args()
    report = check(given.out, given.step or tuple(STEPS), given.budget, given.commit)
    if given.page is not None and report.device_type == "cuda":
        given.page.write_text(markdown(report), encoding="utf-8")
    elif given.page is not None:
        print(f"{given.page} stays as it is: no CUDA device is here, so this was the miniature on the CPU.")
    print(f"Written to {given.out / 'gpu.json'} and {given.out / 'gpu.md'}.")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
