"""Every published split whose digest is known: computed here from the public label files, or on the written list of those that cannot be.

The list is docs/splits.md; a digest without a line there, or a line without a digest, fails.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from benchmark import registry
from benchmark.readers.base import SPLITS, ids_digest
from benchmark.readers.chexpert import read_studies
from benchmark.readers.covidx import mgca_split, read_list
from benchmark.readers.kit.chexpert_5x200 import mgca_set, prior_set
from benchmark.readers.kit.holdout import hold_out, sampled, sorted_holdout
from benchmark.readers.kit.splits import lovt_csv, prefix, split_by_rule
from benchmark.readers.rsna import read_labels

ROOT = Path(__file__).resolve().parents[2]
Key = tuple[str, str, str]  # source, dataset, split
LOVT = {"COVID-Rural": "covid-rural", "NIH-BBox": "nih-cxr", "Object-CXR": "object-cxr", "RSNA": "rsna", "SIIM": "siim"}
STATES = ("reproduced", "installed", "rule", "listed")
PACKAGED = {  # label files in the folder `data` of torchxrayvision, under the names of their releases
    "siim-pneumothorax-train-rle.csv.gz": "train-rle.csv",
    "chexpert_train.csv.gz": "train.csv",
    "vinbigdata-train.csv.gz": "vindr.csv",
}


@pytest.fixture(scope="module")
def published(real_files: Path) -> dict[Key, tuple[int, str]]:
    """Number of images and digest of every known list."""
    table = real_files.parent / "reference" / "split_digests.csv"
    if not table.is_file():
        pytest.skip("the table of digests is not beside the checkout")
    with table.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    found = {(r["source"], r["dataset"], r["split"]): (int(r["n_images"]), r["sha256_sorted_ids"]) for r in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the label files of `PACKAGED`, unpacked. The package is found, never imported, and no dependency of LOBE."""
    found = importlib.util.find_spec("torchxrayvision")
    if found is None or found.origin is None:
        pytest.skip("torchxrayvision, which ships the label files, is not installed")
    folder = tmp_path_factory.mktemp("packaged")
    for name, released in PACKAGED.items():
        with gzip.open(Path(found.origin).parent / "data" / name) as packed, (folder / released).open("wb") as file:
            shutil.copyfileobj(packed, file)
    return folder


