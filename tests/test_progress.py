"""What a terminal is shown: one line a job where lines are all there is, one bar where there is more, nothing when asked for nothing."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from benchmark.cards import Epoch
from benchmark.execute.work import Decoding, EpochEnded, Finished, Started, failed, units
from benchmark.progress import Live, bar

LINEAR = "rsna-linear-frozen-100"
LINE = Epoch(epoch=0, step=3, train_loss=0.5, validation_loss=0.5, learning_rate=0.1, metrics={})


@pytest.fixture
def planned(small, tiny):
    jobs, places = small.plan(LINEAR, [tiny()], runs=2)
    todo = units(jobs, places)
    return SimpleNamespace(jobs=jobs, todo=todo, done={}, n_todo=2, warnings=("rsna: 2 images [odd] are left out",))


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, force_terminal=terminal, width=160, highlight=False), text


def events(planned):
    first, second = planned.jobs
    place = planned.todo[0].place
    lost = failed(second, place, RuntimeError("a [bold] reason"))
    done = lost.model_copy(update={"key": first.key, "job": first, "status": "ok", "failure": None, "metrics": {"opacity_dice": 0.164}})
    unit = planned.todo[0].name
    return [
        Started(first.key),
        Decoding(unit, 5, 35),
        EpochEnded(first.key, LINE),
        Finished(done),
        Started(second.key),
        EpochEnded(second.key, LINE),
        Finished(lost),
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_what_will_happen_is_said_once_and_a_failure_keeps_its_sentence(planned, terminal):
    screen, text = console(terminal=terminal)
    with Live(screen) as live:
        live.planned(planned)
        for event in events(planned):
            live.event(event)
    shown = text.getvalue()
    assert shown.count("2 jobs, 0 already stored, 2 to compute.") == 1
    assert "2 images [odd] are left out" in shown
    assert "a [bold] reason" in shown


def test_without_a_terminal_every_job_is_one_line_with_its_value(planned):
    screen, text = console(terminal=False)
    with Live(screen) as live:
        live.planned(planned)
        for event in events(planned):
            live.event(event)
    lines = [line for line in text.getvalue().splitlines() if line.startswith("[")]
    assert [line[:5] for line in lines] == ["[1/2]", "[2/2]"]
    assert f"{LINEAR} · tiny · run 1" in lines[0]
    assert "opacity Dice 16.4 %" in lines[0]
    assert "failed: RuntimeError: a [bold] reason" in lines[1]


def test_a_terminal_shows_the_running_job_with_its_epoch_and_loss(planned):
    screen, text = console(terminal=True)
    with Live(screen) as live:
        live.planned(planned)
        for event in events(planned)[:3]:
            live.event(event)
        assert [task.description for task in live.progress.tasks if "epoch" in task.description] == [
            f"{LINEAR} · tiny · run 1 · epoch 1, loss 0.500"
        ]
        live.event(events(planned)[3])
        assert live.progress.tasks[0].completed == 1
        assert len(live.progress.tasks) == 1
    assert text.getvalue()


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
