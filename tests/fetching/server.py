"""A local HTTP server with the faults of real ones: a cut connection, no Range, a web page for a file, a refusal, a circle of redirects."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """
    Attributes:
        content: of the file.
        cuts: bytes of each of the next answers' bodies, after which the connection is cut.
        ranges: whether the server knows Range.
        tag: strong ETag; empty sends none.
        status: of the answer, with a short text; 200 sends the file.
        busy: answers of 503 before the first one.
        location: to be redirected to.
        kind: content type.
        commit: of the hub's file, in its header.
        chunked: whether the body comes in pieces of a length that is not told ahead.
        headers: further ones, of refusals.
        stalls_after: bytes after which nothing more comes and the connection stays open, until the server ends; None never stalls.
    """

    content: bytes = b""
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True
    tag: str = '"first"'
    status: int = 200
    busy: int = 0
    location: str = ""
    kind: str = "application/octet-stream"
    commit: str = ""
    chunked: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    stalls_after: int | None = None


@dataclass
class FaultyServer:
    """
    Attributes:
        files: path -> what is served there; all else is 404.
        asked: (method, path, Range) of every request.
    """

    url: str
    files: dict[str, Served] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def ranges_of(self, path: str) -> list[str]:
        return [asked for method, at, asked in self.asked if (method, at) == ("GET", path)]


@contextmanager
def faulty_server() -> Iterator[FaultyServer]:
    """Serves on the loopback until the block ends."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            at = self.path.partition("?")[0]
            asked = self.headers.get("Range", "")
            server.asked.append((self.command, at, asked))
            one = server.files.get(at)
            if one is None:
                return self._say(404)
            if one.busy:
                one.busy -= 1
                return self._say(503)
            if one.status != 200:
                return self._say(one.status, one.headers)
            if one.location:
                return self._say(302, {"Location": one.location})
            start = self._start(one, asked)
            if start is not None and start >= len(one.content):
                return self._say(416, {"Content-Range": f"bytes */{len(one.content)}"})
            part = one.content[start or 0 :]
            self.send_response(200 if start is None else 206)
            if start is not None:
                self.send_header("Content-Range", f"bytes {start}-{len(one.content) - 1}/{len(one.content)}")
            self.send_header("Content-Type", one.kind)
            self.send_header(*(("Transfer-Encoding", "chunked") if one.chunked else ("Content-Length", str(len(part)))))
            for name, value in {"ETag": one.tag, "X-Repo-Commit": one.commit, "Accept-Ranges": "bytes" if one.ranges else "none"}.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            if not body:
                return None
            cut = one.cuts.pop(0) if one.cuts else None
            sent = part[:cut]
            if one.stalls_after is not None:
                self.wfile.write(part[: one.stalls_after])
                self.wfile.flush()
                self.close_connection = True
                ended.wait()
                return None
            self.wfile.write(b"%x\r\n%s\r\n" % (len(sent), sent) + (b"0\r\n\r\n" if cut is None else b"") if one.chunked else sent)
            self.close_connection = cut is not None
            return None

        def _start(self, one: Served, asked: str) -> int | None:
            """First byte of what is asked for; None for all of it."""
            found = re.fullmatch(r"bytes=(\d+)-", asked)
            if found is None or not one.ranges or self.headers.get("If-Range", one.tag) != one.tag:
                return None
            return int(found[1])

        def _say(self, status: int, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        server = FaultyServer(f"http://127.0.0.1:{listening.server_address[1]}")
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            ended.set()
            listening.shutdown()
            thread.join()
