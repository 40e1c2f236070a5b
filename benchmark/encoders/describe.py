"""What a Python factory builds and from which files, as digests; run as `python -m benchmark.encoders.describe` in a process of its own.

The author's code never enters the driver. The factory is called under two seeds: equal weights are the author's, different ones are random.
Then images pass, and every file that was imported or opened until then belongs to the backbone. What the network computes does not: float
bits differ between processors.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import hashlib
import importlib.util
import json
import linecache
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from benchmark import json_files
from benchmark.cards import Contamination
from benchmark.encoders import drawn, sources
from benchmark.encoders.sources import SourceFile
from benchmark.errors import ConformanceError, UsageError
from benchmark.files import read_bytes

if TYPE_CHECKING:
    from torch import nn

    from benchmark.encoders.base import Backbone

FRAME = 224
# What libraries look for in the working directory, whoever calls them.
LOOKED_FOR = frozenset({"matplotlibrc", "pyproject.toml", "setup.cfg"})
_SENTENCE = f"{ConformanceError.__module__}.{ConformanceError.__qualname__}: "  # before one that needs no other, as Python ends a traceback


@dataclass(frozen=True)
class FactoryDigest:
    """
    Attributes:
        weights: SHA-256 of the state dict; None when every call draws new weights.
        files: every file that was imported or opened, and the variables of the environment that were asked for.
        pretraining, contamination: what the spec says the network was pre-trained on, and which datasets that meets.
        normalised: the spec states a mean and deviation.
        input_size: of the spec.
    """

    weights: str | None
    files: tuple[SourceFile, ...]
    pretraining: tuple[str, ...] | None = None
    contamination: Mapping[str, Contamination] = field(default_factory=dict)
    normalised: bool = True
    input_size: int | None = None

    @classmethod
    def of(cls, found: dict[str, Any]) -> FactoryDigest:
        """From what `observe` found."""
        said = {dataset: Contamination(kind) for dataset, kind in found["contamination"].items()}
        sets = None if found["pretraining"] is None else tuple(found["pretraining"])
        files = tuple(SourceFile(**file) for file in found["files"])
        return cls(found["weights"], files, sets, said, found["normalised"], found["input_size"])

    @property
    def sources(self) -> str:
        """SHA-256 of the files."""
        return sources.combined(self.files)


def describe(model: str) -> FactoryDigest:
    """Digests of the factory `path/to/file.py:function`, built in a subprocess.

    Raises:
        ConformanceError: the factory fails, with the last line of its error; or as in `observe`.
        UsageError: it reads a file by a path relative to the folder the command was started in.
    """
    found = _described(model)
    if found["written"]:  # a cache that was made by the first build and is there for every later one
        found = _described(model)
    if found["relative"]:
        raise UsageError(
            f"{Path(model).name} opens {found['relative'][0]!r}, a path relative to the folder the command was started in; a worker is "
            "started elsewhere. Write it from the file: Path(__file__).parent / ..."
        )
    return FactoryDigest.of(found)


def _described(model: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="lobe-describe-", ignore_cleanup_errors=True) as private:
        answer = Path(private, "answer.json")
        given = json.dumps({"model": model, "path": [os.path.abspath(entry) if entry == "" else entry for entry in sys.path]})
        temporary = Path(private, "tmp")  # what is written there is nobody's source
        temporary.mkdir()
        done = subprocess.run(
            [sys.executable, "-m", "benchmark.encoders.describe", given, str(answer)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TMPDIR": str(temporary)},
        )
        if done.returncode != 0 or not answer.exists():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            if last.startswith(_SENTENCE):
                raise ConformanceError(last.removeprefix(_SENTENCE))
            raise ConformanceError(f"{Path(model).name} could not be built: {last}")
        return json_files.read(answer)


def state_digest(backbone: nn.Module) -> str:
    """SHA-256 of the names, types, shapes and bytes of a module's tensors."""
    import torch

    sha = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        sha.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def sources_digest(folder: Path) -> str:
    """SHA-256 of the names and bytes of every `.py` file in a folder: what stood for a factory's code in keys of the first version."""
    sha = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        sha.update(path.name.encode() + b"\0" + read_bytes(path) + b"\0")
    return sha.hexdigest()


