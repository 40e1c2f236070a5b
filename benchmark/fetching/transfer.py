"""One file over HTTP into a `.part` file, whole in the end: resumed where it was cut, begun anew where it cannot be resumed.

Proxies are those of the environment (HTTPS_PROXY, HTTP_PROXY, NO_PROXY). A redirect never leads from https to http.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from benchmark import json_files
from benchmark.errors import EnvironmentProblem
from benchmark.fetching.proxies import proxy_for
from benchmark.files import FULL, write_atomically

Progress = Callable[[int, int], None]  # bytes there, bytes in all (0 = not known)

MOST_TRIES = 5  # one after another that bring nothing new
WAIT_S = 1.0  # before the second of them; doubled before each further one
TIMEOUT_S = (20.0, 60.0)  # to connect, and between two pieces
_CHUNK = 2**18
_SPARE_BYTES = 2**28  # left free on the disk
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_REFUSED = (401, 402, 403, 407, 451)
_GONE = (404, 410)


class FetchError(EnvironmentProblem):
    """A file could not be fetched; the sentence says why, what is kept of it, and what to do next."""


@dataclass(frozen=True)
class Wanted:
    """
    Attributes:
        name: under which the file is kept.
        url: http or https.
        digest: `sha256:HEX` or `md5:HEX`; empty = not known.
        n_bytes: exact size; None = not known.
        about_bytes: rough size, for the room on the disk.
        page: where a person reads about the file.
        text: True for files that may begin like a web page.
    """

    name: str
    url: str
    digest: str = ""
    n_bytes: int | None = None
    about_bytes: int = 0
    page: str = ""
    text: bool = False

    @property
    def see(self) -> str:
        """What to do when the address does not give the file, as a sentence with a space before it."""
        return f" See {self.page}." if self.page else ""


class _Cut(Exception):
    """The connection ended early, or the server is busy: to be tried again."""


class _Unreached(_Cut):
    """There was no connection at all: to be tried again."""


def transfer(wanted: Wanted, part: Path, progress: Progress = lambda done, total: None) -> None:
    """Brings all bytes of a file into `part`, beside which a note of the transfer is kept until it is whole.

    Raises:
        FetchError: no network, a refusal, a web page instead of a file, another size, or no room. What was fetched is kept where the same
            command can go on with it, and removed where it is of no use.
    """
    _require_room(wanted, part)
    tries, waits = 0, WAIT_S
    with requests.Session() as session:
        while True:
            before = _size(part)
            try:
                _attempt(session, wanted, part, progress)
                _note(part).unlink(missing_ok=True)
                return
            except _Cut as cut:
                tries = tries + 1 if _size(part) <= before else 0
                if tries >= MOST_TRIES:
                    if isinstance(cut, _Unreached) and not _size(part):
                        raise FetchError(
                            f"{_host(wanted)} cannot be reached, {tries} times in a row ({cut}). Look at the network; where only a proxy "
                            f"leads out, set HTTPS_PROXY. Then run the same command again.{wanted.see}"
                        ) from None
                    raise FetchError(
                        f"{wanted.url} was cut off {tries} times in a row ({cut}); {_size(part):,} bytes are kept in {part}. "
                        "Run the same command again to go on from there."
                    ) from None
                time.sleep(waits if tries else 0)
                waits = waits * 2 if tries else WAIT_S
            except OSError as error:
                raise _unwritten(error, wanted, part) from None


def full_disk(error: OSError) -> bool:
    """Whether a file could not be written for want of room."""
    return error.errno in FULL


def _attempt(session: requests.Session, wanted: Wanted, part: Path, progress: Progress) -> None:
    """One request, and its body appended to `part`, or written over it where the server does not go on.

    Raises:
        _Cut: to be tried again.
        FetchError: not to be tried again.
    """
    note = _kept(part, wanted)
    start = _size(part) if note else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "lobe-bench"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if note.get("validator"):
            headers["If-Range"] = note["validator"]
    try:
        with session.get(wanted.url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
            _require_same_scheme(response, wanted)
            total = _whole_size(response, start)
            if response.status_code == 416 and start and total == start:
                return
            if response.status_code == 416 or (response.status_code == 206 and not _goes_on(response, start, note)):
                _forget(part)
                raise _Cut("the server cannot go on from there")
            _require_answer(response, wanted)
            _require_no_page(response, wanted, part)
            start = start if response.status_code == 206 else 0
            _require_size(total, wanted, part)
            write_atomically(_note(part), json.dumps({"url": wanted.url, "validator": _validator(response), "total": total}).encode())
            _pour(response, wanted, part, start, total, progress)
    except requests.exceptions.ProxyError as error:
        raise FetchError(
            f"The proxy {proxy_for(wanted.url)} did not let {_host(wanted)} through ({_why(error)}). Look at HTTPS_PROXY, which names it, "
            "and at NO_PROXY, which names hosts that need none."
        ) from None
    except requests.exceptions.SSLError as error:
        raise FetchError(
            f"{_host(wanted)} has a certificate that this machine does not trust ({_why(error)}). Behind a proxy that opens connections, "
            "name its certificate in REQUESTS_CA_BUNDLE."
        ) from None
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema) as error:
        raise FetchError(f"{wanted.url!r} is no address of a file: {_why(error)}.") from None
    except requests.exceptions.TooManyRedirects:
        raise FetchError(f"{wanted.url} leads in a circle of redirects.{wanted.see}") from None
    except (requests.exceptions.RequestException, HTTPError) as error:
        raise (_Unreached if _is_unreached(error) else _Cut)(_why(error)) from None


def _pour(response: requests.Response, wanted: Wanted, part: Path, start: int, total: int | None, progress: Progress) -> None:
    done = start
    with part.open("r+b" if start else "wb") as handle:
        handle.truncate(start)
        handle.seek(start)
        while piece := response.raw.read1(_CHUNK, decode_content=True):  # as it comes: what is waited for in a buffer is lost by a cut
            if not done:
                _require_no_page(response, wanted, part, piece)
            done += len(piece)
            if total is not None and done > total:
                handle.close()
                _forget(part)
                raise FetchError(f"{wanted.url} sends more than the {total:,} bytes it announced; nothing is kept.{wanted.see}")
            handle.write(piece)
            progress(done, total or wanted.about_bytes)
        handle.flush()
        os.fsync(handle.fileno())
    if total is not None and done < total:
        raise _Cut(f"{done:,} of {total:,} bytes came")


def _require_answer(response: requests.Response, wanted: Wanted) -> None:
    status = response.status_code
    if status in (200, 206):
        return
    if status in _REFUSED:
        raise FetchError(
            f"{wanted.url} is refused ({status}): it needs an account or an agreement, or is closed to this network.{wanted.see}"
        )
    if status in _GONE:
        raise FetchError(f"{wanted.url} is not there ({status}): the file was moved or withdrawn.{wanted.see}")
    if status in (408, 425, 429) or status >= 500:
        raise _Cut(f"the server answers {status}")
    raise FetchError(f"{wanted.url} gives no file (status {status}).{wanted.see}")


def _require_same_scheme(response: requests.Response, wanted: Wanted) -> None:
    if wanted.url.startswith("https:") and not all(one.url.startswith("https:") for one in (*response.history, response)):
        raise FetchError(f"{wanted.url} leads to an address without encryption, {response.url}: it is not followed.{wanted.see}")


def _require_size(total: int | None, wanted: Wanted, part: Path) -> None:
    if total is not None and wanted.n_bytes is not None and total != wanted.n_bytes:
        _forget(part)
        raise FetchError(
            f"{wanted.url} has {total:,} bytes, and {wanted.n_bytes:,} are expected: it is another file than the one this version of LOBE "
            f"knows.{wanted.see}"
        )


def _require_no_page(response: requests.Response, wanted: Wanted, part: Path, piece: bytes = b"") -> None:
    """By what the answer calls itself, or by its first bytes."""
    if wanted.text:
        return
    head = piece[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml") or head.startswith((b"<!doctype html", b"<html", b"<head")):
        _forget(part)
        raise FetchError(
            f"{wanted.url} gives a web page instead of {wanted.name}: the file needs a login or a click, or has another address now."
            f"{wanted.see}"
        )


def _require_room(wanted: Wanted, part: Path) -> None:
    needed = (wanted.n_bytes or wanted.about_bytes) - _size(part)
    free = shutil.disk_usage(part.parent).free
    if needed > 0 and free < needed + _SPARE_BYTES:
        raise FetchError(
            f"{wanted.name} needs {needed / 1e9:.1f} GB more and {part.parent} has {free / 1e9:.1f} GB free: make room, or choose a folder "
            "on another disk."
        )


def _unwritten(error: OSError, wanted: Wanted, part: Path) -> FetchError:
    if full_disk(error):
        return FetchError(
            f"No room left for {wanted.name} in {part.parent}; {_size(part):,} bytes are kept. Make room and run the same command again, "
            "which goes on from there."
        )
    return FetchError(f"{part} cannot be written: {error.strerror or error}.")


def _kept(part: Path, wanted: Wanted) -> dict[str, Any]:
    """The note of an earlier transfer that can be gone on with; empty where there is none.

    Without a mark of the server's that tells one version of the file from the next, only a digest would show that two were mixed.
    """
    with contextlib.suppress(OSError, ValueError):
        note = json_files.read(_note(part))
        if note.get("url") == wanted.url and _size(part) and (note.get("validator") or wanted.digest):
            return dict(note)
    return {}


def _goes_on(response: requests.Response, start: int, note: dict[str, Any]) -> bool:
    """Whether a partial answer begins where the kept part ends, of a file of the same size."""
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if found is None or int(found[1]) != start:
        return False
    return found[2] == "*" or note.get("total") in (None, int(found[2]))


def _whole_size(response: requests.Response, start: int) -> int | None:
    """Bytes of the whole file, as the answer says it; None where it does not."""
    said = response.headers.get("Content-Range", "")
    if response.status_code in (206, 416) and "/" in said:
        total = said.rpartition("/")[2]
        return int(total) if total.isdigit() else None
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() and "Content-Encoding" not in response.headers else None


def _validator(response: requests.Response) -> str:
    """What tells this version of the file from another: a strong ETag, else the time of its last change."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _host(wanted: Wanted) -> str:
    return urlsplit(wanted.url).hostname or wanted.url


def _is_unreached(error: Exception) -> bool:
    """Whether no connection came to be: a name that nobody knows, a refusal, or silence."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, NewConnectionError | ConnectTimeoutError)


def _why(error: Exception) -> str:
    """The innermost reason that a chain of wrapped errors gives."""
    text = str(error)
    for inner in re.findall(r"\[Errno -?\d+\] ([^')\"]+)|Caused by \w+\([\"']?([^'\")]+)", text):
        text = inner[0] or inner[1]
    return text.split("\n")[0][:160] or type(error).__name__


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)
