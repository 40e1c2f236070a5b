"""`make gpu` in its miniature on a CPU: every step goes through the product, one that fails or hangs costs itself alone, and no page claims
what was not measured."""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmark import registry
from tests.perf import gpu_check, gpu_steps
from tests.perf.gpu_report import NEEDS, GpuResult, Line, Step, markdown

pytestmark = pytest.mark.long(15)

ROOT = Path(__file__).resolve().parents[2]
TRACING = "compile"
MINIATURE = ("machine", "twice", "memory")  # the others take most of the time; all are run where long checks are


def names_of(step: Step) -> list[str]:
    return [line.what for line in step.lines]


@pytest.fixture(scope="module")
def miniature(tmp_path_factory) -> tuple[GpuResult, Path]:
    out = tmp_path_factory.mktemp("gpu")
    return gpu_check.check(out, MINIATURE, budget_s=3600.0), out


def lines_of_small_steps(report: GpuResult, names: Sequence[str]) -> dict[str, tuple[Line, ...]]:
    """The lines by step, where all of them went well and say that nothing was measured."""
    assert {step.name: (step.outcome, step.error) for step in report.steps} == dict.fromkeys(names, ("ok", ""))
    assert report.device_type == "cpu"
    assert all("(on the CPU, small)" in name for step in report.steps for name in names_of(step))
    return {step.name: step.lines for step in report.steps}


def test_a_step_runs_small_on_the_cpu_and_says_so(miniature):
    report, out = miniature
    found = lines_of_small_steps(report, MINIATURE)
    assert [line.detail.partition(":")[0] for line in found["twice"]] == ["equal to the bit"]
    assert found["memory"][0].values["pieces"] == 2
    assert GpuResult.model_validate_json((out / "gpu.json").read_text()) == report
    page = (out / "gpu.md").read_text()
    assert page == markdown(report)
    assert "**On the CPU, small: this shows that the script runs. Nothing was measured.**" in page


def require_known_needs(report: GpuResult) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [
        *project["dependencies"],
        *(line for extra in ("run", "detection", "cluster") for line in project["optional-dependencies"][extra]),
    ]
    direct = {re.split(r"[\[=<>~]", text)[0].lower().replace("_", "-") for text in declared} - {project["name"]}
    imported = {name.lower().replace("_", "-") for name in report.packages} & direct
    assert {"torch", "numpy"} <= imported <= {name.lower() for name in NEEDS}
    assert not imported & {"ray", "mlflow", "typer"}


def test_what_it_imports_is_what_a_bare_machine_is_said_to_need(miniature):
    """Of the project's own requirements; neither Ray nor a tracker nor the command line is among them."""
    require_known_needs(miniature[0])


def test_the_page_of_the_project_is_the_scripts_own():
    page, how = (ROOT / "docs" / "gpu.md").read_text(), markdown(None).partition("## How to repeat it")[2]
    assert page.endswith(how)
    assert page == markdown(None) or "\nMeasured " in page
    assert "On the CPU, small" not in page


def test_a_cpu_never_reaches_the_page(monkeypatch, tmp_path: Path, capsys):
    report = GpuResult(device_type="cpu", steps=(), seconds=1.0, budget_s=1.0, machine={}, packages={}, finished_at="")
    monkeypatch.setattr(gpu_check, "check", lambda *_: report)
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--out", str(tmp_path), "--page", str(tmp_path / "page.md")])
    assert gpu_check.main() == 0
    assert not (tmp_path / "page.md").exists()
    monkeypatch.setattr(gpu_check, "check", lambda *_: report.model_copy(update={"device_type": "cuda"}))
    assert gpu_check.main() == 0
    assert "Nothing was measured" not in (tmp_path / "page.md").read_text()


# ------------------------------------------------------------------------------------------------ steps that do not end well


def run(monkeypatch, tmp_path: Path, step, most: float = 30.0) -> Step:
    """One step of ours, forked from this process."""
    monkeypatch.setitem(gpu_steps.RUN, "odd", step)
    found, _ = gpu_check._run(multiprocessing.get_context("fork"), "odd", "An odd step", most, tmp_path)
    return found


def first_and(then):
    def step(scale):
        yield Line(what="the first", outcome="ok")
        yield from then(scale)

    return step


def fails(scale):
    os.write(1, b"said before")
    raise RuntimeError("no such kernel")
    yield


def dies(scale):
    os._exit(3)
    yield


def hangs(scale):
    multiprocessing.get_context("fork").Process(target=threading.Event().wait).start()
    threading.Event().wait()
    yield


@pytest.mark.parametrize(
    ("then", "most", "said"),
    [(fails, 30.0, "RuntimeError: no such kernel"), (dies, 30.0, "ended with 3"), (hangs, 4.0, "Its 4 s were over.")],
)
def test_a_step_that_ends_badly_keeps_its_lines_and_names_what_ended_it(monkeypatch, tmp_path: Path, then, most, said):
    held, end = os.pipe()  # the other end is open while any process of the step lives
    step = run(monkeypatch, tmp_path, first_and(then), most)
    os.close(end)
    assert os.read(held, 1) == b""
    os.close(held)
    assert [line.what for line in step.lines] == ["the first (on the CPU, small)"]
    assert step.outcome == "failed"
    assert said in step.error
    assert (step.log == "said before") == (then is fails)


