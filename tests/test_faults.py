"""A fault of the environment is no result: after it is mended, the same command computes again. A fault of the job stays."""

from __future__ import annotations

import ast
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pytest
import torch
from safetensors.torch import save_file

import benchmark
from benchmark import api, plan
from benchmark.api import Request, evaluate, plan_jobs
from benchmark.cards import Failure, Role
from benchmark.encoders import torchvision
from benchmark.errors import (
    ChangedSince,
    CheckpointChanged,
    CheckpointError,
    ConformanceError,
    DataChanged,
    DataError,
    EnvironmentProblem,
    ImageChanged,
    ImageError,
    LobeError,
    NotSelected,
    SplitChanged,
    StoreError,
    TooLittleMemory,
    TrainingError,
)
from benchmark.events import Finished
from benchmark.execute.inline import InlineExecutor
from benchmark.execute.on_ray import WorkerLost
from benchmark.execute.work import outcome_of
from benchmark.faults import is_environment, no_room, of_environment
from benchmark.fetching.transfer import FetchError
from benchmark.imaging import cache
from benchmark.readers.base import open_reader
from benchmark.store import Store
from benchmark.training import data
from benchmark.training import fit as fitting
from benchmark.training.options import RunOptions
from benchmark.training.record import failed

LINEAR = "rsna-linear-frozen-100"
PACKAGE = Path(benchmark.__file__).parent
PLANNING = {"encoders/describe.py"}  # what ends in planning is told and never stored


def raised(kind: type[Exception], sentence: str, while_handling: Exception) -> Exception:
    """An error with a sentence for the user, as readers raise it: `from None`."""
    try:
        try:
            raise while_handling
        except Exception:
            raise kind(sentence) from None
    except Exception as error:
        return error


def full(number: int = errno.ENOSPC) -> OSError:
    return OSError(number, os.strerror(number))


OF_THE_ENVIRONMENT = {
    "full disk": full(),
    "quota": full(errno.EDQUOT),
    "failing disk": full(errno.EIO),
    "a file that the disk takes no more of": full(errno.EFBIG),
    "no more processes": BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)),
    "no more threads": RuntimeError("can't start new thread"),
    "memory of OpenCV": cv2.error("OpenCV(4.13.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 8589934592 bytes"),
    "read-only disk": full(errno.EROFS),
    "lost mount": full(errno.ESTALE),
    "full disk under a sentence": raised(DataError, "the table could not be written", full()),
    "failing disk under a sentence": raised(ImageError, "image 3 cannot be read", full(errno.EIO)),
    "a decoder's process says it": ImageError("image 3 cannot be read: [Errno 5] Input/output error"),
    "memory": MemoryError(),
    "GPU memory": torch.OutOfMemoryError("CUDA out of memory."),
    "memory of a library": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    "no pieces": TooLittleMemory("A batch of 4 images does not fit into memory."),
    "device": RuntimeError("CUDA error: uncorrectable ECC error encountered"),
    "device assertion": RuntimeError("CUDA error: device-side assert triggered"),
    "exchange": RuntimeError("NCCL error in: ProcessGroupNCCL.cpp, unhandled system error"),
    "no device": RuntimeError("No CUDA GPUs are available"),
    "cuDNN": RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    "worker": WorkerLost("The process died 3 times (OutOfMemoryError)."),
    "node": EnvironmentProblem("No node of the cluster has what it needs."),
    "store": StoreError("The disk is full."),
    "selection": NotSelected("The learning rate could not be selected."),
    "changed data": DataChanged("label or image files are not those the job was planned with."),
    "changed image": ImageChanged("image 3 changed while it was decoded."),
    "changed lists": SplitChanged("the lists are not those the job was planned with."),
    "changed weights": CheckpointChanged("the file was replaced."),
    "changed under another sentence": raised(CheckpointError, "the backbone could not be built", CheckpointChanged("mine.py was changed")),
}
OF_THE_JOB = {
    "image": ImageError("image 3 cannot be read: truncated"),
    "truncated file": OSError("image file is truncated (12 bytes not processed)"),
    "missing file": FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)),
    "bug": KeyError("author"),
    "an image that OpenCV cannot take": cv2.error("OpenCV(4.13.0) resize.cpp:4211: error: (-215:Assertion failed) !ssize.empty()"),
    "shape": RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    "wrong use of cuBLAS": RuntimeError("cuBLAS error: CUBLAS_STATUS_INVALID_VALUE"),
    "training": TrainingError("The loss is not finite."),
    "contract": ConformanceError("pyramid() returned strides [4]; the NCCL of names."),
    "weights": CheckpointError("too few tensors"),
    "selection": LobeError("The learning rate could not be selected: the selection run at 0.1 failed."),
}


