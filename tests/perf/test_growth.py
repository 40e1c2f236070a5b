"""Growth: its arithmetic, its page, its two sides, and all its steps in a miniature of one process. Never a time."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from benchmark.errors import EnvironmentProblem, UsageError
from tests import perf as bench
from tests.perf import growth, growth_child, growth_data, growth_page, growth_sizes, growth_steps
from tests.perf.growth_progress import Asked, Progress, enter
from tests.perf.growth_reach import SERIES, TARGETS, GrowthReport, Measured, Point, exponent, verdict
from tests.perf.growth_reach import growth as growth_of
from tests.perf.growth_sides import Side, StepFailed, named, unpack

pytestmark = pytest.mark.long(15)


@pytest.fixture(autouse=True)
def threads_stay():
    """The miniature sets threads; the tests after it expect what they set."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def points(values: Mapping[int, float]) -> tuple[Point, ...]:
    return tuple(Point(size=size, x=size, value=value) for size, value in values.items())


def report(quick: bool = False, difference: float | None = 0.0, before: bool = True, **series: Mapping[int, float]) -> GrowthReport:
    measured = {name: points(values) for name, values in series.items()}
    sides = [Measured(name="now", commit="new1234", series=measured)]
    if before:
        twice = {name: points({size: 2 * value for size, value in values.items()}) for name, values in series.items()}
        sides.insert(0, Measured(name="before", commit="old1234", series=twice, failures={"files of a run": "the disk is full"}))
    return GrowthReport(
        quick=quick,
        command="lobe bench growth",
        sizes={"--limit": "200, 800, 3,200"},
        sides=tuple(sides),
        difference=difference,
        compared=7,
        seconds=90.0,
        machine={"processor": "abacus", "commit": "new1234"},
        finished_at="then",
    )


# ------------------------------------------------------------------------------------------------------------------ exponents


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 1.05, 2.0])
def test_a_power_of_the_size_is_its_exponent(power: float):
    found = growth_of(points({size: 3 * size**power for size in (200, 800, 3200)}))
    assert found is not None
    assert (found.fitted, found.last) == (pytest.approx(power), pytest.approx(power))


def test_points_off_the_line_are_fitted_by_least_squares():
    # log2 of value over log2 of size: (0, 0), (1, 2), (2, 1): slope 1/2.
    assert exponent(points({1: 1.0, 2: 4.0, 4: 2.0})) == pytest.approx(0.5)


def test_what_is_fixed_weighs_least_in_the_last_step_which_is_held_to_the_target():
    found = growth_of(points({size: 100 + size**1.2 for size in (10, 100, 1000)}))
    assert found is not None
    assert found.fitted < 0.8 < found.last < 1.2
    assert found.worst == found.last


def test_one_size_or_a_zero_has_no_exponent():
    assert growth_of(points({200: 1.0})) is None
    assert growth_of(()) is None
    assert growth_of(points({200: 0.0, 800: 1.0})) is None


# -------------------------------------------------------------------------------------------------------------------- targets


def test_a_target_is_reached_missed_or_not_measured():
    features = next(target for target in TARGETS if target.series == "yolo_features_s")
    assert verdict(features, report(yolo_features_s={800: 9.0, 3200: 3.0})) == "reached"
    assert verdict(features, report(yolo_features_s={3200: 3.01})) == "not reached"
    assert verdict(features, report(yolo_features_s={800: 1.0})) == "not measured"
    assert verdict(features, report(quick=True, yolo_features_s={3200: 1.0})) == "not measured"


def test_an_exponent_counts_where_its_largest_size_was_measured():
    target = next(target for target in TARGETS if (target.series, target.of) == ("report_s", "growth"))
    assert verdict(target, report(report_s={1000: 1.0, 4000: 4.0})) == "reached"
    assert verdict(target, report(report_s={1000: 1.0, 4000: 4.4})) == "not reached"
    assert verdict(target, report(report_s={10: 1.0, 40: 4.0})) == "not measured"


