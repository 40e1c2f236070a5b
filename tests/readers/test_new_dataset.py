"""A new dataset is a reader, a card and a phantom. With these files (and a task) beside the others everything works; no other file changes.

The files lie in `made_up`, in the folders that they would be added to.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import benchmark.phantom
import benchmark.readers
from benchmark import registry, task_rules
from benchmark.cards import Contamination
from benchmark.contamination import contamination_of
from benchmark.phantom import corpus
from benchmark.phantom.base import CorpusPlan

MADE_UP = Path(__file__).parent / "made_up"
NAME, TASK = "made-up", "made-up-linear-frozen-100"
MOST_LINES = 120  # of a new reader


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The files of `made_up` as though they lay in the repository."""
    content = tmp_path_factory.mktemp("content")
    shipped = registry.content
    for folder in ("datasets", "tasks"):
        (content / folder).mkdir()
        for path in (*shipped(folder).glob("*.yaml"), *(MADE_UP / folder).glob("*.yaml")):
            (content / folder / path.name).symlink_to(path.resolve())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "content", lambda folder: content / folder if (content / folder).is_dir() else shipped(folder))
        for room in (benchmark.readers, benchmark.phantom):
            patch.setattr(room, "__path__", [*room.__path__, str(MADE_UP / room.__name__.rpartition(".")[2])])
        registry.forget()
        corpus.writers.cache_clear()
        yield
    for room in (benchmark.readers, benchmark.phantom):
        sys.modules.pop(f"{room.__name__}.made_up", None)
        vars(room).pop("made_up", None)
    registry.forget()
    corpus.writers.cache_clear()


@pytest.fixture(scope="module")
def data(added: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    corpus.write_corpus(CorpusPlan(NAME, 16, seed=3, images_per_patient=(1, 2)), root / NAME)
    return root


def test_its_reader_is_short():
    assert len((MADE_UP / "readers" / "made_up.py").read_text(encoding="utf-8").splitlines()) < MOST_LINES


@pytest.mark.usefixtures("added")
def test_it_is_known_by_its_files_alone():
    assert NAME in registry.datasets()
    assert NAME in corpus.writers()
    assert "made_up" in registry.plugins("readers")
    assert task_rules.dataset_faults(registry.dataset(NAME)) == []


def test_it_is_verified_and_prepared(lobe, data: Path):
    code, out, err = lobe("data", "verify", NAME, "--data", data)
    assert (code, err) == (0, "")
    assert "first image with a finding" in out
    code, out, _ = lobe("data", "prepare", NAME, "--data", data, "--workers", 1)
    assert code == 0
    assert NAME in out


def test_a_job_is_computed_on_it(small, tiny, data: Path):
    job, place = small.one(TASK, tiny(), root=data, limit=8)
    record = small.fit(job, place)
    assert record.status == "ok"
    assert 0 <= record.metrics["opacity_dice"] <= 1


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize(
    ("backbone", "saw"),
    [
        ("eva-x-tiny", Contamination.IMAGES),
        ("g2d", Contamination.NONE),
        ("rad-dino", Contamination.IMAGES),
        ("imagenet-resnet50", Contamination.NONE),
    ],
)
def test_every_backbone_knows_what_it_saw_of_it(backbone: str, saw: Contamination | None):
    card = registry.backbones()[backbone]
    assert contamination_of(card.pretraining, card.contamination).get(NAME) is saw
