"""The commands of a page, as they stand there, run in their order by one who types them: what holds that a tutorial is true."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_INCLUDED = re.compile(r" --include \S+")
_MODULES = {"lobe": "-m benchmark", "python": "", "ray": "-m ray.scripts.scripts"}


def commands(page: Path) -> list[str]:
    """Every line of every block of `sh`, in order."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def environment(folder: Path) -> dict[str, str]:
    """In which `lobe`, `python` and `ray` are those of this test, with a cache and a home in `folder`."""
    for name in ("bin", "home"):
        (folder / name).mkdir()
    for name, words in _MODULES.items():
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    own = {"PYTHONPATH": str(ROOT), "LOBE_CACHE": str(folder / "cache"), "HOME": str(folder / "home")}
    return os.environ | own | {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def typed(lines: list[str], folder: Path, env: dict[str, str], instead: Mapping[str, str] | None = None) -> Iterator[tuple[str, str]]:
    """Each line in a shell of its own, and what it said on stdout; an `export` and a `cd` hold for the lines after it.

    Args:
        lines: as `commands` gives them.
        folder: in which they are typed.
        env: of `environment`.
        instead: line -> what is run in its place.

    Raises:
        AssertionError: a line failed, or broke.
    """
    env = dict(env)
    for line in lines:
        if set_here := re.fullmatch(r"export (\w+)=(\S+)", line.partition(" #")[0].strip()):
            env[set_here[1]] = set_here[2]
            yield line, ""
            continue
        if entered := re.fullmatch(r"cd (\S+)", line):
            folder = folder / entered[1]
            yield line, ""
            continue
        run = (instead or {}).get(line, line)
        done = subprocess.run(["bash", "-c", run], cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, f"{line}\n{done.stderr}"
        yield line, done.stdout


def timed(ran: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str, float]]:
    """What `typed` gives, each line with its seconds of a processor core."""
    before = _core_s()
    for line, said in ran:
        now = _core_s()
        yield line, said, now - before
        before = _core_s()


def noted(seconds: Iterable[tuple[str, float]]) -> str:
    """Lines by how they begin, and their seconds, as `docsite.path_steps` reads them."""
    return "; ".join(f"{_INCLUDED.sub('', line).split(' --')[0][:40].rstrip()} {spent:.0f}" for line, spent in seconds)


def _core_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
