"""Data whose agreement forbids passing anything on: ids, patients and sentences of a corpus stay in the output folder's own records.

Every planted word is looked for, byte by byte, in all that people pass on: the site, the tracking store, and what the command prints.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark import registry
from benchmark.kinds.kit.stored import EXAMPLES_FILE, STATISTICS_FILE, read_statistics
from benchmark.phantom.corpus import REPORTS_FILE
from benchmark.readers.base import open_reader
from benchmark.readers.kit.withheld import without_names
from tests.corpora import CorpusPlan, write_corpus

pytestmark = pytest.mark.long(30)

PROBE = "chexpert-linear-frozen-100-mgca"
# Drawn once for all that damage it, `restricted` included.
CANDID_PTX = CorpusPlan(dataset="candid-ptx", n_patients=5, seed=5, images_per_patient=(1, 2), positive_share=0.6)
OWN = {"records", "predictions"}  # of the output folder: these stay with whoever holds the licence


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("agreement")
    write_corpus(CorpusPlan(dataset="chexpert", n_patients=10, seed=5, images_per_patient=(3, 3), positive_share=0.8), root / "chexpert")
    return root


def planted(root: Path, dataset: str = "chexpert") -> dict[str, list[bytes]]:
    """Ids, patients and report sentences of the corpus."""
    reader = open_reader(registry.dataset(dataset), root / dataset)
    with (root / dataset / REPORTS_FILE).open(encoding="utf-8", newline="") as handle:
        reports = [row["report"] for row in csv.DictReader(handle)]
    sentences = {s.strip() for report in reports for line in report.splitlines() for s in line.split(".") if len(s.split()) > 3}
    words = {"ids": set(reader.ids), "patients": {reader.sample(i).patient_id for i in reader.ids} - {None}, "sentences": sentences}
    return {what: [w.encode() for w in sorted(found)] for what, found in words.items()}


def leaks(out: Path, words: dict[str, list[bytes]]) -> list[str]:
    """Files that leave the output folder and hold a planted word."""
    leaving = [p for p in out.rglob("*") if p.is_file() and p.relative_to(out).parts[0] not in OWN]
    assert leaving, "nothing was written that could leak"
    return [f"{p.relative_to(out)}: {what}" for p in leaving for what, found in words.items() if any(w in p.read_bytes() for w in found)]


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def open_to_others(*folders: Path) -> list[str]:
    """Those that others may open, and what in them others may."""
    found = [path for folder in folders if folder.exists() for path in (folder, *folder.rglob("*"))]
    return [f"{path} {path.lstat().st_mode & 0o777:o}" for path in found if path.lstat().st_mode & 0o077]


def run(root: Path, out: Path, backbone: Path, task: str = PROBE) -> list[object]:
    named = ["--backbone", f"{backbone}:build", "--task", task, "--protocol", "corrected", "--data", root, "--out", out]
    return ["run", *named, "--executor", "inline", "--limit", 8, "--profile", "smoke", "--seeds", 1]


def write_whole_and_damaged(root: Path) -> tuple[list[str], list[bytes]]:
    """A dataset that can be read and one whose images are cut off, of which neither may be passed on.

    Returns:
        A task of each, and every word that must not be told.
    """
    write_corpus(CorpusPlan(dataset="chexpert", n_patients=10, seed=5, images_per_patient=(3, 3), positive_share=0.8), root / "chexpert")
    write_corpus(CANDID_PTX, root / "candid-ptx")
    both = [planted(root, name) for name in ("chexpert", "candid-ptx")]
    assert all(len(found) >= 5 for words in both for what, found in words.items() if what != "patients")
    cut(root / "candid-ptx")
    return [PROBE, "candid-ptx-linear-frozen-100-lobe"], [w for words in both for found in words.values() for w in found]


def told_in(folder: Path, words: list[bytes]) -> list[str]:
    """Files below the folder that hold one of the words."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert files, "nothing was written that could leak"
    return [str(p.relative_to(folder)) for p in files if any(w in p.read_bytes() for w in words)]


def test_planted_ids_and_sentences_reach_neither_site_nor_tracking_nor_terminal(corpus: Path, lobe, tiny, tmp_path: Path) -> None:
    out, words = tmp_path / "out", planted(corpus)
    assert all(len(found) >= 5 for found in words.values())
    code, stdout, stderr = lobe(*run(corpus, out, tiny()))
    assert code == 0, stderr
    assert lobe("report", "--out", out)[0] == 0
    assert (out / "mlflow.db").is_file()
    assert leaks(out, words) == []
    printed = (stdout + stderr).encode()
    assert not [w for found in words.values() for w in found if w in printed]
    # The test can fail: the ids are there, in what stays, and no picture was kept even there.
    statistics = next((out / "predictions").rglob(STATISTICS_FILE))
    assert read_statistics(statistics).ids[0].encode() in words["ids"]
    assert not list(out.rglob(EXAMPLES_FILE))


