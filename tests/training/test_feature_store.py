"""A row is what was written of its image or it is not used; processes share the work, and a dead or a full disk costs time alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmark.training import feature_store
from benchmark.training.feature_store import FeatureSet, Layout, checksum

RECIPE = {"what": "a test", "dataset": "rsna"}
N_ROWS = 100
PROCESSES = multiprocessing.get_context("forkserver")  # which imports torch once for all of them
PROCESSES.set_forkserver_preload(["benchmark.training.feature_store"])


def opened(folder: Path, what: str = "a test") -> FeatureSet:
    return FeatureSet.open(folder, {**RECIPE, "what": what}, N_ROWS)


def images(rows) -> np.ndarray:
    """(n, 32) uint8: digests that differ between rows."""
    return np.stack([np.full(32, row + 1, np.uint8) for row in rows])


def level_of(rows) -> torch.Tensor:
    """(n, 3, 2, 2) float32: features of the images of these rows, always the same."""
    return torch.stack([torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(int(row))) for row in rows])


def write(stored: FeatureSet, rows, name: str = "32") -> None:
    rows = np.asarray(rows)
    assert stored.write(name, rows, images(rows), level_of(rows))


# ----------------------------------------------------------------------------------------------------------- rows


def permuted(n: int) -> torch.Tensor:
    return torch.randn(n, 5, 4, 3).permute(0, 3, 1, 2)


def gapped(n: int) -> torch.Tensor:
    """As a transformer gives places: without the first token, so that there is a gap between images."""
    return torch.randn(n, 10, 8)[:, 1:].transpose(1, 2).unflatten(2, (3, 3))


@pytest.mark.parametrize(
    "made",
    [lambda n: torch.randn(n, 3, 2, 2), permuted, gapped, lambda n: torch.randn(n, 5, 7).bfloat16(), lambda n: torch.randn(n, 10)[:, 0:7]],
    ids=["plain", "permuted", "gapped", "bfloat16", "columns"],
)
def test_what_is_read_has_the_bits_and_the_strides_of_what_was_written(tmp_path: Path, made):
    level, rows = made(4), np.array([7, 3, 50, 8])
    stored = opened(tmp_path)
    assert stored.write("local", rows, images(rows), level)
    for where in (stored, opened(tmp_path)):
        found = where.read("local", rows, images(rows))
        assert found.sound.all()
        assert torch.equal(found.level, level)
        assert found.level.stride() == level.stride()
    again = where.read("local", rows[[2, 0]], images(rows[[2, 0]]))
    assert torch.equal(again.level, level[[2, 0]])


def test_what_is_no_dense_piece_of_memory_is_not_kept(tmp_path: Path):
    rows, level = np.arange(3), torch.randn(3, 4, 8)[:, :, ::2]
    assert Layout.of(level) is None
    assert not opened(tmp_path).write("local", rows, images(rows), level)


def test_images_that_share_their_memory_or_have_none_are_not_kept(tmp_path: Path):
    shared, empty = torch.ones(1, 3, 2, 2).expand(4, 3, 2, 2), torch.ones(4, 0, 2, 2)
    assert Layout.of(shared) is None
    assert Layout.of(empty) is None
    assert not opened(tmp_path).write("32", np.arange(4), images(range(4)), shared)


def test_a_level_that_nobody_wrote_has_no_rows(tmp_path: Path):
    stored = opened(tmp_path)
    assert stored.read("32", np.array([0]), images([0])) is None
    write(stored, [0])
    assert stored.read("32", np.array([], int), np.zeros((0, 32), np.uint8)) is None
    assert stored.read("16", np.array([0]), images([0])) is None


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to count open files")
def test_a_level_whose_table_cannot_be_opened_leaves_nothing_open(tmp_path: Path, monkeypatch):
    write(opened(tmp_path), [0])
    stored, system = opened(tmp_path), os.open

    def refuse(path, *options) -> int:
        if str(path).endswith(".rows") and options[0] & os.O_RDWR:
            raise OSError(5, "Input/output error")
        return system(path, *options)

    monkeypatch.setattr(feature_store.os, "open", refuse)
    before = len(os.listdir("/proc/self/fd"))
    assert stored.read("32", np.array([0]), images([0])) is None
    assert len(os.listdir("/proc/self/fd")) == before
    monkeypatch.undo()
    assert stored.read("32", np.array([0]), images([0])).sound.all()


def test_a_level_of_another_shape_is_not_mixed_with_the_one_that_is_there(tmp_path: Path):
    stored = opened(tmp_path)
    write(stored, [0, 1])
    assert not stored.write("32", np.array([2]), images([2]), torch.randn(1, 3, 4, 4))
    assert not stored.write("32", np.array([2]), images([2]), torch.randn(1, 3, 2, 2).half())


def test_only_rows_of_the_image_that_is_asked_for_are_there(tmp_path: Path):
    stored = opened(tmp_path)
    write(stored, [4, 5])
    rows = np.array([4, 5, 6])
    assert stored.has(["32"], rows, images(rows)).tolist() == [True, True, False]
    assert stored.has(["32"], rows, images([4, 9, 6])).tolist() == [True, False, False]  # the image of row 5 was replaced
    assert stored.has(["32", "16"], rows, images(rows)).tolist() == [False] * 3
    assert stored.read("32", rows, images([4, 9, 6])).sound.tolist() == [True, False, False]


@pytest.mark.parametrize("fault", ["flipped bit", "lost block", "cut file", "checksum"])
def test_a_damaged_row_is_seen_and_the_others_are_not_lost(tmp_path: Path, fault: str):
    stored, rows = opened(tmp_path), np.array([3, 9])
    write(stored, rows)
    data, table = stored.path / "32.data", stored.path / "32.rows"
    place, size = 9 * 48, 48
    if fault == "cut file":
        os.truncate(data, place + size // 2)
    else:
        path = table if fault == "checksum" else data
        content = bytearray(path.read_bytes())
        if fault == "flipped bit":
            content[place + 5] ^= 1
        elif fault == "lost block":
            content[place : place + size] = bytes(size)
        else:
            content[9 * 40 + 35] ^= 1
        with path.open("r+b") as file:
            file.write(content)
    assert opened(tmp_path).read("32", rows, images(rows)).sound.tolist() == [True, False]


@given(st.binary(min_size=1, max_size=70), st.data())
def test_a_changed_byte_and_changed_order_change_the_checksum(content: bytes, data):
    row = np.frombuffer(content, np.uint8)
    other = row.copy()
    other[data.draw(st.integers(0, len(row) - 1))] ^= data.draw(st.integers(1, 255))
    assert checksum(row) != checksum(other)
    if len(row) >= 16 and row[:8].tobytes() != row[8:16].tobytes():
        assert checksum(row) != checksum(np.concatenate([row[8:16], row[:8], row[16:]]))


def test_an_unreadable_layout_is_laid_out_again(tmp_path: Path):
    write(opened(tmp_path), [1])
    (path,) = tmp_path.glob("*/32.json")
    path.write_text("{")
    stored = opened(tmp_path)
    assert not stored.has(["32"], np.array([1]), images([1]))[0]
    write(stored, [2])
    assert stored.read("32", np.array([1, 2]), images([1, 2])).sound.all()  # the rows were never touched


# ------------------------------------------------------------------------------------------------------- processes


def compute_all(folder: Path, pipe) -> None:
    """Computes what is left of all rows, and tells which; ready before it starts."""
    stored, mine = opened(folder), []
    pipe.send("ready")
    pipe.recv()
    for batch in stored.in_turn(range(N_ROWS), int, lambda row: bool(stored.has(["32"], np.array([row]), images([row]))[0]), 4):
        write(stored, batch) if batch else None
        mine += batch
    pipe.send(mine)


def die_while_writing(folder: Path, pipe) -> None:
    """Writes four rows, claims four more, and is killed with half of the first of them on the disk."""
    stored = opened(folder)
    turns = stored.in_turn(range(N_ROWS), int, lambda row: False, 4)
    write(stored, next(turns))
    row = next(turns)[0]
    with (stored.path / "32.data").open("r+b") as file:
        file.seek(row * 48)
        file.write(level_of([row]).numpy().tobytes()[:24])
    pipe.send(row)
    os.kill(os.getpid(), signal.SIGKILL)


def started(target, folder: Path):
    here, there = multiprocessing.Pipe()
    process = PROCESSES.Process(target=target, args=(folder, there))
    process.start()
    return process, here


def answer(pipe):
    assert pipe.poll(120)
    return pipe.recv()


def test_two_processes_at_once_compute_every_row_once_and_leave_what_one_would(tmp_path: Path):
    running = [started(compute_all, tmp_path) for _ in range(2)]
    assert [answer(pipe) for _, pipe in running] == ["ready"] * 2
    for _, pipe in running:
        pipe.send("go")
    one, other = (answer(pipe) for _, pipe in running)
    for process, _ in running:
        process.join()
    assert sorted(one + other) == list(range(N_ROWS))
    rows = np.arange(N_ROWS)
    found = opened(tmp_path).read("32", rows, images(rows))
    assert found.sound.all()
    assert torch.equal(found.level, level_of(rows))


def test_what_a_killed_writer_left_is_finished_by_the_next_one(tmp_path: Path):
    process, pipe = started(die_while_writing, tmp_path)
    assert answer(pipe) == 4
    process.join()
    assert process.exitcode == -signal.SIGKILL
    stored, mine = opened(tmp_path), []
    for batch in stored.in_turn(range(N_ROWS), int, lambda row: bool(stored.has(["32"], np.array([row]), images([row]))[0]), 4):
        assert batch, "the lock of a dead process is nobody's"
        write(stored, batch)
        mine += batch
    assert mine == list(range(4, N_ROWS))
    rows = np.arange(N_ROWS)
    found = stored.read("32", rows, images(rows))
    assert found.sound.all()
    assert torch.equal(found.level, level_of(rows))


def hold(folder: Path, pipe) -> None:
    """Claims the first four rows and does nothing with them until it is told."""
    stored = opened(folder)
    turns = stored.in_turn(range(N_ROWS), int, lambda row: False, 4)
    pipe.send(next(turns))
    if pipe.recv() == "write":
        write(stored, range(4))
    turns.close()
    pipe.send("released")
    pipe.recv()


@pytest.mark.parametrize("told", ["write", "leave"])
def test_rows_that_another_process_computes_are_waited_for_with_signs_of_life(tmp_path: Path, told: str):
    process, pipe = started(hold, tmp_path)
    assert answer(pipe) == [0, 1, 2, 3]
    stored, turns = opened(tmp_path), []
    for batch in stored.in_turn(range(6), int, lambda row: bool(stored.has(["32"], np.array([row]), images([row]))[0]), 4):
        turns.append(batch)
        if not batch and turns.count([]) == 2:
            pipe.send(told)
            assert answer(pipe) == "released"
    assert turns == [[4, 5], [], []] + ([] if told == "write" else [[0, 1, 2, 3]])
    pipe.send("end")
    process.join()


def test_a_process_that_does_not_get_on_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch):
    process, pipe = started(hold, tmp_path)
    assert answer(pipe) == [0, 1, 2, 3]
    monkeypatch.setattr(feature_store, "PATIENCE_S", 0.0)
    assert [batch for batch in opened(tmp_path).in_turn(range(6), int, lambda row: False, 4) if batch] == [[4, 5], [0, 1, 2, 3]]
    for word in ("leave", "end"):
        pipe.send(word)
    process.join()


@pytest.mark.parametrize("written", ["{}", "[1]", '{"compute_s": "fast"}', "{", '{"compute_s": NaN}'])
def test_an_unreadable_pace_is_an_unknown_one(tmp_path: Path, written: str):
    stored = opened(tmp_path)
    assert stored.compute_s is None
    stored.note_pace(0.25)
    assert opened(tmp_path).compute_s == 0.25
    (stored.path / "pace.json").write_text(written)
    assert stored.compute_s is None
