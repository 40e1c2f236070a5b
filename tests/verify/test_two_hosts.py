"""Two hosts run one suite together: network namespaces with addresses, temporary folders and spools of their own.

Where namespaces cannot be made (no root, no `ip`), two raylets of one host stand for them, and the page says so.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmark import registry
from benchmark.phantom.corpus import CorpusPlan, write_corpus
from benchmark.store import Store
from tests.verify.test_scale import DRIVER, _content, raylets

pytestmark = pytest.mark.slow
TASKS = ("rsna-linear-frozen-100", "covid-rural-unet-finetune-100")
PORT = 6379  # nobody else's: it lies in a namespace of ours
START_S = 300
TOKEN = "0123456789abcdef" * 2
RAY = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]


@dataclass(frozen=True)
class Host:
    """`inside` are the first words of a command that runs there."""

    name: str
    address: str
    inside: tuple[str, ...]
    environment: dict[str, str]

    def start(self, *words: str) -> subprocess.Popen:
        return subprocess.Popen([*self.inside, *words], env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_two_hosts_run_one_suite_together(tmp_path: Path, monkeypatch, record_property):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    monkeypatch.setenv("LOBE_TEST_STARTS", str(tmp_path / "starts"))
    for name in ("rsna", "covid-rural"):
        write_corpus(CorpusPlan(dataset=name, n_patients=24, seed=5), tmp_path / "data" / registry.dataset(name).folder)

    def command(out: str, *more: str) -> list[str]:
        words = ["run", "--backbone", "torchvision:resnet18", "--data", str(tmp_path / "data"), "--out", str(tmp_path / out)]
        words += ["--cache", str(tmp_path / "cache"), "--limit", "8", "--profile", "smoke", "--seeds", "2", "--no-tracking", "--json"]
        return [sys.executable, "-c", DRIVER, *words, *(w for task in TASKS for w in ("--task", task)), *more]

    def finish(words: list[str], environment: dict[str, str]) -> None:
        ended = subprocess.run(words, env=environment, capture_output=True, check=False, text=True)
        assert ended.returncode == 0, ended.stderr[-3000:]

    finish(command("alone", "--executor", "inline"), dict(os.environ))
    began = time.monotonic()
    if _can_make_namespaces():
        with two_hosts(tmp_path) as (head, other):
            finish([*head.inside, *command("together", "--address", f"{head.address}:{PORT}")], head.environment)
            left = list(Path(other.environment["LOBE_SPOOL"]).rglob("record.json"))
        record_property("hosts", "two network namespaces")
        assert not left  # the driver told the other host what is stored
    else:
        with raylets(1, num_cpus=1) as cluster:
            finish(command("together", "--address", cluster.address), dict(os.environ))
        record_property("hosts", "two raylets of one host")
    record_property("seconds together, with the start of the hosts", f"{time.monotonic() - began:.0f}")
    starts = [line.split() for line in (tmp_path / "starts").read_text().splitlines()]
    nodes = {node for _, _, node in starts}
    record_property("jobs, nodes that worked", f"{len(Store(tmp_path / 'together').all())}, {len(nodes)}")
    assert len(nodes) == 2
    assert len(starts) == len({key for key, _, _ in starts})  # nothing was lost, nothing computed twice
    assert _content(tmp_path / "together") == _content(tmp_path / "alone")


def _can_make_namespaces() -> bool:
    if os.getuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"lobe-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        _ip("netns", "del", name)
    return made


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


@contextlib.contextmanager
def two_hosts(folder: Path) -> Iterator[tuple[Host, Host]]:
    """A Ray cluster of two hosts with one core each, joined by a cable. Whatever runs in them ends with the block."""
    names, addresses = [f"lobe-{end}-{os.getpid()}" for end in "ab"], ["10.213.7.1", "10.213.7.2"]
    cable = [f"lobe{end}{os.getpid() % 100000}" for end in "ab"]  # at most 15 characters
    with contextlib.ExitStack() as at_end:
        for name in names:
            _ip("netns", "add", name)
            at_end.callback(_end_host, name)
        _ip("link", "add", cable[0], "netns", names[0], "type", "veth", "peer", "name", cable[1], "netns", names[1])
        hosts = [_host(*each, folder) for each in zip(names, addresses, reversed(addresses), cable, strict=True)]
        common = ("--num-cpus=1", f"--object-store-memory={2**27}", "--disable-usage-stats", "--block")
        head = hosts[0].start(*RAY, "start", "--head", f"--port={PORT}", f"--node-ip-address={addresses[0]}", *common)
        _until(lambda: _answers(hosts[0]), head)
        other = hosts[1].start(*RAY, "start", f"--address={addresses[0]}:{PORT}", f"--node-ip-address={addresses[1]}", *common)
        _until(lambda: _n_nodes(hosts[0]) == 2, other)
        yield hosts[0], hosts[1]


def _host(name: str, address: str, gateway: str, device: str, folder: Path) -> Host:
    """The namespace with an address, and temporary folders that no other host sees."""
    _ip("-n", name, "address", "add", f"{address}/24", "dev", device)
    for each in ("lo", device):
        _ip("-n", name, "link", "set", each, "up")
    _ip("-n", name, "route", "add", "default", "via", gateway)  # Ray learns its own address from the way out
    own = folder / name
    (own / "spool").mkdir(parents=True)
    (own / "ray").mkdir()
    sessions = Path(tempfile.gettempdir()) / "ray"  # the names of Ray's sockets leave no room for a longer path
    sessions.mkdir(exist_ok=True)
    # `ip netns exec` gives every command mounts of its own: each host has its own folder of that name.
    inside = ("ip", "netns", "exec", name, "sh", "-c", f'mount --bind "{own / "ray"}" "{sessions}" && exec "$0" "$@"')
    # The hosts know each other by a token, as a cluster of several machines should.
    own_way = {"LOBE_SPOOL": str(own / "spool"), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_memory_monitor_refresh_ms": "0"}
    return Host(name, address, inside, {**os.environ, "RAY_TMPDIR": tempfile.gettempdir(), **own_way})


def _end_host(name: str) -> None:
    for pid in _ip("netns", "pids", name).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    _ip("netns", "del", name)  # and with it its end of the cable


def _answers(host: Host) -> bool:
    words = [*host.inside, *RAY, "health-check", "--address", f"{host.address}:{PORT}"]
    return subprocess.run(words, env=host.environment, capture_output=True, check=False).returncode == 0


def _n_nodes(head: Host) -> int:
    """Living nodes, as a driver on the head sees them."""
    look = f"import ray; ray.init('{head.address}:{PORT}', log_to_driver=False); print(sum(n['Alive'] for n in ray.nodes()))"
    seen = subprocess.run([*head.inside, sys.executable, "-c", look], env=head.environment, capture_output=True, text=True, check=False)
    return int(seen.stdout.split()[-1]) if seen.returncode == 0 else 0


def _until(ready, process: subprocess.Popen) -> None:
    until = time.monotonic() + START_S
    while not ready():
        assert process.poll() is None, "the host's Ray ended"
        assert time.monotonic() < until, f"no answer within {START_S} s"
        time.sleep(0.5)