def test_ids_of_a_localized_dataset_reach_nothing_that_leaves(lobe, tiny, tmp_path: Path) -> None:
    root, out = tmp_path / "data", tmp_path / "out"
    plan = CorpusPlan(dataset="vindr-cxr", n_patients=12, seed=3, images_per_patient=(1, 1), positive_share=0.6)
    write_corpus(plan, root / "vindr-cxr")
    words = planted(root, "vindr-cxr")
    assert min(len(words["ids"]), len(words["sentences"])) >= 5
    code, stdout, stderr = lobe(*run(root, out, tiny(), "vindr-cxr-linear-frozen-100-lobe"))
    assert code == 0, stderr
    assert lobe("report", "--out", out)[0] == 0
    assert leaks(out, words) == []
    assert not [w for found in words.values() for w in found if w in (stdout + stderr).encode()]
    assert not list(out.rglob(EXAMPLES_FILE))


@pytest.mark.parametrize(
    ("dataset", "task", "patients"),
    [
        ("padchest", "padchest-linear-frozen-100-lobe", 30),
        ("jsrt", "jsrt-linear-frozen-100-lobe", 14),
        ("candid-ptx", "candid-ptx-linear-frozen-100-lobe", 14),
        ("chexlocalize", "chexlocalize-grounding-lobe", 14),
        ("padchest-gr", "padchest-gr-grounding-lobe", 14),
        ("chest-imagenome", "chest-imagenome-linear-frozen-100-lobe", 14),
    ],
)
def test_nothing_of_a_dataset_that_may_not_be_passed_on_leaves(
    lobe, tiny, tiny_words, tmp_path: Path, open_umask, dataset: str, task: str, patients: int
) -> None:
    assert registry.dataset(dataset).redistribution == "none"
    root, out = tmp_path / "data", tmp_path / "out"
    write_corpus(CorpusPlan(dataset=dataset, n_patients=patients, seed=5, images_per_patient=(1, 1), positive_share=0.6), root / dataset)
    words = planted(root, dataset)
    assert min(len(words["ids"]), len(words["sentences"])) >= 10
    code, stdout, stderr = lobe(*run(root, out, tiny() if registry.task(task).words is None else tiny_words(), task))
    assert code == 0, stderr
    assert lobe("report", "--out", out)[0] == 0
    assert (out / "mlflow.db").is_file()
    assert leaks(out, words) == []
    assert not [w for found in words.values() for w in found if w in (stdout + stderr).encode()]
    assert not list(out.rglob(EXAMPLES_FILE))
    assert not [p for p in out.rglob("*") if p.is_file() and any(w in p.read_bytes() for w in words["sentences"])], (
        "not even in predictions"
    )
    assert list((tmp_path / "cache").rglob("images.u8"))
    runs = list((out / "mlartifacts").rglob("artifacts"))
    assert any((folder / "record.json").is_file() for folder in runs)
    kept = [tmp_path / "cache", *(out / "records").iterdir(), *(out / "predictions").iterdir(), *runs, out / "tracking", out / "resamples"]
    assert open_to_others(*kept) == [], "what stays is its owner's alone, even where the umask takes nothing away"


@pytest.mark.parametrize(("dataset", "task"), [("open-i", "open-i-retrieval-lobe"), ("chestx-det", "chestx-det-linear-frozen-100-lobe")])
def test_where_ids_may_leave_reports_may_not(lobe, tiny, tiny_words, tmp_path: Path, dataset: str, task: str) -> None:
    assert registry.dataset(dataset).redistribution == "ids"
    root, out = tmp_path / "data", tmp_path / "out"
    write_corpus(CorpusPlan(dataset=dataset, n_patients=16, seed=5, images_per_patient=(1, 1), positive_share=0.6), root / dataset)
    words = planted(root, dataset)
    assert len(words["sentences"]) >= 10
    code, stdout, stderr = lobe(*run(root, out, tiny_words() if dataset == "open-i" else tiny(), task))
    assert code == 0, stderr
    assert lobe("report", "--out", out)[0] == 0
    assert not [w for w in words["sentences"] if w in (stdout + stderr).encode()]
    assert not [p for p in out.rglob("*") if p.is_file() and any(w in p.read_bytes() for w in words["sentences"])]


