"""Archives of others write files below their folder and nothing else."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from benchmark.errors import DataError
from benchmark.fetching import unpacking
from benchmark.fetching.transfer import FetchError
from benchmark.fetching.unpacking import is_archive, unpack
from tests.full_disk import full_disk


def zipped(path: Path, files: dict[str, bytes], mode: int = stat.S_IFREG | 0o644) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr, entry.compress_type = 3, mode << 16, zipfile.ZIP_DEFLATED
            packed.writestr(entry, content)
    return path


def tarred(path: Path, files: dict[str, bytes], compression: str = "gz", kind: bytes = tarfile.REGTYPE, link: str = "") -> Path:
    with tarfile.open(path, f"w:{compression}") as packed:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, link, len(content)
            packed.addfile(member, io.BytesIO(content))
    return path


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


FILES = {"top/a.txt": b"a", "top/deep/b.png": b"bb"}
MAKERS = {
    "zip": lambda path: zipped(path, FILES),
    "tgz": lambda path: tarred(path, FILES),
    "txz": lambda path: tarred(path, FILES, "xz"),
    "tbz": lambda path: tarred(path, FILES, "bz2"),
    "tar": lambda path: tarred(path, FILES, ""),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_an_archive_is_known_by_its_content_and_unpacks_whole(tmp_path: Path, kind: str):
    archive = MAKERS[kind](tmp_path / "download")
    assert is_archive(archive)
    assert unpack(archive, tmp_path / "all") == 2
    assert files_in(tmp_path / "all") == FILES
    assert unpack(archive, tmp_path / "stripped", strip=1) == 2
    assert set(files_in(tmp_path / "stripped")) == {"a.txt", "deep/b.png"}


OUTSIDE = ["../out.txt", "a/../../out.txt", "/etc/out.txt", "..\\out.txt", "C:/out.txt", "a/new\nline"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, make, name: str):
    archive = make(tmp_path / "download", {name: b"x"})
    with pytest.raises(DataError, match="leads out of the folder, or is no name of a file"):
        unpack(archive, tmp_path / "in" / "side")
    assert list(tmp_path.rglob("*out.txt*")) == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes):
    archive = tarred(tmp_path / "download", {"a": b""}, kind=kind, link="/etc/passwd")
    with pytest.raises(DataError, match="'a' is a link or a device"):
        unpack(archive, tmp_path / "inside")
    archive = zipped(tmp_path / "zip", {"a": b"/etc/passwd"}, stat.S_IFLNK | 0o777)
    with pytest.raises(DataError, match="'a' is a link or a device"):
        unpack(archive, tmp_path / "inside")


@pytest.mark.parametrize("make", [zipped, tarred])
def test_an_archive_that_unpacks_to_much_more_than_its_size_is_refused(tmp_path: Path, make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unpacking, "FREE_BYTES", 2**20)
    archive = make(tmp_path / "download", {"a": bytes(2**22)})
    with pytest.raises(DataError, match="would unpack to more than"):
        unpack(archive, tmp_path / "inside")
    monkeypatch.setattr(unpacking, "MOST_FILES", 1)
    with pytest.raises(DataError, match="holds more than 1 files"):
        unpack(make(tmp_path / "many", {"a": b"", "b": b""}), tmp_path / "other")


def test_what_follows_the_last_file_of_an_archive_is_counted_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unpacking, "FREE_BYTES", 2**20)
    archive = tarred(tmp_path / "download", FILES, "")
    archive.write_bytes(gzip.compress(archive.read_bytes() + bytes(2**22)))
    with pytest.raises(DataError, match="follow its last file"):
        unpack(archive, tmp_path / "inside")


def test_a_name_that_comes_twice_is_refused(tmp_path: Path):
    with tarfile.open(tmp_path / "download", "w") as packed:
        for _ in range(2):
            packed.addfile(tarfile.TarInfo("a"))
    with pytest.raises(DataError, match="'a' twice, or as a file and as a folder"):
        unpack(tmp_path / "download", tmp_path / "inside")


@pytest.mark.parametrize("kind", ["zip", "tgz", "txz", "tbz"])
def test_a_damaged_archive_is_a_sentence(tmp_path: Path, kind: str):
    archive = MAKERS[kind](tmp_path / "download")
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(DataError, match="it is damaged"):
        unpack(archive, tmp_path / "inside")
    (tmp_path / "text").write_bytes(b"no archive")
    assert not is_archive(tmp_path / "text")


def test_an_archive_without_a_file_below_what_is_stripped_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"it holds no file below 3 folder\(s\)"):
        unpack(zipped(tmp_path / "download", FILES), tmp_path / "inside", strip=3)


def test_a_full_disk_is_a_sentence(tmp_path: Path):
    archive = zipped(tmp_path / "download", FILES)
    with full_disk(), pytest.raises(FetchError, match=r"No room left .*run the same command again"):
        unpack(archive, tmp_path / "inside")
