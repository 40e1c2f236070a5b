"""Data whose agreement forbids passing anything on: ids, patients and sentences of a corpus stay in the output folder's own records.

Every planted word is looked for, byte by byte, in all that people pass on: the site, the tracking store, and what the command prints.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark import registry
from benchmark.kinds.kit.stored import EXAMPLES_FILE, STATISTICS_FILE, read_statistics
from benchmark.readers.base import open_reader
from tests.corpora import CorpusPlan, write_corpus
from tests.planted import CANDID_PTX, CHEXPERT, PROBE, planted

pytestmark = [pytest.mark.long(20), pytest.mark.usefixtures("small_frames")]

OWN = {"records", "predictions"}  # of the output folder: these stay with whoever holds the licence


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("agreement")
    write_corpus(CHEXPERT, root / "chexpert")
    return root


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
        ("padchest-gr", "padchest-gr-grounding-groups-lobe", 14),
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
    plan = CorpusPlan(dataset="mimic-cxr", n_patients=24, seed=5, images_per_patient=(1, 1), positive_share=0.9)
    write_corpus(plan, root / "mimic-cxr")
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
