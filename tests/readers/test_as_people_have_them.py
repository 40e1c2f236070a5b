"""Releases as they lie on people's disks: linked folders, what a computer leaves beside files, and tables saved anew are the same release.

Each promise is held to every reader, on a few images of each dataset.
"""

from __future__ import annotations

import functools
import gzip
import shutil
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import pytest

from benchmark import registry
from benchmark.contents import Memory, drained
from benchmark.errors import DataError
from benchmark.phantom.corpus import writers
from benchmark.readers.base import Reader, open_reader
from benchmark.readers.kit.identity import identify
from tests.corpora import CorpusPlan, write_corpus

TEXT = {".csv", ".json", ".txt", ".xml", ".gz"}
PATIENTS = {"nih-cxr": 14, "padchest": 6}  # their splits need more than the four of the others


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("generated")

    def of(dataset: str) -> Path:
        folder = root / dataset
        if not folder.exists():
            plan = CorpusPlan(dataset, PATIENTS.get(dataset, 4), seed=3, images_per_patient=(1, 1), positive_share=0.5)
            write_corpus(plan, folder)
        return folder

    return of


@dataclass(frozen=True)
class Seen:
    ids: tuple[str, ...]
    verdicts: tuple[tuple, ...]
    release: str
    warnings: tuple[str, ...]
    digest: str | None


@pytest.fixture(scope="module")
def written(generated):
    """What is seen of each dataset where nobody touched it."""
    return functools.cache(lambda dataset: seen(dataset, generated(dataset)))


def opened(dataset: str, root: Path) -> Reader:
    return open_reader(registry.dataset(dataset), root)


def seen(dataset: str, root: Path) -> Seen:
    reader = opened(dataset, root)
    identity = drained(identify(reader, {"test": reader.ids}, None, Memory(None)))
    verdicts = tuple(astuple(check) for check in reader.verify().checks)
    return Seen(reader.ids, verdicts, reader.release, tuple(reader.warnings), identity.digest)


def said(dataset: str, root: Path) -> list[tuple]:
    """What label files say of each image."""
    reader = opened(dataset, root)
    found = []
    for sample in map(reader.sample, reader.ids):
        phrases = [(p.text, p.boxes_xywh.tolist(), p.category) for p in sample.phrases]
        labels = None if sample.labels is None else sample.labels.tolist()
        boxes = (sample.boxes_xywh.tolist(), sample.box_labels.tolist())
        found.append((sample.id, sample.patient_id, *boxes, labels, sample.positive, sample.report, sample.view, phrases))
    masks = reader.sample(reader.ids[0]).masks
    if masks is not None:
        found.append((np.packbits(masks(reader.sample(reader.ids[0]).image().shape)).tobytes(),))
    return found


def copy(generated, dataset: str, root: Path) -> Path:
    return shutil.copytree(generated(dataset), root / dataset)


def folders(root: Path, *, leaves: bool) -> list[Path]:
    """The folders that hold files, or those right below the dataset's own."""
    return [
        place for place in sorted(root.rglob("*") if leaves else root.iterdir()) if place.is_dir() and (not leaves or holds_files(place))
    ]


def holds_files(folder: Path) -> bool:
    return any(path.is_file() for path in folder.iterdir())


@pytest.mark.parametrize("dataset", writers())
@pytest.mark.parametrize("leaves", [True, False], ids=["every folder of files", "every top folder"])
def test_linked_folders_are_the_same_release(generated, written, dataset: str, leaves: bool, tmp_path: Path) -> None:
    root = copy(generated, dataset, tmp_path)
    disk = tmp_path / "another disk"
    disk.mkdir()
    linked = [place for place in folders(root, leaves=leaves) if not any(p.is_symlink() for p in place.parents)]
    for number, place in enumerate(reversed(linked)):  # the deepest first
        shutil.move(place, disk / str(number))
        place.symlink_to(disk / str(number), target_is_directory=True)
        (place / "up").symlink_to(root, target_is_directory=True)  # nothing walks in circles
    (root / "round").symlink_to(tmp_path, target_is_directory=True)
    assert seen(dataset, root) == written(dataset)


@pytest.mark.parametrize("dataset", writers())
def test_what_a_computer_leaves_beside_files_is_no_file_of_the_release(generated, written, dataset: str, tmp_path: Path) -> None:
    root = copy(generated, dataset, tmp_path)
    for path in [p for p in root.rglob("*") if p.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"Mac OS X")
        zipped = root / "__MACOSX" / path.relative_to(root).with_name(f"._{path.name}")
        zipped.parent.mkdir(parents=True, exist_ok=True)
        zipped.write_bytes(b"Mac OS X")
        (zipped.parent / path.name).write_bytes(b"Mac OS X")
        preview = path.parent / "@eaDir" / path.name
        preview.parent.mkdir(exist_ok=True)
        preview.write_bytes(b"preview")
    for place in [root, *(p for p in root.rglob("*") if p.is_dir())]:
        for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
            (place / name).write_bytes(b"x")
    assert seen(dataset, root) == written(dataset)


@pytest.mark.parametrize("dataset", writers())
def test_label_files_with_a_byte_order_mark_and_other_line_ends_say_the_same(generated, dataset: str, tmp_path: Path) -> None:
    root = copy(generated, dataset, tmp_path)
    files = [path for path in root.rglob("*") if path.suffix in TEXT and path.is_file()]
    assert files
    for path in files:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        saved = b"\xef\xbb\xbf" + raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        path.write_bytes(gzip.compress(saved) if path.suffix == ".gz" else saved)
    assert said(dataset, root) == said(dataset, generated(dataset))


@pytest.mark.parametrize("dataset", writers())
def test_text_of_16_bits_is_told_by_name(generated, dataset: str, tmp_path: Path) -> None:
    root = copy(generated, dataset, tmp_path)
    texts = [path for path in opened(dataset, root).label_files() if path.suffix in TEXT]
    assert bool(texts) == (dataset not in ("covid-rural", "jsrt"))  # whose labels are masks
    for path in texts[:1]:
        wide = path.read_bytes() if path.suffix != ".gz" else gzip.decompress(path.read_bytes())
        wide = wide.decode().encode("utf-16")
        path.write_bytes(gzip.compress(wide) if path.suffix == ".gz" else wide)
        with pytest.raises(DataError, match=f"{path.name} is saved in UTF-16"):
            opened(dataset, root)


@pytest.mark.parametrize("dataset", writers())
def test_a_folder_of_litter_alone_is_empty(dataset: str, tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "__MACOSX").mkdir()
    with pytest.raises(DataError, match="is empty"):
        opened(dataset, tmp_path)


def test_no_reader_lists_a_folder_or_opens_a_text_in_a_way_of_its_own() -> None:
    """What the tests above cannot see: an optional file, a rare layout."""
    own = (
        "glob(",
        "iterdir(",
        "scandir(",
        "listdir(",
        "os.walk(",
        "read_text(encoding",
        ".open(encoding",
        "gzip.open",
        "ElementTree.fromstring",
        "PIL.Image",  # `imaging` alone turns pictures upright
        "imread",
    )
    allowed = {"walk.py": set(own), "text.py": set(own)}
    folder = Path(__file__).resolve().parents[2] / "benchmark" / "readers"
    found = {
        f"{path.name}: {call}"
        for path in folder.glob("*.py")
        for call in own
        if call in path.read_text(encoding="utf-8") and call not in allowed.get(path.name, ())
    }
    assert found == set()
