"""Features computed once are the features computed every time, whoever asks first and however little memory there is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmark.encoders.build import build_backbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.imaging.cache import ImageCache
from benchmark.training import data, feature_folders, feature_spill, feature_store, features
from benchmark.training.feature_store import FeatureSet
from benchmark.training.features import FeatureBank

STRIDES = (8, 32)
UNLIMITED = 2**30


@pytest.fixture
def encoder(small, tiny) -> SealedEncoder:
    job, place = small.one("rsna-linear-frozen-100", tiny())
    ref = job.experiment.backbone.model_copy(update={"model": place.backbone_model})
    return SealedEncoder(build_backbone(ref, None, init_seed=None)[0], job.experiment.dataset.statistics)


@pytest.fixture
def parts(small, tiny) -> list[data.Part]:
    """Three parts of 20, 11 and 12 images: no multiple of a batch among them."""
    job, place = small.one("rsna-linear-frozen-100", tiny("parts"), limit=20)
    return [data.load_part(job.experiment, place, name) for name in ("train", "validation", "test")]


def equal(one, other) -> bool:
    return all(torch.equal(one[stride], other[stride]) for stride in STRIDES)


def test_bank_gives_what_the_encoder_gives(encoder, parts):
    bank = FeatureBank(encoder, STRIDES, UNLIMITED)
    for part in parts:
        assert bank.prepare(part) == 0
        index = np.arange(len(part))[::-1].copy()
        plain = encoder.pyramid(part.images(index), STRIDES)
        for stride, level in bank.pyramid(part, index).items():
            assert torch.allclose(level, plain[stride], atol=1e-5, rtol=0)


def test_an_image_gets_the_same_bits_whoever_asks_first(encoder, parts):
    train, validation, test = parts
    one, other = FeatureBank(encoder, STRIDES, UNLIMITED), FeatureBank(encoder, STRIDES, UNLIMITED)
    for part in (train, validation, test):
        one.prepare(part)
    # Another job of the unit: fewer labels, other splits first.
    few = dataclasses.replace(train, ids=train.ids[5:8], rows=train.rows[5:8], boxes=train.boxes[5:8], labels=train.labels[5:8])
    for part in (test, few, validation, train):
        other.prepare(part)
    for part in parts:
        index = np.arange(len(part))
        assert equal(one.pyramid(part, index), other.pyramid(part, index))


def test_every_image_is_computed_once(encoder, parts, monkeypatch):
    seen = []
    compute = FeatureBank._compute
    monkeypatch.setattr(
        FeatureBank, "_compute", lambda self, part, index, *more: seen.extend(part.rows[index]) or compute(self, part, index, *more)
    )
    bank = FeatureBank(encoder, STRIDES, UNLIMITED)
    for part in (*parts, *parts):
        bank.prepare(part)
        bank.pyramid(part, np.arange(len(part)))
    assert sorted(seen) == sorted(row for part in parts for row in part.rows)


def per_image_bytes(encoder, part) -> int:
    return sum(level[0].nbytes for level in encoder.pyramid(part.images(np.array([0])), STRIDES).values())


def test_memory_disk_and_recomputing_give_the_same_bits(encoder, parts, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(feature_spill, "reading_s", lambda stored: 0.0)
    train = parts[0]
    index = np.arange(len(train))[::-1].copy()
    memory, disk, nowhere = (FeatureBank(encoder, STRIDES, budget, folder=tmp_path) for budget in (UNLIMITED, 0, 0))
    nowhere.folder, nowhere._spilling = None, False
    assert (memory.prepare(train), disk.prepare(train), nowhere.prepare(train)) == (0, 0, len(train))
    whole = len(train) * per_image_bytes(encoder, train)
    assert (memory.memory_bytes, memory.disk_bytes) == (whole, 0)
    assert (disk.memory_bytes, disk.disk_bytes) == (0, whole)
    assert (nowhere.memory_bytes, nowhere.disk_bytes) == (0, 0)
    expected = memory.pyramid(train, index)
    assert equal(disk.pyramid(train, index), expected)
    assert equal(nowhere.pyramid(train, index), expected)


@pytest.mark.parametrize("images", [0, 5, 16, 25])
def test_memory_stays_under_the_budget_for_a_corpus_larger_than_it(encoder, parts, tmp_path: Path, images, monkeypatch):
    monkeypatch.setattr(feature_spill, "reading_s", lambda stored: 0.0)
    budget = images * per_image_bytes(encoder, parts[0])
    bank, whole = FeatureBank(encoder, STRIDES, budget, folder=tmp_path), FeatureBank(encoder, STRIDES, UNLIMITED)
    for part in parts:
        assert bank.prepare(part) == whole.prepare(part) == 0
    assert bank.memory_bytes <= budget
    assert (bank.memory_bytes > 0) == (images > 0)  # the last batch of the first part holds four images
    assert bank.memory_bytes + bank.disk_bytes == whole.memory_bytes
    for part in parts:
        index = np.arange(len(part))
        assert equal(bank.pyramid(part, index), whole.pyramid(part, index))


def test_features_on_disk_have_no_name_and_leave_nothing_behind(encoder, parts, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(feature_spill, "reading_s", lambda stored: 0.0)
    bank = FeatureBank(encoder, STRIDES, 0, folder=tmp_path / "features")
    bank.prepare(parts[0])
    assert bank.disk_bytes > 0
    assert list((tmp_path / "features").iterdir()) == []


def test_features_slower_to_read_than_to_compute_are_computed_again(encoder, parts, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(feature_spill, "reading_s", lambda stored: 1e9)
    bank = FeatureBank(encoder, STRIDES, 0, folder=tmp_path)
    assert bank.prepare(parts[0]) == len(parts[0])
    assert bank.prepare(parts[1]) == len(parts[1])
    assert bank.disk_bytes == 0


@pytest.mark.parametrize("fault", ["full", "unwritable"])
def test_a_disk_that_refuses_costs_time_and_no_result(encoder, parts, tmp_path: Path, monkeypatch, fault):
    folder = tmp_path / "features"
    if fault == "full":
        monkeypatch.setattr(feature_spill, "LEAST_FREE_BYTES", 10**18)
    else:
        folder.write_text("a file where a folder should be")
    bank, whole = FeatureBank(encoder, STRIDES, 0, folder=folder), FeatureBank(encoder, STRIDES, UNLIMITED)
    assert bank.prepare(parts[0]) == len(parts[0])
    whole.prepare(parts[0])
    index = np.arange(len(parts[0]))
    assert equal(bank.pyramid(parts[0], index), whole.pyramid(parts[0], index))


def test_a_write_that_fails_half_way_keeps_what_was_stored(encoder, parts, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(feature_spill, "reading_s", lambda stored: 0.0)
    write, calls = feature_spill.os.pwrite, []

    def fails_later(*arguments):
        calls.append(1)
        if len(calls) > len(STRIDES):
            raise OSError(28, "No space left on device")
        return write(*arguments)

    monkeypatch.setattr(feature_spill.os, "pwrite", fails_later)
    bank, whole = FeatureBank(encoder, STRIDES, 0, folder=tmp_path), FeatureBank(encoder, STRIDES, UNLIMITED)
    assert bank.prepare(parts[0]) == len(parts[0]) - features.BATCH
    whole.prepare(parts[0])
    for index in (np.arange(features.BATCH), np.arange(len(parts[0]))):
        assert equal(bank.pyramid(parts[0], index), whole.pyramid(parts[0], index))


def test_features_carry_no_gradient(encoder, parts):
    bank = FeatureBank(encoder, STRIDES, UNLIMITED)
    bank.prepare(parts[0])
    assert not any(level.requires_grad for level in bank.pyramid(parts[0], np.array([0])).values())


# -------------------------------------------------------------------------------------------------------- on the node's disk


@pytest.fixture
def computed(monkeypatch) -> list[tuple[int, tuple[int, ...]]]:
    """(row, levels) of everything that is computed, and no disk is ever too slow."""
    seen: list[tuple[int, tuple[int, ...]]] = []
    compute = FeatureBank._compute

    def noted(self, part, index, strides=None):
        seen.extend((int(row), tuple(strides or self.strides)) for row in part.rows[index])
        return compute(self, part, index, strides)

    monkeypatch.setattr(FeatureBank, "_compute", noted)
    monkeypatch.setattr(features, "is_slower", lambda reading_s, compute_s: False)
    return seen


@pytest.fixture
def bank_on_disk(encoder, parts, tmp_path: Path):
    """A bank as a process of its own would open it."""

    def made(strides=STRIDES, also=(), what="pyramid", budget=0) -> FeatureBank:
        stored = FeatureSet.open(tmp_path / "features", {"what": what}, len(parts[0].cache))
        return FeatureBank(encoder, strides, budget, stored=stored, also=also)

    return made


def prepared(bank: FeatureBank, parts) -> FeatureBank:
    for part in parts:
        bank.prepare(part)
    return bank


def same(one: FeatureBank, other: FeatureBank, parts, strides=STRIDES) -> bool:
    found = [
        (a.pyramid(p, np.arange(len(p))[::-1].copy()), b.pyramid(p, np.arange(len(p))[::-1].copy()))
        for p in parts
        for a, b in [(one, other)]
    ]
    return all(torch.equal(a[stride], b[stride]) for a, b in found for stride in strides)


def test_stored_features_are_those_in_memory_and_a_second_bank_computes_none(encoder, parts, bank_on_disk, computed):
    memory = prepared(FeatureBank(encoder, STRIDES, UNLIMITED), parts)
    computed.clear()
    first = prepared(bank_on_disk(), parts)
    assert sorted(row for row, _ in computed) == sorted(int(row) for part in parts for row in part.rows)
    assert same(first, memory, parts)
    computed.clear()
    assert same(prepared(bank_on_disk(), reversed(parts)), memory, parts)
    assert computed == []
    assert (first.memory_bytes, first.disk_bytes, first.notices, first.mended()) == (0, 0, [], [])


def test_a_cpu_holds_nothing_in_memory_that_the_disk_has(parts, bank_on_disk):
    bank = prepared(bank_on_disk(budget=UNLIMITED), parts)
    assert (bank.memory_bytes, bank.disk_bytes, bank.notices) == (0, 0, [])


def test_levels_that_others_read_are_computed_in_the_same_pass_and_are_the_same_bits(parts, bank_on_disk, computed):
    apart = [prepared(bank_on_disk((stride,), what=f"only {stride}"), parts) for stride in STRIDES]
    computed.clear()
    prepared(bank_on_disk((32,), also=(4, 8, 32)), parts)
    assert {levels for _, levels in computed} == {(32, 4, 8)}
    computed.clear()
    for stride, alone in zip(STRIDES, apart, strict=True):
        assert same(prepared(bank_on_disk((stride,)), parts), alone, parts, (stride,))
    assert computed == []


def test_a_level_that_is_missing_is_computed_alone_and_the_others_stay(parts, bank_on_disk, computed):
    prepared(bank_on_disk((32,)), parts)
    computed.clear()
    both = prepared(bank_on_disk((8,)), parts)
    assert {levels for _, levels in computed} == {(8,)}
    whole = prepared(bank_on_disk((8,), what="another set"), parts)
    assert same(both, whole, parts, (8,))


def damage(folder: Path, name: str, row: int) -> None:
    (path,) = folder.glob(f"features/*/{name}.data")
    size = path.stat().st_size
    with path.open("r+b") as file:
        (table,) = folder.glob(f"features/*/{name}.rows")
        file.seek(row * (size // (table.stat().st_size // feature_store.ENTRY.itemsize)) + 3)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 4]))


def test_a_damaged_row_is_computed_again_and_said(encoder, parts, bank_on_disk, computed, tmp_path: Path):
    prepared(bank_on_disk(), parts)
    computed.clear()
    row = int(parts[0].rows[3])
    damage(tmp_path, "8", row)
    bank = prepared(bank_on_disk(), parts)
    assert [row for row, _ in computed] == [row]
    assert "1 rows of stored features were damaged" in bank.mended()[0]
    assert same(bank, prepared(FeatureBank(encoder, STRIDES, UNLIMITED), parts), parts)
    computed.clear()
    assert prepared(bank_on_disk(), parts).mended() == []
    assert computed == []


def test_a_row_damaged_while_a_job_trains_is_never_used(encoder, parts, bank_on_disk, computed, tmp_path: Path):
    bank, memory = prepared(bank_on_disk(), parts), prepared(FeatureBank(encoder, STRIDES, UNLIMITED), parts)
    damage(tmp_path, "32", int(parts[1].rows[0]))
    assert same(bank, memory, parts)
    assert len(bank.mended()) == 1
    computed.clear()
    assert same(bank, memory, parts)  # it was written again
    assert computed == []


def test_what_another_process_computes_is_waited_for_with_signs_of_life(encoder, parts, bank_on_disk, computed, monkeypatch):
    monkeypatch.setattr(features, "STEP_S", 0.0)
    bank, in_turn = bank_on_disk(), FeatureSet.in_turn

    def late(self, *given):
        yield []  # another process has claimed what is left
        yield from in_turn(self, *given)

    monkeypatch.setattr(FeatureSet, "in_turn", late)
    told = list(bank.prepare_in_steps(parts[0]))
    assert told[0] == (0, len(parts[0]))
    assert same(bank, prepared(FeatureBank(encoder, STRIDES, UNLIMITED), parts[:1]), parts[:1])


def test_rows_in_memory_and_on_the_disk_make_one_batch(encoder, parts, bank_on_disk, computed):
    memory = prepared(FeatureBank(encoder, STRIDES, UNLIMITED), parts[:1])
    bank = prepared(bank_on_disk(), parts[:1])
    bank._kept |= {int(row): memory._kept[int(row)] for row in parts[0].rows[::2]}
    assert same(bank, memory, parts[:1])


class Elsewhere(torch.Tensor):
    """A tensor that says it lies in a GPU's memory until it is moved."""

    device = torch.device("cuda")

    def to(self, device):
        assert device == torch.device("cpu")
        return self.as_subclass(torch.Tensor)