class _Observer:
    """Sees every file that Python opens or imports while it watches, and those that common libraries read without Python.

    Attributes:
        read, run, written: absolute paths; `run` are those of code.
        relative: paths as they were given, of files that are there.
        asked: names of variables, each with the file of the code that asked for it.
    """

    def __init__(self):
        self.read: set[str]
        self.run: set[str]
        self.written: set[str]
        self.relative: list[str]
        self.asked: set[tuple[str, str]]
        self._started_in = ""
        self._watching = False
        sys.addaudithook(self._event)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        self.read, self.run, self.written, self.relative, self.asked = set(), set(), set(), [], set()
        self._started_in = os.getcwd()
        self._watching = True
        try:
            yield
        finally:
            self._watching = False

    def native(self, owner: Any, name: str) -> None:
        """Notes the first argument of a library's function that opens files by itself."""
        original = getattr(owner, name)

        def noting(path: Any, *args: Any, **options: Any) -> Any:
            if self._watching and isinstance(path, str | os.PathLike):
                self._note(path, writes=False)
            return original(path, *args, **options)

        setattr(owner, name, staticmethod(noting) if isinstance(owner, type) else noting)

    def variables(self) -> None:
        """Notes the variables of the environment that code asks for one by one."""
        original = os._Environ.__getitem__

        def noting(environment: os._Environ, name: Any) -> Any:
            if self._watching and environment is os.environ and (file := _asking(sys._getframe(1))) is not None:
                self.asked.add((os.fsdecode(name), file))
            return original(environment, name)

        os._Environ.__getitem__ = noting  # type: ignore[method-assign]

    def _event(self, event: str, args: tuple) -> None:
        if not self._watching:
            return
        if event == "open" and _shows_code(sys._getframe(1)):
            return
        if event == "open" and isinstance(args[0], str | bytes | os.PathLike):
            mode, flags = args[1], args[2]
            makes = any(letter in mode for letter in "wax") if isinstance(mode, str) else flags & (os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            self._note(args[0], writes=bool(makes))  # what can be changed in place is read: memory maps are opened so
        elif event == "exec" and os.path.isabs(getattr(args[0], "co_filename", "")):
            self.run.add(args[0].co_filename)  # however it was loaded
        elif event == "import" and isinstance(args[1], str):
            self.run.add(args[1])  # a compiled module
        elif event == "ctypes.dlopen" and isinstance(args[0], str) and os.sep in args[0]:
            self._note(args[0], writes=False)

    def _note(self, path: Any, *, writes: bool) -> None:
        given = os.fsdecode(path)
        absolute = os.path.abspath(given)
        if absolute.endswith(".pyc") and not writes:  # stands for its source, which is read only the first time
            with contextlib.suppress(ValueError):
                absolute = importlib.util.source_from_cache(absolute)
        if writes:
            self.written.add(absolute)
            return
        self.read.add(absolute)
        relative = not os.path.isabs(given) and os.getcwd() == self._started_in  # not where the code went into a folder of its own
        if relative and absolute not in self.written and os.path.isfile(absolute):
            name = Path(given).parts
            if not any(part.startswith(".") and part.strip(".") for part in name) and name[-1] not in LOOKED_FOR:
                self.relative.append(given)


def _asking(frame: FrameType | None) -> str | None:
    """The file of the code that asks for one variable; None where all are listed or copied."""
    direct = True
    while frame is not None and frame.f_globals.get("__name__") in ("os", "collections.abc"):
        if frame.f_code.co_name not in ("get", "getenv", "__contains__", "pop", "setdefault"):
            return None
        frame, direct = frame.f_back, False
    if frame is None:
        return None
    # `os.environ[name]` alone: a copy (`dict(os.environ)`) asks for each as well.
    subscript = dis.opname[frame.f_code.co_code[frame.f_lasti]] in ("BINARY_SUBSCR", "BINARY_OP")
    return frame.f_code.co_filename if subscript or not direct else None


def _shows_code(frame: FrameType | None) -> bool:
    """Whether Python looks up lines of code, for a warning or a traceback."""
    files: list[str] = []
    while frame is not None and len(files) < 3:
        files.append(frame.f_code.co_filename)
        frame = frame.f_back
    return linecache.__file__ in files


def _watch_libraries(observer: _Observer) -> None:
    import cv2
    import safetensors
    import safetensors.torch
    import tokenizers
    import torch

    for owner, name in (
        (safetensors, "safe_open"),
        (safetensors.torch, "safe_open"),
        (tokenizers.Tokenizer, "from_file"),
        (torch.jit, "load"),
        (cv2, "imread"),
    ):
        observer.native(owner, name)


def _pass_images(backbone: Backbone) -> None:
    """Passes images once, so that what is imported or opened only then is seen too. The contract's own check reports failures."""
    import torch

    from benchmark.cards import IMAGENET
    from benchmark.encoders.base import VisionLanguageBackbone
    from benchmark.encoders.sealed import Mode, SealedEncoder

    images = torch.zeros(1, FRAME, FRAME, dtype=torch.uint8)  # one: large networks take seconds for each
    calls = [lambda e: e.pyramid(images), lambda e: e.pooled(images)]
    if isinstance(backbone, VisionLanguageBackbone):
        calls += [lambda e: e.embed_images(images), lambda e: e.backbone.embed_texts(["opacity"])]
    encoder = SealedEncoder(backbone, backbone.spec.normalisation or IMAGENET)
    for mode, tried in ((Mode.FROZEN, calls), (Mode.TRAINING, calls[:1])):
        encoder.set_mode(mode)
        for call in tried:
            with contextlib.suppress(Exception), torch.no_grad():
                call(encoder)


@functools.cache
def _observer() -> _Observer:
    """One for the process: what is hooked into Python stays there."""
    observer = _Observer()
    _watch_libraries(observer)
    observer.variables()
    return observer


def observe(model: str, temporary: str = os.devnull) -> dict[str, Any]:
    """Builds a factory twice in this process and lets images pass.

    Args:
        temporary: folder of the process's temporary files, which count for nothing.

    Returns:
        `weights`, `files`, `pretraining`, `contamination`, `normalised` and `input_size` as in `FactoryDigest`; `written`: whether a file
        that counts was written before it was read; `relative`: files opened by paths relative to the working directory.

    Raises:
        Exception: the author's code raised it.
        ConformanceError: a file was edited meanwhile, or the network is a trained one with tensors that every call draws anew.
    """

    from benchmark.encoders import python_file
    from benchmark.generators import seed_all

    observer = _observer()
    factory = Path(model.rpartition(":")[0]).resolve()
    built: list[Backbone] = []
    weights = []
    with observer.watching():
        for seed in (0, 1):
            seed_all(seed)
            built.append(python_file.build(model))
            weights.append(state_digest(built[-1]))
        if weights[0] != weights[1]:
            drawn.require_untrained(Path(model).name, *built)
        backbone = built.pop()
        built.clear()  # the other one needs as much memory
        _pass_images(backbone)
    executed = python_file.modules_of(backbone).executed
    first, second = weights
    spec = backbone.spec
    read, run = (
        {path for path in paths if not Path(path).is_relative_to(temporary)} for paths in (observer.read, observer.run | set(executed))
    )
    files = sources.files_of(factory, read - observer.written, run)
    _require_as_executed(files, factory, executed)
    variables = sources.variables_of(factory, observer.asked)
    return {
        "weights": first if first == second else None,
        "files": [asdict(file) for file in (*files, *variables)],
        "pretraining": spec.pretraining,
        "contamination": {dataset: Contamination(kind).value for dataset, kind in spec.contamination.items()},
        "normalised": spec.normalisation is not None,
        "input_size": spec.input_size,
        "written": bool(read & observer.written) and len(sources.files_of(factory, read, run)) > len(files),
        "relative": observer.relative,
    }


def _require_as_executed(files: tuple[SourceFile, ...], factory: Path, executed: dict[str, str]) -> None:
    """Raises ConformanceError where a file was changed between its import and its digest."""
    now = {str(file.at(factory.parent)): file.digest for file in files}
    changed = [path for path, digest in executed.items() if now.get(path, digest) != digest]
    if changed:
        raise ConformanceError(f"{changed[0]} was changed while it was read. Run the same command again.")


if __name__ == "__main__":
    _given = json.loads(sys.argv[1])
    sys.path[:] = _given["path"]  # as in the process that asks, which did not start with the working directory in front
    Path(sys.argv[2]).write_text(json.dumps(observe(_given["model"], os.environ["TMPDIR"])))
