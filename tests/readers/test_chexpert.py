"""Promises of the CheXpert reader: labels as its card decides, no image in two splits, and the published 5x200 sets by their rules."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmark import registry
from benchmark.errors import DataError, SplitError
from benchmark.observations import CHEXPERT_OBSERVATIONS
from benchmark.readers import chexpert
from benchmark.readers.base import ids_digest, open_reader
from benchmark.readers.chexpert import BLANK, Study, labels_of, mgca_split, read_studies
from benchmark.readers.kit import chexpert_5x200 as sets
from tests.corpora import CorpusPlan, write_corpus

CARD = registry.dataset("chexpert")
HEADER = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(CHEXPERT_OBSERVATIONS)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("chexpert") / "chexpert"
    write_corpus(CorpusPlan(dataset="chexpert", n_patients=6, seed=1, images_per_patient=(2, 2)), root)
    return root


def study(number: int, frontal: bool = True, **values: int) -> Study:
    path = f"train/patient{number:05d}/study1/view1_{'frontal' if frontal else 'lateral'}.jpg"
    named = {name.replace("_", " "): value for name, value in values.items()}
    return Study(path, frontal, "AP", dict.fromkeys(CHEXPERT_OBSERVATIONS, BLANK) | named)


def many(n: int, seed: int = 0) -> list[Study]:
    """Rows with findings drawn at random, uncertain and lateral ones among them."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        values = dict.fromkeys(CHEXPERT_OBSERVATIONS, BLANK)
        values[sets.CLASSES[random.integers(5)]] = 1
        if random.random() < 0.3:
            values[CHEXPERT_OBSERVATIONS[random.integers(14)]] = int(random.choice([1, 0, -1]))
        rows.append(study(number, bool(random.random() < 0.9), **values))
    return rows


# ------------------------------------------------------------------------------------------------------------------ reader


def test_a_phantom_verifies_and_gives_images_labels_and_patients(corpus: Path) -> None:
    reader = open_reader(CARD, corpus)
    assert reader.verify().ok
    sample = reader.sample(reader.ids[0])
    assert sample.image().shape == (320, 390)
    assert sample.labels.shape == (5,)
    assert sample.patient_id == sample.id.split("/")[1]
    assert sample.sex in ("M", "F")
    assert sample.age_decade in range(0, 100, 10)
    splits = reader.split(CARD.splits["mgca-disjoint"])
    assert all(i.startswith("valid/") for i in splits["test"])
    assert not set(splits["train"]) & set(splits["validation"])


def test_uncertain_labels_count_as_the_card_says_and_blanks_as_negative() -> None:
    uncertain = study(1, Atelectasis=-1, Cardiomegaly=-1, Edema=1)
    assert labels_of(uncertain, CARD.classes, CARD.uncertain).tolist() == [1, 0, 0, 1, 0]
    assert labels_of(uncertain, CARD.classes, {}).tolist() == [-1, -1, 0, 1, 0]


def test_what_uncertain_labels_count_as_is_part_of_the_dataset(corpus) -> None:
    """Two cards of the same files give other labels; the shipped card's digest is that of the files, as it always was."""
    cards = [CARD, *(CARD.model_copy(update={"uncertain": CARD.uncertain | {"Edema": one}}) for one in ("positive", "negative"))]
    shipped, same, other = (open_reader(card, corpus) for card in cards)
    assert shipped.decided() == ""
    assert shipped.label_digest() == same.label_digest() != other.label_digest()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("Other/train/p/s/v.jpg,Male,61,Frontal,AP" + "," * 14, r"line 2: the path does not start with CheXpert"),
        ("CheXpert-v1.0/train/p/s/v.jpg,Male,61,Frontal,AP,7.0" + "," * 13, r"line 2: No Finding is '7.0'"),
        ("CheXpert-v1.0/train/p/s/v.jpg,Male,61", r"line 2 has 3 cells, expected 19"),
    ],
)
def test_a_row_that_is_not_the_releases_is_named(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "train.csv").write_text(f"{HEADER}\n{row}\n")
    with pytest.raises(DataError, match=message):
        read_studies(tmp_path / "train.csv", "chexpert")


def test_no_validation_image_trains_and_no_5x200_image_is_in_any_split() -> None:
    rows = many(3_000)
    splits = mgca_split(rows, [study(9_999)], seed=0)
    assert not set(splits["train"]) & set(splits["validation"])
    set_aside = sets.mgca_set(rows, round(200 * len(rows) / 223_414))
    assert len(set_aside) == 15
    assert not (set(splits["train"]) | set(splits["validation"])) & set(set_aside)
    assert all("frontal" in i for part in splits.values() for i in part)
    assert splits["test"] == (study(9_999).path,)


