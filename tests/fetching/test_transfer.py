"""A file comes whole or not at all, whatever the connection does; what was fetched is gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.fetching import transfer as module
from benchmark.fetching.keeping import fetched, part_of
from benchmark.fetching.proxies import proxy_for
from benchmark.fetching.transfer import FetchError, Wanted, transfer
from tests.fetching.server import FaultyServer, Served
from tests.full_disk import full_disk

CONTENT = bytes(range(256)) * 4096  # 1 MiB
PAGE = "https://example.org/about"


def wanted(server: FaultyServer, path: str = "/f.bin", **more) -> Wanted:
    return Wanted("f.bin", server.url + path, page=PAGE, **more)


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_cut_connection_is_resumed_from_its_last_byte(server: FaultyServer, tmp_path: Path):
    server.files["/f.bin"] = Served(CONTENT, cuts=[300_000, 0, 200_000])
    seen: list[tuple[int, int]] = []
    assert fetched(wanted(server), tmp_path, lambda done, total: seen.append((done, total))).read_bytes() == CONTENT
    assert server.ranges_of("/f.bin") == ["", "bytes=300000-", "bytes=300000-", "bytes=500000-"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert left_over(tmp_path) == ["f.bin"]


def test_a_later_command_goes_on_with_what_an_earlier_one_left(server: FaultyServer, tmp_path: Path):
    server.files["/f.bin"] = Served(CONTENT, cuts=[1000, *[0] * module.MOST_TRIES])
    with pytest.raises(FetchError, match=r"was cut off 5 times in a row.*1,000 bytes are kept.*Run the same command again"):
        fetched(wanted(server), tmp_path)
    assert not (tmp_path / "f.bin").exists()
    server.asked.clear()
    assert fetched(wanted(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges_of("/f.bin") == ["bytes=1000-"]


def test_a_server_without_range_begins_anew(server: FaultyServer, tmp_path: Path):
    server.files["/f.bin"] = Served(CONTENT, cuts=[300_000], ranges=False)
    assert fetched(wanted(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges_of("/f.bin") == ["", "bytes=300000-"]


def test_a_file_that_changed_between_two_tries_is_not_mixed_with_its_old_part(server: FaultyServer, tmp_path: Path):
    server.files["/f.bin"] = Served(b"o" * len(CONTENT), cuts=[1000, *[0] * module.MOST_TRIES], tag='"old"')
    with pytest.raises(FetchError):
        fetched(wanted(server), tmp_path)
    server.files["/f.bin"] = Served(CONTENT, tag='"new"')
    assert fetched(wanted(server), tmp_path).read_bytes() == CONTENT


def test_without_a_mark_of_its_version_or_a_digest_a_file_is_not_resumed(server: FaultyServer, tmp_path: Path):
    server.files["/f.bin"] = Served(CONTENT, cuts=[1000], tag="")
    assert fetched(wanted(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges_of("/f.bin") == ["", ""]


def test_a_part_that_is_whole_already_is_taken_as_it_is(server: FaultyServer, tmp_path: Path):
    """Stopped between the last byte and the new name."""
    server.files["/f.bin"] = Served(CONTENT)
    part = part_of(wanted(server), tmp_path)
    part.write_bytes(CONTENT)
    note = {"url": server.url + "/f.bin", "validator": '"first"', "total": len(CONTENT)}
    part.with_name(f"{part.name}.json").write_text(json.dumps(note))
    assert fetched(wanted(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges_of("/f.bin") == [f"bytes={len(CONTENT)}-"]


def test_a_body_of_unknown_length_comes_whole(server: FaultyServer, tmp_path: Path):
    server.files["/f.bin"] = Served(CONTENT, chunked=True, cuts=[1000])
    assert fetched(wanted(server), tmp_path).read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_and_a_redirect_is_followed(server: FaultyServer, tmp_path: Path):
    server.files["/f.bin"] = Served(location="/other.bin")
    server.files["/other.bin"] = Served(CONTENT, busy=2)
    assert fetched(wanted(server), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("served", "sentence"),
    [
        (Served(status=403), r"is refused \(403\): it needs an account or an agreement"),
        (Served(status=404), r"is not there \(404\): the file was moved or withdrawn"),
        (Served(status=418), r"gives no file \(status 418\)"),
        (Served(location="/f.bin"), "leads in a circle of redirects"),
        (Served(b"<!DOCTYPE html><p>Log in", kind="text/html; charset=utf-8"), r"a web page instead of f\.bin: the file needs a login"),
        (Served(b"\n <HTML><p>Log in"), r"a web page instead of f\.bin"),
    ],
    ids=["403", "404", "418", "circle", "html by type", "html by content"],
)
def test_what_is_no_file_ends_at_once_with_its_page(server: FaultyServer, tmp_path: Path, served: Served, sentence: str):
    server.files["/f.bin"] = served
    with pytest.raises(FetchError, match=f"{sentence}.* See {PAGE}"):
        fetched(wanted(server), tmp_path)
    assert left_over(tmp_path) == []


def test_another_size_than_the_known_one_is_refused_before_it_is_fetched(server: FaultyServer, tmp_path: Path):
    server.files["/f.bin"] = Served(CONTENT)
    with pytest.raises(FetchError, match=r"has 1,048,576 bytes, and 7 are expected: it is another file"):
        fetched(wanted(server, n_bytes=7), tmp_path)
    assert left_over(tmp_path) == []


def test_a_wrong_digest_deletes_what_came(server: FaultyServer, tmp_path: Path):
    server.files["/f.bin"] = Served(CONTENT)
    with pytest.raises(FetchError, match=r"gave a file with sha256:\w{64}, and f\.bin has sha256:0{64}.*It was deleted"):
        fetched(wanted(server, digest=f"sha256:{'0' * 64}"), tmp_path)
    assert left_over(tmp_path) == []


def test_a_full_disk_is_a_sentence_and_keeps_what_came(server: FaultyServer, tmp_path: Path):
    server.files["/f.bin"] = Served(CONTENT)
    with full_disk(), pytest.raises(FetchError, match=r"No room left for f\.bin.*Make room and run the same command again"):
        fetched(wanted(server), tmp_path)
    assert fetched(wanted(server), tmp_path).read_bytes() == CONTENT


def test_a_disk_that_is_too_small_is_told_before_the_first_byte(server: FaultyServer, tmp_path: Path):
    server.files["/f.bin"] = Served(CONTENT)
    with pytest.raises(FetchError, match=r"needs 1000000\.0 GB more"):
        fetched(wanted(server, about_bytes=10**15), tmp_path)
    assert server.asked == []


def test_a_proxy_of_the_environment_is_used_and_its_refusal_named(server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", server.url)  # this server answers 404 to what it does not know
    with pytest.raises(FetchError, match=r"is not there \(404\)"):
        transfer(Wanted("f.bin", "http://data.invalid/f.bin"), tmp_path / "part")
    assert server.asked[0][1] == "http://data.invalid/f.bin"
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:9")
    with pytest.raises(FetchError, match=r"^The proxy http://127\.0\.0\.1:9 did not let data\.invalid through .*HTTPS_PROXY"):
        transfer(Wanted("f.bin", "http://data.invalid/f.bin"), tmp_path / "part")


def test_a_server_that_is_not_there_is_a_sentence(server: FaultyServer, tmp_path: Path):
    with pytest.raises(FetchError, match=r"^127\.0\.0\.1 cannot be reached, 5 times in a row \(.*refused.*set HTTPS_PROXY"):
        transfer(Wanted("f.bin", "http://127.0.0.1:9/f.bin"), tmp_path / "part")


def test_the_proxy_of_an_encrypted_address_is_named_too_and_without_its_password(server: FaultyServer, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://me:secret@127.0.0.1:9")
    with pytest.raises(FetchError, match=r"^The proxy http://127\.0\.0\.1:9 did not let data\.invalid through") as said:
        transfer(Wanted("f.bin", "https://data.invalid/f.bin"), tmp_path / "part")
    assert "secret" not in str(said.value)
    assert (proxy_for("https://data.invalid/f.bin"), proxy_for("http://data.invalid/f.bin")) == ("http://127.0.0.1:9", "")
    monkeypatch.setenv("https_proxy", "me:secret@127.0.0.1:9")
    assert proxy_for("https://data.invalid/f.bin") == "http://127.0.0.1:9"
    monkeypatch.setenv("no_proxy", "data.invalid")
    assert proxy_for("https://data.invalid/f.bin") == ""


def test_what_is_no_address_is_a_sentence(tmp_path: Path):
    with pytest.raises(FetchError, match=r"'ftp://example\.org/x' is no address of a file"):
        transfer(Wanted("f.bin", "ftp://example.org/x"), tmp_path / "part")