def test_rows_of_two_memories_are_moved_together_and_those_of_one_stay():
    bank = FeatureBank(SimpleNamespace(mean=torch.zeros(1)), STRIDES, UNLIMITED)
    there = torch.ones(2, 4, 4).as_subclass(Elsewhere)
    bank._kept = {0: {8: there}, 1: {8: torch.zeros(2, 4, 4)}, 2: {8: there}}
    together = bank._gathered(8, np.array([1, 0]))
    assert type(together) is torch.Tensor
    assert together[:, 0, 0, 0].tolist() == [0, 1]
    assert isinstance(bank._gathered(8, np.array([2, 0])), Elsewhere)  # one copy of the batch is the model's to make


def test_a_replaced_image_never_gets_the_features_of_the_old_one(parts, bank_on_disk, computed, monkeypatch):
    prepared(bank_on_disk(), parts)
    computed.clear()
    replaced, digests = int(parts[2].rows[5]), ImageCache.source_digests
    monkeypatch.setattr(
        ImageCache,
        "source_digests",
        lambda self, rows: ["ab" * 32 if int(row) == replaced else d for row, d in zip(rows, digests(self, rows), strict=True)],
    )
    prepared(bank_on_disk(), parts)
    assert [row for row, _ in computed] == [replaced]


def test_stored_features_that_are_slower_to_read_are_computed_and_it_is_said(encoder, parts, bank_on_disk, computed, monkeypatch):
    monkeypatch.setattr(features, "PACED_BATCHES", 1)
    first = prepared(bank_on_disk(), parts[:1])
    first.stored.note_pace(0.01)
    monkeypatch.setattr(features, "is_slower", lambda reading_s, compute_s: compute_s < reading_s + 1)
    computed.clear()
    bank = bank_on_disk()
    assert bank.prepare(parts[0]) == len(parts[0])  # no memory was given
    (said,) = bank.notices
    assert "computing them 10.0 ms" in said
    assert same(bank, first, parts[:1])
    fresh = bank_on_disk(what="another set")
    fresh.prepare(parts[0])
    assert len(fresh.notices) == 1
    assert np.fromfile(fresh.stored.path / "8.rows", feature_store.ENTRY)["image"].any(axis=1).sum() == features.BATCH
    assert same(fresh, first, parts[:1])