def test_every_dataset_whose_agreement_forbids_it_has_planted_words_in_a_test_here() -> None:
    # Of transfers, which share all their code, one is tested: the next test.
    forbidden = {name for name, card in registry.datasets().items() if card.redistribution == "none" and not card.parts}
    text = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in sorted(forbidden) if f'"{name}"' not in text and f"{name}-" not in text] == []


def test_ids_of_both_datasets_of_a_transfer_stay_and_their_names_are_told(lobe, tiny, tmp_path: Path) -> None:
    root, out, task = tmp_path / "data", tmp_path / "out", "siim-to-candid-ptx-linear-frozen-100-lobe"
    write_corpus(CorpusPlan(dataset="siim", n_patients=14, seed=3, images_per_patient=(1, 1), positive_share=0.5), root / "siim")
    code, stdout, stderr = lobe(*run(root, out, tiny(), task))
    assert code == 2
    assert "it needs siim and candid-ptx, and there is no folder 'candid-ptx'" in " ".join((stdout + stderr).split())
    write_corpus(
        CorpusPlan(dataset="candid-ptx", n_patients=14, seed=5, images_per_patient=(1, 1), positive_share=0.6), root / "candid-ptx"
    )
    both = [planted(root, name) for name in ("siim", "candid-ptx")]
    words = {what: both[0][what] + both[1][what] for what in both[0]}
    assert min(len(words["ids"]), len(words["sentences"])) >= 20
    code, stdout, stderr = lobe(*run(root, out, tmp_path / "tiny" / "mine.py", task))
    assert code == 0, stderr
    assert lobe("report", "--out", out)[0] == 0
    assert leaks(out, words) == []
    assert not [w for found in words.values() for w in found if w in (stdout + stderr).encode()]
    record = json.loads(next((out / "records").glob("*.json")).read_text())
    assert (record["redistribution"], record["job"]["experiment"]["dataset"]["parts"]) == ("none", ["siim", "candid-ptx"])
    assert any("siim-to-candid-ptx" in page.read_text(encoding="utf-8") for page in out.rglob("*.html"))


def test_reports_that_are_read_stay_where_they_are(lobe, tiny_words, tmp_path: Path) -> None:
    root, out = tmp_path / "data", tmp_path / "out"
    write_corpus(CorpusPlan(dataset="mimic-cxr", n_patients=10, seed=5, images_per_patient=(1, 1)), root / "mimic-cxr")
    words = planted(root, "mimic-cxr")
    assert all(len(found) >= 5 for found in words.values())
    code, stdout, stderr = lobe(*run(root, out, tiny_words(), "mimic-cxr-retrieval-rerank-lobe"))
    assert code == 0, stderr
    assert lobe("report", "--out", out)[0] == 0
    assert leaks(out, words) == []
    assert not [w for found in words.values() for w in found if w in (stdout + stderr).encode()]
    assert not [p for p in out.rglob("*") if p.is_file() and any(w in p.read_bytes() for w in words["sentences"])], (
        "not even in predictions"
    )
    assert list((tmp_path / "cache").rglob("images.u8"))
    runs = list((out / "mlartifacts").rglob("artifacts"))
    assert any((folder / "record.json").is_file() for folder in runs)
    kept = [tmp_path / "cache", *(out / "records").iterdir(), *(out / "predictions").iterdir(), *runs, out / "tracking", out / "resamples"]
    assert open_to_others(*kept) == [], "what stays is its owner's alone, even where the umask takes nothing away"


def phrases(root: Path, dataset: str) -> list[bytes]:
    reader = open_reader(registry.dataset(dataset), root / dataset)
    return sorted({phrase.text.encode() for i in reader.ids for phrase in reader.sample(i).phrases})


def test_phrases_that_are_grounded_stay_where_they_are(lobe, tiny_words, tmp_path: Path) -> None:
    root, out = tmp_path / "data", tmp_path / "out"
    write_corpus(CorpusPlan(dataset="ms-cxr", n_patients=8, seed=5, images_per_patient=(1, 1)), root / "ms-cxr")
    words = planted(root, "ms-cxr") | {"phrases": phrases(root, "ms-cxr")}
    assert all(len(found) >= 4 for found in words.values())
    code, stdout, stderr = lobe(*run(root, out, tiny_words(), "ms-cxr-grounding-lobe"))
    assert code == 0, stderr
    assert lobe("report", "--out", out)[0] == 0
    assert leaks(out, words) == []
    assert not [w for found in words.values() for w in found if w in (stdout + stderr).encode()]
    assert not [p for p in out.rglob("*") if p.is_file() and any(w in p.read_bytes() for w in words["phrases"])], "not even in predictions"


