"""What every test may rely on: quiet libraries, one thread, compiled imports in child processes, and the shared real files where present.

Nothing about any one room lives here.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from hypothesis import settings

from tests import seeding
from tests.describing import Describing

pytest_plugins = ("tests.verification",)

# Before any import of torch, Ray or Hugging Face, and inherited by every child process and Ray worker.
os.environ.update(
    NO_ALBUMENTATIONS_UPDATE="1",
    RAY_USAGE_STATS_ENABLED="0",
    MLFLOW_DISABLE_TELEMETRY="true",
    HF_HUB_OFFLINE="1",
    OMP_NUM_THREADS="1",
    RAY_worker_niceness="0",  # Ray's workers start at nice 15 and starve beside other work of a busy machine
)
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.pop("LOBE_DATA", None)
os.environ.pop("LOBE_CACHE", None)

# Property tests name no number of examples: `make test` takes the first few of those that `make verify` takes. Both are the same each time.
settings.register_profile("few", max_examples=50, deadline=None, derandomize=True, database=None)
settings.register_profile("all", parent=settings.get_profile("few"), max_examples=300)
settings.load_profile("few")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first: workers take whole files in this order, and the last one dealt should be short."""

    def seconds(item: pytest.Item) -> int:
        mark = item.get_closest_marker("long")
        return mark.args[0] if mark else 0

    items.sort(key=seconds, reverse=True)  # stable, and a mark is that of a whole file


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    seeding.seed(item.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef, request: pytest.FixtureRequest) -> Iterator[None]:
    """What many tests share is the same whichever of them asks for it first, and moves none of them."""
    if fixturedef.scope == "function":
        return (yield)
    with seeding.apart(f"{request.node.nodeid} {fixturedef.argname}"):
        return (yield)


@pytest.fixture(scope="session")
def real_files() -> Path:
    """Folder `shared/data` beside the checkout: small public files that are never committed. Skips where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no folder of real files beside the checkout")
    return folder


@pytest.fixture(scope="session", autouse=True)
def kept_once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What `tests.made_once` keeps lies in one folder for all workers of a test run."""
    from tests import made_once

    base = tmp_path_factory.getbasetemp()  # of this process: workers have theirs side by side
    made_once.keep_in((base.parent if hasattr(request.config, "workerinput") else base) / "made-once")


@pytest.fixture(scope="session", autouse=True)
def room_on_the_disk() -> Iterator[None]:
    """Features of tests are stored however full the machine's disk is; what happens on a full one, its tests decide themselves."""
    from benchmark.training import feature_folders

    with mock.patch.multiple(feature_folders, LEAST_FREE_BYTES=0, LEAST_FREE_SHARE=0.0):
        yield


@pytest.fixture(scope="session", autouse=True)
def migrated_once(kept_once: None) -> Iterator[None]:
    """A new SQLite database of MLflow's begins as a copy of one that MLflow made: its seventy migrations take seconds each time."""
    from benchmark.tracking.runs import Runs
    from tests.made_once import empty_mlflow

    connect = Runs.__init__

    def connecting(self: Runs, uri: str, out: Path) -> None:
        import sqlalchemy
        from mlflow.store.db import utils

        migrate = inspect.unwrap(utils._initialize_tables)  # two trackers may connect at once, each in its thread

        @functools.wraps(migrate)
        def copy_tables(engine: sqlalchemy.Engine) -> None:
            if engine.dialect.name != "sqlite" or sqlalchemy.inspect(engine).get_table_names():
                return migrate(engine)
            with contextlib.closing(sqlite3.connect(empty_mlflow())) as tables, contextlib.closing(engine.raw_connection()) as database:
                tables.backup(database.driver_connection)

        with mock.patch.object(utils, "_initialize_tables", copy_tables):
            connect(self, uri, out)

    with mock.patch.object(Runs, "__init__", connecting):
        yield