def test_every_target_is_of_something_that_is_measured():
    assert {target.series for target in TARGETS} <= SERIES.keys()
    assert len({target.what for target in TARGETS}) == len(TARGETS)


# ----------------------------------------------------------------------------------------------------------------------- page


def test_the_page_says_what_was_not_reached_and_what_was_not_measured():
    given = report(yolo_features_s={3200: 4.0}, report_s={1000: 2.0, 4000: 20.0})
    text = growth_page.markdown(given)
    assert "| features of the YOLOv3 task at 3,200, after the linear one | 8 s | 4 s | ≤ 3 s | not reached |" in text
    assert "| `lobe report` again, 1,000 records, nothing new | 4 s | 2 s | ≤ 3 s | reached |" in text
    missed = text.split("## What was not reached")[1].split("\n## ")[0]
    assert "- features of the YOLOv3 task at 3,200, after the linear one: 4 s, target ≤ 3 s." in missed
    assert "- exponent of time, `lobe report` again, nothing new: 1.66, target ≤ 1.05." in missed
    assert "- planning 377,110 images: not measured at 377,110." in missed
    assert "- Failed on before (`old1234`): files of a run: the disk is full" in missed
    assert "1,000 records" not in missed


def test_the_page_names_command_commits_and_machine_and_what_cost_is_per_record():
    text = growth_page.markdown(report(report_s={1000: 2.0, 4000: 20.0}))
    assert "`lobe bench growth`, --limit 200, 800, 3,200. Took 2 min. Measured then on:\nprocessor abacus, commit new1234." in text
    row = "| `lobe report` again, nothing new | record | now (`new1234`) | 2 s (2 ms) | 20 s (5 ms) | 1.66 | 1.66 |"
    assert row in text
    assert "The two commits agree: of 7 metrics" in text
    assert "The two commits **differ**" in growth_page.markdown(report(difference=0.1))
    assert "were not compared" in growth_page.markdown(report(difference=None, before=False))


def test_all_targets_reached_is_said_in_one_line():
    within = {target.series: dict.fromkeys((200, 3200), target.most) for target in TARGETS if target.of == "value"}
    within |= {"report_s": {1000: 3.0, 4000: 3.0}, "resume_s": {1000: 3.0, 4000: 3.0}, "list_s": {23_569: 15.0, 377_110: 60.0}}
    within |= {"linear_s": {200: 1.0, 3200: 9.0}, "yolo_s": {200: 1.0, 3200: 9.0}, "list_memory": {377_110: 4000.0}}
    reached = report(before=False, **within)
    assert growth_page.not_reached(reached) == ["Nothing: every target was reached."]


@pytest.mark.parametrize("given", [None, report(quick=True, yolo_features_s={3200: 1.0})])
def test_without_a_measurement_the_page_lists_every_target_as_not_measured(given: GrowthReport | None):
    text = growth_page.markdown(given)
    assert text.count("| not measured |") == len(TARGETS)
    assert "abacus" not in text
    assert "reached |" not in text


def test_the_page_in_the_documents_lists_every_target():
    text = (Path(__file__).resolve().parents[2] / "docs" / "growth.md").read_text(encoding="utf-8")
    assert [target.what for target in TARGETS if f"| {target.what} |" not in text] == []


def test_a_picture_on_two_logarithmic_axes_lies_beside_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **how: drawn.append(self) or Path(file).write_bytes(b"picture"))
    growth_page.write_page(report(report_s={1000: 2.0, 4000: 20.0}), tmp_path / "page.md")
    assert "(page.png)" in (tmp_path / "page.md").read_text()
    assert (tmp_path / "page.png").read_bytes() == b"picture"
    assert [(axes.get_xscale(), axes.get_yscale()) for axes in drawn[0].axes if axes.lines] == [("log", "log")]
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["not measured"]
    lines = {tuple(line.get_ydata()) for line in drawn[0].axes[3].lines}
    assert {(2.0, 20.0), (4.0, 40.0)} <= lines
    growth_page.write_page(report(quick=True), tmp_path / "quick.md")
    assert not (tmp_path / "quick.png").exists()


# ---------------------------------------------------------------------------------------------------------------------- sides


