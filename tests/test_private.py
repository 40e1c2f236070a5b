"""What tells of data that may not be passed on is its owner's alone under any umask."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark import json_files, private
from benchmark.errors import DamagedResult, StoreError
from benchmark.execute import spool
from benchmark.files import write_atomically
from benchmark.shelf import Shelf
from benchmark.store import Store
from benchmark.training.checkpoint import Checkpoint, TrainingState


def test_addresses_are_shown_without_name_and_password():
    text = "no answer of postgresql://me:a/@b?@c:5432/runs and https://me@host/x?to=a@b, of a@b, http://host and sqlite:////a@b/x"
    told = "no answer of postgresql://c:5432/runs and https://host/x?to=a@b, of a@b, http://host and sqlite:////a@b/x"
    assert private.without_password(text) == told


@pytest.fixture(params=[0o000, 0o022, 0o777], ids=oct)
def umask(request) -> Iterator[int]:
    """From one that gives all rights away to one that takes even the owner's."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def open_to_others(folder: Path) -> list[str]:
    """The folder and what is in it, as far as others may open it."""
    found = [folder, *sorted(folder.rglob("*"))]
    return [f"{path} {mode(path):o}" for path in found if mode(path) & 0o077]


@pytest.mark.usefixtures("umask")
def test_folders_and_files_are_private_under_any_umask(tmp_path: Path):
    tmp_path.chmod(0o755)
    assert private.folder(tmp_path / "a" / "b" / "c") == tmp_path / "a" / "b" / "c"
    with open(tmp_path / "a" / "new", "w", opener=private.opener) as handle:
        handle.write("x")
    write_atomically(tmp_path / "a" / "atomic", b"x", private.opener)
    private.file(tmp_path / "a" / "empty")
    assert open_to_others(tmp_path / "a") == []
    assert {mode(path) for path in (tmp_path / "a").rglob("*")} == {0o700, 0o600}
    assert mode(tmp_path) == 0o755


def test_what_others_could_read_becomes_private_before_it_is_written_again(tmp_path: Path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").write_text("kept")
    (tmp_path / "old").chmod(0o777)
    (tmp_path / "old" / "file").chmod(0o666)
    private.folder(tmp_path / "old")
    private.file(tmp_path / "old" / "file")
    assert open_to_others(tmp_path / "old") == []
    assert (tmp_path / "old" / "file").read_text() == "kept"
    (tmp_path / "old" / "file").chmod(0o666)
    private.tighten(tmp_path / "old" / "file")
    private.tighten(tmp_path / "nothing")
    assert mode(tmp_path / "old" / "file") == 0o600


def test_a_folder_that_the_user_named_keeps_its_rights(tmp_path: Path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o775)
    private.root(tmp_path / "shared")
    assert mode(tmp_path / "shared") == 0o775
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        private.root(tmp_path / "file" / "below")


@pytest.mark.skipif(os.getuid() != 0, reason="gives a folder away")
def test_what_belongs_to_somebody_else_is_left_as_it_is(tmp_path: Path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs").chmod(0o775)
    os.chown(tmp_path / "theirs", 12345, 12345)
    private.folder(tmp_path / "theirs")
    assert mode(tmp_path / "theirs") == 0o775


@pytest.mark.usefixtures("open_umask")
def test_what_waits_on_a_node_is_private(small, tiny, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("LOBE_SPOOL", str(tmp_path / "spool"))
    record = small.fit(*small.one("rsna-linear-frozen-100", tiny()))
    assert spool.keep("0" * 32, record, {"masks.json": b"{}"})
    assert len([path for path in (tmp_path / "spool").rglob("*") if path.is_file()]) == 3
    assert open_to_others(tmp_path / "spool") == []


@pytest.mark.usefixtures("open_umask")
def test_results_on_open_data_follow_the_umask_and_their_caches_do_not(small, tiny, tmp_path: Path):
    from benchmark.events import Finished
    from benchmark.execute.inline import InlineExecutor
    from benchmark.execute.schedule import Schedule
    from benchmark.execute.work import units

    jobs, places = small.plan("rsna-linear-frozen-100", [tiny()])
    planned = [replace(unit, inputs=replace(unit.inputs, cache=tmp_path / "cache" / "images")) for unit in units(jobs, places)]
    (done,) = [event for event in InlineExecutor().run(Schedule(planned)) if isinstance(event, Finished)]
    store = Store(tmp_path / "out")
    opened = store.put(done.record, done.files)
    assert {mode(path) for path in (tmp_path / "out" / "predictions").rglob("*") if path.is_file()} == {0o666}
    assert mode(store.path(opened.key)) == 0o666
    store.put(done.record.model_copy(update={"redistribution": "none"}), done.files)
    assert open_to_others(store.path(opened.key)) == open_to_others(tmp_path / "out" / "predictions" / opened.key) == []
    assert open_to_others(tmp_path / "cache") == []
    left_open = tmp_path / "out" / "predictions" / opened.key / "masks.parquet"
    left_open.chmod(0o644)
    left_open.parent.chmod(0o755)
    store.put(store.get(opened.key))
    assert open_to_others(left_open.parent) == []


@pytest.mark.usefixtures("open_umask")
def test_a_checkpoint_is_private(tmp_path: Path):
    network = torch.nn.Linear(2, 2)
    checkpoint = Checkpoint(tmp_path / "new" / "checkpoints", "k", 0.1, every_s=0.0)
    checkpoint.save_if_due(TrainingState(network, {}, torch.Generator()), {"epoch": 1}, ())
    assert checkpoint.path.is_file()
    assert open_to_others(tmp_path / "new") == []


@pytest.mark.usefixtures("open_umask")
def test_features_on_disk_are_private(tmp_path: Path):
    from benchmark.training.feature_spill import Spill

    example = {32: torch.from_numpy(np.zeros((2, 3, 4, 4), np.float32))}
    assert Spill.open(tmp_path / "cache" / "features", example, 2) is not None
    assert open_to_others(tmp_path / "cache") == []  # the files have no name


def test_a_record_of_somebody_else_is_said_to_be_private_and_not_damaged(tmp_path: Path, monkeypatch):
    store = Store(tmp_path)
    path = store.path("0" * 32)
    path.write_text(json.dumps({}))
    read = json_files.read

    def denied(asked: Path, *given) -> object:
        if asked == path:
            raise PermissionError(13, "Permission denied", str(asked))
        return read(asked, *given)

    monkeypatch.setattr(json_files, "read", denied)
    with pytest.raises(StoreError, match="may be read by its owner alone") as refused:
        store.get("0" * 32)
    assert not isinstance(refused.value, DamagedResult)
    assert [one.key for one in Shelf(store.out).believable()[1]] == ["0" * 32]
