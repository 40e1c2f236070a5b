"""One task of each kind on every other interpreter of this machine that LOBE says it runs on, in an environment of its own."""

from __future__ import annotations

import glob
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import doctor

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = [f"3.{minor}" for minor in range(doctor.OLDEST_PYTHON[1], doctor.NEWEST_PYTHON[1] + 1)]
OTHERS = [version for version in VERSIONS if version != "{}.{}".format(*sys.version_info)]


def interpreter(version: str) -> str | None:
    """Path of a Python of that version which starts: on PATH, or kept by pyenv."""
    kept = sorted(glob.glob(str(Path.home() / f".pyenv/versions/{version}*/bin/python{version}")), reverse=True)
    for path in filter(None, (*kept, shutil.which(f"python{version}"))):
        if subprocess.run([path, "-c", "import ensurepip, venv"], capture_output=True, check=False).returncode == 0:
            return path
    return None


@pytest.mark.parametrize("version", OTHERS)
def test_one_task_of_each_kind_runs_on(version: str, tmp_path: Path, record_property) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"this machine has no Python {version}")
    own = tmp_path / "environment"
    subprocess.run([python, "-m", "venv", own], check=True)
    install = [Path(sys.executable).parent / "uv", "pip", "install", "--quiet", "--python", own / "bin/python"]
    subprocess.run([*install, "-c", ROOT / "constraints.txt", "-e", f"{ROOT}[dev,all]"], check=True)
    done = subprocess.run(
        [own / "bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_every_kind.py", "tests/test_doctor.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    record_property("interpreter", subprocess.run([python, "--version"], capture_output=True, text=True, check=True).stdout.strip())
    record_property("saw", done.stdout.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