def checkout(folder: Path, body: str) -> Path:
    """A package that has what a side's process needs, and a command that does `body`."""
    package = folder / "benchmark"
    package.mkdir(parents=True)
    for name, text in (("__init__", ""), ("cli", f"def main():\n    {body}\n"), ("machine", "def peak_memory_bytes():\n    return 7\n")):
        (package / f"{name}.py").write_text(text)
    return folder


def nothing() -> None:
    return None


def test_a_side_runs_the_package_of_its_own_checkout_in_a_fresh_process(tmp_path: Path):
    told = tmp_path / "told"
    body = f"import os, sys; open({str(told)!r}, 'w').write(f'{{os.getpid()}} {{sys.argv}}'); sys.exit(0)"
    side = Side("before", "old1234", checkout(tmp_path / "tree", body), tmp_path / "work")
    found = side.call("command", {"words": ["run", "--dry-run"], "steps": None}, nothing)
    assert found["peak_bytes"] == 7
    assert found["seconds"] > 0
    assert told.read_text().endswith("['lobe', 'run', '--dry-run']")


def test_a_process_that_fails_says_its_last_words(tmp_path: Path):
    side = Side("now", "new1234", checkout(tmp_path / "tree", "import sys; print('no room'); sys.exit(2)"), tmp_path / "work")
    with pytest.raises(StepFailed, match=r"`command` on new1234 ended with 2: no room"):
        side.call("command", {"words": [], "steps": None}, nothing)


def test_a_process_that_imports_another_checkout_is_no_measurement(tmp_path: Path):
    tree = checkout(tmp_path / "tree", "import sys; sys.exit(0)")
    (tree / "benchmark" / "__init__.py").write_text("__file__ = '/elsewhere/benchmark/__init__.py'\n")
    with pytest.raises(EnvironmentProblem, match="/elsewhere"):
        Side("now", "new1234", tree, tmp_path / "work").call("command", {"words": [], "steps": None}, nothing)


