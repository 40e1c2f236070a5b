"""Against a real `mlflow server` in a process of its own: what it misses while it is away arrives when it is back.

On SQLite here; on PostgreSQL, with the machine's own server programs, in the long checks.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from benchmark.tracking.runs import EXPERIMENT
from benchmark.tracking.tracker import Tracker
from tests.made_once import empty_mlflow

pytestmark = pytest.mark.long(10)

DOCKER = Path(__file__).resolve().parents[1] / "docker"
LINEAR = "rsna-linear-frozen-100"
START_S = 600  # a busy machine is no failure


@pytest.fixture
def record(small, tiny, tmp_path: Path):
    from benchmark.store import Store

    job, place = small.one(LINEAR, tiny())
    made = small.fit(job, place, produced=tmp_path / "produced")
    return Store(tmp_path / "out").put(made, {p.name: p.read_bytes() for p in (tmp_path / "produced").iterdir()})


def free_port() -> int:
    """Above the ports that Ray gives its workers and below those that the system hands out: nobody takes it while the server is away."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port between 20,000 and 32,000")


@contextmanager
def server(backend: str, artifacts: Path, port: int) -> Iterator[None]:
    """`mlflow server`, serving artifacts too, until the block ends; it is killed, not asked."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", backend, "--artifacts-destination", artifacts.as_uri()]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with started(command, port, artifacts.parent / "server.log"):
        yield


@contextmanager
def started(command: list[str], port: int, log_file: Path, **environment: str) -> Iterator[None]:
    with log_file.open("ab") as log:
        alone = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # else ten processes more, which run jobs of MLflow's own
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=os.environ | alone | environment)
        try:
            _wait(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).status == 200, process)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()


def _wait(ready, process: subprocess.Popen) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        assert process.poll() is None, "the server ended"
        try:
            if ready():
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the server did not answer within {START_S} s")


def away(record, out: Path) -> Tracker:
    """A tracker that told of a run while nobody listened."""
    tracker = Tracker(out, "away", {})
    tracker.record(record)
    tracker.close("FINISHED")
    assert "3 notes" in tracker.problem
    return tracker


def alive(record, out: Path) -> Tracker:
    """A tracker that told of a run to a living server."""
    tracker = Tracker(out, "alive", {"protocol": "published"})
    tracker.epoch(record.job, record.curve[0])
    tracker.record(record)
    tracker.close("FINISHED")
    assert tracker.problem is None
    return tracker


def require_runs_of(trackers: list[Tracker], record, port: int) -> None:
    """The server has everything of them."""
    client = MlflowClient(tracking_uri=f"http://127.0.0.1:{port}")
    runs = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    children = [run for run in runs if run.data.tags["lobe.kind"] == "run"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["lobe.evaluation"] for run in children} == {tracker.evaluation for tracker in trackers}
    for run in children:
        assert run.data.metrics["test_opacity_dice"] == record.metrics["opacity_dice"]
        assert {e.path for e in client.list_artifacts(run.info.run_id)} >= {"job.json", "record.json"}


def lost_and_found(record, out: Path, backend: str, artifacts: Path, monkeypatch) -> None:
    """One run told to a living server, one while it is away, and both there in the end."""
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    with server(backend, artifacts, port):
        first = alive(record, out)
    second = away(record, out)
    with server(backend, artifacts, port):
        back = Tracker(out, "back", {})
        back.close("FINISHED")
        assert back.problem is None
        require_runs_of([first, second], record, port)


def test_a_server_has_everything_that_was_told_before_it_came(record, tmp_path: Path, monkeypatch):
    """Started once, which takes seconds: that it ends in between is looked at below."""
    (tmp_path / "server").mkdir()
    shutil.copyfile(empty_mlflow(), tmp_path / "server.db")
    port, out = free_port(), tmp_path / "out"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    first = away(record, out)
    with server(f"sqlite:///{tmp_path / 'server.db'}", tmp_path / "server" / "artifacts", port):
        require_runs_of([first, alive(record, out)], record, port)


@pytest.mark.slow
def test_a_server_that_was_away_has_everything_when_it_is_back(record, tmp_path: Path, monkeypatch):
    (tmp_path / "server").mkdir()
    shutil.copyfile(empty_mlflow(), tmp_path / "server.db")
    lost_and_found(record, tmp_path / "out", f"sqlite:///{tmp_path / 'server.db'}", tmp_path / "server" / "artifacts", monkeypatch)


@pytest.fixture
def postgres(tmp_path_factory) -> Iterator[str]:
    """Address of a fresh database of the machine's own PostgreSQL, run on a free port: as user postgres by root, who may not run it.

    Nothing is skipped: a machine for the long checks has Debian's package.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.fail("this check needs PostgreSQL's server programs: apt-get install postgresql")
    assert importlib.util.find_spec("psycopg2") is not None, "PostgreSQL is here and its driver is not: run `make` again"
    user = pwd.getpwnam("postgres") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="lobe-postgres-", dir="/tmp"))  # short, and open to its user: sockets and rights
    shutil.chown(folder, user.pw_uid, user.pw_gid)
    bin_, port = found[-1].parent, free_port()

    def run(*command: str) -> None:
        who = {"env": {"PATH": "/usr/bin:/bin"}} | ({"user": user.pw_uid, "group": user.pw_gid} if os.getuid() == 0 else {})
        subprocess.run(command, cwd=folder, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **who)

    data = str(folder / "data")
    try:
        run(str(bin_ / "initdb"), "-D", data, "-A", "trust", "-U", "lobe", "-E", "UTF8", "--locale=C")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
        run(str(bin_ / "pg_ctl"), "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
        run(str(bin_ / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "lobe", "mlflow")
        yield f"postgresql+psycopg2://lobe@127.0.0.1:{port}/mlflow"
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            run(str(bin_ / "pg_ctl"), "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.mark.slow
def test_on_postgresql_too(record, postgres: str, tmp_path: Path, monkeypatch, record_property):
    record_property("server programs", sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))[-1].parent.parent.name)
    (tmp_path / "server").mkdir()
    lost_and_found(record, tmp_path / "out", postgres, tmp_path / "server" / "artifacts", monkeypatch)


@pytest.mark.slow
def test_the_server_of_the_cluster_files_takes_notes_from_those_who_log_in(record, tmp_path: Path, monkeypatch):
    assert importlib.util.find_spec("flask_wtf") is not None, "the login needs flask-wtf: run `make` again"
    served, port, password = tmp_path / "server", free_port(), "a password of the tests"
    for name, text in {
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "x",
        "ray_token": "not for this one",
    }.items():
        (served / "secrets").mkdir(parents=True, exist_ok=True)
        (served / "secrets" / name).write_text(text)
    login = (DOCKER / "mlflow-auth.ini").read_text().replace("sqlite:////mlflow/", f"sqlite:///{served}/")
    (served / "auth.ini").write_text(login)
    words = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["mlflow"]["command"].split()
    for option, value in {"--host": "127.0.0.1", "--port": str(port), "--artifacts-destination": str(served / "artifacts")}.items():
        words[words.index(option) + 1] = value
    words[words.index("--allowed-hosts") + 1] = f"127.0.0.1:{port}"
    environment = {
        "LOBE_SECRETS": str(served / "secrets"),
        "MLFLOW_AUTH_CONFIG_PATH": str(served / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{served / 'server.db'}",
    }
    command = ["sh", str(DOCKER / "with-secrets.sh"), sys.executable, "-m", *words, "--workers", "1"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    with started(command, port, served / "log", **environment):
        stranger = Tracker(tmp_path / "out", "stranger", {})
        stranger.record(record)
        stranger.close("FINISHED")
        assert "3 notes" in stranger.problem
        assert password not in stranger.problem
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
        known = Tracker(tmp_path / "out", "known", {})
        known.close("FINISHED")
        assert known.problem is None
        client = MlflowClient(tracking_uri=f"http://127.0.0.1:{port}")
        (run,) = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id], "tags.`lobe.kind` = 'run'")
        assert run.data.metrics["test_opacity_dice"] == record.metrics["opacity_dice"]
        assert {each.path for each in client.list_artifacts(run.info.run_id)} >= {"job.json", "record.json"}
        assert password.encode() not in arguments_of_all()
    assert password not in (served / "log").read_text()


def arguments_of_all() -> bytes:
    """Of every program that runs on this machine."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            found.append((folder / "cmdline").read_bytes())
    assert any(b"basic-auth" in words for words in found)
    return b"\n".join(found)
