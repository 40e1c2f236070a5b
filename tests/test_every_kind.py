"""One task of each kind by the command, in one evaluation: what `make verify` does for every suite (tests/verify/test_suites.py)."""

from __future__ import annotations

import json
import math
from pathlib import Path, PurePosixPath

import pytest

from benchmark import kinds, registry
from benchmark.cards import Record
from benchmark.kinds.base import Kind
from benchmark.kinds.kit.stored import EXAMPLES_FILE, STATISTICS_FILES
from benchmark.shelf import Shelf
from benchmark.submission.same_statistics import differing_metrics, fault_of_images
from benchmark.submission.score import scorer
from benchmark.submission.verified import statistics_of
from tests.corpora import CorpusPlan, write_corpus
from tests.towers import write_towers

pytestmark = pytest.mark.long(30)

# Head -> the smallest of its tasks.
KINDS = {
    "linear": "covid-rural-linear-frozen-100",
    "unet": "covid-rural-unet-frozen-100",
    "yolov3": "rsna-yolov3-frozen-1",
    "faster_rcnn": "rsna-faster-rcnn-frozen-1-lobe",
    "smp_unet": "rsna-smp-unet-frozen-1-mgca",
    "yolov3_mgca": "rsna-yolov3-frozen-1-mgca",
    "classifier": "rsna-labels-linear-frozen-1-gloria",
    "softmax_classifier": "covidx-linear-frozen-1-mgca",
    "nearest_neighbour": "rsna-labels-nearest-neighbour-frozen-10-lobe",
    "attentive": "rsna-labels-attentive-frozen-10-lobe",
    "class_map": "chexpert-to-chexlocalize-class-map-frozen-100-lobe",
    "zero_shot": "rsna-labels-zero-shot-g2d",
    "retrieval": "open-i-retrieval-lobe",
    "grounding": "ms-cxr-grounding-lobe",
}
PLANS = (  # those that other tests have drawn
    CorpusPlan(dataset="covid-rural", n_patients=14, seed=3),
    CorpusPlan(dataset="rsna", n_patients=24, seed=3),
    CorpusPlan(dataset="covidx", n_patients=8, seed=4, images_per_patient=(2, 2)),
    CorpusPlan(dataset="open-i", n_patients=16, seed=5, images_per_patient=(1, 1), positive_share=0.6),
    CorpusPlan(dataset="ms-cxr", n_patients=8, seed=5, images_per_patient=(1, 1)),
    CorpusPlan(dataset="chexpert", n_patients=30, seed=5, images_per_patient=(1, 1), positive_share=0.9),
    CorpusPlan(dataset="chexlocalize", n_patients=14, seed=6, images_per_patient=(1, 1)),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kinds") / "data"
    for plan in PLANS:
        write_corpus(plan, root / registry.dataset(plan.dataset).folder)
    return root


def test_the_kinds_are_all_heads_of_all_tasks() -> None:
    assert {head: registry.task(task).head for head, task in KINDS.items()} == {head: head for head in KINDS}
    assert set(KINDS) == {task.head for task in registry.tasks().values()}


@pytest.mark.usefixtures("small_frames", "narrow_heads")
def test_one_task_of_each_kind_runs_by_the_command(data: Path, lobe, tmp_path: Path) -> None:
    towers = write_towers(tmp_path / "towers", data)
    tasks = [word for task in KINDS.values() for word in ("--task", task)]
    given = ["--backbone", f"{towers}:small", "--data", data, "--out", tmp_path / "out", "--protocol", "corrected", "--seeds", 1]
    code, stdout, stderr = lobe(
        "run", *tasks, *given, "--profile", "smoke", "--limit", 8, "--executor", "inline", "--no-tracking", "--json"
    )
    assert code == 0, stdout + stderr
    document = json.loads(stdout)
    assert document["computed"] == len(KINDS)
    assert {row["task"] for row in document["rows"]} == set(KINDS.values())
    assert all(math.isfinite(row["mean_percent"]) for row in document["rows"])
    records, refused = Shelf(tmp_path / "out").believable()
    scored_again = {record.job.experiment.head for record in records if is_scored_again(record, data, tmp_path)}
    assert refused == []
    assert set(KINDS) - scored_again == {"class_map", "retrieval", "grounding"}


def is_scored_again(record: Record, data: Path, folder: Path) -> bool:
    """Whether predictions of a kind are scored again; they then say of every image what the statistics that were stored with them say."""
    kind = kinds.of_experiment(record.job.experiment)
    if type(kind).rescore is Kind.rescore:
        return False
    (name,) = (one for one in record.predictions if PurePosixPath(one).name not in (*STATISTICS_FILES, EXAMPLES_FILE))
    labels, dataset = record.job.labels, record.job.experiment.dataset
    found = scorer(labels.task, [str(data)], folder / "cache", labels.protocol, 8, dataset.split).score(folder / "out" / name)
    stored = statistics_of(record, folder / "out")
    assert (found.digest, differing_metrics(record.metrics, found.metrics, stored)) == (dataset.digest, [])
    assert fault_of_images(stored, found.images) == ""
    return True
