from __future__ import annotations

import csv
import hashlib
import importlib
import json

import pytest

from benchmark import registry
from benchmark.errors import StoreError, UnknownName, UsageError
from benchmark.phantom import rsna
from benchmark.phantom.base import Shot, shots_of
from benchmark.phantom.corpus import PHANTOM_FILE, REPORTS_FILE, CorpusPlan, write_corpus, writers
from benchmark.readers.base import open_reader
from tests import corpora


def digest(folder):
    """SHA-256 over every path and every byte below a folder."""
    sha = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        sha.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return sha.hexdigest()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A corpus of two patients, its plan and summary."""
    plan = CorpusPlan("rsna", 2, seed=5, images_per_patient=(1, 2), positive_share=0.5)
    folder = tmp_path_factory.mktemp("corpus") / "rsna"
    return plan, folder, write_corpus(plan, folder)


def test_same_plan_gives_the_same_bytes_for_any_number_of_workers(small, tmp_path):
    plan, folder, _ = small
    write_corpus(plan, tmp_path / "again", workers=2)
    assert digest(tmp_path / "again") == digest(folder)


def test_another_seed_gives_other_ids_and_other_patients(small, tmp_path):
    _, folder, _ = small
    write_corpus(CorpusPlan("rsna", 2, seed=6, images_per_patient=(1, 2)), tmp_path / "other")
    ids, patients = ([{row[name] for row in reports(root)} for root in (folder, tmp_path / "other")] for name in ("id", "patient_id"))
    assert not ids[0] & ids[1]
    assert not patients[0] & patients[1]


def reports(root):
    with (root / REPORTS_FILE).open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_manifest_holds_plan_counts_and_digests_of_what_lies_on_disk(small):
    plan, folder, summary = small
    manifest = json.loads((folder / PHANTOM_FILE).read_text())
    with (folder / "stage_2_train_labels.csv").open() as handle:
        ids = list(dict.fromkeys(row["patientId"] for row in csv.DictReader(handle)))
    assert manifest["seed"] == plan.seed
    assert manifest["plan"]["positive_share"] == 0.5
    assert manifest["counts"] == summary.counts
    assert manifest["counts"]["images"] == len(ids) == len(list((folder / "stage_2_train_images").glob("*.dcm")))
    assert manifest["digests"]["ids_sha256_ordered"] == hashlib.sha256("\n".join(ids).encode()).hexdigest()
    assert manifest["digests"]["ids_sha256_sorted"] == hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def test_every_labelled_image_has_a_report_and_a_patient(small):
    _, folder, summary = small
    rows = {row["id"]: row for row in reports(folder)}
    labelled = {path.stem for path in (folder / "stage_2_train_images").glob("*.dcm")}
    assert labelled <= rows.keys()
    assert len({rows[i]["patient_id"] for i in labelled}) == summary.counts["patients"]
    assert all("FINDINGS: " in row["report"] and "\nIMPRESSION: " in row["report"] for row in rows.values())


def test_progress_counts_every_image(tmp_path):
    seen = []
    write_corpus(CorpusPlan("rsna", 1, seed=0, images_per_patient=(1, 1)), tmp_path / "out", lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]  # one labelled, one test image


def test_a_folder_with_content_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="new or empty folder"):
        write_corpus(CorpusPlan("rsna", 1, seed=0), tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_an_empty_folder_is_filled(small, tmp_path):
    plan, folder, _ = small
    (tmp_path / "out").mkdir()
    write_corpus(plan, tmp_path / "out")
    assert digest(tmp_path / "out") == digest(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("dataset", "limit", "patients", "sentence"),
    [
        ("chestx-det", {"NUMBERS": (0, 9)}, 10, "chestx-det: a phantom holds at most 9 images, because their numbers have five digits"),
        (
            "object-cxr",
            {"N_TRAIN": 5},
            10,
            r"object-cxr: the release numbers 5 training images, so a phantom cannot hold \d+\. Ask for fewer",
        ),
        ("nih-cxr", {"shots_of": lambda *_: [None] * 10}, 500_000, "nih-cxr: a phantom holds at most about a million patients"),
        (
            "tbx11k",
            {"shots_of": lambda *_: [Shot(0, 0, True, "")] * 10_000},
            10_000,
            "tbx11k: the release numbers files with four digits, so a phantom cannot hold 10,000 of tb",
        ),
    ],
)
def test_more_than_a_release_has_numbers_for_is_refused(monkeypatch, dataset, limit, patients, sentence):
    writer = importlib.import_module(f"benchmark.phantom.{dataset.replace('-', '_')}")
    for name, value in limit.items():
        monkeypatch.setattr(writer, name, value)
    with pytest.raises(UsageError, match=sentence):
        writer.shots(CorpusPlan(dataset, patients, seed=1, images_per_patient=(1, 1), positive_share=0.5))


def test_interruption_leaves_no_folder_that_looks_like_a_corpus(tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rsna, "write_labels", full_disk)
    plan = CorpusPlan("rsna", 1, seed=0, images_per_patient=(1, 1))
    with pytest.raises(StoreError, match="No space left on device"):
        write_corpus(plan, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    assert write_corpus(plan, tmp_path / "out").counts["images"] == 1


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"n_patients": 0}, "at least one patient"),
        ({"n_patients": 1, "images_per_patient": (3, 2)}, "least <= most"),
        ({"n_patients": 1, "positive_share": 1.5}, "between 0 and 1"),
    ],
)
def test_an_impossible_plan_is_refused(wrong, sentence):
    with pytest.raises(UsageError, match=sentence):
        CorpusPlan("rsna", seed=0, **wrong)


def test_unknown_dataset_names_the_nearest(tmp_path):
    with pytest.raises(UnknownName, match="Did you mean siim"):
        write_corpus(CorpusPlan("sim", 1, seed=0), tmp_path / "out")


def test_every_published_dataset_has_a_writer():
    assert {"rsna", "covid-rural", "siim", "object-cxr", "nih-cxr"} <= set(writers())


@pytest.mark.parametrize("share", [None, 0.0, 0.5, 1.0])
def test_prevalence_is_exact_and_positives_of_a_patient_come_together(share):
    shots = shots_of(CorpusPlan("rsna", 400, seed=1, positive_share=share), rsna.DEFAULT_POSITIVE_SHARE)
    positive = sum(shot.positive for shot in shots)
    assert positive == round((6_012 / 26_684 if share is None else share) * len(shots))
    if share == 0.5:
        by_patient: dict[int, list[bool]] = {}
        for shot in shots:
            by_patient.setdefault(shot.patient, []).append(shot.positive)
        pairs = [flags for flags in by_patient.values() if len(flags) == 2]
        assert sum(a == b for a, b in pairs) / len(pairs) > 0.55  # 0.5 if images were independent


def test_images_per_patient_are_drawn_between_least_and_most():
    shots = shots_of(CorpusPlan("rsna", 300, seed=2), rsna.DEFAULT_POSITIVE_SHARE)
    counts = {}
    for shot in shots:
        counts[shot.patient] = counts.get(shot.patient, 0) + 1
    assert set(counts.values()) == {1, 2, 3, 4}
    assert len({(shot.patient, shot.index) for shot in shots}) == len(shots)


@pytest.mark.parametrize("dataset", writers())
def test_the_reader_counts_everything_the_manifest_states(dataset, tmp_path):
    n_patients = {"nih-cxr": 12, "padchest": 6}.get(dataset, 4)  # the corpora of tests/readers/test_as_people_have_them.py
    corpora.write_corpus(CorpusPlan(dataset, n_patients, seed=3, images_per_patient=(1, 1), positive_share=0.5), tmp_path / dataset)
    counts = json.loads((tmp_path / dataset / PHANTOM_FILE).read_text(encoding="utf-8"))["counts"]
    lines = [(c.what, c.expected, c.verdict) for c in open_reader(registry.dataset(dataset), tmp_path / dataset).verify().checks]
    assert {(name.replace("_", " "), f"{number:,}", "ok") for name, number in counts.items()} <= set(lines)
