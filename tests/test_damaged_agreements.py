"""Damage of data that may not be passed on: no verb, no library's warning and no temporary file names an image or a patient."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark import registry
from benchmark.phantom.corpus import REPORTS_FILE
from benchmark.readers.base import open_reader
from benchmark.readers.kit.withheld import without_names
from tests.corpora import CorpusPlan, write_corpus
from tests.frames import SIDE
from tests.planted import cut, images, planted

pytestmark = [pytest.mark.long(15), pytest.mark.usefixtures("small_frames")]

EMPTY = b"PP4"  # run-length code of a mask of SIDE x SIDE pixels with none
FAST = ("ms-cxr", "padchest", "rsna-to-vindr-cxr", "vindr-cxr")  # each a way of its own; the others are long
RESTRICTED = sorted(name for name, card in registry.datasets().items() if card.redistribution == "none")


def take_away(root: Path) -> None:
    for path in images(root)[::2]:
        path.unlink()


def empty(root: Path) -> None:
    for path in images(root)[::2]:
        path.write_bytes(b"")


def double(root: Path) -> None:
    """Every image a second time, in another folder of the release."""
    for path in images(root):
        (path.parent / "copy").mkdir(exist_ok=True)
        shutil.copy(path, path.parent / "copy" / path.name)


def replace_by_folders(root: Path) -> None:
    for path in images(root):
        path.unlink()
        path.mkdir()


def shift_cells(root: Path) -> None:
    """Tables whose rows lost their first cell, so that ids stand where values are expected, and one row twice."""
    for path in tables(root):
        header, *rows = text_of(path).splitlines()
        write_text(path, "\n".join([header, *(row.partition(",")[2] + "," for row in rows)]) + "\n")


def turn_cells(root: Path) -> None:
    for path in tables(root):
        header, *rows = text_of(path).splitlines()
        write_text(path, "\n".join([header, *(",".join(reversed(row.split(","))) for row in rows)]) + "\n")


def repeat_rows(root: Path) -> None:
    for path in tables(root):
        header, *rows = text_of(path).splitlines()
        write_text(path, "\n".join([header, *rows, *rows]) + "\n")


def change_ids(root: Path) -> None:
    """Rows of images that nobody has."""
    for path in tables(root):
        write_text(path, text_of(path).replace("1", "7"))


def tables(root: Path) -> list[Path]:
    return sorted(p for p in root.rglob("*.csv*") if p.name != REPORTS_FILE)


def text_of(path: Path) -> str:
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()


def write_text(path: Path, text: str) -> None:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def put_lists(root: Path, dataset: str, folder: Path) -> None:
    """Lists with every image twice and one of nobody."""
    ids = open_reader(registry.dataset(dataset), root).ids
    (folder / dataset).mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation", "test"):
        (folder / dataset / f"{split}.csv").write_text("\n".join(["ID", *ids, *ids[:2]]) + "\n")


@pytest.fixture(scope="module")
def restricted(tmp_path_factory: pytest.TempPathFactory):
    """The folder of data of a restricted dataset, both parts of a transfer, and what must not leave it."""
    made: dict[str, tuple[Path, dict[str, list[bytes]]]] = {}

    def of(dataset: str) -> tuple[Path, dict[str, list[bytes]]]:
        if dataset not in made:
            root, card = tmp_path_factory.mktemp("restricted"), registry.dataset(dataset)
            names = tuple(card.parts.values()) or (dataset,)
            for name in names:
                n = 8 if name == "padchest" else 5
                write_corpus(CorpusPlan(dataset=name, n_patients=n, seed=5, images_per_patient=(1, 2), positive_share=0.6), root / name)
            found = [planted(root, name) for name in names]
            made[dataset] = root, {what: [w for one in found for w in one[what]] for what in found[0]}
        return made[dataset]

    return of


@pytest.mark.parametrize("dataset", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in RESTRICTED])
def test_no_damage_makes_a_verb_name_anybody(restricted, lobe, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damaged images, tables and lists, and the verbs that meet them: nothing on the terminal, nothing in temporary folders."""
    source, words = restricted(dataset)
    assert len(words["ids"]) >= 3
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    lists = tmp_path / "lists"
    put_lists(source if registry.dataset(dataset).parts else source / dataset, dataset, lists)
    task = next(name for name, card in registry.tasks().items() if card.dataset == dataset)
    protocol = registry.task(task).protocols[0]
    told, failed = [], 0
    damages = (cut, take_away, empty, double, replace_by_folders, shift_cells, turn_cells, repeat_rows, change_ids, None)
    for damage in damages:
        root = tmp_path / "data"
        shutil.copytree(source, root)
        if damage is not None:
            damage(root)
        named = ["--backbone", "torchvision:resnet18", "--task", task, "--protocol", protocol, "--data", root, "--out", tmp_path / "out"]
        more = ["--splits", lists] if damage is None else []
        verify, prepare = ["data", "verify", dataset, "--data", root, *more], ["data", "prepare", dataset, "--data", root]
        for verb in (verify, prepare, ["run", *named, *more, "--dry-run"]):
            code, stdout, stderr = lobe(*verb)
            failed += code != 0
            told += [(damage, verb[:2], what, w) for what, found in words.items() for w in found if w in (stdout + stderr).encode()]
        shutil.rmtree(root)
    assert told == []
    assert failed >= len(damages)  # the test can fail: damage was met
    left = [p for p in temporary.rglob("*") if p.is_file()]
    assert not [p for p in left if any(w in p.read_bytes() for found in words.values() for w in found)]


