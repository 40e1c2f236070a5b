"""A plan holds what is still to do; of what is done it keeps the key."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark import registry, requested_jobs
from benchmark.cards import BackboneRef, Record
from benchmark.plan import NamedBackbone, Settings
from benchmark.record_index import OK, Facts
from benchmark.requested_jobs import Done
from benchmark.training.sizes import SplitSizes
from tests.test_plan import DATASETS

MOST_BYTES = 300  # of bookkeeping for a job that is done: its key, and a place in a table; a job itself takes thousands


class AllDone:
    """A shelf that holds every job but those of the named keys."""

    def __init__(self, but: frozenset[str] = frozenset()):
        self.but = but

    def facts(self, key: str) -> Facts | None:
        return None if key in self.but else OK

    def read(self, key: str) -> Record:
        raise AssertionError("a plan reads no record of a job that went well")


def listed(n_backbones: int, shelf: AllDone) -> requested_jobs.Listed:
    cards = [registry.task(name) for name in registry.suite("lovt-18").tasks]
    backbones = [
        SimpleNamespace(named=NamedBackbone(f"number {k}", BackboneRef(family="torchvision", model="resnet50", digest=f"{k:064x}")))
        for k in range(n_backbones)
    ]
    sizes = SplitSizes(20_000, 5_000, 5_000)
    datasets = {(name, "lovt", True): SimpleNamespace(card=registry.dataset(name), ref=ref, sizes=sizes) for name, ref in DATASETS.items()}
    return requested_jobs.listed(cards, backbones, datasets, None, registry.protocol("published"), Settings(), shelf)


def test_jobs_that_are_done_are_forgotten_and_made_anew_when_asked_for():
    found = listed(2, AllDone())
    assert (found.pending, len(found.jobs)) == ({}, 272)
    jobs = list(found.jobs)
    assert [job.key for job in jobs] == list(found.jobs.keys)
    assert [job.model_copy().key for job in jobs] == [job.key for job in jobs]  # the keys that the jobs were given are their own
    assert found.jobs[3] == jobs[3]
    assert found.jobs[-2:] == jobs[-2:]
    assert list(found.jobs) == jobs


def test_what_is_not_done_is_held_with_its_backbone():
    keys = list(listed(2, AllDone()).jobs.keys)
    found = listed(2, AllDone(but=frozenset(keys[130:140])))
    assert list(found.pending) == keys[130:140]
    assert [found.backbones[key].named.label for key in found.pending] == ["number 0"] * 6 + ["number 1"] * 4


def test_of_two_names_of_one_backbone_the_jobs_are_listed_once_under_the_last_name():
    def two(n: int, shelf: AllDone) -> requested_jobs.Listed:
        real = registry.suite("lovt-18").tasks
        card, ref = registry.task(real[0]), BackboneRef(family="torchvision", model="resnet50", digest="0" * 64)
        backbones = [SimpleNamespace(named=NamedBackbone(f"name {k}", ref)) for k in range(n)]
        dataset = SimpleNamespace(card=registry.dataset(card.dataset), ref=DATASETS[card.dataset], sizes=SplitSizes(20_000, 5_000, 5_000))
        return requested_jobs.listed(
            [card], backbones, {(card.dataset, "lovt", True): dataset}, None, registry.protocol("published"), Settings(), shelf
        )

    one, both = two(1, AllDone()), two(2, AllDone())
    assert list(both.jobs.keys) == list(one.jobs.keys)
    assert len(both.jobs) == len(one.jobs) > 1
    assert {job.labels.backbone for job in both.jobs} == {"name 1"}
    assert {job.labels.backbone for job in one.jobs} == {"name 0"}


@pytest.mark.parametrize(("family", "model", "fails"), [("torchvision", "resnet50", True), ("gloria", "resnet50+text", False)])
def test_a_backbone_without_a_text_side_is_named_before_a_task_asks_it_in_words(family: str, model: str, fails: bool):
    card = registry.task("rsna-labels-zero-shot-lobe")
    backbone = SimpleNamespace(named=NamedBackbone("mine", BackboneRef(family=family, model=model, digest="0" * 64)))
    ref = DATASETS["rsna"].model_copy(update={"name": card.dataset, "split": card.split})
    dataset = SimpleNamespace(card=registry.dataset(card.dataset), ref=ref, sizes=SplitSizes(20_000, 5_000, 5_000))
    found = requested_jobs.listed(
        [card], [backbone], {(card.dataset, card.split, False): dataset}, None, registry.protocol("corrected"), Settings(), AllDone()
    )
    assert len(found.jobs) == 1
    said = f"{card.id} will fail: it compares images with words, and mine has no text side (docs/classification.md)."
    assert found.will_fail == ((said,) if fails else ())


def test_jobs_of_a_plan_share_their_cards_over_all_backbones():
    jobs = list(listed(3, AllDone()).jobs)
    for part in ("dataset", "recipe", "switches", "backbone"):
        made, different = ({value(getattr(job.experiment, part)) for job in jobs} for value in (id, lambda card: card.canonical))
        assert len(made) <= 2 * 18 if part == "recipe" else len(made) <= 18, part
        assert len(different) <= len(made)


def test_memory_of_a_plan_grows_by_a_key_a_job_that_is_done():
    shelf = AllDone()
    listed(1, shelf)  # what is read and cached once

    def held(n_backbones: int) -> tuple[int, int, int]:
        tracemalloc.start()
        found = listed(n_backbones, shelf)
        done = requested_jobs.done_of(found.jobs.keys, shelf, retry_failed=False)
        n, (now, peak) = len(done), tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return n, now, peak

    (few, now_few, peak_few), (many, now_many, peak_many) = held(2), held(12)
    assert (now_many - now_few) / (many - few) < MOST_BYTES
    assert (peak_many - peak_few) / (many - few) < 2 * MOST_BYTES


def test_done_is_a_mapping_that_reads_when_asked(tmp_path: Path):
    read: list[str] = []
    shelf = SimpleNamespace(read=lambda key: read.append(key) or key)
    done = Done(shelf, {"a": "ok", "b": "failed"})
    assert (len(done), list(done), "a" in done, "c" in done, done.status("b"), read) == (2, ["a", "b"], True, False, "failed", [])
    assert (done["a"], read) == ("a", ["a"])
    assert done.get("c") is None
    with pytest.raises(KeyError):
        done["c"]
    assert Done(shelf, {}) == {}
