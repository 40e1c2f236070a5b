"""Planning looks at each image once, opens none, and opens a folder once for all of its splits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmark import registry
from benchmark.api import Request, plan_jobs
from benchmark.readers import base
from benchmark.readers.base import open_reader
from benchmark.readers.kit.image_files import require_image_files
from tests.opens import opened
from tests.perf.large_lists import mimic_tables

N_IMAGES = 2_000
TASKS = ("mimic-cxr-retrieval-lobe", "mimic-cxr-5x200-retrieval-own-kept-lobe")  # on two splits


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mimic_tables(tmp_path_factory.mktemp("large"), N_IMAGES)


def test_a_long_list_is_planned_with_one_look_at_each_image(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    looks: list[Path] = []
    size_of = base._size
    monkeypatch.setattr(base, "_size", lambda path: looks.append(path) or size_of(path))
    asked = Request(
        backbones=["torchvision:resnet18"],
        tasks=TASKS,
        data=[str(root.parent)],
        out=tmp_path / "out",
        cache=tmp_path / "cache",
        executor="inline",
        protocol="corrected",
    )
    with opened() as seen:
        planned = plan_jobs(asked)
    assert planned.problems == ()
    assert {job.labels.task for job in planned.jobs} == set(TASKS)
    assert len(looks) == len(set(looks)) == len(open_reader(registry.dataset("mimic-cxr"), root).ids) > N_IMAGES / 2
    names = [os.path.basename(path) for _, path in seen]
    assert sum(name.endswith(".jpg") for name in names) <= 2  # the first image, decoded once to see that it can be
    assert names.count("mimic-cxr-2.0.0-metadata.csv.gz") == 2 + len(TASKS)  # read, and digested: for caches, and for each split


def test_sizes_are_those_of_the_files_and_an_absent_one_has_none(root: Path):
    reader = open_reader(registry.dataset("mimic-cxr"), root)
    sizes = require_image_files(reader)
    assert list(sizes) == [path.stat().st_size for path in reader.image_files()]
    assert reader.outline_digest(sizes) == reader.outline_digest()
    assert base._size(root) == base._size(root / "nothing") == -1