@pytest.fixture(scope="session", autouse=True)
def verbs_read_once() -> Iterator[None]:
    """Typer reads the signatures of all verbs whenever one is called, which takes longer than many a verb."""
    import typer.main

    with mock.patch.object(typer.main, "get_command", functools.cache(typer.main.get_command)):
        yield


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small phantom corpora of RSNA and COVID Rural for all tests of a process; those that damage files copy them first."""
    from tests.corpora import CorpusPlan, write_corpus

    root = tmp_path_factory.mktemp("corpora")
    write_corpus(CorpusPlan(dataset="rsna", n_patients=24, seed=3), root / "rsna")
    write_corpus(CorpusPlan(dataset="covid-rural", n_patients=14, seed=3), root / "covid-rural")
    return root


TINY = """
import os, signal
from pathlib import Path

import torch
from torch import nn

from benchmark.cards import BackboneSpec
from benchmark.encoders.base import Backbone

WIDTHS = {{2: 4, 4: 8, 8: 8, 16: 8, 32: 16}}


class Tiny(Backbone):
    def __init__(self):
        super().__init__()
        self.spec = BackboneSpec(name="tiny", strides=WIDTHS, embed_dim=WIDTHS[32])
        self.stages = nn.ModuleDict()
        incoming = 3
        for stride, width in WIDTHS.items():
            convolution = nn.Conv2d(incoming, width, 3, stride=2, padding=1)
            self.stages[str(stride)] = nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout({dropout}))
            incoming = width

    def pyramid(self, images, strides=None):
        maps = {{}}
        {at_pyramid}
        for stride in WIDTHS:
            images = self.stages[str(stride)](images)
            maps[stride] = images
        return {{s: maps[s] for s in strides or WIDTHS}}

    def pooled(self, images):
        return self.pyramid(images, (32,))[32].mean(dim=(2, 3))


def build():
    {at_build}
    return Tiny()
"""


@pytest.fixture
def tiny(tmp_path: Path):
    """Writes a backbone of five small convolutions to a file of its own folder; the arguments are lines of its code."""

    def write(name: str = "tiny", *, at_build: str = "torch.manual_seed(5)", at_pyramid: str = "pass", dropout: float = 0.0) -> Path:
        file = tmp_path / name / "mine.py"
        file.parent.mkdir()
        file.write_text(TINY.format(at_build=at_build, at_pyramid=at_pyramid, dropout=dropout))
        return file

    return write


WORDS = """
import zlib

import torch
from torch import nn

from benchmark.cards import BackboneSpec
from benchmark.encoders.base import ImageEmbedding, TextEmbedding, VisionLanguageBackbone

WIDTH = 8


class Tiny(VisionLanguageBackbone):
    def __init__(self):
        super().__init__()
        self.spec = BackboneSpec(name="tiny words", strides={{32: WIDTH}}, embed_dim=WIDTH)
        self.look = nn.Conv2d(3, WIDTH, 32, stride=32)

    def pyramid(self, images, strides=None):
        return {{32: self.look(images)}}

    def pooled(self, images):
        return self.look(images).mean(dim=(2, 3))

    def embed_images(self, images):
        places = self.look(images)
        return ImageEmbedding(places.mean(dim=(2, 3)), places)

    def embed_texts(self, texts):
        split = [text.lower().split() for text in texts]
        local, mask = torch.zeros(len(texts), WIDTH, max(map(len, split))), torch.zeros(len(texts), max(map(len, split)), dtype=torch.bool)
        for row, words in enumerate(split):
            for column, word in enumerate(words):
                local[row, :, column] = torch.randn(WIDTH, generator=torch.Generator().manual_seed(zlib.crc32(word.encode())))
                mask[row, column] = True
        return TextEmbedding(local.sum(dim=2) / mask.sum(dim=1, keepdim=True), local, mask)


def build():
    {at_build}
    return Tiny()
