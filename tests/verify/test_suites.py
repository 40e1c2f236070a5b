"""Every suite from raw phantom files to stored records, by the command, in a few steps.

Each head of LoVT, frozen and fine-tuned, by a request of Python is in `test_architectures.py`.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmark import registry
from benchmark.phantom.corpus import CorpusPlan, write_corpus
from tests.towers import OWN, write_towers

pytestmark = pytest.mark.slow

PATIENTS = {"rsna": 40, "covid-rural": 20, "siim": 40, "object-cxr": 40, "nih-cxr": 40}
# The others: enough patients that every split of every task has its images, and 5x200 four of every finding: the only one has, without its
# own report, nothing to find.
MORE = {
    "chexpert": (40, 2),
    "mimic-cxr": (96, 1),
    "open-i": (24, 1),
    "ms-cxr": (12, 1),
    "covidx": (16, 1),
    "padchest": (40, 1),
    "vindr-cxr": (30, 1),
    "tbx11k": (40, 1),
    "jsrt": (24, 1),
    "candid-ptx": (24, 1),
    "chestx-det": (40, 1),
    "chexlocalize": (20, 1),
    "padchest-gr": (20, 1),
    "montgomery": (24, 1),
    "shenzhen": (8, 1),
    "nih-lt": (40, 1),
    "chest-imagenome": (20, 1),
    "pax-ray": (20, 1),
}  # patients, images of each


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("suites") / "data"
    for name, patients in PATIENTS.items():
        write_corpus(CorpusPlan(dataset=name, n_patients=patients, seed=5), root / registry.dataset(name).folder)
    for name, (patients, images) in MORE.items():
        plan = CorpusPlan(dataset=name, n_patients=patients, seed=5, images_per_patient=(images, images), positive_share=0.8)
        write_corpus(plan, root / registry.dataset(name).folder)
    write_towers(root.parent / "towers", root)
    return root


# `full` last: what the others stored is not computed again.
@pytest.mark.parametrize("suite", sorted(registry.suites(), key=lambda name: (name == "full", name)))
def test_a_suite_runs_by_the_command_with_the_backbone_that_matches(data: Path, lobe, suite: str, record_property):
    out, backbone = data.parent / "out", f"{data.parent / 'towers' / 'towers.py'}:{OWN.get(suite, 'small')}"
    named = ["--suite", suite, "--backbone", backbone, "--data", data, "--out", out, "--cache", data.parent / "cache"]
    code, stdout, stderr = lobe("run", *named, "--profile", "smoke", "--limit", 8, "--seeds", 1, "--no-tracking", "--json")
    assert code == 0, stdout + stderr
    document = json.loads(stdout)
    assert all(math.isfinite(row["mean_percent"]) for row in document["rows"])
    stored = {row["task"] for row in document["rows"]}
    tasks = registry.suite(suite).tasks
    assert {bare(task) for task in tasks} == {bare(task) for task in stored}
    record_property("tasks", len(tasks))
    record_property("jobs computed, jobs stored before", f"{document['computed']}, {document['stored']}")


def bare(task: str) -> str:
    """A cell of a grid that is another suite's task is one job, stored under the name it was first computed for."""
    own = task.removesuffix("-grid-beyond").removesuffix("-grid")
    return own.removesuffix("-lobe") if registry.task(task).dataset in registry.grids()["grid-beyond"].heads else own