@pytest.mark.parametrize("what", sorted(OF_THE_ENVIRONMENT))
def test_faults_of_disk_memory_device_and_node_are_the_environments(what: str):
    assert is_environment(OF_THE_ENVIRONMENT[what])


@pytest.mark.parametrize("what", sorted(OF_THE_JOB))
def test_faults_of_data_and_code_are_the_jobs(what: str):
    assert not is_environment(OF_THE_JOB[what])


@pytest.mark.parametrize(
    ("kind", "sentence", "environment"),
    [
        ("WorkerLost", "The process running x died 3 times (WorkerCrashedError).", True),
        ("EnvironmentProblem", "No node of the cluster has what x needs: 1 GPU, 1 CPU.", True),
        ("StoreError", "The disk is full: the image cache cannot grow.", True),
        ("OutOfMemoryError", "Memory is too small even for batches in 6 pieces", True),
        ("OSError", "OSError: [Errno 28] No space left on device", True),
        ("OSError", "OSError: message withheld, it may quote data that must not be passed on.", True),
        ("RuntimeError", "RuntimeError: CUDA error: an illegal memory access was encountered", True),
        ("TrainingError", "A batch of 4 images does not fit into memory, and micro-batches would train another model", True),
        ("DataError", "rsna: image files in /data/rsna changed while the job ran. Run the same command again.", True),
        ("ImageError", "a.png: its content is not what the job was planned with. It changed since; run the same command again.", True),
        ("ValueError", "ValueError: Run the same command again.", False),
        ("OSError", "OSError: image file is truncated", False),
        ("KeyError", "KeyError: message withheld, it may quote data that must not be passed on.", False),
        ("TrainingError", "The loss is not finite in epoch 3.", False),
        ("LobeError", "The learning rate could not be selected: the selection run at 0.1 failed.", False),
    ],
)
def test_a_stored_failure_of_an_older_release_is_told_by_its_kind_and_words(kind: str, sentence: str, environment: bool):
    assert of_environment(Failure(kind=kind, sentence=sentence, traceback="")) is environment


def test_an_error_that_says_to_run_the_same_command_again_is_never_kept_as_a_result():
    said = {}
    for source in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and "un the same command again" in ast.unparse(node.exc):
                said[f"{source.relative_to(PACKAGE).as_posix()}:{node.lineno}"] = ast.unparse(node.exc.func)
    known = {kind.__name__: kind for kind in _kinds_of(LobeError)}
    assert len(said) > 15
    assert FetchError.__name__ in said.values()
    for place, kind in said.items():
        kept = not issubclass(known[kind], EnvironmentProblem | StoreError | ChangedSince)
        assert not kept or place.partition(":")[0] in PLANNING, f"{place}: a {kind} would be stored as the job's result"


