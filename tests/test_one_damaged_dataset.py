"""A malformed code, polygon, box list, mask or id names its row and stops its own dataset; the others are evaluated without it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from benchmark import data, plan
from benchmark.api import Request, evaluate, plan_jobs
from tests.corpora import CorpusPlan, write_corpus

HEALTHY = "rsna-linear-frozen-100"
TASKS = {
    "siim": "siim-unet-frozen-100",
    "object-cxr": "object-cxr-linear-frozen-100",
    "nih-cxr": "nih-cxr-linear-frozen-100",
    "covid-rural": "covid-rural-linear-frozen-100",
}


@pytest.fixture(scope="module")
def five(corpora: Path, tmp_path_factory) -> Path:
    """A phantom of each of LoVT's datasets."""
    root = tmp_path_factory.mktemp("five")
    for name in ("rsna", "covid-rural"):
        shutil.copytree(corpora / name, root / name)
    for name in ("siim", "object-cxr", "nih-cxr"):
        write_corpus(CorpusPlan(dataset=name, n_patients=14, seed=3), root / name)
    return root


def edit(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


def first_filled(lines: list[str], part: str) -> int:
    """Index of the first row with an annotation."""
    return next(k for k, line in enumerate(lines[1:], start=1) if line.partition(",")[2].strip() not in ("", part))


def odd_codes(root: Path) -> str:
    """Every run-length code loses its last number."""

    def change(lines: list[str]) -> list[str]:
        return [lines[0], *(line if line.endswith("-1") else line.rpartition(" ")[0] for line in lines[1:])]

    edit(root / "train-rle.csv", change)
    return r"train-rle\.csv line [\d,]+ \(.*odd count"


def open_polygon(root: Path) -> str:
    """A polygon of two corners."""

    def change(lines: list[str]) -> list[str]:
        k = first_filled(lines, "")
        return [*lines[:k], lines[k].partition(",")[0] + ",2 10 10 20 20", *lines[k + 1 :]]

    edit(root / "train.csv", change)
    return r"train\.csv line \d+ \(.*at least three x y pairs"


def box_without_height(root: Path) -> str:
    """A row of the box list ends one number early."""

    def change(lines: list[str]) -> list[str]:
        cells = lines[1].split(",")[:6]
        return [lines[0], ",".join(cells[:5]), *lines[2:]]

    edit(root / "BBox_List_2017.csv", change)
    return r"BBox_List_2017\.csv line 2 has 5 cells"


def image_listed_twice(root: Path) -> str:
    edit(root / "train.csv", lambda lines: [*lines, lines[1]])
    return r"train\.csv line \d+ \(.*already listed in train\.csv line 2"


def masks_of_another_size(root: Path) -> str:
    for path in root.rglob("pngs_masks/*.png"):
        with Image.open(path) as mask:
            smaller = mask.crop((0, 0, mask.width - 1, mask.height))
        smaller.save(path)
    return r"the mask of COVID-19-AR-\S+ has [\d,]+ rows x [\d,]+ columns, its image"


DAMAGES = [
    ("siim", odd_codes),
    ("object-cxr", open_polygon),
    ("object-cxr", image_listed_twice),
    ("nih-cxr", box_without_height),
    ("covid-rural", masks_of_another_size),
]


@pytest.mark.usefixtures("small_frames")
@pytest.mark.parametrize(("name", "damage"), DAMAGES, ids=lambda value: value if isinstance(value, str) else value.__name__)
def test_one_damaged_dataset_names_its_row_and_stops_only_itself(five, tmp_path: Path, image_cache: Path, monkeypatch, name, damage):
    monkeypatch.setattr(plan, "smoke_steps", lambda head: 2)
    for dataset in ("rsna", name):
        shutil.copytree(five / dataset, tmp_path / "data" / dataset)
    sentence = damage(tmp_path / "data" / name)

    found = {v.dataset: v for v in data.verify([], [str(tmp_path / "data")])}
    assert found["rsna"].ok
    errors = [check.found for check in found[name].checks if check.verdict == "error"]
    assert any(re.search(sentence, text) for text in errors), errors

    request = Request(
        backbones=["torchvision:resnet18"],
        tasks=[TASKS[name], HEALTHY],
        data=[str(tmp_path / "data")],
        out=tmp_path / "out",
        cache=image_cache,
        executor="inline",
        runs=1,
        limit=8,
        profile="smoke",
        tracking=False,
    )
    said = [problem.sentence for problem in plan_jobs(request).problems]
    evaluation = evaluate(request)
    said += [record.failure.sentence for record in evaluation.failures]
    assert len(said) == 1
    assert re.search(sentence, said[0]), said
    assert [record.job.labels.task for record in evaluation.records if record.status == "ok"] == [HEALTHY]
