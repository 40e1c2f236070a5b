"""Which Python LOBE is installed with: said in three places, chosen by the Makefile."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from benchmark import doctor

ROOT = Path(__file__).resolve().parents[1]


def test_package_makefile_and_doctor_name_the_same_range() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (oldest, newest), text = (doctor.OLDEST_PYTHON, doctor.NEWEST_PYTHON), (ROOT / "Makefile").read_text(encoding="utf-8")
    assert project["requires-python"] == f">={oldest[0]}.{oldest[1]},<{newest[0]}.{newest[1] + 1}"
    assert f"not {oldest} <= sys.version_info[:2] <= {newest}" in text
    minors = range(oldest[1], newest[1] + 1)
    assert f"for p in {' '.join(f'python3.{minor}' for minor in reversed(minors))} python3;" in text
    assert [c for c in project["classifiers"] if "Python :: 3." in c] == [f"Programming Language :: Python :: 3.{m}" for m in minors]


def pretend(folder: Path, name: str, version: str | None) -> None:
    """An interpreter of that version for the Makefile's question; None = a name that does not start, as a version manager leaves."""
    answer = "exit 127"
    if version is not None:
        told = f"import sys; sys.version_info = {tuple(map(int, version.split('.')))}; exec(sys.argv[1])"
        answer = f"exec {sys.executable} -c '{told}' \"$2\""
    (folder / name).write_text(f"#!/bin/sh\n{answer}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


def chosen(folder: Path, *words: str) -> str:
    """What `make install` would run, without running it."""
    for tool in ("make", "sh", "awk", "grep"):
        os.symlink(shutil.which(tool), folder / tool)
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("pyproject.toml", "constraints.txt"):
        (folder / name).touch()
    done = subprocess.run(
        ["make", "-n", *words, "install"], cwd=folder, env={"PATH": str(folder)}, capture_output=True, text=True, check=True
    )
    return re.search(r"^python='(.*?)';", done.stdout, flags=re.MULTILINE)[1]


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ({"python3": "3.13.5"}, "python3"),
        ({"python3": "3.11.2", "python3.13": "3.13.5"}, "python3.13"),
        ({"python3": "3.12.1", "python3.14": None}, "python3"),
        ({"python3": "3.15.0", "python3.12": "3.12.1"}, "python3.12"),
        ({"python3": "3.10.2"}, ""),
    ],
    ids=["only-13", "newest-wins", "a-name-that-does-not-start", "too-new-by-default", "none-fits"],
)
def test_make_takes_the_newest_interpreter_that_fits(tmp_path: Path, present: dict[str, str | None], expected: str) -> None:
    for name, version in present.items():
        pretend(tmp_path, name, version)
    assert chosen(tmp_path) == expected


def test_a_named_interpreter_decides(tmp_path: Path) -> None:
    pretend(tmp_path, "python3", "3.13.5")
    assert chosen(tmp_path, "PYTHON=python3.11") == "python3.11"


def test_without_an_interpreter_that_fits_make_says_what_to_install(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    done = subprocess.run(["make", "PYTHON=no-such-python", "install"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "LOBE needs Python 3.11 to 3.14" in done.stderr
    assert "found: no-such-python" in done.stderr


def test_detectors_are_built_where_pkgutil_has_no_find_loader() -> None:
    code = (
        "import pkgutil, warnings; warnings.simplefilter('ignore'); vars(pkgutil).pop('find_loader', None)\n"
        "from benchmark.heads.networks import mmcv_ops; mmcv_ops.install()\n"
        "from mmengine.utils.dl_utils.misc import mmcv_full_available; from benchmark.heads.networks import faster_rcnn, yolov3\n"
        "print(pkgutil.find_loader('no_such_module'), pkgutil.find_loader('json') is not None, mmcv_full_available())\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["None", "True", "False"]
