"""The command, called in this process with caches that tests share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def lobe(monkeypatch, capsys, image_cache: Path):
    """Calls the command as its entry point does; gives exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        from benchmark.cli import main

        monkeypatch.setattr("sys.argv", ["lobe", *map(str, arguments)])
        monkeypatch.setenv("LOBE_CACHE", str(image_cache))
        monkeypatch.setattr("benchmark.plan.smoke_steps", lambda head: 2)
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call
