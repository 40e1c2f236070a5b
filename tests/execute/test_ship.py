"""What travels to a cluster is enough to plan the same jobs there, and not more than it may be."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.encoders.describe import sources_digest
from benchmark.errors import EnvironmentProblem, UsageError
from benchmark.execute import nodes, ship, submit
from benchmark.execute.connecting import Connection
from benchmark.execute.on_ray import RayExecutor
from benchmark.execute.schedule import Schedule

LINEAR = "rsna-linear-frozen-100"


def test_the_package_the_cards_and_the_authors_folder_travel_together(tiny, tmp_path: Path):
    file = tiny()
    (file.parent / "helper.py").write_text("WIDTH = 4\n")
    (tmp_path / "staged").mkdir()
    named = ship.stage(tmp_path / "staged", ["torchvision:resnet18", f"{file}:build"])
    assert named == ["torchvision:resnet18", f"author/{sources_digest(file.parent)}/mine.py:build"]
    assert (tmp_path / "staged" / named[1].partition(":")[0]).read_text() == file.read_text()
    look = "import benchmark; from benchmark import registry; from benchmark.execute.nodes import package_digest as d; "
    look += "print(benchmark.__file__, len(registry.suite('lovt-18').tasks), d())"
    seen = subprocess.run([sys.executable, "-c", look], cwd=tmp_path / "staged", capture_output=True, text=True, check=True).stdout.split()
    assert seen == [str(tmp_path / "staged" / "benchmark" / "__init__.py"), "18", nodes.package_digest()]


def test_a_worker_finds_the_authors_file_in_what_was_uploaded(small, tiny, tmp_path: Path, monkeypatch):
    file = tiny()
    job, place = small.one(LINEAR, file)
    (tmp_path / "staged").mkdir()
    (named,) = ship.stage(tmp_path / "staged", [f"{file}:build"])
    monkeypatch.chdir(tmp_path / "staged")
    assert ship.found_here(job, place) == place  # where it is, it is used
    elsewhere = replace(place, backbone_model="/elsewhere/mine.py:build")
    assert ship.found_here(job, elsewhere).backbone_model == f"{tmp_path / 'staged'}/{named}"


def test_a_folder_too_large_to_travel_is_refused_with_its_size(tiny, tmp_path: Path, monkeypatch):
    file = tiny()
    with (file.parent / "weights.pt").open("wb") as handle:
        handle.truncate(ship.MOST_BYTES + 2**20)
    (tmp_path / "staged").mkdir()
    with pytest.raises(UsageError, match="holds 65 MiB; at most 64 MiB"):
        ship.stage(tmp_path / "staged", [f"{file}:build"])


def test_a_worker_with_other_versions_is_refused_with_a_sentence():
    mine = nodes.identity()
    assert nodes.difference(mine, dict(mine), "abcd") is None
    other = nodes.difference(mine, {**mine, "torch": "1.0"}, "abcd")
    assert other.startswith(f"Node abcd is not used: torch is 1.0 there and {mine['torch'][:16]} here.")
    assert nodes.difference(mine, {**mine, "gpu_bytes": "1"}, "abcd") is None  # devices may differ


def test_a_job_server_that_is_not_there_or_not_one_is_said():
    with pytest.raises(UsageError, match="http://head:8265"):
        submit.submissions("head:6379")
    with pytest.raises(EnvironmentProblem, match="No Ray job server answers"):
        submit.submissions("http://127.0.0.1:9")


def test_a_cluster_that_asks_for_a_token_gets_a_sentence_and_no_traceback(monkeypatch):
    import ray
    from ray import job_submission
    from ray.exceptions import AuthenticationError

    def refuse(*_, **__):
        raise AuthenticationError("InvalidAuthToken")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(Connection, "_found", lambda self, ray: self.address)
    monkeypatch.setattr(job_submission, "JobSubmissionClient", refuse)
    with pytest.raises(EnvironmentProblem, match="at head:6379 asks for its token: set RAY_AUTH_MODE=token"):
        next(RayExecutor(address="head:6379").run(Schedule([])))
    with pytest.raises(EnvironmentProblem, match="at http://head:8265 asks for its token"):
        submit.submissions("http://head:8265")
