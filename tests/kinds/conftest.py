"""What tests of several kinds share: files of predictions, and one corpus of each dataset with words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmark.kinds.base import Part, ScoredSplit
from benchmark.kinds.kit import stored
from benchmark.metrics.label_statistics import MeanStatistics
from benchmark.training.data import load_part
from tests.corpora import CorpusPlan, write_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("words")
    write_corpus(CorpusPlan(dataset="chexpert", n_patients=30, seed=5, images_per_patient=(1, 1), positive_share=0.9), root / "chexpert")
    write_corpus(CorpusPlan(dataset="mimic-cxr", n_patients=48, seed=5, images_per_patient=(1, 2), positive_share=0.9), root / "mimic-cxr")
    for name, n in (("rsna", 24), ("siim", 30), ("open-i", 24)):
        write_corpus(CorpusPlan(dataset=name, n_patients=n, seed=5, images_per_patient=(1, 1), positive_share=0.5), root / name)
    write_corpus(CorpusPlan(dataset="nih-cxr", n_patients=10, seed=5, images_per_patient=(1, 1)), root / "nih-cxr")
    return root


@pytest.fixture
def by_hand(tmp_path: Path) -> Callable[..., Path]:
    """A predictions file made by hand: two images, two classes, one box and one mask each."""

    def make(**changes) -> Path:
        rows = [
            {"image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5, "segmentation": {"size": [4, 4], "counts": [3, 2, 11]}},
            {"image_id": 9, "category_id": 1, "bbox": [5, 6, 7, 8], "score": 0.25, "segmentation": {"size": [4, 4], "counts": [0, 16]}},
        ]
        content = {
            "frame": "padded-4",
            "images": [{"id": 7, "name": "a"}, {"id": 9, "name": "b"}],
            "categories": [{"id": 1, "name": "mass"}, {"id": 2, "name": "nodule"}],
            "annotations": rows,
        }
        for place, value in changes.items():
            table, _, field = place.partition("__")
            if field:
                content[table][1][field] = value
            else:
                content[table] = value
        path = tmp_path / "by-hand.json"
        path.write_text(json.dumps(content))
        return path

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Stores predictions of a part as a tested job does, with made-up statistics; gives the folder."""

    def call(job, part: Part, predictions, *, with_examples: bool = True) -> Path:
        folder = tmp_path / f"written-{job.key}"
        folder.mkdir(exist_ok=True)
        kept = MeanStatistics(("value",), np.arange(len(part)), np.ones((len(part), 1)), len(part))
        stored.write(folder, job, part, ScoredSplit({}, kept, predictions, ()), with_examples=with_examples)
        return folder

    return call


@pytest.fixture
def detection(small, tiny):
    """A job and its training part."""
    job, place = small.one("rsna-yolov3-frozen-100", tiny())
    return job, load_part(job.experiment, place, "train")


@pytest.fixture
def segmentation(small, tiny):
    """A job and its training part."""
    job, place = small.one("covid-rural-linear-frozen-100", tiny("masks"))
    return job, load_part(job.experiment, place, "train")