def _kinds_of(kind: type[LobeError]) -> Iterator[type[LobeError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from _kinds_of(narrower)


# ------------------------------------------------------------------------------------------------------------- whole commands


@pytest.fixture
def request_for(corpora: Path, image_cache: Path, small_frames: None, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(plan, "smoke_steps", lambda head: 2)
    monkeypatch.setenv("LOBE_SPOOL", str(tmp_path / "spool"))
    given = {"backbones": ["torchvision:resnet18"], "tasks": [LINEAR], "data": [str(corpora)], "cache": image_cache, "executor": "inline"}
    given |= {"out": tmp_path / "out", "runs": 1, "limit": 8, "profile": "smoke", "tracking": False}
    return lambda **changes: Request(**given | changes)


def assert_not_stored(request: Request, n_jobs: int = 1) -> None:
    assert Store(request.out).all() == []
    assert plan_jobs(request).n_todo == n_jobs


def assert_computes_again(request: Request, n_jobs: int = 1) -> None:
    """Nothing of the fault is in the store, and the same command does what is missing."""
    assert_not_stored(request, n_jobs)
    again = evaluate(request)
    assert (again.computed, again.failures, again.not_computed) == (n_jobs, [], [])
    assert len(Store(request.out).all()) == n_jobs


def test_after_a_full_disk_the_same_command_computes_again(request_for, tmp_path: Path):
    request = request_for(cache=tmp_path / "small disk")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmark.imaging.cache.write_at", lambda *_: (_ for _ in ()).throw(full()))
        evaluation = evaluate(request)
    (record,) = evaluation.not_computed
    assert (evaluation.computed, evaluation.failures) == (0, [record])
    assert "The disk is full" in record.failure.sentence
    assert_computes_again(request)


def test_a_full_disk_is_said_with_its_file_and_what_goes_on():
    named = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/out/f.json")
    assert "No room left on the disk for /out/f.json (No space left on device). Make room" in str(no_room(raised(KeyError, "k", named)))
    assert str(no_room(full(errno.EDQUOT))).startswith("No room left on the disk (")
    assert [no_room(error) for error in (full(errno.EIO), ValueError("No space left on device"))] == [None, None]


Change = Callable[[], Callable[[], object]]
"""Changes something; gives what puts it back."""


def edited(path: Path) -> Change:
    def change() -> Callable[[], object]:
        held = path.read_bytes()
        path.write_bytes(held + b"\0")
        return lambda: path.write_bytes(held)

    return change


def gone(path: Path) -> Change:
    def change() -> Callable[[], object]:
        away = path.rename(path.with_name("away"))
        return lambda: away.rename(path)

    return change


@pytest.fixture
def inputs_of_ones_own(request_for, corpora: Path, tmp_path: Path):
    """A request on a copy of the corpus and on a weights file, the dataset's folder, an image that is used, and the file."""
    root, file = tmp_path / "data" / "rsna", tmp_path / "resnet18.safetensors"
    shutil.copytree(corpora / "rsna", root)
    torch.manual_seed(1)
    save_file(torchvision.build("resnet18").network.state_dict(), file)
    request = request_for(data=[str(root.parent)], backbones=[f"torchvision:resnet18@{file}"], cache=tmp_path / "cache")
    (unit,) = plan_jobs(request).todo
    experiment = unit.jobs[0].experiment
    image = data.choose(experiment, open_reader(unit.inputs.card, unit.inputs.dataset_root))["train"][0].files[0]
    return request, root, image, file


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        (lambda root, image, file: edited(image), DataChanged),
        (lambda root, image, file: edited(file), CheckpointChanged),
        (lambda root, image, file: gone(file), CheckpointChanged),
        (lambda root, image, file: gone(root), DataChanged),
    ],
    ids=["an image", "weights", "weights that are gone", "a folder that is not mounted"],
)
def test_after_inputs_changed_and_were_put_back_the_same_command_computes_again(inputs_of_ones_own, changed, kind: type[LobeError]):
    request, *places = inputs_of_ones_own
    load, back = fitting.load, []

    def changed_first(*given):
        back.append(changed(*places)())
        return load(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "load", changed_first)
        (record,) = evaluate(request).not_computed
    assert record.failure.kind == kind.__name__
    back[0]()
    assert_computes_again(request)


@pytest.mark.parametrize("same", [True, False], ids=["with the same bytes", "with others"])
def test_after_an_image_was_written_while_it_was_decoded_the_same_command_computes_again(inputs_of_ones_own, same: bool):
    request, _, image, _ = inputs_of_ones_own
    held, prepare_image = image.read_bytes(), cache.prepare_image

    def written(source, *given):
        if image in source.files:
            image.write_bytes(held if same else held + b"\0")
        return prepare_image(source, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "prepare_image", written)
        (record,) = evaluate(request).not_computed
    assert record.failure.kind == ImageChanged.__name__
    image.write_bytes(held)
    assert_computes_again(request)


@pytest.mark.parametrize("what", ["GPU memory", "device", "worker", "exchange"])
def test_after_a_lost_device_or_worker_the_same_command_computes_again(request_for, what: str):
    class Losing(InlineExecutor):
        def run(self, schedule):
            while (unit := schedule.next()) is not None:
                for job in unit.jobs:
                    event = Finished(failed(job, unit.inputs, unit.options, OF_THE_ENVIRONMENT[what]))
                    schedule.note(event)
                    yield event

    request = request_for()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "executor_for", lambda _: Losing())
        evaluation = evaluate(request)
    assert (evaluation.computed, len(evaluation.not_computed)) == (0, 1)
    assert_not_stored(request)


