"""An address that is none, that nobody answers at, or that wants a token, is told within seconds, by the name it was given."""

from __future__ import annotations

import socket
from concurrent import futures

import grpc
import pytest

from benchmark.errors import EnvironmentProblem, UsageError
from benchmark.execute import addresses

TOKEN = "0123456789abcdef" * 2


@pytest.mark.parametrize("address", ["auto", "head:6379", "10.0.0.1:6379", "[fe80::1]:6379", "node-1.example.org:1"])
def test_an_address_is_a_host_and_a_port(address: str):
    assert addresses.checked(address) == address


@pytest.mark.parametrize(
    ("address", "said"),
    [
        *(
            (wrong, "head:6379, or auto")
            for wrong in ("foo", "127.0.0.1:notaport", "", " head:6379", "head: 6379", "h:0", "h:70000", "::1")
        ),
        ("http://head:8265", "add --detach"),
        ("ray://head:10001", "client protocol is not supported"),
        ("local", "leave --address out"),
    ],
)
def test_what_is_no_address_says_what_to_write(address: str, said: str):
    with pytest.raises(UsageError, match=said):
        addresses.checked(address)


@pytest.mark.parametrize("address", ["head:8265", "", "http://", "http://head:notaport", "http://a b:1", "ftp://head:1", "http://head:0"])
def test_a_job_server_is_a_page(address: str):
    with pytest.raises(UsageError, match="http://head:8265"):
        addresses.checked_server(address)
    assert addresses.checked_server("http://head:8265") == "http://head:8265"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_an_address_without_a_server_is_named_as_it_was_given():
    with pytest.raises(EnvironmentProblem, match=r"No Ray cluster answers at head:1: Connection refused\."):
        addresses.require_answer(f"127.0.0.1:{free_port()}", "head:1")


def test_a_server_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(addresses, "ANSWER_S", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(EnvironmentProblem, match="nothing within"):
            addresses.require_answer(f"127.0.0.1:{silent.getsockname()[1]}")


@pytest.fixture
def head():
    """What a head answers with: alive to those who bring the token."""
    from ray.core.generated import gcs_service_pb2 as messages
    from ray.core.generated import gcs_service_pb2_grpc as services

    class Head(services.NodeInfoGcsServiceServicer):
        def CheckAlive(self, request, context):
            if dict(context.invocation_metadata()).get("authorization") != f"Bearer {TOKEN}":
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
            return messages.CheckAliveReply()

    server = grpc.server(futures.ThreadPoolExecutor(1))
    services.add_NodeInfoGcsServiceServicer_to_server(Head(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


def test_a_server_of_something_else_is_told_from_a_head():
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with pytest.raises(EnvironmentProblem, match=r"No Ray cluster answers at head:1: something else does\."):
            addresses.require_answer(f"127.0.0.1:{port}", "head:1")
    finally:
        server.stop(None)


def test_a_process_that_is_to_send_a_token_and_has_none_is_told_so(monkeypatch):
    from ray._private import grpc_utils
    from ray.exceptions import AuthenticationError

    def without_token(*_, **__):
        raise AuthenticationError("RAY_AUTH_MODE is token, and no token was found")

    monkeypatch.setattr(grpc_utils, "init_grpc_channel", without_token)
    with pytest.raises(EnvironmentProblem, match="cluster at head:6379 asks for its token"):
        addresses.require_answer("127.0.0.1:1", "head:6379")


def test_a_head_that_wants_a_token_is_alive_and_asks_for_it_by_its_address(head: str):
    with pytest.raises(EnvironmentProblem, match="cluster at gpu-head:6379 asks for its token: set RAY_AUTH_MODE=token"):
        addresses.require_answer(head, "gpu-head:6379")
    assert addresses.is_alive(head)
    assert not addresses.is_alive(f"127.0.0.1:{free_port()}")
