"""Data and weights as a stranger fetches them, from a local server in place of the publishers'; and a killed download goes on."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from benchmark.phantom.corpus import CorpusPlan, write_corpus
from tests.fetching.server import FaultyServer, Served, faulty_server

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "getting-data.md"
COMMIT = "c" * 40
# The command, with the addresses of one release led to the local server: the only thing that differs.
COMMAND = """
import sys
from benchmark import registry
releases = registry.releases()
for name, card in releases.items():
    files = tuple(f.model_copy(update={{"url": "{url}/" + f.name, "about_bytes": 0}}) for f in card.files)
    releases[name] = card.model_copy(update={{"files": files}})
from benchmark.__main__ import main
sys.argv[0] = "lobe"
main()
"""


def commands() -> list[str]:
    return re.findall(r"^    (lobe .+)$", PAGE.read_text(encoding="utf-8"), flags=re.M)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """COVID Rural's repository as GitHub packs it: generated images below one folder."""
    folder = tmp_path_factory.mktemp("covid")
    write_corpus(CorpusPlan("covid-rural", 12, 0), folder / "repo-master")
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, path.relative_to(folder).as_posix())
    return held.getvalue()


def environment(tmp_path: Path, server: FaultyServer) -> dict[str, str]:
    (tmp_path / "bin").mkdir()
    (tmp_path / "lobe.py").write_text(COMMAND.format(url=server.url))
    (tmp_path / "bin" / "lobe").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path / "lobe.py"}" "$@"\n')
    (tmp_path / "bin" / "lobe").chmod(0o755)
    offline = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy") and name not in offline}
    more = {"PYTHONPATH": str(ROOT), "LOBE_CACHE": str(tmp_path / "cache"), "HF_ENDPOINT": server.url}
    return kept | more | {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def test_the_commands_of_the_page_get_data_and_weights(tmp_path: Path, repository: bytes) -> None:
    assert len(commands()) >= 8
    with faulty_server() as server:
        server.files["/opacity_segmentation_covid_chest_X_ray.zip"] = Served(repository, cuts=[len(repository) // 2], busy=1)
        weights = Served(b"weights" * 1000, tag='"rad"', commit=COMMIT)
        for revision in ("main", COMMIT):
            server.files[f"/microsoft/rad-dino/resolve/{revision}/model.safetensors"] = weights
        (tmp_path / "chexpert_resnet50.ckpt").write_bytes(b"by hand")
        said = {}
        env = environment(tmp_path, server)
        for line in commands():
            done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            assert "Traceback" not in done.stderr, f"{line}\n{done.stderr}"
            said[line] = " ".join((done.stdout + done.stderr).split())
    assert "digest not known; recorded on this first download" in said["lobe data get covid-rural --data data"]
    assert "covid-rural · " in said["lobe data verify covid-rural --data data"]
    assert "1. Log in at Kaggle" in said["lobe data get rsna --data data"]
    assert "contract kept" in said["lobe check-backbone efficientnet-lite0"]
    assert COMMIT in said["lobe weights get rad-dino"]
    assert "1. Open https://github.com/marshuang80/gloria" in said["lobe weights get gloria"]
    listed = subprocess.run(["bash", "-c", "lobe weights list --json"], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    here = {row["card"] for row in json.loads(listed.stdout) if row["here"]}
    assert here == {"efficientnet-lite0", "rad-dino", "gloria", "gloria-text"}


def test_a_killed_download_leaves_no_release_and_the_same_command_goes_on(tmp_path: Path, repository: bytes) -> None:
    path = "/opacity_segmentation_covid_chest_X_ray.zip"
    with faulty_server() as server:
        server.files[path] = Served(repository, stalls_after=len(repository) // 3)
        command = ["bash", "-c", "exec lobe data get covid-rural --data data"]
        env = environment(tmp_path, server)
        running = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        part = tmp_path / "data" / ".lobe-get" / "covid-rural" / f".{path[1:]}.part"
        until = time.monotonic() + 120
        while not (part.is_file() and part.stat().st_size) and time.monotonic() < until:
            assert running.poll() is None, running.communicate()
            time.sleep(0.1)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        assert part.stat().st_size
        assert not (tmp_path / "data" / "covid-rural").exists()
        server.files[path] = Served(repository)
        server.asked.clear()
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        (asked,) = server.ranges_of(path)
        assert asked.startswith("bytes=")
    assert (tmp_path / "data" / "covid-rural" / "covid_rural_annot").is_dir()