def test_a_search_that_the_environment_stopped_does_not_fail_its_final_runs_for_ever(request_for, monkeypatch):
    searched = {"max_steps": 2, "grid": (0.01, 0.1)}
    monkeypatch.setattr(plan, "_recipe", lambda task, protocol, settings: task.recipe.model_copy(update=searched))
    request = request_for()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmark.training.fit.load", lambda *_: (_ for _ in ()).throw(full()))
        evaluation = evaluate(request)
    kinds = {record.job.experiment.role: record.failure.kind for record in evaluation.not_computed}
    assert kinds == {Role.SELECTION: "OSError", Role.FINAL: "NotSelected"}
    assert_computes_again(request, n_jobs=3)


def test_an_outcome_tells_whether_its_selection_will_be_computed_again(small, tiny):
    job, place = small.one(LINEAR, tiny())
    assert outcome_of(failed(job, place, RunOptions(), full())).environment
    assert not outcome_of(failed(job, place, RunOptions(), KeyError("x"))).environment


def test_what_an_older_release_stored_of_the_environment_is_computed_again(request_for):
    request = request_for()
    (job,) = plan_jobs(request).jobs
    failure = Failure(kind="WorkerLost", sentence="The process died 3 times.", traceback="")
    place = plan_jobs(request).todo[0].inputs
    old = failed(job, place, RunOptions(), KeyError("x")).model_copy(update={"failure": failure})
    store = Store(request.out)
    store.path(job.key).write_text(old.model_dump_json(exclude={"checksum", "file_digests"}))
    assert (store.get(job.key), len(store.all())) == (None, 1)
    assert plan_jobs(request).n_todo == 1


def test_a_checkpoint_outlives_a_fault_of_the_environment(small, tiny, tmp_path: Path, monkeypatch):

    from benchmark.execute.work import WorkUnit, run_unit
    from benchmark.training import checkpoint

    job, place = small.one(LINEAR, tiny())
    unit = WorkUnit("x", (job,), place, RunOptions(checkpoints=tmp_path))
    gone: list[str] = []
    monkeypatch.setattr(checkpoint, "discard", lambda folder, key: gone.append(key))
    for error, discarded in ((full(), []), (KeyError("x"), [job.key])):
        monkeypatch.setattr("benchmark.training.fit.load", lambda *_, error=error: (_ for _ in ()).throw(error))
        list(run_unit(unit))
        assert gone == discarded


def test_the_command_says_what_was_not_computed_and_that_it_will_be(lobe, corpora: Path, tmp_path: Path):
    command = ["run", "-b", "torchvision:resnet18", "-t", LINEAR, "--data", corpora, "--out", tmp_path / "out", "--seeds", 1]
    command += ["--limit", 8, "--profile", "smoke", "--executor", "inline", "--no-tracking"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmark.training.fit.load", lambda *_: (_ for _ in ()).throw(full()))
        code, out, err = lobe(*command)
    assert code == 1
    assert "not computed:" in err
    assert "No space left on device" in err
    assert "0 jobs computed, 0 already stored" in out
    assert "1 not computed" in out
    assert "the same command computes them again" in " ".join(out.split())
    code, out, _ = lobe(*command, "--dry-run")
    assert "1 jobs, 0 stored, 1 to compute" in out
