"""A driver killed at any moment, and again: the same command goes on, and gives byte for byte what an undisturbed run gives."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmark import plan
from benchmark.api import Request, evaluate
from benchmark.cards import VOLATILE_FIELDS
from benchmark.errors import StoreError
from benchmark.events import EpochEnded, Finished
from benchmark.store import Store
from benchmark.tracking.spool import behind

LINEAR = "rsna-linear-frozen-100"


@pytest.fixture
def request_for(corpora: Path, image_cache: Path, small_frames: None, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(plan, "smoke_steps", lambda head: 6 if head == "linear" else 3)
    monkeypatch.setenv("LOBE_SPOOL", str(tmp_path / "spool"))
    given = {"backbones": ["torchvision:resnet18"], "tasks": [LINEAR], "data": [str(corpora)], "cache": image_cache, "executor": "inline"}
    given |= {"runs": 3, "limit": 8, "profile": "smoke", "tracking": False, "checkpoints": tmp_path / "checkpoints"}
    return lambda out, **changes: Request(**given | {"out": tmp_path / out} | changes)


def content(out: Path) -> dict[str, object]:
    """Everything of a result that must not depend on how it came about."""
    found: dict[str, object] = {}
    for path in sorted((out / "records").glob("*.json")):
        found[path.name] = {k: v for k, v in json.loads(path.read_text()).items() if k not in VOLATILE_FIELDS}
    return found | {str(p.relative_to(out)): p.read_bytes() for p in sorted((out / "predictions").rglob("*")) if p.is_file()}


def killed_at(request: Request, when) -> int:
    """Runs the evaluation in a process of its own that ends itself with SIGKILL at an event; gives the signal."""

    def event(seen) -> None:
        if when(seen):
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    watcher = SimpleNamespace(planned=lambda planned: None, event=event)
    child = multiprocessing.get_context("fork").Process(target=evaluate, args=(request, watcher))
    child.start()
    child.join(900)  # a busy machine is no failure
    assert child.exitcode is not None, "the driver neither ended nor reached the event"
    return -child.exitcode


def test_a_driver_killed_twice_leaves_nothing_to_see(request_for):
    whole = evaluate(request_for("whole"))
    assert (whole.computed, whole.failures) == (3, [])
    broken = request_for("broken")
    assert killed_at(broken, lambda e: isinstance(e, Finished)) == signal.SIGKILL
    assert len(Store(broken.out).all()) == 1
    assert killed_at(broken, lambda e: isinstance(e, EpochEnded) and e.epoch.epoch == 1) == signal.SIGKILL
    again = evaluate(broken)
    assert again.computed == 2  # the first was stored before the first kill
    assert content(broken.out) == content(request_for("whole").out)


def test_a_record_the_driver_could_not_store_is_collected_and_not_computed(request_for, monkeypatch):
    request = request_for("full")
    real = Store.put

    def full(self, record, files=None):
        raise StoreError("Could not store: No space left on device.")

    monkeypatch.setattr(Store, "put", full)
    with pytest.raises(StoreError, match="No space left"):
        evaluate(request)
    monkeypatch.setattr(Store, "put", real)
    seen = []
    watcher = SimpleNamespace(planned=lambda planned: None, event=lambda e: seen.append(type(e).__name__))
    again = evaluate(request, watcher)
    assert (again.computed, again.failures) == (3, [])
    assert seen.count("Started") == 2


def test_ctrl_c_gives_the_folder_back_and_ends_the_tracking_as_killed(request_for, monkeypatch, tmp_path: Path):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'a file' / 'x.db'}")
    request = request_for("stopped", tracking=True)

    def event(seen) -> None:
        if isinstance(seen, Finished):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(request, SimpleNamespace(planned=lambda planned: None, event=event))
    assert not (request.out / "driver.lock").exists()
    notes = [json.loads(path.read_text()) for path in sorted((request.out / "tracking").glob("*.json"))]
    assert (notes[0]["kind"], notes[-1]["kind"], notes[-1]["status"]) == ("open", "close", "KILLED")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert evaluate(request_for("stopped")).computed == 2
    assert behind(request.out)  # that run was not tracked
    again = evaluate(request)
    assert (again.computed, again.tracking_problem) == (0, None)
    assert not behind(request.out)


def test_a_second_driver_says_who_holds_the_folder(request_for):
    request = request_for("held")
    with Store(request.out).lock(), pytest.raises(StoreError, match=f"in use by process {os.getpid()}"):
        evaluate(request)
