"""Work shared between processes: in order, as one process would do it, and of scripts that guard against nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmark import processes, registry

SCRIPT = """
from benchmark import processes
processes.LEAST, processes.usable_cores = 1, lambda: 2
print(list(processes.each(len, ["a", "bb", "ccc"])))
"""


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LEAST", 1)
    monkeypatch.setattr(processes, "usable_cores", lambda: 2)


def folders_and_process(_: int) -> tuple[tuple[Path, ...], int]:
    return registry.included(), os.getpid()


def test_few_things_are_done_here() -> None:
    assert [pid for _, pid in processes.each(folders_and_process, range(processes.LEAST))] == [os.getpid()] * processes.LEAST


def test_results_come_in_order(two: None) -> None:
    assert list(processes.each(str, range(40))) == [str(n) for n in range(40)]


def test_processes_have_the_folders_that_were_included(two: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_included", [])
    registry.include(tmp_path)
    found = list(processes.each(folders_and_process, range(4)))
    assert {folders for folders, _ in found} == {(tmp_path.resolve(),)}
    assert os.getpid() not in {pid for _, pid in found}


def test_what_takes_long_says_how_far_it_is_and_the_rest_says_nothing(two: None, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, int]] = []

    @contextmanager
    def show(title: str):
        yield lambda done, of: told.append((title, done, of))

    assert len(list(processes.each(str, range(3), "counting", show))) == 3
    assert told == [("counting", 1, 3), ("counting", 2, 3), ("counting", 3, 3)]
    monkeypatch.setattr(processes, "LEAST", 4)
    assert len(list(processes.each(str, range(3), "counting", show))) == 3
    assert len(told) == 3


def test_what_the_work_raises_is_raised_here(two: None) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        list(processes.each(int, ["1", "one"]))


def lost_unless_at_home(given: tuple[int, int]) -> int:
    home, number = given
    if number == 30 and os.getpid() != home:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_what_a_lost_process_leaves_is_done_here(two: None) -> None:
    assert list(processes.each(lost_unless_at_home, [(os.getpid(), n) for n in range(60)])) == list(range(60))


def test_a_script_that_does_not_guard_its_main_part_is_run_once(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["[1, 2, 3]"])
