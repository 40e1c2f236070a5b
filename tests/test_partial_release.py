"""A plan promises no job that the folder cannot serve: a dry run and a run say the same of a release that is there in part."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark import registry, resolve
from benchmark.api import Request, evaluate, plan_jobs
from benchmark.errors import DataError, LobeError, PartialRelease
from benchmark.phantom.corpus import writers
from benchmark.readers.base import open_reader
from tests.corpora import CorpusPlan, write_corpus

PUBLISHED = registry.protocol("published")
LINEAR, OTHER = "rsna-linear-frozen-100", "covid-rural-linear-frozen-100"


def remove(image: Path) -> None:
    image.unlink()


def empty(image: Path) -> None:
    image.write_bytes(b"")


def dangle(image: Path) -> None:
    """As an annexed file whose content was never fetched."""
    image.unlink()
    image.symlink_to(image.with_name("nowhere"))


@pytest.fixture
def root(corpora: Path, tmp_path: Path) -> Path:
    return shutil.copytree(corpora, tmp_path / "data")


def request(root: Path, tmp_path: Path, *tasks: str, **more) -> Request:
    given = {"executor": "inline", "runs": 1, "tracking": False, "out": tmp_path / "out", "cache": tmp_path / "cache"}
    return Request(backbones=["torchvision:resnet18"], tasks=tasks, data=[str(root)], **{**given, **more})


def said(work: Callable[[], object]) -> str:
    with pytest.raises(LobeError) as error:
        work()
    return str(error.value)


@pytest.mark.parametrize("damage", [remove, empty, dangle])
@pytest.mark.parametrize("limit", [None, 8])
def test_images_that_are_listed_and_not_there_are_counted_before_any_job_is_promised(root: Path, tmp_path: Path, damage, limit):
    reader = open_reader(registry.dataset("rsna"), root / "rsna")
    images = sorted(reader.image_files())
    for image in images[:4]:
        damage(image)
    asked = request(root, tmp_path, LINEAR, limit=limit)
    planned, ran = (said(lambda verb=verb: verb(asked)) for verb in (plan_jobs, evaluate))
    assert planned == ran
    assert re.search(rf"rsna: 4 of {len(images)} image.* for example {images[0].stem}", planned)
    with pytest.raises(PartialRelease):
        resolve.dataset(registry.dataset("rsna"), root / "rsna", PUBLISHED)


def test_the_other_dataset_is_planned_without_it(root: Path, tmp_path: Path):
    empty(next(iter(sorted((root / "covid-rural").rglob("jpgs/*.jpg")))))
    planned = plan_jobs(request(root, tmp_path, LINEAR, OTHER, limit=8))
    assert [problem.what for problem in planned.problems] == ["dataset covid-rural"]
    assert {job.labels.task for job in planned.jobs} == {LINEAR}


def test_a_folder_that_is_not_the_release_serves_a_limited_run_alone(root: Path, tmp_path: Path, lobe):
    labels = root / "rsna" / "stage_2_train_labels.csv"
    header, *rows = labels.read_text().splitlines()
    labels.write_text("\n".join([header, *rows[:-1]]) + "\n")
    whole = request(root, tmp_path, LINEAR)
    assert said(lambda: plan_jobs(whole)) == said(lambda: evaluate(whole))
    assert "is not the public release" in said(lambda: plan_jobs(whole))
    code, printed, err = lobe("run", "-b", "torchvision:resnet18", "-t", LINEAR, "--data", root, "--out", tmp_path / "out", "--dry-run")
    assert (code, printed) == (2, "")
    assert "--limit N allows a trial run" in err
    assert plan_jobs(request(root, tmp_path, LINEAR, limit=8)).jobs


def test_fewer_images_than_a_batch_are_told_with_the_plan_in_the_words_of_the_failure(root: Path, tmp_path: Path, lobe):
    whole = request(root, tmp_path, LINEAR)
    (warning,) = plan_jobs(whole).warnings
    sentences = {record.failure.sentence for record in evaluate(whole).failures if "fewer than one batch" in record.failure.sentence}
    assert sentences
    assert all(warning == f"{LINEAR} will fail: {sentence}" for sentence in sentences)
    _, _, err = lobe("run", "-b", "torchvision:resnet18", "-t", LINEAR, "--data", root, "--out", tmp_path / "new", "--dry-run")
    assert "are fewer than one batch of 64" in err


def test_a_release_that_may_not_be_passed_on_names_no_image(tmp_path: Path):
    write_corpus(CorpusPlan(dataset="padchest", n_patients=6, seed=3, images_per_patient=(1, 1), positive_share=0.5), tmp_path / "padchest")
    card = registry.dataset("padchest")
    assert card.redistribution == "none"
    image = open_reader(card, tmp_path / "padchest").image_files()[0]
    empty(image)
    with pytest.raises(PartialRelease, match="1 of ") as error:
        resolve.dataset(card, tmp_path / "padchest", PUBLISHED, next(iter(card.splits)))
    assert image.stem not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", writers())
def test_no_reader_promises_an_image_that_is_not_there(name: str, tmp_path: Path):
    """A release that takes any images it finds is then no known one, and no unlimited job may use it."""
    card = registry.dataset(name)
    root = tmp_path / card.folder
    write_corpus(CorpusPlan(dataset=name, n_patients=20, seed=1), root)
    images = sorted(open_reader(card, root).image_files())
    image = images[len(images) // 2]
    content = image.read_bytes()
    for damage in (empty, remove, dangle):
        damage(image)
        with pytest.raises(DataError):
            resolve.dataset(card, root, PUBLISHED, next(iter(card.splits))).require_known()
        image.unlink(missing_ok=True)
        image.write_bytes(content)
    resolve.dataset(card, root, PUBLISHED, next(iter(card.splits))).require_known()
