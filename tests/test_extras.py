"""A small installation: what it does without is named with what to install, and the names are those of pyproject.toml."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from benchmark import doctor, extras
from benchmark.faults import is_environment

ROOT = Path(__file__).resolve().parents[1]
VERIFY = ["data", "verify", "chestx-det", "--data", "nowhere"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED = {
    extra: {re.split(r"[\[=<>~]", line)[0] for line in PROJECT["optional-dependencies"][extra]} - {PROJECT["name"]}
    for extra in ("run", "detection", "cluster", "pretrain", "all")
}
# Reached by name through pydicom, never imported.
PLUGINS = {"pylibjpeg-libjpeg", "pylibjpeg-openjpeg"}


def named(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_module_is_brought_by_the_extra_that_is_named_and_none_is_forgotten():
    owners = importlib.metadata.packages_distributions()
    brought = {
        extra: {named(owner) for name, by in extras.BROUGHT_BY.items() if by == extra for owner in owners[name]} for extra in DECLARED
    }
    same_folder = {"opencv-python", "mlflow-skinny", "mlflow-tracing"}  # other builds, and parts
    assert {extra: found - same_folder for extra, found in brought.items()} == {
        extra: {named(name) for name in names} - PLUGINS for extra, names in DECLARED.items()
    }


def test_base_and_extras_ask_for_nothing_twice():
    base = {re.split(r"[\[=<>~]", line)[0] for line in PROJECT["dependencies"]}
    for extra, names in DECLARED.items():
        assert base & names == set(), extra
    assert PROJECT["name"] == extras.DISTRIBUTION


def absent(name: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize(("name", "extra"), [("torch", "run"), ("mmdet.models", "detection"), ("ray", "cluster")])
def test_what_is_missing_is_said_with_its_extra_and_is_the_environments_fault(name, extra):
    found = extras.missing(absent(name))
    assert str(found).startswith(f"This needs {name}, which is not installed here. Install it with `pip install 'lobe-bench[{extra}]'`")
    assert is_environment(found)


@pytest.mark.parametrize("error", [absent("benchmark.nowhere"), ValueError("torch"), ImportError("cannot import name")])
def test_any_other_error_stays_what_it_is(error):
    assert extras.missing(error) is None


def test_the_command_ends_with_the_sentence_and_no_traceback(monkeypatch, capsys):
    module = importlib.import_module("benchmark.cli.app")  # of the package, the name is the application
    monkeypatch.setattr(module, "app", lambda **_: (_ for _ in ()).throw(absent("torch")))
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 2
    assert "pip install 'lobe-bench[run]'" in capsys.readouterr().err


# Stands for a package whose shared library needs one that the system lacks: the loader of Linux words it so.
NO_LIBRARY = "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory', name='cv2')"


def test_a_missing_system_library_is_a_sentence_and_two(tmp_path: Path):
    (tmp_path / "cv2.py").write_text(NO_LIBRARY, encoding="utf-8")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv[1:] = {VERIFY!r}; from benchmark.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: cv2 needs the system library libGL.so.1, which is not installed here. `lobe doctor` says what brings it.\n"
    )


def test_doctor_calls_it_a_warning_with_the_cure():
    def check():
        raise absent("ray")
        yield

    (found,) = doctor._guarded("Ray", check)
    assert (found.state, found.detail) == ("warning", "ray is not installed")
    assert "lobe-bench[cluster]" in found.mend


def test_a_package_that_was_not_installed_says_where_it_runs_from(monkeypatch: pytest.MonkeyPatch):
    assert extras.release() == importlib.metadata.version(extras.DISTRIBUTION)

    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert extras.release() == "from its folder"