def test_a_commit_is_unpacked_beside_the_checkout(tmp_path: Path):
    repository = tmp_path / "repository"
    git = ["git", "-C", str(repository), "-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    for number in (1, 2):
        (repository / "file").write_text(f"{number}")
        subprocess.run([*git, "add", "file"], check=True)
        subprocess.run([*git, "commit", "-qm", f"{number}"], check=True)
    root = tmp_path / "beside" / "commit"
    unpack(named("HEAD~1", repository), root, repository)
    assert (root / "file").read_text() == "1"
    assert (repository / "file").read_text() == "2"
    unpack(named("HEAD", repository), root, repository)
    assert (root / "file").read_text() == "1"  # it is there
    with pytest.raises(UsageError, match="--against nonsense"):
        named("nonsense", repository)


# ------------------------------------------------------------------------------------------------------------------ miniature


class Here(Side):
    """A side that works in this process: its times and its memory mean nothing."""

    called: ClassVar[list[str]] = []

    def call(self, what: str, given: Mapping[str, Any], tick: Callable[[], None]) -> dict[str, Any]:
        tick()
        self.called.append(what)
        return {**growth_child.WORK[what](given), "seconds": 1.0, "peak_bytes": 1}


MINIATURE = growth_sizes.Sizes(
    (8,), (10, 20), (50, 100), {"linear": 2, "yolov3": 1}, {"linear": 2, "yolov3": 1}, boxes=20, boxes_of_a_record=3
)


def asked(sides: list[Side], commit: str | None = None) -> Asked:
    commits = tuple(commit or side.commit for side in sides)
    return Asked(quick=True, commits=commits, sizes={"--limit": "8"}, data="data", machine={"processor": "abacus"})


def in_this_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LOBE_SPOOL", str(folder / "spool"))
    monkeypatch.setattr(growth_child, "REPEATS", 1)
    monkeypatch.setattr(growth_steps, "REPEATS", 1)
    Here.called.clear()
    return Here("now", "new1234", folder, folder / "work" / "now")


@pytest.mark.usefixtures("small_frames")
def test_a_task_its_records_and_a_list_in_a_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    here, whole = in_this_process(tmp_path, monkeypatch), growth_steps.Bench.steps

    def some(self: growth_steps.Bench):
        yield from (step for step in whole(self) if not step.name.endswith((growth_steps.BUDGET, "in memory", "together")))

    monkeypatch.setattr(growth_steps.Bench, "steps", some)
    sizes = replace(MINIATURE, records=(10,), lists=(50,))
    progress = enter(tmp_path / "work", asked([here]))
    (side,) = growth.measure([here], sizes, tmp_path / "data", quick=True, progress=progress, work=tmp_path / "work").sides
    capsys.readouterr()
    assert side.failures == {}
    assert {name.partition("_")[0] for name in SERIES.keys() - side.series.keys()} == {"budget", "floor", "pass"}
    assert [(p.size, p.x) for p in side.series["report_s"]] == [(10, 10)]
    (files,) = side.series["files_bytes"]
    assert files.x == 20 * side.series["yolo_bytes"][0].x  # boxes, of as many test images


@pytest.mark.slow
@pytest.mark.usefixtures("small_frames")
def test_every_step_in_a_miniature_of_two_sittings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(growth_steps, "N_TOGETHER", 1)
    monkeypatch.setattr(growth_steps, "TOGETHER", (growth_steps.YOLO, growth_steps.LINEAR))
    shown: list[tuple[int, int]] = []
    kept: list[GrowthReport] = []
    sides, called = [in_this_process(tmp_path, monkeypatch)], Here.called

    def sitting(keep: Callable[[GrowthReport], None]) -> GrowthReport:
        progress = enter(tmp_path / "work", asked(sides))
        return growth.measure(
            sides,
            MINIATURE,
            tmp_path / "data",
            quick=True,
            show=lambda done, total: shown.append((done, total)),
            keep=keep,
            progress=progress,
            work=tmp_path / "work",
        )

    def stop_after_the_budget(report: GrowthReport) -> None:
        kept.append(report)
        if "budget_memory" in report.sides[0].series:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sitting(stop_after_the_budget)
    before = list(called)
    shown.clear()
    # The step that would have been next was begun: what it left must not help it.
    left = tmp_path / "work" / "now" / "together-8"
    left.mkdir()
    found = sitting(kept.append)
    assert before == ["command"] * 3
    assert called[3:].count("floor") == called.count("floor") == 1
    assert called.count("command") == 3 + 2 + 2 * (1 + 1 + 1) + 2
    assert (found.sittings, found.seconds >= kept[2].seconds) == (2, True)
    (side,) = found.sides
    assert side.failures == {}
    assert side.series.keys() == SERIES.keys()
    assert {tuple(p.size for p in side.series[name]) for name in ("report_s", "resume_s", "report_memory")} == {(10, 20)}
    assert [p.size for p in side.series["list_s"]] == [50, 100]
    assert side.series["budget_difference"][0].value == 0
    (files,) = side.series["files_bytes"]
    assert files.x == 20 * side.series["yolo_bytes"][0].x  # boxes, of as many test images
    assert files.value > 0
    assert side.series["floor_pass_s"][0].value > 0
    assert [done for done, _ in shown] == sorted(done for done, _ in shown)
    assert shown[-1][0] == shown[-1][1]
    assert kept[-1].sides == found.sides
    assert growth_page.table(found).row_count == len(TARGETS)
    capsys.readouterr()


def test_the_commit_before_is_measured_at_the_ends_and_the_present_one_everywhere(tmp_path: Path):
    sides = [Side(name, name, tmp_path, tmp_path / name) for name in ("before", "now")]
    steps = list(growth_steps.Bench(sides, growth_sizes.FULL, tmp_path).steps())
    before, now = ([step.name for step in steps if step.side is side] for side in sides)
    assert set(before) < set(now)
    alone = {
        "YOLOv3 task at 800",
        "YOLOv3 task at 3,200 with 1GB",
        "one pass, and heads in memory",
        "4,000 records",
        "plan of a list of 94,277",
    }
    assert set(now) - set(before) == alone


def test_a_bench_of_other_commits_begins_anew(tmp_path: Path):
    sides = [Side("now", "new1234", tmp_path, tmp_path / "work" / "now")]
    enter(tmp_path / "work", asked(sides)).model_copy(update={"done": ("everything",), "seconds": 9.0}).keep(tmp_path / "work")
    again = enter(tmp_path / "work", asked(sides))
    assert (again.done, again.seconds, again.sittings) == (("everything",), 9.0, 2)
    assert enter(tmp_path / "work", asked(sides, "new1235")) == Progress(asked=asked(sides, "new1235"), sittings=1)
    assert list((tmp_path / "work").iterdir()) == []


def test_a_step_that_fails_leaves_its_rows_empty_and_its_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(growth_data, "rsna", lambda folder, limit, progress: folder)
    monkeypatch.setattr(growth_data, "mimic_list", lambda folder, n_images: folder)
    monkeypatch.setattr(growth_steps.Bench, "_weights", lambda self: "none")

    class Failing(Side):
        def call(self, what: str, given: Mapping[str, Any], tick: Callable[[], None]) -> dict[str, Any]:
            if what == "files":
                return {"write_s": 2.0, "bytes": 3_000_000, "boxes": 30, "peak_bytes": 5_000_000}
            raise StepFailed(f"{self.work}/out broke")

    sides = [Failing(name, name, tmp_path, tmp_path / name) for name in ("before", "now")]
    found = growth.measure(sides, MINIATURE, tmp_path, quick=False)
    assert [side.series.keys() for side in found.sides] == [{"files_s", "files_bytes", "files_memory"}] * 2
    assert found.sides[1].failures["linear task at 8"] == "now/out broke"
    assert (found.difference, found.compared) == (None, 0)
    assert "- Failed on now (`now`): 20 records: now/out broke" in growth_page.not_reached(found)


# -------------------------------------------------------------------------------------------------------------------- command


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--sizes", "800,200", "rising whole numbers"),
        ("--sizes", "many", "rising whole numbers"),
        ("--records", "15", "a multiple of that"),
        ("--lists", "5", "at least 50"),
        ("--against", "no-such-commit", "knows no such commit"),
    ],
)
def test_options_that_make_no_sense_are_named(lobe, tmp_path: Path, option: str, value: str, told: str):
    code, _, printed = lobe("bench", "growth", "--out", tmp_path, option, value)
    assert code == 2
    assert told in " ".join(printed.split())
    assert value in printed


