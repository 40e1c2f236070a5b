"""Modules of one author's folder are invisible to the next, under any name and at any time of import."""

from __future__ import annotations

import copy
import gc
import importlib
import os
import pickle
import shutil
import sys
import threading
from pathlib import Path

import pytest
import torch

from benchmark.encoders import python_file
from benchmark.errors import CheckpointChanged, UsageError
from benchmark.own import modules as own_modules

FACTORY = """
import importlib
import sys
import threading
from pathlib import Path

import torch
from torch import nn

from benchmark.cards import BackboneSpec
from benchmark.encoders.base import Backbone
{top}

class Net(Backbone):
    def __init__(self):
        super().__init__()
        self.spec = BackboneSpec(name="net", strides={{1: 3}}, embed_dim=3)
        self.layer = nn.Conv2d(3, 3, 1)

    def pyramid(self, images, strides=None):
        {forward}
        return {{1: self.layer(images) * factor}}

    def pooled(self, images):
        return self.pyramid(images)[1].mean(dim=(2, 3))


def build():
    {build}
    torch.manual_seed(0)
    return Net()
"""
LIB = "sys.path.insert(0, str(Path(__file__).parent / 'lib'))"
FOLDERS = {"a": 2, "b": 3}


@pytest.fixture
def write(tmp_path: Path):
    """Writes a factory and files beside it; gives its name."""

    def write(folder: str, files: dict[str, str], *, top: str = "", forward: str = "pass", build: str = "pass") -> str:
        for name, text in {"mine.py": FACTORY.format(top=top, forward=forward, build=build), **files}.items():
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return f"{tmp_path / folder / 'mine.py'}:build"

    return write


def result(backbone) -> float:
    """What a network's factor makes of its fixed weights: 1 would be the plain ones."""
    images = torch.ones(1, 3, 2, 2)
    with torch.no_grad():
        return round(float((backbone.pooled(images) / backbone.layer(images).mean(dim=(2, 3))).mean()), 3)


@pytest.mark.parametrize(
    ("files", "how"),
    [
        ({"model.py": "factor = {n}\n"}, {"top": "from model import factor"}),
        (
            {"net/__init__.py": "", "net/deep/blocks.py": "factor = {n}\n"},
            {"top": "import net.deep.blocks as deep\nfactor = deep.factor"},
        ),
        ({"model.py": "import late\n", "late.py": "factor = {n}\n"}, {"top": "import model", "forward": "from late import factor"}),
        ({"net/a.py": "from .b import factor\n", "net/b.py": "factor = {n}\n"}, {"forward": "from net.a import factor"}),
        ({"late.py": "factor = {n}\n"}, {"forward": "factor = importlib.import_module('late').factor"}),
        ({"late.py": "factor = {n}\n"}, {"forward": "factor = __import__('late').factor"}),
        ({"late.py": "factor = {n}\n"}, {"top": "from .late import factor"}),
        ({"lib/model.py": "factor = {n}\n"}, {"top": f"{LIB}\nfrom model import factor"}),
        (
            {"lib/timm.py": "factor = {n}\n"},
            {"top": LIB, "forward": "from timm import factor"},
        ),
    ],
    ids=["beside", "below", "in forward", "relative", "by text", "by function", "with a dot", "own folder on the path", "vendored"],
)
def test_each_of_two_folders_is_built_from_its_own_modules(write, files, how) -> None:
    path, before = list(sys.path), set(sys.modules)
    built = {
        folder: python_file.build(write(folder, {name: text.format(n=n) for name, text in files.items()}, **how)).eval()
        for folder, n in FOLDERS.items()
    }
    for _ in range(2):
        assert {folder: result(backbone) for folder, backbone in built.items()} == FOLDERS
    assert sys.path == path
    assert not {name for name in set(sys.modules) - before if name.partition(".")[0] in ("model", "net", "late")}


