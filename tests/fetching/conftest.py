from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmark.fetching import transfer
from tests.fetching.server import FaultyServer, faulty_server

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    """A local server with faults; nothing waits between tries, and no proxy of this machine stands between."""
    monkeypatch.setattr(transfer, "WAIT_S", 0.0)
    for name in (*PROXIES, *map(str.lower, PROXIES)):
        monkeypatch.delenv(name, raising=False)
    with faulty_server() as started:
        yield started


@pytest.fixture
def hub_online(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client may ask the network, where it finds the local server as its hub. All other tests keep it offline."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
