"""Output that is closed, full, unread or of few letters ends in no traceback: what was asked for is done, or one sentence says why not."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from benchmark import terminal
from benchmark.errors import EnvironmentProblem
from tests.full_disk import full_disk
from tests.small_screen import ESCAPE, on_screen

LOBE = [sys.executable, "-c", "from benchmark.cli import main; main()"]


@pytest.fixture
def unread() -> Iterator[io.TextIOWrapper]:
    """A pipe whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w", encoding="utf-8")
    yield stream
    stream.close()


def test_a_reader_who_left_stops_nothing(unread) -> None:
    stream = terminal.Enduring(unread, "Standard output", lossy=False)
    for _ in range(3):
        assert stream.write("a" * 100_000) == 100_000
        stream.flush()


def test_a_reader_who_left_before_the_first_flush_stops_nothing(unread) -> None:
    stream = terminal.Enduring(unread, "Standard output", lossy=False)
    stream.writelines(["a line\n", "another\n"])  # few letters wait in the buffer until they are flushed
    stream.flush()
    stream.writelines(["a line\n"] * 100_000)
    stream.flush()


def test_lines_on_a_full_disk_are_a_sentence_as_a_single_one_is(tmp_path) -> None:
    with (tmp_path / "out").open("w", encoding="utf-8") as file:
        stream = terminal.Enduring(file, "Standard output", lossy=False)
        with full_disk(), pytest.raises(EnvironmentProblem, match="Standard output cannot be written: File too large"):
            stream.writelines(["a line\n"] * 100_000)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("lossy", [True, False])
def test_a_full_disk_is_a_sentence_unless_it_is_where_sentences_go(lossy: bool) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        stream = terminal.Enduring(full, "Standard output", lossy=lossy)
        stream.write("a")
        if lossy:
            stream.flush()
        else:
            with pytest.raises(EnvironmentProblem, match="Standard output cannot be written: No space left on device"):
                stream.flush()
        stream.flush()  # and after that it is over


def test_only_encodings_with_all_letters_are_said_to_have_them() -> None:
    for encoding, every in (("utf-8", True), ("UTF8", True), ("ascii", False), ("latin-1", False)):
        assert terminal.takes_every_letter(io.TextIOWrapper(io.BytesIO(), encoding=encoding)) == every
    assert not terminal.takes_every_letter(None)


def run(arguments: str, shell: str, **environment: str) -> subprocess.CompletedProcess:
    """The command as a shell would run it, with its ends where `shell` puts them."""
    script = shell.replace("LOBE", " ".join(f"'{word}'" for word in LOBE) + f" {arguments}")
    given = {**os.environ, **environment}
    return subprocess.run(["bash", "-c", script], capture_output=True, check=False, env=given)


@pytest.mark.parametrize(
    ("shell", "code", "said"),
    [
        ("LOBE | head -1 >/dev/null; exit ${PIPESTATUS[0]}", 0, ""),
        ("LOBE >&-", 0, ""),
        ("LOBE >/dev/null 2>&-", 0, ""),
        ("LOBE >/dev/full", 2, "error: Standard output cannot be written: No space left on device."),
    ],
    ids=["unread", "closed", "closed-err", "full"],
)
def test_a_listing_whose_output_goes_nowhere_ends_without_traceback(shell: str, code: int, said: str) -> None:
    done = run("list protocols", shell)
    assert (done.returncode, done.stderr.decode().strip()) == (code, said)


def in_terminal(arguments: str, columns: int, **environment: str) -> str:
    """What the command prints on a terminal of so many columns, with its escape sequences."""
    given = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")}
    return on_screen([*LOBE, *arguments.split()], columns, given | {"TERM": "xterm-256color", **environment})[1]


COLOUR = re.compile(r"\x1b\[[0-9;]*3[1-7]")


@pytest.mark.parametrize(("columns", "environment"), [(40, {}), (200, {"COLUMNS": "40"})], ids=["terminal", "COLUMNS"])
def test_a_small_terminal_gets_a_line_for_each_cell_and_no_word_is_cut(columns: int, environment: dict[str, str]) -> None:
    lines = ESCAPE.sub("", in_terminal("list suites", columns, **environment)).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 40
    assert any(re.match(r"name +lovt-18$", line.rstrip()) for line in lines)


@pytest.mark.parametrize(
    ("environment", "coloured", "escaped"), [({}, True, True), ({"NO_COLOR": "1"}, False, True), ({"TERM": "dumb"}, False, False)]
)
def test_colour_goes_only_where_it_is_wanted(environment: dict[str, str], coloured: bool, escaped: bool) -> None:
    said = in_terminal("list tasks --suite lovt-81", 100, **environment)
    assert "error: There is no suite called 'lovt-81'. Did you mean lovt-18" in " ".join(ESCAPE.sub("", said).split())
    assert (bool(COLOUR.search(said)), bool(ESCAPE.search(said))) == (coloured, escaped)


def test_a_pipe_gets_whole_lines_without_escapes() -> None:
    done = run("list suites", "LOBE", COLUMNS="40", TERM="xterm-256color")
    lines = done.stdout.decode().splitlines()
    assert "\x1b" not in done.stdout.decode()
    assert lines[0].split()[0] == "name"
    assert any(line.startswith("lovt-18 ") for line in lines)


def test_a_terminal_without_our_letters_gets_others() -> None:
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    table = run("list suites", "LOBE", **plain)
    assert (table.returncode, table.stderr) == (0, b"")
    assert "?" in table.stdout.decode("ascii")
    listed = run("list suites --json", "LOBE", **plain)
    assert any(
        "é" in str(row) or "–" in str(row) or "ü" in str(row) or "·" in str(row) for row in json.loads(listed.stdout.decode("ascii"))
    )
    refused = run("list tasks --suite zwölf", "LOBE", **plain)
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert b"There is no suite called" in refused.stderr