def test_options_of_growth_are_refused_elsewhere(lobe, tmp_path: Path):
    code, _, printed = lobe("bench", "metrics", "--out", tmp_path, "--against", "HEAD")
    assert code == 2
    assert "only `lobe bench growth` takes it" in " ".join(printed.split())


def test_the_command_writes_report_page_and_table(lobe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: dict[str, Any] = {}

    def measured(sides: list[Side], sizes: growth_sizes.Sizes, folder: Path, *, command: str, keep: Callable, **more: Any) -> GrowthReport:
        asked.update(sides=[side.name for side in sides], sizes=sizes, folder=folder, command=command)
        keep(report(before=False))
        return report(before=False, yolo_features_s={3200: 4.0})

    monkeypatch.setattr(growth, "measure", measured)
    page, made = tmp_path / "page.md", tmp_path / "made"
    code, printed, _ = lobe("bench", "growth", "--out", tmp_path, "--sizes", "16,64", "--against", "none", "--page", page, "--made", made)
    assert code == 0
    assert "not reached" in printed
    assert (asked["sides"], asked["folder"]) == (["now"], made)
    assert (asked["sizes"].images, asked["sizes"].records) == ((16, 64), growth_sizes.FULL.records)
    assert asked["command"] == "lobe bench growth --against none --sizes 16,64"
    assert GrowthReport.model_validate_json((tmp_path / "growth.json").read_bytes()).sides[0].at("yolo_features_s", 3200) is not None
    assert "not reached" in page.read_text()
    assert bench.GROWTH not in bench.NAMES  # `all` does not start it