"""


@pytest.fixture
def tiny_words(tmp_path: Path):
    """Writes a backbone with a text side to a file of its own folder: one convolution, and a fixed random vector for every word."""

    def write(name: str = "tiny-words", *, at_build: str = "torch.manual_seed(5)") -> Path:
        file = tmp_path / name / "mine.py"
        file.parent.mkdir()
        file.write_text(WORDS.format(at_build=at_build))
        return file

    return write


@pytest.fixture(scope="session")
def image_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of decoded images for all tests that do not look into it."""
    return tmp_path_factory.mktemp("image-cache")


@pytest.fixture
def small(corpora: Path, image_cache: Path, narrow_heads: None):
    """Jobs that train in a second: 64-pixel frames, few images, few steps, narrow heads.

    `small.plan(task, file)` and `small.fit(job, inputs)`.
    """
    from benchmark import registry, resolve
    from benchmark.cards import BackboneRef
    from benchmark.encoders import python_file, sources
    from benchmark.encoders.describe import state_digest
    from benchmark.plan import NamedBackbone, Settings, plan

    def backbone(file: Path, *, random: bool = False, label: str = "tiny"):
        model = f"{file}:build"
        digest = None if random else state_digest(python_file.build(model))
        files = sources.files_of(file, map(str, file.parent.glob("*.py")))
        ref = BackboneRef(family="python_file", model=f"build:{sources.combined(files)}", digest=digest)
        return resolve.ResolvedBackbone(NamedBackbone(label, ref), model, None, files)

    def planned(
        task: str, backbones, *, root: Path = corpora, limit: int | None = 12, runs: int = 1, size: int = 64, data=None, card=None, **recipe
    ):
        """Jobs of one task on some backbones (files or resolved), and where their inputs lie, by key."""
        given = registry.task(task)
        recipe = {"max_steps": 4, "max_epochs": 4, "patience": 4, "grid": ()} | recipe
        given = given.model_copy(update={"recipe": given.recipe.model_copy(update=recipe), "frame_size": size, **(card or {})})
        about = registry.dataset(given.dataset)
        protocol = registry.protocol(given.protocols[0])
        dataset = resolve.dataset(
            about, root / about.folder, protocol, given.split, trains=given.words is None, limit=limit, cache=image_cache
        )
        ref = dataset.ref.model_copy(update=data or {})
        built = [backbone(b) if isinstance(b, Path) else b for b in backbones]
        jobs, inputs = [], {}
        for each in built:
            found = plan([given], [each.named], {given.dataset: ref}, protocol, Settings(runs=runs, limit=limit), registry.prompts())
            jobs += found
            inputs |= dict.fromkeys((job.key for job in found), resolve.inputs(each, dataset, image_cache))
        return jobs, inputs

    def one(task: str, file: Path, **options):
        """The only (or last) job of a task on one backbone, and its inputs."""
        jobs, inputs = planned(task, [file], **options)
        return jobs[-1], inputs[jobs[-1].key]

    def fit(job, inputs, options=None, *, shared=None, produced: Path | None = None, learning_rate: float = 1e-2):
        """The record of a job; its files go to the folder `produced`."""
        from benchmark.training import fit as fitting
        from benchmark.training.options import RunOptions
        from benchmark.training.shared_work import SharedWork

        *_, finished = fitting.fit(job, inputs, options or RunOptions(), learning_rate, shared or SharedWork())
        if produced is not None:
            produced.mkdir(exist_ok=True)
            for name, content in finished.files.items():
                (produced / name).write_bytes(content)
        return finished.record

    return SimpleNamespace(backbone=backbone, plan=planned, one=one, fit=fit)