# ------------------------------------------------------------------------------------------------------------------- 5x200


def test_candidates_show_one_finding_and_certainly_nothing_else() -> None:
    rows = [
        study(1, Edema=1),
        study(2, Edema=1, No_Finding=1),  # not asked
        study(3, Edema=1, Fracture=-1),  # uncertain disqualifies
        study(4, Edema=1, Atelectasis=1),
        study(5, frontal=False, Edema=1),
        study(6, Edema=-1),
        study(7, Edema=1, Support_Devices=0),
    ]
    assert sets.candidates(rows, "Edema") == [rows[k].path for k in (0, 1, 6)]


def test_mgcas_set_is_pandas_sample_of_each_class() -> None:
    rows = many(3_000)
    table = pd.DataFrame([{"path": r.path, "frontal": r.frontal, **r.values} for r in rows]).replace({BLANK: 0})
    expected = []
    for name in sets.CLASSES:
        absent = [*(c for c in sets.CLASSES if c != name), *sets.OTHERS]
        chosen = table[table.frontal & (table[name] == 1) & (table[absent] == 0).all(axis=1)]
        expected += chosen.sample(n=200, random_state=0).path.tolist()
    assert list(sets.mgca_set(rows)) == expected


def test_glorias_set_draws_all_classes_from_one_generator() -> None:
    rows = many(3_000)
    frames = [pd.Series(sets.candidates(rows, name)) for name in sets.CLASSES]
    generator = np.random.RandomState(6)
    assert list(sets.gloria_set(rows)) == [i for frame in frames for i in frame.sample(200, random_state=generator)]
    assert set(sets.gloria_set(rows)) != set(sets.mgca_set(rows))


def test_a_class_with_too_few_images_is_refused() -> None:
    with pytest.raises(DataError, match="1 images have Atelectasis alone, 200 are needed"):
        sets.mgca_set([study(1, Atelectasis=1)])


def test_priors_list_has_its_digest(real_files: Path) -> None:
    found = sets.prior_set(real_files / "labels" / "prior_chexpert_5x200.json")
    assert ids_digest(list(found)) == "8aacd366f6c43167200bc9b1ad06593789868d142e0f339cf3ade9970415eb1c"
    assert len({path.split("/")[1] for path in found}) == 967


def test_a_cut_list_of_prior_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prior.json"
    path.write_text('{"7": {"image_path": "train/patient1/study1/v.jpg", "label": [1, 0, 0')
    with pytest.raises(DataError, match="cut off"):
        sets.prior_set(path)
    path.write_text('{"7": {"image_path": "train/patient1/study1/v.jpg", "label": [1, 0, 0, 0, 0]}}')
    with pytest.raises(DataError, match="expected 200 each"):
        sets.prior_set(path)


def test_priors_set_needs_its_list_and_images_of_this_release(untested: Path) -> None:
    rule = CARD.splits["prior-5x200"]
    (path,) = untested.rglob("chexpert_5x200.json")
    path.unlink()
    with pytest.raises(SplitError, match=r"PRIOR's list chexpert_5x200\.json is not beside train\.csv"):
        open_reader(CARD, untested).split(rule)
    label = np.eye(5, dtype=int).tolist()
    path.write_text(
        json.dumps({str(k): {"image_path": f"train/patient9999{k}/study1/view1_frontal.jpg", "label": label[k]} for k in range(5)})
    )
    with pytest.raises(SplitError, match=r"5 of 5 images of chexpert_5x200\.json are not in train\.csv"):
        open_reader(CARD, untested).split(rule)


def test_official_test_labels_have_their_digest(real_files: Path) -> None:
    table = pd.read_csv(real_files / "labels" / "chexpert_test_groundtruth.csv")
    assert ids_digest([s.partition("/")[2] for s in table.Study]) == "8cb87d7de5a364bb98993a0842dc00c2d382fafe1a35b4c62932a6906ede7a54"
    assert tuple(table.columns[1:]) == CHEXPERT_OBSERVATIONS


# ------------------------------------------------------------------------------------------------------- official test set