def test_what_a_library_registers_in_the_place_of_a_module_is_left_alone(write, monkeypatch) -> None:
    class Proxy:
        """Claims to be a module, and has no `__dict__`."""

        __slots__ = ()
        __class__ = type(sys)

    monkeypatch.setitem(sys.modules, "stands_in", None)
    code = "sys.modules['stands_in'] = sys.made_here()\n    factor = 2"
    monkeypatch.setattr(sys, "made_here", Proxy, raising=False)
    del sys.modules["stands_in"]
    built = python_file.build(write("a", {}, top="factor = 2", build=code)).eval()
    assert result(built) == 2
    assert isinstance(sys.modules["stands_in"], type(sys))


def test_what_the_process_imported_under_that_name_is_another_module(write, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "model.py").write_text("factor = 7\n")
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))  # as the working directory is, in a notebook
    theirs = importlib.import_module("model")
    try:
        assert result(python_file.build(write("a", {"model.py": "factor = 2\n"}, top="from model import factor"))) == 2
        assert sys.modules["model"] is theirs
    finally:
        del sys.modules["model"]


def test_a_pickle_finds_the_classes_of_its_own_folder(write) -> None:
    """A network saved whole names its classes by module; unpickling looks them up by that name, here in a library's frame."""
    saves = "import pickle\nfactor = eval('pickle.loads(saved)()', {'pickle': pickle, 'saved': b'cnet.model\\nfactor\\n.'})"
    for way in (saves, "import pickle, net.model\nfactor = pickle.loads(b'cnet.model\\nfactor\\n.')()"):
        files = {folder: {"net/model.py": f"def factor():\n    return {n}\n"} for folder, n in FOLDERS.items()}
        built = {folder: python_file.build(write(folder, files[folder], top=way)) for folder in FOLDERS}
        assert {folder: result(backbone) for folder, backbone in built.items()} == FOLDERS


def test_copies_and_pickles_of_a_backbone_keep_its_modules(write) -> None:
    backbone = python_file.build(write("a", {"late.py": "factor = 2\n"}, forward="from late import factor"))
    copies = [copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))]
    kept = python_file.modules_of(backbone)
    assert all(python_file.modules_of(one) is kept for one in copies)
    keeper = own_modules._KEEPERS[kept.name]
    assert copy.copy(keeper) is copy.deepcopy(keeper) is keeper
    del keeper
    del backbone
    python_file.build(write("b", {}))  # an occasion to clear away
    assert [result(one) for one in copies] == [2, 2]


def test_modules_of_a_backbone_that_is_gone_are_gone(write) -> None:
    backbone = python_file.build(write("a", {"model.py": "factor = 2\n"}, top="from model import factor"))
    former = python_file.modules_of(backbone).name
    assert f"{former}.model" in sys.modules
    del backbone
    gc.collect()
    python_file.build(write("b", {}))
    assert not {name for name in sys.modules if name.partition(".")[0] == former}
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"{former}.model")  # nor can they be had again by their name


def test_what_a_library_imports_is_the_installed_package_and_not_a_vendored_one(write, tmp_path: Path, monkeypatch) -> None:
    """A library keeps what it imports, for whoever comes next."""
    monkeypatch.setattr(own_modules, "installed_folders", lambda: (str(tmp_path / "installed"),))
    monkeypatch.syspath_prepend(str(tmp_path / "installed"))
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "its_part.py").write_text("factor = 5\n")
    (tmp_path / "installed" / "its_whole.py").write_text("from its_part import factor\n")
    top = f"{LIB}\nfrom its_part import factor\nimport its_whole"
    assert result(python_file.build(write("a", {"lib/its_part.py": "factor = 2\n"}, top=top))) == 2
    assert importlib.import_module("its_whole").factor == 5


def test_an_edited_module_is_run_as_it_is_now(write, tmp_path: Path) -> None:
    """Same size, same second: what Python keeps compiled would be the former one."""
    name = write("a", {"model.py": "factor = 2\n"}, top="from model import factor")
    assert result(python_file.build(name)) == 2
    (tmp_path / "a" / "model.py").write_text("factor = 3\n")
    assert result(python_file.build(name)) == 3
    assert not (tmp_path / "a" / "__pycache__").exists()


