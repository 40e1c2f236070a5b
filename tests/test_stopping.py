"""Ctrl-C and SIGTERM end the command with the sentence and 1, at any time and through any handler that swallows them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark import stopping

LISTING = ["list", "suites"]
RUN = "import sys; sys.argv[:] = ['lobe', *sys.argv[1:]]; from benchmark.__main__ import main; main()"

# Raises the signal when a module is first asked for; what its import then raises may be another error, or none.
AT_IMPORT = """
import signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            try:
                signal.raise_signal(signal.{how})
            except KeyboardInterrupt:
                {then}
sys.meta_path.insert(0, Finder())
"""


def outcome(code: str, *arguments: str) -> tuple[int, str, str]:
    ended = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120, check=False)
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize("then", ["raise", "raise ImportError('in its place') from None", "pass"])
@pytest.mark.parametrize(("module", "how"), [("benchmark.cli", "SIGTERM"), ("pydantic", "SIGINT"), ("benchmark.registry", "SIGTERM")])
def test_a_signal_while_the_command_is_imported_is_the_sentence_and_1(module: str, how: str, then: str) -> None:
    listens_to_ctrl_c = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code = listens_to_ctrl_c + AT_IMPORT.format(module=module, how=how, then=then) + RUN
    assert outcome(code, *LISTING) == (1, "", stopping.SENTENCE + "\n")


def test_a_signal_that_a_destructor_swallows_is_raised_again() -> None:
    waits = (
        "import signal, time, benchmark.registry\n"
        "class Swallows:\n"
        "    def __del__(self): signal.raise_signal(signal.SIGTERM)\n"
        "def suites():\n"
        "    Swallows()\n"
        "    signal.pause()\n"
        "    raise AssertionError('went on')\n"
        "benchmark.registry.suites = suites\n"
    )
    assert outcome(waits + RUN, *LISTING) == (1, "", stopping.SENTENCE + "\n")


def test_an_error_that_takes_the_place_of_an_interrupt_is_the_sentence() -> None:
    breaks = (
        "import signal, benchmark.registry\n"
        "def suites():\n"
        "    try: signal.raise_signal(signal.SIGTERM)\n"
        "    except KeyboardInterrupt: raise RuntimeError('C code puts its own') from None\n"
        "benchmark.registry.suites = suites\n"
    )
    assert outcome(breaks + RUN, *LISTING) == (1, "", stopping.SENTENCE + "\n")


def test_without_a_signal_an_error_is_a_bug_with_its_traceback_and_a_destructor_complains_as_ever() -> None:
    breaks = (
        "import benchmark.registry\n"
        "class Complains:\n"
        "    def __del__(self): raise KeyError('in a destructor')\n"
        "def suites():\n"
        "    Complains()\n"
        "    raise RuntimeError('a bug')\n"
        "benchmark.registry.suites = suites\n"
    )
    code, _, err = outcome(breaks + RUN, *LISTING)
    assert (code, "RuntimeError: a bug" in err, "KeyError: 'in a destructor'" in err, "Stopped" in err) == (1, True, True, False)


def test_an_import_that_fails_without_a_signal_keeps_its_error() -> None:
    broken = "import sys; sys.modules['benchmark.cli'] = None\n"
    code, text, err = outcome(broken + RUN, *LISTING)
    assert (code, text) == (1, "")
    assert "ModuleNotFoundError" in err
    assert stopping.SENTENCE not in err


def test_a_signal_after_the_last_line_leaves_the_exit_code() -> None:
    late = "import atexit, signal; atexit.register(signal.raise_signal, signal.SIGTERM)\n"
    code, text, err = outcome(late + RUN, *LISTING)
    assert (code, bool(text), err) == (0, True, "")


def test_python_m_benchmark_is_the_command() -> None:
    ended = subprocess.run([sys.executable, "-m", "benchmark", *LISTING, "--json"], capture_output=True, text=True, timeout=60, check=True)
    assert '"lovt-18"' in ended.stdout


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to see when signals are heard")
@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.2, 1.0])
def test_sampling_ends_with_the_sentence_from_the_moment_signals_are_heard(tmp_path: Path, delay_s: float) -> None:
    """Nothing is asserted on time: each delay meets another part of the work, from imports to the pool of processes."""
    sample = [sys.executable, "-c", RUN, "data", "sample", str(tmp_path / "data"), "--dataset", "rsna", "--patients", "500"]
    process = subprocess.Popen(sample, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while not hears(process.pid, signal.SIGTERM):
            assert process.poll() is None
        time.sleep(delay_s)
        process.send_signal(signal.SIGTERM)
        text, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, text, err.replace("\n", "")[-len(stopping.SENTENCE) :]) == (1, "", stopping.SENTENCE)
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("*.dcm"))  # what was half made is gone


def hears(pid: int, number: int) -> bool:
    """Whether a process has a handler of its own for a signal."""
    caught = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)
