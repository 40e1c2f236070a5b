"""The page docs/first-ten-minutes.md: what goes wrong on a bare machine, and what the program prints then.

`python -m tests.first_minutes` runs every command in a folder of its own and writes the page; tests/verify/test_first_ten_minutes.py runs
them again and compares. Nothing of what is printed is typed by hand.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.small_screen import ESCAPE, on_screen

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "first-ten-minutes.md"
HOME = "/your/folder"  # stands on the page for the folder that the commands ran in
CLOSED = "http://127.0.0.1:9"  # a port at which nothing listens
MOST_LINES = 14  # shown of what a command prints
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
FAILURE = "ImportError('libGL.so.1: cannot open shared object file: No such file or directory', name='cv2')"
OLD = "import sys; sys.version_info = (3, 10, 2); exec(sys.argv[1])"
RUN = "lobe run --backbone torchvision:resnet18 --task rsna-linear-frozen-100"

INTRODUCTION = """\
# The first ten minutes

On a machine where nothing is set up, most first commands fail for a reason that has nothing to do with the backbone. Each of these
failures is one sentence: what is wrong, where, and what to do next. It ends with a code that scripts can rely on: 0 all good, 1 some jobs
failed or were stopped, 2 nothing could start.

Every block below was printed by the program: `python -m tests.first_minutes` runs the commands and writes this page, and `make verify`
runs them again and compares. Seconds are those of a processor core. `/your/folder` stands for the folder that the commands ran in."""


@dataclass(frozen=True)
class Situation:
    """
    Attributes:
        title: of its section.
        told: what the reader has to know of the machine, in a sentence or two.
        command: as it is typed, in bash.
        code: with which it ends.
        before: bash that makes the machine so, and is not shown.
        environment: variables of the command alone, likewise.
        columns: of the terminal that it prints on; None prints into a pipe.
    """

    title: str
    told: str
    command: str
    code: int = 2
    before: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    columns: int | None = None


@dataclass(frozen=True)
class Printed:
    """
    Attributes:
        code: with which a command ended.
        text: what it printed, on both streams.
        core_s: seconds of a processor core.
    """

    code: int
    text: str
    core_s: float


SITUATIONS = (
    Situation("What now?", "The command alone says what to do first.", "lobe", code=0),
    Situation("No data at all", "Nothing says where the data is, neither `--data` nor `LOBE_DATA`.", RUN),
    Situation(
        "A folder that is not there",
        "A word of the path is misspelt.",
        "lobe data verify rsna --data dada",
        before="lobe data sample data --dataset rsna --patients 5 --workers 1 --json",
    ),
    Situation(
        "The dataset's own folder",
        "`--data` takes the folder with one folder per dataset inside.",
        "lobe data verify rsna --data data/rsna",
    ),
    Situation(
        "One level deeper",
        "The data lies in `disk/data`, and the disk is given.",
        "lobe data verify rsna --data disk",
        before="mkdir disk && cp -r data disk/",
    ),
    Situation("A dataset that is not there", "The data folder holds another dataset alone.", "lobe data verify siim --data data"),
    Situation(
        "No GPU",
        "`--device cuda`, and torch sees none.",
        f"{RUN} --data data --device cuda --executor inline",
        environment={"CUDA_VISIBLE_DEVICES": ""},
    ),
    Situation(
        "No room on the disk",
        "Here a limit of the operating system refuses every byte, as a full disk does.",
        "ulimit -f 0; lobe data sample more --dataset rsna --patients 5 --workers 1",
    ),
    Situation(
        "No room on the disk for a file",
        "The same for a single file; nothing is left of it.",
        "ulimit -f 0; lobe new backbone mine.py",
    ),
    Situation(
        "An old Python",
        "The only Python is older than 3.11.",
        "make PYTHON=python3.10",
        before=f'cp {ROOT}/Makefile {ROOT}/pyproject.toml {ROOT}/constraints.txt . && printf \'#!/bin/sh\\nexec %s -c "{OLD}" "$2"\\n\' '
        f"{sys.executable} > bin/python3.10 && chmod +x bin/python3.10",
    ),
    Situation(
        "A system library that is missing",
        "OpenCV with windows was installed by another package, and the machine has no libGL. A stand-in fails here as it would.",
        "lobe data verify chestx-det --data data",
        before=f'mkdir lacking && echo "raise {FAILURE}" > lacking/cv2.py',
        environment={"PYTHONPATH": f"lacking{os.pathsep}{ROOT}"},
    ),
    Situation(
        "A download that is blocked",
        "Nothing answers at the address of the file. The card is one of our own, for a port at which nothing listens.",
        "lobe --include cards weights get mine",
        before="mkdir -p cards/backbones && printf 'backbones:\\n  - {name: mine, family: timm, model: resnet10t, weights: mine.pth, "
        f'published: {{url: "{CLOSED}/mine.pth"}}}}\\n\' > cards/backbones/mine.yaml',
    ),
    Situation(
        "A proxy that does not answer",
        "`HTTPS_PROXY` names a proxy that is not there; a password in it is never printed.",
        "lobe data get open-i --data data",
        environment={"HTTPS_PROXY": "http://me:secret@127.0.0.1:9"},
    ),
    Situation(
        "The same for weights on the Hugging Face hub",
        "The hub's own client fetches these.",
        "lobe weights get biovil",
        environment={"HTTPS_PROXY": "http://me:secret@127.0.0.1:9", "HF_HUB_OFFLINE": "0"},
    ),
    Situation(
        "A small terminal without colour",
        "40 columns, and `NO_COLOR` is set: where a table would fold its words, each cell has a line.",
        "lobe list suites",
        code=0,
        environment={"NO_COLOR": "1"},
        columns=40,
    ),
)


def play(situations: Sequence[Situation], folder: Path) -> list[Printed]:
    """Runs each command, one after another, in `folder`, which is empty and knows only LOBE of this checkout."""
    (folder / "bin").mkdir()
    (folder / "bin" / "lobe").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m benchmark "$@"\n', encoding="utf-8")
    (folder / "bin" / "lobe").chmod(0o755)
    names = {*PROXIES, *map(str.lower, PROXIES), "LOBE_DATA", "COLUMNS", "NO_COLOR", "MAKEFLAGS", "MAKELEVEL"}
    clean = {name: value for name, value in os.environ.items() if name not in names}
    clean |= {"PATH": f"{folder / 'bin'}{os.pathsep}{clean['PATH']}", "PYTHONPATH": str(ROOT), "LOBE_CACHE": str(folder / "cache")}
    return [_played(one, folder, clean | {"TERM": "xterm-256color"}) for one in situations]


def page(printed: Sequence[Printed]) -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for one, found in zip(SITUATIONS, printed, strict=True):
        parts.append(f"## {one.title}\n\n{one.told}\n\n```text\n$ {one.command}\n{found.text}\n```\n\n{_ended(found)}")
    return "\n\n".join(parts) + "\n"


def read(text: str) -> list[Printed]:
    """What the page says that was printed, in the order of its sections."""
    found = re.findall(r"```text\n\$ [^\n]*\n(.*?)\n```\n\nExit code (\d+), ([\d.]+) s\.", text, flags=re.DOTALL)
    return [Printed(int(code), said, float(seconds)) for said, code, seconds in found]


def _ended(found: Printed) -> str:
    return f"Exit code {found.code}, {found.core_s:.1f} s."


def _played(one: Situation, folder: Path, environment: Mapping[str, str]) -> Printed:
    if one.before:
        subprocess.run(["bash", "-c", one.before], cwd=folder, env=environment, check=True, capture_output=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code, text = _run(one, folder, {**environment, **one.environment})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Printed(code, _shown(text, folder), round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1))


def _run(one: Situation, folder: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    words = ["bash", "-c", one.command]
    if one.columns is not None:
        return on_screen(words, one.columns, environment, folder)
    done = subprocess.run(words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def _shown(text: str, folder: Path) -> str:
    """Without escape sequences and trailing blanks, with `HOME` for the folder, and cut after so many lines."""
    plain = ESCAPE.sub("", text).replace(str(folder), HOME)
    plain = re.sub(r"\[Makefile:\d+:", "[Makefile:", plain)  # another line says nothing new
    lines = [line.rstrip() for line in plain.strip("\n").splitlines()]
    # Not how many more: a word in the last of a hundred lines would make the page stale.
    return "\n".join(lines if len(lines) <= MOST_LINES + 1 else [*lines[:MOST_LINES], "… and more lines"])


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="lobe-first-") as folder:
        printed = play(SITUATIONS, Path(folder))
    PAGE.write_text(page(printed), encoding="utf-8")


if __name__ == "__main__":
    main()
