"""What a terminal is shown: jobs by state, GPUs, time left; a line a job where lines are all there is; nothing when asked for nothing."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from benchmark.cards import Epoch
from benchmark.errors import TrainingError
from benchmark.events import Decoded, Encoded, EpochEnded, Finished, Hashing, Noticed, Started
from benchmark.execute import nodes
from benchmark.execute.equipment import Equipment
from benchmark.execute.nodes import GpuUse
from benchmark.execute.placing import Node
from benchmark.execute.work import units
from benchmark.progress import HashingLine, Live, bar, duration, hashing_line
from benchmark.training.record import failed, not_needed

LINEAR = "rsna-linear-frozen-100"
HERE = Equipment("cpu", (Node("here", 2),), "this machine")
LINE = Epoch(epoch=0, step=3, train_loss=0.5, validation_loss=0.5, learning_rate=0.1, metrics={})


@pytest.fixture
def planned(small, tiny):
    jobs, places = small.plan(LINEAR, [tiny()], runs=2)
    todo = units(jobs, places)
    plan = {"jobs": jobs, "todo": todo, "done": {}, "n_todo": 2, "adopted": 0, "equipment": HERE}
    return SimpleNamespace(**plan, warnings=("rsna: 2 images [odd] are left out",))


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, force_terminal=terminal, width=160, highlight=False), text


def events(planned):
    first, second = planned.jobs
    unit = planned.todo[0]
    lost = failed(second, unit.inputs, unit.options, RuntimeError("a [bold] reason"))
    done = lost.model_copy(update={"key": first.key, "job": first, "status": "ok", "failure": None, "metrics": {"opacity_dice": 0.164}})
    return [
        Started(first.key),
        Decoded((first.key,), 5, 35),
        EpochEnded(first.key, LINE),
        Finished(done),
        Started(second.key),
        EpochEnded(second.key, LINE),
        Finished(lost),
        *[Noticed("Node [abcd] is not used: torch is 1.0 there.")] * 2,
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_what_will_happen_is_said_once_and_a_failure_keeps_its_sentence(planned, terminal):
    screen, text = console(terminal=terminal)
    with Live(screen) as live:
        live.planned(planned)
        for event in events(planned):
            live.event(event)
    shown = text.getvalue()
    assert "Planned for cpu, float32: 2 cores on this machine." in shown.splitlines()[0]
    assert shown.count("2 jobs, 0 already stored, 2 to compute.") == 1
    assert "2 images [odd] are left out" in shown
    assert "a [bold] reason" in shown
    assert shown.count("Node [abcd] is not used: torch is 1.0 there.") == 1


@pytest.mark.parametrize(("event", "what"), [(Decoded, "images"), (Encoded, "features")])
def test_a_running_job_says_what_it_prepares_and_how_far_it_is(planned, event, what):
    screen, _ = console(terminal=True)
    shown = Live(screen)
    shown.planned(planned)
    key = planned.jobs[0].key
    shown.event(Started(key))
    shown.event(event((key,), 16, 35))
    (line,) = shown.running.tasks
    assert line.description.endswith(f"· {what}")
    assert (line.completed, line.total) == (16, 35)


def test_without_a_terminal_every_job_is_one_line_with_its_value(planned):
    screen, text = console(terminal=False)
    with Live(screen) as live:
        live.planned(planned)
        for event in events(planned):
            live.event(event)
    lines = [line for line in text.getvalue().splitlines() if line.startswith("[")]
    assert [line[:5] for line in lines] == ["[1/2]", "[2/2]"]
    assert f"{LINEAR} · tiny · run 1" in lines[0]
    assert "opacity box-mask Dice 16.4" in lines[0]
    assert "failed: RuntimeError: a [bold] reason" in lines[1]


def test_a_search_says_at_which_rate_and_that_a_rate_which_cannot_win_is_no_failure(small, tiny):
    card, own = {"protocols": ("lobe",)}, {"normalised_by": "dataset"}
    jobs, places = small.plan(LINEAR, [tiny()], card=card, data=own)
    todo = units(jobs, places)
    tried, beyond = jobs[-4], jobs[-3]  # behind them one more beyond the grid, and the reported run
    lost = failed(tried, todo[0].inputs, todo[0].options, TrainingError("The loss is not finite."))
    skipped = not_needed(beyond, todo[0].inputs, todo[0].options, "the winner lies inside")
    plan = {"jobs": jobs, "todo": todo, "done": {}, "n_todo": len(jobs), "adopted": 0, "equipment": HERE, "warnings": ()}
    screen, text = console(terminal=False)
    with Live(screen) as live:
        live.planned(SimpleNamespace(**plan))
        for record in (lost, skipped):
            live.event(Finished(record))
        assert (live.n_done, live.n_failed) == (2, 0)
    first, second = (line for line in text.getvalue().splitlines() if line.startswith("["))
    assert f"{LINEAR} · tiny · search at rate 1, run 2: failed: The loss is not finite." in first
    assert f"{LINEAR} · tiny · search beyond the grid, run 1: not needed, the winner lies inside" in second


def test_a_terminal_shows_the_running_job_with_its_epoch_and_loss(planned):
    screen, text = console(terminal=True)
    with Live(screen) as live:
        live.planned(planned)
        for event in events(planned)[:3]:
            live.event(event)
        assert [task.description for task in live.running.tasks] == [f"{LINEAR} · tiny · run 1 · epoch 1, loss 0.500"]
        live.event(events(planned)[3])
        assert live.whole.tasks[0].completed == 1
        assert not live.running.tasks
    assert text.getvalue()


def test_jobs_are_counted_by_state_and_a_job_that_starts_again_is_one_job(planned):
    screen, _ = console(terminal=True)
    first = planned.jobs[0]
    with Live(screen) as live:
        live.planned(planned)
        assert live.states() == "0 done · 0 running · 2 waiting"
        for _ in range(2):  # its process was lost
            live.event(Started(first.key))
        assert live.states() == "0 done · 1 running · 1 waiting"
        for event in events(planned)[2:]:
            live.event(event)
        assert live.states().startswith("1 done · 1 failed · 0 running · 0 waiting")


def test_the_time_left_follows_what_jobs_are_expected_to_take(planned, monkeypatch):
    screen, _ = console(terminal=True)
    first, second = planned.jobs
    clock = [100.0]
    monkeypatch.setattr("benchmark.progress.time.monotonic", lambda: clock[0])
    live = Live(screen)
    live.planned(planned)
    live.weights = {first.key: 10.0, second.key: 30.0}
    assert live.left_s() is None
    clock[0] += 20.0
    live.event(Started(first.key))
    live.event(EpochEnded(first.key, LINE))  # 3 of 4 steps
    assert live.left_s() == pytest.approx(20 * 32.5 / 7.5)
    live.event(events(planned)[3])
    assert live.left_s() == pytest.approx(20 * 30 / 10)
    assert live.states().endswith("about 60 s left")


def test_a_job_that_was_not_announced_is_called_by_its_key(planned):
    screen, text = console(terminal=False)
    with Live(screen) as live:
        live.event(events(planned)[3])
    assert planned.jobs[0].key in text.getvalue()


def test_many_running_jobs_show_as_a_few_lines_and_a_number(small, tiny):
    jobs, places = small.plan(LINEAR, [tiny()], runs=11)
    plan = {"jobs": jobs, "todo": units(jobs, places), "done": {}, "n_todo": len(jobs), "adopted": 0, "equipment": HERE}
    planned = SimpleNamespace(**plan, warnings=())
    screen, text = console(terminal=True)
    live = Live(screen)
    live.planned(planned)
    for job in jobs:
        live.event(Started(job.key))
    screen.print(live.picture())
    assert text.getvalue().count("· run ") == 8
    assert "… and 3 more" in text.getvalue()


def test_gpus_of_this_machine_are_shown_where_there_are_some(planned):
    screen, text = console(terminal=True)
    asked = []

    def gpus() -> tuple[GpuUse, ...]:
        asked.append(1)
        live._ended.set()  # one look is enough here
        return (GpuUse(0, 0.87, 12 * 2**30, 80 * 2**30),)

    live = Live(screen, gpus=gpus)
    live.planned(planned)
    live._watch_gpus()
    screen.print(live.picture())
    assert "GPU 0 █████████░  87 % busy, 12.0 of 80.0 GiB" in text.getvalue()
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        ("0, 87, 12288, 81920\n1, 0, 3, 81920\n", [(0, 0.87, 12288 * 2**20, 81920 * 2**20), (1, 0.0, 3 * 2**20, 81920 * 2**20)]),
        ("0, [N/A], 12288, 81920\n", [(0, 0.0, 12288 * 2**20, 81920 * 2**20)]),
        ("", []),
    ],
)
def test_gpu_use_is_read_from_the_drivers_own_program(monkeypatch, said, seen):
    monkeypatch.setattr(nodes.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=said))
    assert nodes.gpu_use() == tuple(GpuUse(*values) for values in seen)
    assert nodes.gpus_here() == (len(seen), min((total for *_, total in seen), default=0))


@pytest.mark.parametrize(("seconds", "text"), [(3.4, "3 s"), (600, "10 min"), (7200, "2.0 h")])
def test_durations_are_in_the_unit_a_person_would_use(seconds, text):
    assert duration(seconds) == text


def test_quiet_shows_nothing_at_all(planned):
    for terminal in (False, True):
        screen, text = console(terminal=terminal)
        with Live(screen, quiet=True) as live:
            live.planned(planned)
            for event in events(planned):
                live.event(event)
        with bar(screen, "images", quiet=True) as step:
            step(1, 2)
        assert text.getvalue() == ""


def test_a_bar_without_a_terminal_ends_with_a_plain_line():
    screen, text = console(terminal=False)
    with bar(screen, "rsna images") as step:
        for done in range(1, 4):
            step(done, 3)
    assert text.getvalue().splitlines()[-1] == "rsna images: 3 of 3"


def test_a_bar_on_a_terminal_counts():
    screen, text = console(terminal=True)
    with bar(screen, "rsna images") as step:
        step(3, 3)
    assert "rsna images" in text.getvalue()
    assert "3/3" in text.getvalue()


def test_a_narrow_terminal_shows_words_and_numbers_whole_and_no_bar():
    text = io.StringIO()
    with bar(Console(file=text, force_terminal=True, width=40, height=25), "rsna-linear-frozen-demo · resnet18 (random) · run 1") as step:
        step(1234, 5678)
    drawn = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.getvalue()).splitlines()]
    assert max(map(len, drawn)) <= 40
    assert any("1234/5678" in line for line in drawn)
    assert "rsna-linear-frozen-demo" in text.getvalue()
    assert "━" not in text.getvalue()


# ----------------------------------------------------------------------------------------------------------------- hashing


def reading(done: float, total: float = 3.9) -> Hashing:
    return Hashing("rsna", int(done * 1e9), int(total * 1e9))


def test_hashing_says_its_rate_and_the_time_left():
    assert hashing_line(reading(1.3), 4.0) == "rsna: 1.3 GB of 3.9 GB of images hashed, 325 MB/s, about 8 s left"
    assert hashing_line(reading(3.9), 12.0) == "rsna: 3.9 GB of 3.9 GB of images hashed, 325 MB/s"
    assert "left" not in hashing_line(reading(0), 0.0)


def test_without_a_terminal_hashing_is_a_line_now_and_then_and_a_blink_is_none():
    screen, text = console(terminal=False)
    now = [0.0]
    line = HashingLine(screen, clock=lambda: now[0])
    for seconds, done in ((0, 0), (0.5, 3.9)):
        now[0] = seconds
        line.event(reading(done))
    assert text.getvalue() == ""
    for seconds, done in ((100, 0), (100.5, 0.1), (101, 0.2), (105, 1), (111, 2), (112, 3.9)):
        now[0] = seconds
        line.event(Hashing("siim", int(done * 1e9), int(3.9e9)))
    assert [row.split(" of ")[0] for row in text.getvalue().splitlines()] == ["siim: 200.0 MB", "siim: 2.0 GB", "siim: 3.9 GB"]


def test_on_a_terminal_hashing_is_a_bar_that_goes(planned):
    screen, _ = console(terminal=True)
    with Live(screen) as live:
        live.event(reading(1.3))
        assert live.picture() is live.hashing.progress
        live.event(reading(3.9))
        live.planned(planned)
        assert live.picture() is not live.hashing.progress


def test_results_of_an_earlier_release_are_said(planned):
    screen, text = console(terminal=False)
    planned.adopted = 3
    with Live(screen) as live:
        live.planned(planned)
    assert "3 results of an earlier release taken over" in text.getvalue()