def test_a_phantom_has_an_official_test_set_of_its_own(corpus: Path) -> None:
    reader = open_reader(CARD, corpus)
    tested, plain = (reader.split(CARD.splits[name]) for name in ("official-test", "mgca-disjoint"))
    assert tested["test"]
    assert set(tested["test"]) == {i for i in reader.ids if i.startswith("test/")}
    patients = [{reader.sample(i).patient_id for i in ids} for ids in (tested["test"], set(reader.ids) - set(tested["test"]))]
    assert patients[0].isdisjoint(patients[1])
    assert {name: tested[name] for name in ("train", "validation")} == {name: plain[name] for name in ("train", "validation")}


@pytest.fixture
def untested(corpus: Path, tmp_path: Path) -> Path:
    """What most people have: the corpus without the official test set."""
    root = tmp_path / "untested" / "chexpert"
    shutil.copytree(corpus, root, ignore=shutil.ignore_patterns("test", "groundtruth.csv"))
    return root


@pytest.fixture
def tested(untested: Path, tmp_path: Path) -> Path:
    """A corpus with a test set: the validation images under other numbers, some studies with two frontal images."""
    root = tmp_path / "chexpert"
    shutil.copytree(untested, root)
    header, rows = ",".join(("Study", *reversed(CHEXPERT_OBSERVATIONS))), []
    for number, image in enumerate(sorted((root / "valid").rglob("*_frontal.jpg"))):
        folder = root / "test" / f"patient{64_741 + number}" / "study1"
        folder.mkdir(parents=True)
        for view in range(1, 2 + number % 2):
            shutil.copy(image, folder / f"view{view}_frontal.jpg")
        shutil.copy(image, folder / "view9_lateral.jpg")
        values = ",".join(str(int(name == "Edema")) for name in reversed(CHEXPERT_OBSERVATIONS))
        rows.append(f"CheXpert-v1.0/test/patient{64_741 + number}/study1,{values}")
    (root / "groundtruth.csv").write_text("\n".join([header, *rows]))  # no newline at its end, as published
    return root


def test_the_official_test_set_has_one_frontal_image_a_study_and_labels_by_name(tested: Path, untested: Path) -> None:
    reader, without = open_reader(CARD, tested), open_reader(CARD, untested)
    splits, plain = reader.split(CARD.splits["official-test"]), reader.split(CARD.splits["mgca-disjoint"])
    assert {name: splits[name] for name in ("train", "validation")} == {name: plain[name] for name in ("train", "validation")}
    assert plain == without.split(CARD.splits["mgca-disjoint"])
    assert len(splits["test"]) == len(list((tested / "test").iterdir())) == 2
    assert all(i.endswith("/study1/view1_frontal.jpg") for i in splits["test"])
    sample = reader.sample(splits["test"][0])
    assert sample.labels.tolist() == [int(name == "Edema") for name in CARD.classes]
    assert sample.image().shape == (320, 390)
    assert sample.patient_id == "patient64741"
    assert reader.outline_digest() != without.outline_digest()


def test_without_its_labels_or_images_the_official_test_set_is_refused(tested: Path, untested: Path) -> None:
    with pytest.raises(SplitError, match=r"groundtruth\.csv, the official test labels, is not beside train\.csv"):
        open_reader(CARD, untested).split(CARD.splits["official-test"])
    (tested / "test" / "patient64742" / "study1" / "view1_frontal.jpg").unlink()
    (tested / "test" / "patient64742" / "study1" / "view2_frontal.jpg").unlink()
    reader = open_reader(CARD, tested)
    with pytest.raises(SplitError, match=r"1 of \d+ studies of groundtruth\.csv have no frontal image"):
        reader.split(CARD.splits["official-test"])
    assert reader.split(CARD.splits["mgca-disjoint"])["train"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Edema", "Oedema", r"does not have one column Edema"),
        ("patient64742/study1", "patient64741/study1", r"line 3: not the first row of a study"),
        ("test/patient64742", "valid/patient64742", r"line 3: not the first row of a study of the test set"),
        ("patient64742/study1,0", "patient64742/study1,-1", r"line 3: Support Devices is '-1'; expected 0 or 1"),
        ("patient64742/study1,0", "patient64742/study1,", r"line 3: Support Devices is ''"),
    ],
)
def test_damaged_test_labels_are_named_by_line(tested: Path, old: str, new: str, message: str) -> None:
    file = tested / "groundtruth.csv"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        open_reader(CARD, tested)


def test_the_official_test_labels_have_the_counts_of_the_card(real_files: Path) -> None:
    studies = chexpert.read_test_studies(real_files / "labels" / "chexpert_test_groundtruth.csv", "chexpert")
    assert len(studies) == CARD.expected["test_studies"]
    for name in CARD.classes:
        assert sum(values[name] for values in studies.values()) == CARD.expected[f"{name} test positive"]
