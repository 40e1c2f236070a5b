"""A dataset's identity: the content of what a split can use, whoever says it, and nothing else."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark import contents, registry
from benchmark.contents import Memory, drained
from benchmark.errors import DataError
from benchmark.readers.base import Check, Reader, Sample, open_reader
from benchmark.readers.kit import identity
from benchmark.readers.kit.splits import prefix
from benchmark.training.data import limit_samples
from benchmark.training.sizes import MINIMUM_LIMITED
from tests.corpora import CorpusPlan, write_corpus

SPLIT = {"train": ("a", "b", "c", "d"), "validation": ("e",), "test": ("f", "g")}


class Plain(Reader):
    """A release of label lines `id,positive`, an image of a few bytes each, and a report each."""

    def open(self) -> None:
        lines = (self.root / "labels.csv").read_text().split()
        self.release, self._positive = "plain", {name: said == "1" for name, said in (line.split(",") for line in lines)}

    ids = property(lambda self: tuple(self._positive))

    def sample(self, sample_id: str) -> Sample:
        files = (self.root / "images" / f"{sample_id}.bin",)
        return Sample(id=sample_id, patient_id=None, image=lambda: None, files=files, positive=self._positive[sample_id])

    def texts_of(self, sample_id: str) -> tuple[Path, ...]:
        report = self.root / "reports" / f"{sample_id}.txt"
        return (report,) if report.exists() else ()

    def label_files(self) -> tuple[Path, ...]:
        return (self.root / "labels.csv",)

    def image_files(self) -> tuple[Path, ...]:
        return tuple(self.root / "images" / f"{i}.bin" for i in self.ids)

    def split(self, rule) -> Mapping[str, tuple[str, ...]]:
        return SPLIT

    def checks(self) -> Iterable[Check]:
        return ()


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(contents, "RECENT_NS", 0)
    root = tmp_path / "plain"
    (root / "images").mkdir(parents=True)
    (root / "labels.csv").write_text("\n".join(f"{i},{int(i in 'cg')}" for i in "abcdefgh"))
    for i in "abcdefgh":
        (root / "images" / f"{i}.bin").write_bytes(f"image {i}".encode())
    return root


def opened(root: Path) -> Plain:
    return Plain(registry.dataset("rsna"), root)


def identify(root: Path, limit: int | None = None, memory: Path | None = None) -> identity.Identity:
    return drained(identity.identify(opened(root), SPLIT, limit, Memory(memory)))


def write_checksums(root: Path, names: Iterable[str], **wrong: str) -> None:
    digests = {name: hashlib.sha256((root / "images" / f"{name}.bin").read_bytes()).hexdigest() for name in names} | wrong
    lines = [f"{digest} {'*' * (name == 'b')}images/{name}.bin" for name, digest in digests.items()]
    (root / identity.CHECKSUMS).write_text("\n".join([*lines, "no checksum at all", ""]))


def never(path: Path) -> str:
    raise AssertionError(f"{path.name} was read")


# -------------------------------------------------------------------------------------------------------------- what is covered


def test_an_image_replaced_in_place_under_its_size_and_time_is_another_dataset(release: Path, tmp_path: Path) -> None:
    first = identify(release, memory=tmp_path / "cache").digest
    path = release / "images" / "b.bin"
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(b"IMAGE b")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert identify(release, memory=tmp_path / "cache").digest != first
    path.write_bytes(b"image b")
    assert identify(release, memory=tmp_path / "cache").digest == first


def test_labels_and_reports_are_covered_and_images_outside_the_split_are_not_read(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    hashing = contents.sha256_of
    monkeypatch.setattr(contents, "sha256_of", lambda path: read.append(path.stem) or hashing(path))
    first = identify(release).digest
    assert sorted(read) == list("abcdefg")
    (release / "images" / "h.bin").write_bytes(b"another")
    assert identify(release).digest == first
    (release / "labels.csv").write_text((release / "labels.csv").read_text().replace("a,0", "a,1"))
    labelled = identify(release).digest
    (release / "reports").mkdir()
    (release / "reports" / "a.txt").write_text("one word")
    reported = identify(release).digest
    (release / "reports" / "a.txt").write_text("two word")
    assert len({first, labelled, reported, identify(release).digest}) == 4


def test_a_moved_or_copied_folder_is_the_same_dataset(release: Path, tmp_path: Path) -> None:
    first = identify(release).digest
    release.rename(tmp_path / "elsewhere")
    assert identify(tmp_path / "elsewhere").digest == first


def test_training_images_are_no_part_of_what_a_job_that_trains_nothing_is_computed_on() -> None:
    assert identity.used(SPLIT, trains=False) == {name: SPLIT[name] for name in ("validation", "test")}
    assert identity.used(SPLIT, trains=True) == SPLIT


def test_a_limited_run_reads_what_its_limit_can_reach_beside_any_other_plan(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, read = opened(release), []
    assert identity.covered(reader, SPLIT, 2) == ("a", "b", "c", "e", "f", "g")  # c: the first positive of the training list
    assert identity.covered(reader, SPLIT, None) == tuple("abcdefg")
    hashing = contents.sha256_of
    monkeypatch.setattr(contents, "sha256_of", lambda path: read.append(path.stem) or hashing(path))
    limited = identify(release, limit=2).digest
    assert "d" not in read
    assert limited != identify(release).digest


@given(
    positive=st.lists(st.one_of(st.booleans(), st.none()) | st.booleans(), min_size=1, max_size=40),
    limit=st.integers(2, 20),
    fraction=st.sampled_from([0.01, 0.1, 0.37, 1.0]),
)
def test_no_fraction_of_a_limited_split_leaves_what_is_covered(positive: list[bool | None], limit: int, fraction: float) -> None:
    samples = {str(i): Sample(id=str(i), patient_id=None, image=lambda: None, files=(), positive=p) for i, p in enumerate(positive)}
    everything = tuple(samples)
    reader = type("Listed", (), {"sample": samples.__getitem__})()
    kept = prefix(everything, fraction)
    if len(kept) < min(limit, MINIMUM_LIMITED):
        kept = everything[: min(limit, MINIMUM_LIMITED)]
    chosen = limit_samples([samples[i] for i in kept], list(samples.values()), limit)
    assert {s.id for s in chosen} <= set(identity.covered(reader, {"train": everything}, limit))


def test_the_outline_is_what_the_first_release_took_for_the_digest(release: Path) -> None:
    """Stored records are found by it: label bytes, then names and sizes."""
    sha = hashlib.sha256(b"labels.csv\0" + (release / "labels.csv").read_bytes())
    for i in "abcdefgh":
        sha.update(f"images/{i}.bin\t7\n".encode())
    assert opened(release).outline_digest() == sha.hexdigest()


# -------------------------------------------------------------------------------------------------------- published checksums


def test_published_checksums_stand_for_content_and_nothing_is_read(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = identify(release)
    write_checksums(release, "abcdefgh")
    monkeypatch.setattr(contents, "sha256_of", never)
    listed = identify(release)
    assert listed.digest == hashed.digest
    assert listed.contents.digests == hashed.contents.digests
    assert set(listed.contents.listed.values()) == {f"{identity.CHECKSUMS} line {n}" for n in range(1, 8)}


def test_images_that_no_list_names_are_hashed(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed, read = identify(release).digest, []
    write_checksums(release, "abc")
    hashing = contents.sha256_of
    monkeypatch.setattr(contents, "sha256_of", lambda path: read.append(path.stem) or hashing(path))
    assert identify(release).digest == hashed
    assert sorted(read) == list("defg")


def test_a_listed_report_is_read_all_the_same_since_nothing_else_would_hold_it_to_the_list(release: Path) -> None:
    (release / "reports").mkdir()
    (release / "reports" / "a.txt").write_text("one")
    write_checksums(release, "abcdefgh")
    listed = (release / identity.CHECKSUMS).read_text()
    (release / identity.CHECKSUMS).write_text(f"{listed}{'0' * 64} reports/a.txt\n")
    first = identify(release).digest
    (release / "reports" / "a.txt").write_text("two")
    assert identify(release).digest != first


@pytest.mark.parametrize("dataset", ["vindr-cxr", "mimic-cxr", "ms-cxr"])
def test_releases_of_physionet_are_known_by_their_own_list(dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / dataset
    write_corpus(CorpusPlan(dataset=dataset, n_patients=5, seed=5, images_per_patient=(1, 1)), root)
    reader = open_reader(registry.dataset(dataset), root)
    splits = {"train": (), "validation": (), "test": reader.ids[:4]}
    hashed = drained(identity.identify(reader, splits, None, Memory(None)))
    (folder,) = reader.checksum_folders
    lines = [f"{hashed.contents.digests[p]} {p.relative_to(folder).as_posix()}" for i in splits["test"] for p in reader.files_of(i)]
    (folder / identity.CHECKSUMS).write_text("\n".join(lines) + "\n")
    images, hashing = {p for i in splits["test"] for p in reader.files_of(i)}, contents.sha256_of
    monkeypatch.setattr(contents, "sha256_of", lambda path: never(path) if path in images else hashing(path))
    assert drained(identity.identify(reader, splits, None, Memory(None))).digest == hashed.digest


# ----------------------------------------------------------------------------------------------------------------- dry runs


def test_a_look_reads_nothing_and_counts_what_is_not_known(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(contents, "sha256_of", never)
        looked = identity.look(opened(release), SPLIT, None, memory)
    assert (looked.digest, len(looked.unhashed), sum(looked.unhashed.values())) == (None, 7, 49)
    hashed = identify(release, memory=tmp_path / "cache")
    monkeypatch.setattr(contents, "sha256_of", never)
    looked = identity.look(opened(release), SPLIT, None, memory)
    assert (looked.digest, dict(looked.unhashed)) == (hashed.digest, {})


def test_a_missing_image_is_named_only_where_it_may_be(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (release / "images" / "b.bin").unlink()
    with pytest.raises(DataError, match=r"b\.bin cannot be read"):
        identify(release)
    with pytest.raises(DataError, match=r"b\.bin cannot be read"):
        identity.look(opened(release), SPLIT, None, Memory(None))
    monkeypatch.setattr(Plain, "names_files", False)
    with pytest.raises(DataError, match="rsna: an image of the split cannot be read") as told:
        identify(release)
    assert "b.bin" not in str(told.value)
    with pytest.raises(DataError, match="rsna: an image of the split cannot be read") as told:
        identity.look(opened(release), SPLIT, None, Memory(None))
    assert "b.bin" not in str(told.value)