def test_a_step_whose_time_is_up_before_it_has_its_own_group_is_ended_too(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(os, "setsid", threading.Event().wait)
    step = run(monkeypatch, tmp_path, first_and(hangs), 0.5)
    assert (step.lines, step.outcome) == ((), "failed")
    assert "Its 0 s were over." in step.error


def test_on_one_device_the_step_for_two_is_not_run_and_says_so(monkeypatch, tmp_path: Path):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    (line,) = gpu_steps.several(gpu_steps.Scale("cuda", tmp_path))
    assert (line.outcome, line.detail) == ("not run", "1 device is here")


def test_on_a_gpu_a_run_in_another_precision_or_batch_is_no_success(tmp_path: Path):
    """Neither float32 nor a batch cut by the limit is what the protocol asks of a GPU."""
    from types import SimpleNamespace

    recipe = registry.task("siim-unet-finetune-100").recipe

    def outcome(precision: str = "float16", n_train: int = 128, device_type: str = "cuda") -> str:
        e = SimpleNamespace(recipe=recipe, limit=128, precision=precision, device_type=device_type, report="avg_dice")
        record = SimpleNamespace(
            job=SimpleNamespace(experiment=e, labels=SimpleNamespace(task="t")),
            counts={"train": {"images": n_train}},
            steps=2,
            timings_s={"training": 1.0},
            peak_memory_bytes=2**30,
            metrics={},
            micro_batches=1,
            environment={},
        )
        return gpu_steps._as_protocol(gpu_steps.Scale("cuda", tmp_path), record).outcome

    assert outcome() == "ok"
    assert {outcome(precision="float32"), outcome(n_train=100), outcome(device_type="cpu")} == {"failed"}


def test_without_time_left_a_step_is_not_run(monkeypatch, tmp_path: Path):
    step = run(monkeypatch, tmp_path, fails, most=0.0)
    assert (step.outcome, step.lines[0].detail) == ("not run", gpu_check.NO_TIME)


def test_results_that_differ_are_named_and_are_no_failure():
    from benchmark.cards import Record

    one = Record.model_construct(key="k", metrics={"mAP": 0.5, "froc": 0.25})
    other = one.model_copy(update={"metrics": {"mAP": 0.5, "froc": 0.125}})
    line = gpu_steps._compared("x", one, other, {"masks.json": b"1"}, {"masks.json": b"2"})
    assert (line.outcome, line.detail) == ("differs", "metrics.froc, masks.json")
    assert line.values == {"largest difference of a value": 0.125}
    assert gpu_steps._compared("x", one, one, {}, {}).outcome == "ok"
    step = Step(name="n", title="t", seconds=1.0, budget_s=1.0, lines=(line,))
    assert step.outcome == "differs"


def test_the_page_shows_every_line_and_why_a_step_failed():
    good = Step(name="a", title="A", seconds=2.0, budget_s=9.0, lines=(Line(what="x|y", outcome="ok", values={"ms": 1.23456, "n": 1200}),))
    bad = Step(name="b", title="B", seconds=1.0, budget_s=9.0, error="Traceback\nRuntimeError: no such kernel")
    report = GpuResult(
        device_type="cuda", steps=(good, bad), seconds=3.0, budget_s=9.0, machine={"device": "D"}, packages={}, finished_at="today"
    )
    page = markdown(report)
    assert "| x/y | ok | ms 1.235; n 1,200 |" in page
    assert "Failed: RuntimeError: no such kernel" in page
    assert "Measured today in 3 s of at most 9, on: device D." in page
    assert report.failed


@pytest.mark.slow
def test_the_command_does_all_of_it_in_one_call(tmp_path: Path):
    command = [
        sys.executable,
        "-m",
        "tests.perf.gpu_check",
        "--out",
        str(tmp_path / "out"),
        "--page",
        str(tmp_path / "page.md"),
        "--budget",
        "3600",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = GpuResult.model_validate_json((tmp_path / "out" / "gpu.json").read_text())
    assert [step.name for step in report.steps] == list(gpu_check.STEPS)
    found = lines_of_small_steps(report, tuple(gpu_check.STEPS))
    assert [line.what.partition(" ")[0] for line in found["tasks"]] == list(gpu_steps.TASKS)
    assert all(line.detail.startswith("cpu, float32") for line in found["tasks"])
    assert [line.detail.partition(":")[0] for line in (*found["twice"], *found["sharing"])] == ["equal to the bit"] * 3
    assert found["several"][0].detail == "two processes by gloo"
    assert [line.detail for line in found[TRACING]] == ["traced"]
    require_known_needs(report)
    assert "stays as it is" in ended.stdout
