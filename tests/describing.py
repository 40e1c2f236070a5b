"""Describes backbones like `benchmark.encoders.describe`, without the seconds that Python takes to start and to import torch each time.

Every description still is a process of its own that runs the whole module: one that is forked from a process in which torch is imported
and nothing else happens. Run as `python -m tests.describing`, it reads what to describe as a line of JSON and answers with an exit code.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

MODULE = "benchmark.encoders.describe"


class Describing:
    """Takes the place of `subprocess` in the module; its process starts when it is first needed."""

    def __init__(self):
        self._server: subprocess.Popen[str] | None = None
        self._asking = threading.Lock()  # it answers one question after the other, whoever asks side by side

    def run(self, command: list[str], *, env: dict[str, str], **given: Any) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run`, for the one command that the module runs."""
        python, flag, module, *words = command
        assert (python, flag, module) == (sys.executable, "-m", MODULE)
        assert given == {"capture_output": True, "text": True, "check": False}
        with self._asking:
            return self._run(command, words, env)

    def _run(self, command: list[str], words: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        if self._server is None:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
            self._server = subprocess.Popen([sys.executable, "-m", "tests.describing"], env=environment, **pipes)
        with tempfile.NamedTemporaryFile("r", encoding="utf-8") as said:
            asked = {"words": words, "environment": env, "folder": os.getcwd(), "said": said.name}
            self._server.stdin.write(json.dumps(asked) + "\n")
            self._server.stdin.flush()
            return subprocess.CompletedProcess(command, int(self._server.stdout.readline()), "", said.read())

    def close(self) -> None:
        if self._server is not None:
            self._server.communicate()


def serve() -> None:
    import cv2  # noqa: F401  what the module imports before it watches
    import safetensors.torch  # noqa: F401
    import tokenizers  # noqa: F401
    import torch  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _describe(**json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _describe(words: list[str], environment: dict[str, str], folder: str, said: str) -> NoReturn:
    """Runs the module as `python -m` does, in this process, and ends it."""
    told = os.open(said, os.O_WRONLY)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream, at in ((nothing, 0), (nothing, 1), (told, 2)):
        os.dup2(stream, at)
    code = 1
    try:
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        sys.argv = [MODULE, *words]
        runpy.run_module(MODULE, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