def test_installed_packages_and_the_standard_library_keep_their_names(write) -> None:
    files = {"json.py": "raise RuntimeError\n", "yaml.py": "raise RuntimeError\n", "benchmark/cards.py": "raise RuntimeError\n"}
    assert result(python_file.build(write("a", files, top="import json, yaml, benchmark.cards\nfactor = 2"))) == 2


def test_a_library_named_at_run_time_is_the_installed_one(write) -> None:
    files = {"mine_too.py": "factor = 2\n", "json.py": "raise RuntimeError\n"}
    top = "loads = importlib.import_module('json').loads\nfactor = importlib.import_module('mine_too').factor * loads('3')"
    assert result(python_file.build(write("a", files, top=top))) == 6


def test_a_compiled_module_is_loaded_once_and_refused_when_it_was_compiled_anew(write, tmp_path: Path) -> None:
    """Most cannot be loaded a second time in a process."""
    compiled = Path(importlib.import_module("markupsafe._speedups").__file__)
    top = "import _speedups\nfactor = 2 if _speedups.__file__.startswith(str(Path(__file__).parent)) else 1"
    name = write("a", {}, top=top)
    shutil.copy(compiled, tmp_path / "a" / compiled.name)
    first, second = python_file.build(name), python_file.build(name)
    assert [result(first), result(second)] == [2, 2]
    modules = [vars(sys.modules[type(one).__module__])["_speedups"] for one in (first, second)]
    assert modules[0] is modules[1]
    assert str(tmp_path / "a" / compiled.name) in python_file.modules_of(second).executed
    (tmp_path / "anew").write_bytes(compiled.read_bytes() + b"\0")
    os.replace(tmp_path / "anew", tmp_path / "a" / compiled.name)
    with pytest.raises(CheckpointChanged, match=r"_speedups.* was compiled anew while this process had it loaded"):
        python_file.build(name)


def test_a_module_that_is_missing_is_named_as_the_author_names_it(write) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'net\.blocks'$"):
        python_file.build(write("a", {"net/__init__.py": ""}, top="import net.blocks"))


def test_a_folder_named_relative_to_the_working_directory_is_refused(write, tmp_path: Path, monkeypatch) -> None:
    name = write("a", {"lib/model.py": "factor = 2\n"}, top="sys.path.append('lib')\nfrom model import factor")
    monkeypatch.chdir(tmp_path / "a")
    with pytest.raises(UsageError, match=r"mine.py puts 'lib' on sys.path, relative .* Path\(__file__\)"):
        python_file.build(name)


def test_a_module_that_was_not_planned_is_refused_whenever_it_is_imported(write, tmp_path: Path) -> None:
    from benchmark.encoders import sources

    name = write("a", {"late.py": "factor = 2\n"}, forward="from late import factor")
    file = tmp_path / "a" / "mine.py"
    backbone = python_file.build(name)
    python_file.require_planned(backbone, name, sources.files_of(file, []))
    with pytest.raises(CheckpointChanged, match=r"imports late\.py, which was not among the files the job was planned with"):
        result(backbone)
    both = sources.files_of(file, [str(tmp_path / "a" / "late.py")])
    (tmp_path / "a" / "late.py").write_text("factor = 4\n")
    python_file.require_planned(backbone, name, both)
    with pytest.raises(CheckpointChanged, match=r"imports late\.py, which is not the file the job was planned with"):
        result(backbone)


def test_modules_that_another_thread_imports_meanwhile_disturb_nobody(write) -> None:
    """The thread that tells MLflow imports it while a backbone is built."""
    name, stop = write("a", {"model.py": "factor = 2"}, top="from model import factor"), threading.Event()

    def import_much() -> None:
        while not stop.is_set():
            for k in range(200):
                sys.modules[f"somebody_elses_{k}"] = sys
            for k in range(200):
                del sys.modules[f"somebody_elses_{k}"]

    thread = threading.Thread(target=import_much)
    thread.start()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(30):
            own_modules._forget(f"{own_modules.NAME}none")
        assert python_file.build(name).spec.name == "net"
    finally:
        sys.setswitchinterval(before)
        stop.set()
        thread.join()