@pytest.fixture
def narrow_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads with a hundredth of their weights, for what does not depend on how wide they are; a forked process keeps it."""
    from benchmark.heads.networks import faster_rcnn, smp_unet, yolov3

    monkeypatch.setattr(yolov3, "WIDTHS", (64, 32, 16))
    monkeypatch.setattr(faster_rcnn, "WIDTH", 16)
    monkeypatch.setattr(faster_rcnn, "HIDDEN", 32)
    monkeypatch.setattr(smp_unet, "SMP_WIDTHS", {16: 32, 8: 16, 4: 8, 2: 8, 1: 8})


@pytest.fixture
def plain_fit():
    """Fits a job the slow way: every image decoded anew whenever it is asked for, the encoder run on every batch, no run beside it."""

    def fit(job, inputs, learning_rate: float):
        from unittest import mock

        import numpy as np
        import torch

        from benchmark.imaging.prepare import prepare_image
        from benchmark.kinds.base import Part
        from benchmark.readers.base import open_reader
        from benchmark.training import fit as fitting
        from benchmark.training.options import RunOptions
        from benchmark.training.shared_work import SharedWork

        data = job.experiment.dataset
        reader = open_reader(inputs.card, inputs.dataset_root, shapes=job.experiment.switches.object_cxr_shapes)
        train = fitting.train

        def images(self, index):
            found = [prepare_image(reader.sample(self.ids[i]), data.intensity, data.frame_size)[0] for i in index]
            return torch.from_numpy(np.stack(found))

        def without_bank(model, *rest):
            model.bank = None
            return train(model, *rest)

        with mock.patch.object(Part, "images", images), mock.patch.object(fitting, "train", without_bank):
            return list(fitting.fit(job, inputs, RunOptions(), learning_rate, SharedWork()))[-1].record

    return fit


@pytest.fixture(scope="session")
def describing() -> Iterator[Describing]:
    """One process of this test process that describes backbones, each in a fork of it."""
    server = Describing()
    yield server
    server.close()


@pytest.fixture
def described_quickly(describing: Describing, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a backbone is, is found out without starting Python. That it is found out alike is tested in tests/encoders/test_describe.py."""
    monkeypatch.setattr("benchmark.encoders.describe.subprocess", describing)


@pytest.fixture
def described_once(described_quickly: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the two backbones above are is found out once in a test run where nothing was changed in them.

    They read nothing beside their own file. What is found out, and how, is tested in tests/encoders/test_describe.py.
    """
    from benchmark import resolve
    from benchmark.encoders.describe import FactoryDigest
    from tests.made_once import made_once

    describe, at_build = resolve.describe, "torch.manual_seed(5)"
    unchanged = {TINY.format(at_build=at_build, at_pyramid="pass", dropout=0.0), WORDS.format(at_build=at_build)}

    def described(model: str) -> FactoryDigest:
        file, _, function = model.rpartition(":")
        text = Path(file).read_text(encoding="utf-8") if Path(file).is_file() else None
        if text not in unchanged:
            return describe(model)
        name = hashlib.sha256(f"{Path(file).name}:{function}:{text}".encode()).hexdigest()[:16]
        kept = made_once(f"{name}.json", lambda path: path.write_text(json.dumps(asdict(describe(model))), encoding="utf-8"))
        return FactoryDigest.of(json.loads(kept.read_text(encoding="utf-8")))

    monkeypatch.setattr(resolve, "describe", described)


@pytest.fixture
def small_frames() -> Iterator[None]:
    """Frames of 64 pixels in every task: for tests of what a run does, whatever it computes on."""
    from tests.frames import small_frames

    with small_frames():
        yield


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks up a name or connects to a host fails the test."""

    def asked(*given: object, **_how: object) -> None:
        pytest.fail(f"the network was asked: {given}")

    monkeypatch.setattr("socket.getaddrinfo", asked)
    monkeypatch.setattr("socket.socket.connect", asked)


@pytest.fixture
def lobe(described_once: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Calls the command as its entry point does; gives exit code, stdout and stderr. Smoke budgets are cut to a fiftieth."""

    def call(*arguments: object) -> tuple[int, str, str]:
        from benchmark import registry
        from benchmark.cli import main

        monkeypatch.setattr("sys.argv", ["lobe", *map(str, arguments)])
        monkeypatch.setenv("LOBE_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("benchmark.plan.smoke_steps", lambda head: max(registry.head(head).smoke_steps // 50, 2))
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call