@pytest.mark.parametrize("fault", ["full", "too full", "full for others"])
def test_a_full_disk_costs_time_and_no_result(encoder, parts, bank_on_disk, computed, monkeypatch, fault):
    bank = bank_on_disk(also=(2,))
    if fault == "full":
        monkeypatch.setattr(feature_store, "write_at", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    elif fault == "too full":
        monkeypatch.setattr(feature_folders, "LEAST_FREE_BYTES", 10**18)
    else:
        own = per_image_bytes(encoder, parts[0]) * features.BATCH
        monkeypatch.setattr(FeatureSet, "make_room", lambda self, n_bytes: n_bytes <= own)
    prepared(bank, parts)
    if fault == "full for others":
        assert (bank.notices, bank.also) == ([], ())
        assert not list(bank.stored.path.glob("2.*"))
    else:
        assert len(bank.notices) == len(parts)
        assert "Features are not kept on the disk of" in bank.notices[0]
    assert same(bank, prepared(FeatureBank(encoder, STRIDES, UNLIMITED), parts), parts)


def test_steps_tell_how_far_it_is(parts, bank_on_disk, monkeypatch):
    monkeypatch.setattr(features, "STEP_S", 0.0)
    bank = bank_on_disk()
    assert bank.prepare(parts[1]) == 0  # the same at once
    told = list(bank.prepare_in_steps(parts[0]))
    assert told[-1] == (len(parts[0]), len(parts[0]))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
