"""Archives of enemies: each is refused with a sentence, before anything of it is unpacked."""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.errors import UsageError
from benchmark.submission import archive
from benchmark.submission.archive import BadArchive, opened
from benchmark.submission.manifest import NAME, Manifest
from tests.submission.forging import packed

KEY = "0123456789abcdef" * 2
RECORD, RESULT = f"records/{KEY}.json", f"predictions/{KEY}/statistics.parquet"
MANIFEST = Manifest(format=1, lobe="1", code="0" * 64, suite=None, phantom=True, backbones=(), tasks=(), environments=(), files=())
FILES = {RECORD: b'{"key": 1}', RESULT: b"PAR1 and more"}


@pytest.fixture
def honest(tmp_path: Path) -> Path:
    return packed(dict(FILES), MANIFEST, tmp_path / "honest.zip")


def entries(file: Path) -> list[tuple[zipfile.ZipInfo, bytes]]:
    with zipfile.ZipFile(file) as given:
        return [(info, given.read(info)) for info in given.infolist()]


def with_entry(file: Path, name: str, content: bytes = b"{}", **attributes: object) -> Path:
    """The archive with one more entry, as any program would write it."""
    forged = file.with_name("forged.zip")
    with zipfile.ZipFile(forged, "w") as made:
        for info, old in entries(file):
            made.writestr(info, old)
        entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
        entry.create_system, entry.external_attr = 3, 0o100644 << 16
        for attribute, value in attributes.items():
            setattr(entry, attribute, value)
        made.writestr(entry, content)
    return forged


def test_an_honest_archive_is_read(honest: Path) -> None:
    with opened(honest) as given:
        assert set(given.names) == {*FILES, NAME}
        assert {name: given.read(name) for name in FILES} == FILES
        assert given.id == given.sha256[:12]


@pytest.mark.parametrize(
    "name",
    [
        "../outside.json",
        "records/../../outside.json",
        f"/records/{KEY}.json",
        f"records\\{KEY}.json",
        f"C:/records/{KEY}.json",
        f"records/{KEY.upper()}.json",  # one file with the other where case does not count
        f"Records/{KEY}.json",
        f"records/{KEY}.json/",
        f"records//{KEY}.json",
        f"./records/{KEY}.json",
        f"records/{KEY}.json\n",
        f"records/{KEY[:-1]}\uff11.json",  # a digit of another script
        f"records/{KEY}\u202e.json",
        f"records/{KEY}.JSON",
        f"predictions/{KEY}/statistics.zip",
        f"predictions/{KEY}/examples.npz",
        f"predictions/{KEY}/../{KEY}/statistics.parquet",
        "index.sqlite",
        "history.jsonl",
        "mine.py",
        ".git/config",
        "cards/backbones/a b.json",
        "cards/readers/mine.json",
        "",
    ],
)
def test_a_name_that_no_submission_holds_is_refused(honest: Path, name: str) -> None:
    with (
        pytest.raises(BadArchive, match=r"which is no file of a submission|in a way that submissions are not"),
        opened(with_entry(honest, name)),
    ):
        pass


def test_a_link_is_refused(honest: Path) -> None:
    forged = with_entry(honest, "cards/tasks/link.json", b"/etc/passwd", external_attr=0o120777 << 16)
    with pytest.raises(BadArchive, match="is a link"), opened(forged):
        pass


