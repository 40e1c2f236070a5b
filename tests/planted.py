"""Words of a corpus that may not be passed on, planted in what people pass on, and how they are looked for."""

from __future__ import annotations

import csv
from pathlib import Path

from benchmark import registry
from benchmark.phantom.corpus import REPORTS_FILE
from benchmark.readers.base import open_reader
from tests.corpora import CorpusPlan, write_corpus

PROBE = "chexpert-linear-frozen-100-mgca"
# Drawn once: tests/kinds has the same, and all that damage it, `restricted` included.
CHEXPERT = CorpusPlan(dataset="chexpert", n_patients=30, seed=5, images_per_patient=(1, 1), positive_share=0.9)
CANDID_PTX = CorpusPlan(dataset="candid-ptx", n_patients=5, seed=5, images_per_patient=(1, 2), positive_share=0.6)


def planted(root: Path, dataset: str = "chexpert") -> dict[str, list[bytes]]:
    """Ids, patients and report sentences of the corpus."""
    reader = open_reader(registry.dataset(dataset), root / dataset)
    with (root / dataset / REPORTS_FILE).open(encoding="utf-8", newline="") as handle:
        reports = [row["report"] for row in csv.DictReader(handle)]
    sentences = {s.strip() for report in reports for line in report.splitlines() for s in line.split(".") if len(s.split()) > 3}
    words = {"ids": set(reader.ids), "patients": {reader.sample(i).patient_id for i in reader.ids} - {None}, "sentences": sentences}
    return {what: [w.encode() for w in sorted(found)] for what, found in words.items()}


def write_whole_and_damaged(root: Path) -> tuple[list[str], list[bytes]]:
    """A dataset that can be read and one whose images are cut off, of which neither may be passed on.

    Returns:
        A task of each, and every word that must not be told.
    """
    write_corpus(CHEXPERT, root / "chexpert")
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


def images(root: Path) -> list[Path]:
    texts = {".csv", ".gz", ".json", ".txt", ".zip"}
    found = sorted(p for p in root.rglob("*") if p.is_file() and p.suffix.lower() not in texts)
    assert found
    return found


def cut(root: Path) -> None:
    for path in images(root):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