@pytest.mark.parametrize("damage", ["image", "backbone"])
def test_a_failed_grounding_names_nobody_and_quotes_nothing_anywhere(lobe, tiny_words, tmp_path: Path, damage: str) -> None:
    """Neither a cut-off image nor a tokeniser that chokes on a phrase and says which: not on the terminal, not even in the record."""
    root, out, file = tmp_path / "data", tmp_path / "out", tiny_words()
    write_corpus(CorpusPlan(dataset="ms-cxr", n_patients=8, seed=5, images_per_patient=(1, 1)), root / "ms-cxr")
    words = planted(root, "ms-cxr") | {"phrases": phrases(root, "ms-cxr")}
    if damage == "image":
        for path in open_reader(registry.dataset("ms-cxr"), root / "ms-cxr").image_files():
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
    else:
        line = "    def embed_texts(self, texts):\n"
        assert line in file.read_text()
        choking = f"{line}        if 'heart' in ' '.join(texts) or 'zone' in ' '.join(texts):\n            raise ValueError(str(texts))\n"
        file.write_text(file.read_text().replace(line, choking))
    code, stdout, stderr = lobe(*run(root, out, file, "ms-cxr-grounding-lobe"))
    assert code == 1
    lobe("report", "--out", out)
    (record,) = (out / "records").glob("*.json")
    failure = json.loads(record.read_text())["failure"]
    assert ("v1.1.0.csv line" if damage == "image" else "ValueError: message withheld") in failure["sentence"]
    said = (stdout + stderr + failure["sentence"] + failure["traceback"]).encode()
    assert not [w for found in words.values() for w in found if w in said]
    assert leaks(out, words) == []


def test_a_damaged_file_of_candid_ptx_is_named_by_its_line_alone(lobe, tiny, tmp_path: Path) -> None:
    root, out = tmp_path / "data", tmp_path / "out"
    write_corpus(CANDID_PTX, root / "candid-ptx")
    words = planted(root, "candid-ptx")
    for path in open_reader(registry.dataset("candid-ptx"), root / "candid-ptx").image_files():
        path.write_bytes(path.read_bytes()[:20_000])
    code, stdout, stderr = lobe(*run(root, out, tiny(), "candid-ptx-linear-frozen-100-lobe"))
    assert code == 1
    assert "Pneumothorax_reports.csv line" in stdout + stderr
    record = next((out / "records").glob("*.json")).read_text()
    assert not [w for found in words.values() for w in found if w in (stdout + stderr + record).encode()]
    lobe("report", "--out", out)
    assert leaks(out, words) == []


def test_a_failure_that_names_an_image_is_withheld(corpus: Path, lobe, tiny, tmp_path: Path) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(corpus, root)
    reader = open_reader(registry.dataset("chexpert"), root / "chexpert")
    for path in reader.image_files():
        path.write_bytes(path.read_bytes()[:200])
    out = tmp_path / "out"
    assert lobe(*run(root, out, tiny()))[0] == 1
    lobe("report", "--out", out)
    assert leaks(out, planted(corpus)) == []
    record = json.loads(next((out / "records").glob("*.json")).read_text())
    assert "train.csv line" in record["failure"]["sentence"]  # where whoever holds the data finds the image


# ------------------------------------------------------------------------------------------------------- damage, for every dataset

FAST = ("ms-cxr", "padchest", "rsna-to-vindr-cxr", "vindr-cxr")  # each a way of its own; the others are long
RESTRICTED = sorted(name for name, card in registry.datasets().items() if card.redistribution == "none")


def cut(root: Path) -> None:
    for path in images(root):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


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


def images(root: Path) -> list[Path]:
    texts = {".csv", ".gz", ".json", ".txt", ".zip"}
    found = sorted(p for p in root.rglob("*") if p.is_file() and p.suffix.lower() not in texts)
    assert found
    return found


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
    mask = {"size": [224, 224], "counts": "PPh1"}
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
        content = {"frame": "padded-224", "images": [], "categories": classes, "annotations": []}
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
    code = [b"PPh1"] * len(classes)
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
        header = {"frame": "padded-224", "classes": json.dumps(classes)}
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