def test_a_name_twice_is_refused(honest: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        forged = with_entry(honest, RECORD)
    with pytest.raises(BadArchive, match="more than once"), opened(forged):
        pass


def test_a_file_that_the_manifest_does_not_name_is_refused(honest: Path) -> None:
    with (
        pytest.raises(BadArchive, match="does not name the files it holds: cards/tasks/more"),
        opened(with_entry(honest, "cards/tasks/more.json")),
    ):
        pass


def test_a_bomb_is_refused_before_it_is_unpacked(honest: Path) -> None:
    forged = with_entry(honest, "cards/tasks/large.json", b" " * 2**20, compress_type=zipfile.ZIP_DEFLATED)
    with pytest.raises(BadArchive, match="would unpack to 1,048,576 bytes from"), opened(forged):
        pass


def test_a_file_that_would_be_too_large_is_refused(honest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(archive.MOST_OF, "record", 5)
    with pytest.raises(BadArchive, match="a record has at most 5"), opened(honest):
        pass
    monkeypatch.undo()
    monkeypatch.setattr(archive, "MOST_UNPACKED", 100)
    with pytest.raises(BadArchive, match="it would unpack to"), opened(honest):
        pass


def test_more_files_than_a_submission_has_are_refused_unread(honest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_FILES", 2)
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("the table of contents was read"))
    with pytest.raises(BadArchive, match="it declares 3 files"), opened(honest):
        pass


def test_another_number_of_files_than_the_archive_declares_is_refused(honest: Path) -> None:
    """A library reads the whole table whatever its end record says, so that any number of files would pass as few."""

    def understated(content: bytearray) -> bytearray:
        content[-14:-10] = struct.pack("<2H", 1, 1)
        return content

    with pytest.raises(BadArchive, match="it declares 1 files, and its table of contents has 3"), opened(changed(honest, understated)):
        pass


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"PK\x03\x04" + bytes(40), id="another archive"),
        pytest.param(b"\x1f\x8b" + bytes(40), id="something packed"),
        pytest.param(b"#!/bin/sh\n", id="a program"),
        pytest.param(b"=cmd|' /C calc'!A0", id="a formula"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path, content: bytes) -> None:
    for name, what in ((RESULT, "a Parquet file"), (RECORD, "JSON")):
        forged = packed(FILES | {name: content}, MANIFEST, tmp_path / "forged.zip")
        with opened(forged) as given, pytest.raises(BadArchive, match=f"{name} is not {what}"):
            given.read(name)


def test_other_bytes_than_the_manifest_names_are_refused(honest: Path) -> None:
    forged = honest.with_name("forged.zip")
    with zipfile.ZipFile(forged, "w") as made:
        for info, content in entries(honest):
            made.writestr(info, b'{"key": 2}' if info.filename == RECORD else content)
    with opened(forged) as given, pytest.raises(BadArchive, match="is not the file that its manifest names"):
        given.read(RECORD)


def changed(file: Path, change: Callable[[bytearray], bytes | bytearray]) -> Path:
    forged = file.with_name("forged.zip")
    forged.write_bytes(change(bytearray(file.read_bytes())))
    return forged


def shifted(content: bytearray) -> bytes:
    """Bytes before the archive, with all its places put right: what a picture with an archive behind it looks like."""
    ahead, start = b"GIF89a" + bytes(10), content.index(b"PK\x01\x02")
    for at in range(start, len(content) - 22):
        if content[at : at + 4] == b"PK\x01\x02":
            content[at + 42 : at + 46] = struct.pack("<L", struct.unpack("<L", content[at + 42 : at + 46])[0] + len(ahead))
    content[-6:-2] = struct.pack("<L", start + len(ahead))
    return ahead + content


def overlapping(content: bytearray) -> bytearray:
    """The second entry's place is the first one's: one piece of data read twice, as in bombs that unpack without end."""
    first = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", first + 4)
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    return content


def two_names(content: bytearray) -> bytearray:
    """The entry's own header has another name than the table of contents."""
    at = content.index(b"predictions/")
    content[at : at + 4] = b"PRED"
    return content


def encrypted(content: bytearray) -> bytearray:
    at = content.index(b"PK\x01\x02")
    content[at + 8] |= 1
    return content


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda content: content + b"more", "does not end as a ZIP file|cut off"),
        (lambda content: content[:-30], "does not end as a ZIP file"),
        (lambda content: content[:10], "it is no ZIP file"),
        (lambda content: b"", "it is no ZIP file"),
        (shifted, "leaves a gap before it"),
        (lambda content: b"GIF89a" + content, "bytes stand before, behind or between its parts"),
        (overlapping, "shares its bytes with another file"),
        (two_names, "its two headers contradict each other|cannot be read"),
        (encrypted, "encrypted"),
    ],
    ids=["appended", "cut", "short", "empty", "prepended", "prepended without a word", "overlapping", "two names", "encrypted"],
)
def test_a_file_that_two_programs_would_read_differently_is_refused(honest: Path, change: Callable, sentence: str) -> None:
    with pytest.raises(BadArchive, match=sentence), opened(changed(honest, change)):
        pass


def test_flipped_bytes_are_a_sentence_and_never_another_content(honest: Path) -> None:
    whole = honest.read_bytes()
    for at in range(0, len(whole), 7):
        forged = changed(honest, lambda content, at=at: content[:at] + bytes([content[at] ^ 0x41]) + content[at + 1 :])
        with contextlib.suppress(UsageError), opened(forged) as given:
            assert {name: given.read(name) for name in FILES} == FILES


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"format": 99}', "packed by a newer LOBE"),
        (b'{"format": 1}', "key 'lobe'"),
        (b'{"files": ' + b"[" * 5000 + b"]" * 5000 + b"}", "nested too deeply"),
        (b"{", "is none"),
    ],
)
def test_a_manifest_of_any_content_is_a_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    archive.write(tmp_path / "forged.zip", {NAME: lambda: content})
    with pytest.raises(UsageError, match=sentence), opened(tmp_path / "forged.zip"):
        pass


def test_something_else_than_an_archive_is_a_sentence(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr(zipfile.ZipInfo(RECORD, (1980, 1, 1, 0, 0, 0)), "{}")
    (tmp_path / "other.zip").write_bytes(buffer.getvalue())
    with pytest.raises(BadArchive, match=r"it has no manifest\.json"), opened(tmp_path / "other.zip"):
        pass
    with pytest.raises(UsageError, match="Cannot read the archive"), opened(tmp_path / "none.zip"):
        pass
    with pytest.raises(UsageError, match="folder"), opened(tmp_path):
        pass


def test_a_larger_archive_than_any_submission_is_not_read(honest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_BYTES", 100)
    with pytest.raises(BadArchive, match="bytes, more than 100"), opened(honest):
        pass


def test_bytes_between_the_last_file_and_the_table_of_contents_are_refused(honest: Path) -> None:
    whole = honest.read_bytes()
    (table,) = struct.unpack_from("<L", whole, len(whole) - 6)
    forged = honest.with_name("forged.zip")
    end = whole[table:-6] + struct.pack("<L", table + 4) + whole[-2:]
    forged.write_bytes(whole[:table] + b"more" + end)
    with pytest.raises(BadArchive, match="bytes stand behind its last file that belong to no file"), opened(forged):
        pass


def test_a_file_that_is_shorter_than_both_headers_say_is_refused(honest: Path) -> None:
    whole, size = honest.read_bytes(), struct.pack("<2L", len(FILES[RESULT]), len(FILES[RESULT]))
    assert whole.count(size) == 2  # of the stored file, in its own header and in the table of contents
    forged = honest.with_name("forged.zip")
    forged.write_bytes(whole.replace(size, struct.pack("<2L", len(FILES[RESULT]), len(FILES[RESULT]) + 1)))
    with opened(forged) as given, pytest.raises(BadArchive, match="has another size than declared"):
        given.read(RESULT)