def foreign_images(content: dict, names: list[str]) -> None:
    content["images"] = [{"id": k, "name": name} for k, name in enumerate(names)]


def repeated_image(content: dict, names: list[str]) -> None:
    content["images"] = [{"id": 1, "name": names[0]}, {"id": 2, "name": names[0]}]


def id_twice_before_a_broken_row(content: dict, names: list[str]) -> None:
    content["images"] = [{"id": 1, "name": names[0]}, {"id": 1, "name": names[1]}, {"name": 3}]


def name_for_a_number(content: dict, names: list[str]) -> None:
    content["annotations"] = [{"image_id": names[0], "category_id": 1}]


def name_for_a_class(content: dict, names: list[str]) -> None:
    content["images"] = [{"id": 1, "name": names[0]}]
    content["annotations"] = [{"image_id": 1, "category_id": names[1]}]


def name_for_a_box_or_mask(content: dict, names: list[str]) -> None:
    content["images"] = [{"id": 1, "name": names[0]}]
    content["annotations"] = [{"image_id": 1, "category_id": 1, "bbox": names[1], "score": 1, "segmentation": names[1]}]


def two_for_one(content: dict, names: list[str]) -> None:
    content["images"] = [{"id": 1, "name": names[0]}]
    mask = {"size": [SIDE, SIDE], "counts": EMPTY.decode()}
    content["annotations"] = [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": "high", "segmentation": mask}] * 2


# What is wrong -> whether the sentence for other data would name an image.
WRONG_FILES = {
    foreign_images: False,  # the sentence counts alone
    repeated_image: False,
    id_twice_before_a_broken_row: True,
    name_for_a_number: True,
    name_for_a_class: True,
    name_for_a_box_or_mask: True,
    two_for_one: False,
}


@pytest.mark.parametrize(("dataset", "task"), [("vindr-cxr", "vindr-cxr-yolov3-frozen-100-lobe"), ("jsrt", "jsrt-linear-frozen-100-lobe")])
def test_a_wrong_file_to_score_names_nobody(lobe, tmp_path: Path, dataset: str, task: str) -> None:
    """Boxes and masks; names like JPCLN001 look like no id, so they are withheld only where they are known."""
    card, root, file = registry.dataset(dataset), tmp_path / "data", tmp_path / "predictions.json"
    write_corpus(CorpusPlan(dataset=dataset, n_patients=14, seed=5, images_per_patient=(1, 1), positive_share=0.6), root / dataset)
    words = planted(root, dataset)
    names = [word.decode() for word in words["ids"]]
    score = [
        "score",
        "--task",
        task,
        "--predictions",
        file,
        "--protocol",
        registry.task(task).protocols[0],
        "--split",
        registry.task(task).split,
    ]
    told = []
    for wrong, names_some in WRONG_FILES.items():
        classes = [{"id": k, "name": name} for k, name in enumerate(card.classes, start=1)]
        content = {"frame": f"padded-{SIDE}", "images": [], "categories": classes, "annotations": []}
        wrong(content, names)
        file.write_text(json.dumps(content))
        code, stdout, stderr = lobe(*score, "--data", root)
        assert (code, "predictions.json" in stderr) == (2, True), (wrong, stderr)
        assert not names_some or "withheld" in stderr, (wrong, stderr)  # the test can fail: there was something to withhold
        told += [(wrong, what, w) for what, found in words.items() for w in found if w in (stdout + stderr).encode()]
    assert told == []


def test_a_wrong_file_of_columns_to_score_names_nobody(lobe, tmp_path: Path) -> None:
    task, root, file = "jsrt-linear-frozen-100-lobe", tmp_path / "data", tmp_path / "predictions.parquet"
    write_corpus(CorpusPlan(dataset="jsrt", n_patients=14, seed=5, images_per_patient=(1, 1), positive_share=0.6), root / "jsrt")
    words, card = planted(root, "jsrt"), registry.task(task)
    names, classes = [word.decode() for word in words["ids"]], registry.dataset("jsrt").classes
    code = [EMPTY] * len(classes)
    wrong = {
        "a list that is missing": {"id": names[:2], "counts": [code, None]},
        "a code that is missing": {"id": names[:2], "counts": [code, [*code[1:], None]]},
        "a code too few": {"id": names[:2], "counts": [code, code[1:]]},
        "names for codes": {"id": names[:2], "counts": [names[:1], names[:1]]},
        "repeated images": {"id": [names[0]] * 2, "counts": [code, code]},
        "foreign images": {"id": names[:2], "counts": [code, code]},
        "a number missing": {"id": names[:2], "counts": [code, code], "pad_top": pa.array([1, None])},
    }
    said, told = {}, []
    for what, columns in wrong.items():
        header = {"frame": f"padded-{SIDE}", "classes": json.dumps(classes)}
        pq.write_table(pa.table(columns).replace_schema_metadata(header), file)
        named = ["--task", task, "--predictions", file, "--protocol", card.protocols[0], "--split", card.split]
        code_, stdout, stderr = lobe("score", *named, "--data", root)
        assert (code_, "predictions.parquet" in stderr) == (2, True), (what, stderr)
        said[what] = stderr
        told += [(what, w) for found in words.values() for w in found if w in (stdout + stderr).encode()]
    assert told == []
    named = ["a list that is missing", "a code that is missing", "a code too few", "names for codes"]
    assert [what for what in wrong if "withheld" in said[what]] == named, said


@pytest.mark.parametrize("verb", ["verify", "prepare"])
def test_a_pipe_in_place_of_an_image_is_not_named(lobe, tmp_path: Path, verb: str) -> None:
    root = tmp_path / "data"
    write_corpus(CorpusPlan(dataset="jsrt", n_patients=6, seed=5, images_per_patient=(1, 1), positive_share=0.6), root / "jsrt")
    words = planted(root, "jsrt")
    for path in images(root):
        path.unlink()
        os.mkfifo(path)
    code, stdout, stderr = lobe("data", verb, "jsrt", "--data", root)
    assert code in (1, 2)
    assert not [w for found in words.values() for w in found if w in (stdout + stderr).encode()]


def test_no_library_warns_with_the_name_of_a_file(restricted, tmp_path: Path) -> None:
    """In a process of its own, since pytest keeps warnings for itself."""
    source, words = restricted("candid-ptx")
    root = tmp_path / "data"
    shutil.copytree(source, root)
    for path in images(root):
        path.write_bytes(path.read_bytes()[:20_000])
    verify = [sys.executable, "-c", "from benchmark.cli import main; main()", "data", "verify", "candid-ptx", "--data", str(root)]
    ended = subprocess.run(verify, capture_output=True, cwd=Path(__file__).parents[1], timeout=120, check=False)
    assert ended.returncode == 1
    said = ended.stdout + ended.stderr
    assert b"no pixel data" in b" ".join(said.split())
    assert not [w for found in words.values() for w in found if w in said]


def test_what_looks_like_an_id_is_withheld_and_what_tells_the_way_is_not() -> None:
    root = Path("/disk/user12345/vindr-cxr")
    sentence = (
        f"vindr-cxr: {root}/train/0123456789abcdef0123456789abcdef.dicom (id 10000032): annotations_train.csv line 12,345 and {root} "
        "/disk/user54321/lists/train.csv, syntax 1.2.840.10008.1.2.4.90, p10000032/s50414267, 1.2.276.0.7230010.3.1.4."
    )
    assert without_names(sentence, root) == (
        f"vindr-cxr: {root}/withheld (id withheld): annotations_train.csv line 12,345 and {root} "
        "/disk/user54321/lists/train.csv, syntax 1.2.840.10008.1.2.4.90, withheld, withheld."
    )
    assert (
        without_names("image JPCLN001 of JPCLN001.IMG and masks/JPCLN001.gif", words=["JPCLN001"])
        == "image withheld of withheld and withheld"
    )
