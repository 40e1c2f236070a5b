"""A cluster's address: whether it is one, and whether a Ray cluster answers there that takes us. Asked before Ray is, which would wait for
minutes and name another address in its error.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from benchmark.errors import EnvironmentProblem, UsageError

ANSWER_S = 5.0  # within which a cluster's head answers
AUTO = "auto"  # the Ray that runs on this machine
_HOST = re.compile(r"[0-9A-Fa-f:.]+|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_HOST_AND_PORT = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?):([0-9]{1,5})")


def checked(address: str) -> str:
    """The address, if it can be one.

    Args:
        address: `host:port` of the cluster's head, `[host]:port` for IPv6, or `auto`.

    Raises:
        UsageError: it cannot; says what is written instead.
    """
    found = _HOST_AND_PORT.fullmatch(address)
    if address == AUTO or (found and 0 < int(found[1]) < 2**16):
        return address
    if address.startswith(("http://", "https://")):
        raise UsageError(
            f"--address {address} is a cluster's job server, which takes whole evaluations: add --detach. "
            "To drive one from here, name the head and its port, like head:6379."
        )
    if address.startswith("ray://"):
        raise UsageError(
            f"--address {address}: Ray's client protocol is not supported. Name the head and its port, like head:6379, on a machine of the "
            "cluster; from elsewhere hand the evaluation over: --address http://head:8265 --detach."
        )
    if address == "local":
        raise UsageError("--address local: leave --address out to run on this machine.")
    raise UsageError(f"--address {address!r} is no address: write the cluster's head and its port, like head:6379, or auto.")


def checked_server(address: str) -> str:
    """The address of a cluster's job server, if it can be one: `http://head:8265`.

    Raises:
        UsageError: it cannot.
    """
    try:
        parts = urlsplit(address)
        sound = parts.scheme in ("http", "https") and _HOST.fullmatch(parts.hostname or "") and parts.port != 0
    except ValueError:  # a port that is none
        sound = False
    if not sound:
        raise UsageError(f"--address {address!r}: a cluster's job server is named like http://head:8265.")
    return address


def wants_token(address: str) -> EnvironmentProblem:
    """What to say when a cluster does not know us."""
    return EnvironmentProblem(
        f"The Ray cluster at {address} asks for its token: set RAY_AUTH_MODE=token, and have its token in ~/.ray/auth_token or in "
        "RAY_AUTH_TOKEN (docs/cluster.md, Who may use it)."
    )


def no_answer(address: str, why: str) -> EnvironmentProblem:
    """What to say when there is no cluster."""
    return EnvironmentProblem(f"No Ray cluster answers at {address}: {why} Is it the head's address, and does Ray run there?")


def require_answer(address: str, given: str | None = None) -> None:
    """Asks the head for a sign of life, with the token that this process has.

    Args:
        address: host and port.
        given: the address as the user wrote it, for the sentence.

    Raises:
        EnvironmentProblem: it wants another token, or nothing answers within `ANSWER_S`.
    """
    given = given or address
    code, details = _asked(address)
    if code == "OK":
        return
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        raise wants_token(given)
    if code == "DEADLINE_EXCEEDED":
        raise no_answer(given, f"nothing within {ANSWER_S:.0f} s.")
    if code == "UNIMPLEMENTED":
        raise no_answer(given, "something else does.")
    # The last link of gRPC's chain, such as: Connection refused.
    reason = (details or code).partition("\n")[0].rpartition(": ")[2].strip(" .]")[:200]
    raise no_answer(given, f"{reason}.")


def is_alive(address: str) -> bool:
    """Whether anything like a head answers; one that only wants a token does."""
    return _asked(address)[0] in ("OK", "UNAUTHENTICATED", "PERMISSION_DENIED")


def _asked(address: str) -> tuple[str, str]:
    """gRPC's status and its details."""
    import grpc
    from ray._private.grpc_utils import init_grpc_channel  # knows TLS and the token, as Ray's own connection does
    from ray.core.generated.gcs_service_pb2 import CheckAliveRequest  # type: ignore[attr-defined]  # protobuf makes it at import
    from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub
    from ray.exceptions import AuthenticationError

    try:
        with init_grpc_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
            NodeInfoGcsServiceStub(channel).CheckAlive(CheckAliveRequest(), timeout=ANSWER_S)
    except grpc.RpcError as error:
        return error.code().name, error.details() or ""
    except AuthenticationError:  # this process is to send a token, and has none
        return "UNAUTHENTICATED", ""
    return "OK", ""
