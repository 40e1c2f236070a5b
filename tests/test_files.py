"""Only regular files are opened, and nothing waits for a pipe."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmark import contents, integrity, registry
from benchmark.cards import TaskCard
from benchmark.encoders import hf, naming, shards, text, weights_file
from benchmark.errors import DataError, ImageError, LobeError, NotRegular, StoreError, UsageError
from benchmark.execute.costs import Costs
from benchmark.files import open_regular, read_bytes, read_text, require_regular, write_atomically, writing
from benchmark.imaging.cache import ImageCache
from benchmark.imaging.cache_files import CacheRecipe, list_caches
from benchmark.imaging.dicom import read_dicom, size_of_dicom
from benchmark.imaging.picture import read_grey, read_mask, size_of
from benchmark.kinds.detection import read_detections
from benchmark.kinds.kit import class_scores, coco_json, parquet
from benchmark.kinds.kit.stored import read_examples, read_statistics
from benchmark.kinds.segmentation import read_masks
from benchmark.readers import covidx, open_i, rsna
from benchmark.readers.base import open_reader
from benchmark.readers.kit import chexpert_5x200, nih_tables, splits, tables, voc
from benchmark.report import stored
from benchmark.shelf import Shelf, read_record
from benchmark.store import Store
from benchmark.tracking.spool import Spool

LONGEST_S = 20  # far more than any of these takes


@pytest.fixture(autouse=True)
def nothing_waits() -> Iterator[None]:
    """What would wait for ever fails instead."""

    def fail(*_: object) -> None:
        pytest.fail("it waited for a pipe")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(LONGEST_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.parametrize("kind", ["a named pipe", "a socket", "a device", "a folder", "a link to a pipe"])
def test_what_is_no_regular_file_is_named_with_its_kind(tmp_path: Path, pipe: Path, kind: str):
    path = tmp_path / "thing"
    listener = socket.socket(socket.AF_UNIX)
    match kind:
        case "a named pipe":
            path = pipe
        case "a socket":
            listener.bind(str(path))
        case "a device":
            path = Path("/dev/zero")
        case "a folder":
            path.mkdir()
        case _:
            path.symlink_to(pipe)
    said = "a named pipe" if kind == "a link to a pipe" else kind
    for reading in (read_bytes, read_text, open_regular, require_regular):
        with pytest.raises(NotRegular, match=f"^{path} cannot be read: it is {said}, not a file"):
            reading(path)
    listener.close()


def test_a_regular_file_reads_as_ever_and_a_missing_one_is_missing(tmp_path: Path):
    (tmp_path / "file").write_bytes("één\r\n".encode())
    (tmp_path / "link").symlink_to("file")
    assert read_bytes(tmp_path / "link") == (tmp_path / "file").read_bytes()
    assert read_text(tmp_path / "link") == "één\n"
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "absent")


def test_a_file_replaced_by_a_pipe_between_looking_and_opening_is_noticed(tmp_path: Path, pipe: Path, monkeypatch):
    (tmp_path / "file").write_text("")
    real = os.stat(tmp_path / "file")
    monkeypatch.setattr(os, "stat", lambda *_: real)
    with pytest.raises(NotRegular):
        read_bytes(pipe)


READS: dict[str, Callable[[Path], object]] = {
    "picture": lambda path: read_grey(path, "case-7"),
    "picture's size": lambda path: size_of(path, "case-7"),
    "mask": lambda path: read_mask(path, "case-7"),
    "radiograph": lambda path: read_dicom(path, "case-7"),
    "radiograph's size": lambda path: size_of_dicom(path, "case-7"),
    "label table": lambda path: tables.read_table(path, "rsna"),
    "label table of either separator": rsna.read_labels,
    "list of images": lambda path: nih_tables.read_list(path, "nih-cxr"),
    "list of lines": lambda path: covidx.read_list(path, "covidx", ("normal",)),
    "list of a paper": chexpert_5x200.prior_set,
    "annotation": lambda path: voc.read_voc(path, "tbx11k"),
    "report": lambda path: open_i.read_report(path, "open-i"),
    "file to hash": lambda path: contents.Memory(None).digest(path),
    "weights": weights_file.read_set,
    "weights to hash": lambda path: contents.drained(contents.Memory(path.parent / "cache").digests([path])),
    "index of weights": shards.shards_of,
    "card": lambda path: naming.parse(str(path)),
    "record": read_record,
    "detections": read_detections,
    "masks": read_masks,
    "columns": parquet.is_one,
    "statistics": read_statistics,
    "scores": class_scores.read_scores,
    "split of detections": coco_json.made_for,
    "split of scores": parquet.made_for,
    "examples": read_examples,
    "file of a record": integrity.file_digest,
}


@pytest.mark.parametrize("name", READS)
def test_a_pipe_in_place_of_a_file_ends_in_a_sentence(tmp_path: Path, name: str):
    path = tmp_path / ("pipe.yaml" if name == "card" else "pipe.json" if name in ("detections", "masks") else "pipe")
    os.mkfifo(path)
    with pytest.raises(LobeError) as error:
        READS[name](path)
    assert path.name in str(error.value) or path.stem in str(error.value)
    if name in ("picture", "picture's size", "mask", "radiograph", "radiograph's size"):
        assert isinstance(error.value, ImageError)


@pytest.mark.parametrize("dataset", ["rsna", "covid-rural"])
def test_a_pipe_in_place_of_any_label_file_ends_in_a_sentence(corpora: Path, tmp_path: Path, dataset: str):
    def used(card, root: Path) -> None:
        reader = open_reader(card, root)
        reader.verify()
        reader.label_digest()

    card = registry.dataset(dataset)
    names = [path.relative_to(corpora / dataset) for path in open_reader(card, corpora / dataset).label_files()]
    kinds = {(name.parent, name.suffix): name for name in names}  # one of each kind
    for name in (*kinds.values(), Path("PHANTOM.json")):
        root = tmp_path / "copy"
        shutil.copytree(corpora / dataset, root, copy_function=os.link)
        (root / name).unlink()
        os.mkfifo(root / name)
        with pytest.raises(LobeError):
            used(card, root)
        shutil.rmtree(root)


def test_a_pipe_in_place_of_a_split_list_ends_in_a_sentence(tmp_path: Path):
    for split in ("train", "validation", "test"):
        os.mkfifo(tmp_path / f"{split}.csv")
    with pytest.raises(DataError):
        splits.lovt_csv(tmp_path)


def test_a_pipe_in_place_of_a_card_of_ones_own_ends_in_a_sentence(tmp_path: Path, monkeypatch):
    (tmp_path / "tasks").mkdir()
    os.mkfifo(tmp_path / "tasks" / "mine.yaml")
    monkeypatch.setattr(registry, "_included", [tmp_path])
    with pytest.raises(LobeError, match=r"mine\.yaml cannot be read: it is a named pipe"):
        registry._cards("tasks", "tasks", TaskCard, "id")


def test_a_pipe_in_a_folder_of_transformers_ends_in_a_sentence(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    os.mkfifo(tmp_path / "tokenizer.json")
    with pytest.raises(LobeError, match=r"tokenizer\.json cannot be read: it is a named pipe"):
        hf.configuration(str(tmp_path))
    with pytest.raises(LobeError, match=r"tokenizer\.json cannot be read: it is a named pipe"):
        text.Tokenizer(tmp_path, 8)


def test_pipes_in_an_output_folder_end_in_sentences(tmp_path: Path):
    store = Store(tmp_path)
    for name in ("store.id", "planned.json", "planned.jsonl", "index.sqlite", "records/0.json"):
        os.mkfifo(tmp_path / name)
    for reading in (store.identity, store.planned, lambda: store.get("0"), store.all):
        with pytest.raises(LobeError):
            reading()
    assert [refused.key for refused in Shelf(tmp_path).believable()[1]] == ["0"]
    (tmp_path / "predictions" / "1").mkdir()
    os.mkfifo(tmp_path / "predictions" / "1" / "statistics.json")
    with pytest.raises(LobeError):
        stored.read("1", "dice", tmp_path)
    (tmp_path / stored.FOLDER).mkdir(exist_ok=True)
    os.mkfifo(tmp_path / stored.FOLDER / "kept.json")
    assert stored.kept("kept", {}, tmp_path) is None


def test_pipes_in_a_cache_are_no_memory_and_no_cache(tmp_path: Path):
    os.mkfifo(tmp_path / "costs.json")
    assert Costs(tmp_path / "costs.json")._known == {}
    recipe = CacheRecipe(
        dataset="toy", dataset_digest="d", intensity="as-stored", size=8, n_classes=1, with_masks=True, decoders={"pillow": "1"}
    )
    cache = ImageCache.open(tmp_path, recipe, ["one"])
    for name in ("images.u8", "masks.bits", "rows.bin", "state.u8"):
        (cache.path / name).rename(cache.path / "kept")
        os.mkfifo(cache.path / name)
        with pytest.raises(StoreError, match=r"image cache .* is damaged"):
            ImageCache.open(tmp_path, recipe, ["one"])
        (cache.path / "kept").replace(cache.path / name)
    os.unlink(cache.path / "recipe.json")
    (tmp_path / "rsna-0").mkdir()
    os.mkfifo(tmp_path / "rsna-0" / "recipe.json")
    assert [entry.dataset for entry in list_caches(tmp_path)] == ["rsna"]


def test_a_pipe_among_notes_for_the_tracking_server_is_set_aside(tmp_path: Path):
    spool = Spool(tmp_path)
    spool.folder.mkdir(parents=True, exist_ok=True)
    os.mkfifo(spool.folder / "00000000000000000001-1-000001.json")
    assert list(spool.waiting()) == []
    assert len(list((spool.folder / "rejected").iterdir())) == 1


@pytest.mark.parametrize("place", ["file/below.csv", "no-folder/file.csv", "folder"])
def test_what_cannot_be_written_is_named_as_the_user_named_it_with_what_to_do(tmp_path: Path, place: str):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OSError, match="Errno") as broken:
        write_atomically(tmp_path / place, b"rows")
    assert (broken.value.filename, broken.value.filename2) == (str(tmp_path / place), None)
    with (
        pytest.raises(UsageError, match=rf"{place} cannot be written: [A-Z][a-z ]+\. Name another file\.$"),
        writing(tmp_path / place, "Name another file."),
    ):
        write_atomically(tmp_path / place, b"rows")
    assert sorted(tmp_path.rglob("*")) == before