def listed(known: Sequence[Key]) -> dict[Key, tuple[str, str]]:
    """State and reason of every known list, from the page; a list on two lines, or a line about none, is an error here."""
    found: dict[Key, tuple[str, str]] = {}
    for line in (ROOT / "docs" / "splits.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 5 or cells[0] == "source" or set(cells[0]) == {"-"}:
            continue
        source, datasets, splits, state, why = cells
        about = [
            key
            for key in known
            if key[0] == source and key[1] in datasets.split(", ") and (splits == "all" or key[2] in splits.split(", "))
        ]
        assert about, f"no digest is known for the line {line!r}"
        assert {key[1] for key in about} == set(datasets.split(", "))
        for key in about:
            assert key not in found, f"{key} is on two lines"
            found[key] = (state, why)
    return found


def test_every_known_split_is_reproduced_or_on_the_written_list(published) -> None:
    states = listed(list(published))
    assert set(published) - set(states) == set()
    assert {state for state, _ in states.values()} == set(STATES)
    for state, why in states.values():
        assert len(why) > 10 or state == "reproduced"
        for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", why):
            assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")
        assert state != "rule" or "::" in why


def test_what_is_called_reproduced_has_the_published_digest_and_no_more_is_computed(published, real_files: Path) -> None:
    made = computed(real_files)
    wanted = {key for key, (state, _) in listed(list(published)).items() if state == "reproduced"}
    assert set(made) == wanted
    assert {key: (len(set(ids)), ids_digest(ids)) for key, ids in made.items()} == {key: published[key] for key in made}


def test_what_an_installed_package_ships_reproduces_its_lists_and_no_more(published, packaged: Path) -> None:
    made = from_packaged(packaged)
    assert set(made) == {key for key, (state, _) in listed(list(published)).items() if state == "installed"}
    assert {key: (len(set(ids)), ids_digest(ids)) for key, ids in made.items()} == {key: published[key] for key in made}


def test_lovts_rule_on_siims_table_has_the_digests_of_the_card_in_their_order(packaged: Path) -> None:
    rule = registry.dataset("siim").splits["lovt"]
    splits = split_by_rule(list(dict.fromkeys(siim_rows(packaged))), rule, patient_of=lambda _: None)
    for name, ids in splits.items():
        expected = rule.expected[name]
        assert (len(ids), ids_digest(ids), ids_digest(ids, ordered=True)) == (
            expected.n_images,
            expected.sha256_sorted,
            expected.sha256_ordered,
        )


def test_mgcas_5x200_of_chexpert_has_the_digest_of_the_card(packaged: Path) -> None:
    ids = mgca_set(read_studies(packaged / "train.csv", "chexpert")[0])
    expected = registry.dataset("chexpert").splits["mgca-5x200"].expected["test"]
    assert (len(ids), ids_digest(ids)) == (expected.n_images, expected.sha256_sorted)


def test_benchx_list_of_vindr_is_given_neither_by_sorted_ids_nor_by_kaggles_order(published, packaged: Path) -> None:
    table = pd.read_csv(packaged / "vindr.csv")
    ids, found = list(dict.fromkeys(table.image_id)), set(table.image_id[table.class_name != "No finding"])
    for order in (ids, sorted(ids)):
        train, validation = train_test_split(order, test_size=3000, stratify=[i in found for i in order], random_state=42)
        assert (sum(i in found for i in train), sum(i in found for i in validation)) == (3515, 879)
        for name, part in (("train", train), ("val", validation)):
            n_images, digest = published["BenchX committed list", "VinDr-CXR", name]
            assert len(part) == n_images
            assert ids_digest(part) != digest


def test_lobes_split_of_tbx11k_has_the_digests_of_the_card(real_files: Path) -> None:
    lists = [real_files / "labels" / f"TBX11K_{part}.txt" for part in ("train", "val")]
    if not all(path.is_file() for path in lists):
        pytest.skip("the official lists of TBX11K are not beside the checkout")
    train, test = ([Path(line.strip()) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()] for path in lists)
    rule, kinds = registry.dataset("tbx11k").splits["official-val"], {path.stem: path.parts[0] for path in train}
    kept, held = train_test_split(
        sorted(kinds),
        test_size=round(rule.validation_share * len(kinds)),
        stratify=[kinds[i] for i in sorted(kinds)],
        random_state=rule.seed,
    )
    for name, ids in (("train", kept), ("validation", held), ("test", [path.stem for path in test])):
        assert (len(ids), ids_digest(ids)) == (rule.expected[name].n_images, rule.expected[name].sha256_sorted)


def siim_rows(packaged: Path) -> list[str]:
    """Image of each row of the table, in file order."""
    return [cell.strip() for cell in pd.read_csv(packaged / "train-rle.csv").ImageId]


def from_packaged(packaged: Path) -> dict[Key, Sequence[str]]:
    """The ids of every list that the installed package's label files allow."""
    found: dict[Key, Sequence[str]] = {}
    source = "MGCA row-level rule on the 12,954-row file (recomputed; splits share images)"
    train, held = train_test_split(siim_rows(packaged), test_size=0.3, random_state=0)
    test, validation = train_test_split(held, test_size=0.5, random_state=0)
    found |= {(source, "SIIM", name): rows for name, rows in (("train", train), ("valid", validation), ("test", test))}

    studies, _ = read_studies(packaged / "train.csv", "chexpert")
    found["full train.csv", "CheXpert", "train_all"] = [study.path for study in studies]
    drawn = mgca_set(studies)
    found["MGCA rule random_state=0 (recomputed)", "CheXpert-5x200", "test"] = drawn
    taken = set(drawn)
    labelled = [(label, study) for label, study in enumerate(studies) if study.path not in taken]
    found["MGCA rule as written (recomputed)", "CheXpert", "valid"] = [study.path for _, study in hold_out(labelled, 5_000, 0)[1]]
    # The released mistake: positions among the rows that are left are dropped as if they were labels of the whole table.
    dropped = set(np.random.RandomState(0).permutation(len(labelled))[:5_000].tolist())
    leaky = [study for label, study in labelled if label not in dropped]
    source = "MGCA rule as written (recomputed; 4907 images shared with valid)"
    found[source, "CheXpert", "train"] = [study.path for study in leaky]
    frontal = sampled([study.path for study in leaky if study.frontal])
    for name, share in (("train_1pct", 0.01), ("train_10pct", 0.1)):
        found["MGCA frontal subset (recomputed)", "CheXpert", name] = prefix(frontal, share)
    return found


def computed(real_files: Path) -> dict[Key, Sequence[str]]:
    """The ids of every list that the files at hand allow."""
    found: dict[Key, Sequence[str]] = {}
    lovt = {dataset: lovt_csv(real_files / "lovt_splits" / folder) for dataset, folder in LOVT.items()}
    for dataset, lists in lovt.items():
        found |= {("LoVT committed CSV", dataset, name): lists.splits[name] for name in SPLITS}
    found["full labelled set (12,954-row train-rle.csv)", "SIIM", "all"] = [i for name in SPLITS for i in lovt["SIIM"].splits[name]]
    for part, name, share in (("train", "train_1pct", 0.01), ("train", "train_10pct", 0.1), ("validation", "validation_10pct", 0.1)):
        found["LoVT subset rule (first rows)", "RSNA", name] = prefix(lovt["RSNA"].splits[part], share)
    boxes = lovt["Object-CXR"].boxes_xywh
    return found | _rsna(real_files) | _object_cxr({i: len(boxes[i]) > 0 for i in boxes}) | _covidx(real_files) | _read(real_files)


def _rsna(real_files: Path) -> dict[Key, Sequence[str]]:
    labels = read_labels(real_files / "labels" / "rsna_stage_2_train_labels_semicolon.csv", "rsna")
    positive = {i: len(labels.boxes_xywh[i]) > 0 for i in labels.ids}
    found: dict[Key, Sequence[str]] = {("full labelled set (stage_2_train_labels.csv)", "RSNA", "all"): labels.ids}
    rules = registry.dataset("rsna-labels").splits
    for source, rule in (
        ("GLoRIA rule = MGCA classification rule (recomputed)", "gloria"),
        ("MGCA detection/segmentation rule (recomputed)", "mgca-localized"),
    ):
        splits = sorted_holdout(labels.ids, rules[rule])
        found |= {(source, "RSNA", name): splits[part] for name, part in (("train", "train"), ("valid", "validation"), ("test", "test"))}
    train = found["GLoRIA rule = MGCA classification rule (recomputed)", "RSNA", "train"]
    for name, share in (("train_1pct", 0.01), ("train_10pct", 0.1)):
        found["MGCA classification subset (recomputed)", "RSNA", name] = prefix(train, share)
    train, rest = stratified(sorted(labels.ids), positive, 0.3)
    found["BenchX committed list", "RSNA", "train"] = train
    found["BenchX committed list", "RSNA", "val"], found["BenchX committed list", "RSNA", "test"] = stratified(rest, positive, 0.5)
    for name, left_out in (("train_1", 0.99), ("train_10", 0.9)):
        found["BenchX committed list", "RSNA", name] = stratified(train, positive, left_out)[0]
    return found


def _object_cxr(positive: dict[str, bool]) -> dict[Key, Sequence[str]]:
    """Ids are 00001 to 10000 in order: train, dev, and a test set that only BenchX's mirror has."""
    train, dev, test = ([f"{k:05d}" for k in range(a, b)] for a, b in ((1, 8001), (8001, 9001), (9001, 10001)))
    source = "MGCA rule (recomputed; assumes rows in file-name order)"
    rule = registry.dataset("object-cxr-plain").splits["mgca"]
    kept, held = hold_out(train, round(rule.validation_share * len(train)), rule.seed)
    found = {(source, "Object-CXR", name): ids for name, ids in (("train", kept), ("valid", held), ("test", dev))}
    found |= {("BenchX committed list", "Object-CXR", name): ids for name, ids in (("train", train), ("val", dev), ("test", test))}
    for name, share in (("train_1", 0.01), ("train_10", 0.1)):
        found["BenchX committed list", "Object-CXR", name] = stratified(train, positive, share)[1]
    return found


def _covidx(real_files: Path) -> dict[Key, Sequence[str]]:
    card = registry.dataset("covidx")
    train, test = (
        [line.name for line in read_list(real_files / "labels" / f"covidx_{part}_9A.txt", "covidx", card.classes)]
        for part in ("train", "test")
    )
    splits = mgca_split(train, test, card.splits["mgca"])
    source = "MGCA rule on COVIDx9A lists (recomputed)"
    found = {(source, "COVIDx", name): splits[part] for name, part in (("train", "train"), ("valid", "validation"), ("test", "test"))}
    found["COVID-Net label file train_COVIDx9A.txt", "COVIDx", "train"] = train
    # 9B has the same test images in two classes instead of three.
    return found | {(f"COVID-Net label file test_COVIDx{name}.txt", "COVIDx", "test"): test for name in ("9A", "9B")}


def _read(real_files: Path) -> dict[Key, Sequence[str]]:
    labels = real_files / "labels"
    studies = pd.read_csv(labels / "chexpert_test_groundtruth.csv").Study
    prior = "PRIOR committed JSON (last entry recovered from a truncated copy)"
    found: dict[Key, Sequence[str]] = {
        ("official groundtruth.csv", "CheXpert", "test_studies"): [study.partition("/")[2] for study in studies],
        (prior, "CheXpert-5x200", "test"): list(prior_set(labels / "prior_chexpert_5x200.json")),
    }
    for part in ("train", "test"):
        entries = json.loads((labels / f"ChestX_Det_{part}.json").read_text())
        found["official JSON", "ChestX-Det", part] = [entry["file_name"] for entry in entries]
    return found


def stratified(ids: Sequence[str], positive: dict[str, bool], share: float) -> tuple[list[str], list[str]]:
    """BenchX's draw: scikit-learn's, by class, with state 42."""
    return train_test_split(list(ids), test_size=share, stratify=[positive[i] for i in ids], random_state=42)
