"""A clone installs as docs/installing.md says. The wheel in empty environments, outside the checkout: small, it reads results; whole, it
makes them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import registry
from benchmark.cards import Role
from benchmark.demo import rows
from benchmark.store import Store
from docsite.path_steps import NOTED
from tests.corpora import CorpusPlan, write_corpus
from tests.page_commands import ROOT, commands, noted, timed, typed

pytestmark = pytest.mark.slow

UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy of the repository's files: building leaves traces beside pyproject.toml."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    copy = tmp_path_factory.mktemp("sources")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run([UV, "build", "--quiet", "--python", sys.executable, "--wheel", "--out-dir", out, copy], check=True)
    (found,) = out.glob("*.whl")
    return found


def installed(folder: Path, what: str) -> Path:
    """The command `lobe` of a new environment."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    install = [UV, "pip", "install", "--quiet", "--python", folder / "bin" / "python", "-c", ROOT / "constraints.txt", what]
    subprocess.run(install, check=True)
    return folder / "bin" / "lobe"


def outside() -> dict[str, str]:
    """The environment of one who has no checkout in use; what `make` hands down would reach a `make` within."""
    ours = ("PYTHONPATH", "VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    return {name: value for name, value in os.environ.items() if name not in ours}


def run(command: Path, *words: str | Path, cwd: Path) -> tuple[int, str]:
    done = subprocess.run([command, *words], cwd=cwd, env=outside(), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_commands_of_the_page_lead_from_an_address_to_a_command(tmp_path: Path, record_property) -> None:
    clone, enter, install, activate = lines = commands(ROOT / "docs" / "installing.md")
    env = outside() | {"PYTHON": sys.executable}  # the interpreter whose packages the installer's cache has
    instead = {clone: clone.replace("<address of the repository>", f"'{ROOT}'"), activate: f"{activate} && which lobe && lobe --version"}
    assert instead[clone] != clone
    ran = list(timed(typed(lines, tmp_path, env, instead)))
    record_property(NOTED, noted((line, spent) for line, _, spent in ran))
    assert [line for line, _, _ in ran] == [clone, enter, install, activate]
    where, version = ran[-1][1].splitlines()
    assert Path(where) == tmp_path / "lobe" / ".venv" / "bin" / "lobe"
    assert version.startswith("lobe ")


def test_a_base_install_lists_reports_scores_and_validates_without_torch(wheel: Path, tmp_path: Path):
    write_corpus(CorpusPlan(dataset="rsna", n_patients=24, seed=3), tmp_path / "data" / registry.dataset("rsna").folder)
    here = Path(sys.executable).with_name("lobe")
    out = tmp_path / "out"
    words = ["--executor", "inline", "--no-tracking"]
    task = "rsna-linear-frozen-demo"  # whole and small: what is cut short is not submitted
    code, said = run(
        here, "run", "--backbone", "torchvision:resnet18", "--task", task, "--data", tmp_path / "data", "--out", out, *words, cwd=tmp_path
    )
    assert code == 0, said
    lobe = installed(tmp_path / "base", str(wheel))
    assert not list((tmp_path / "base").glob("lib/*/site-packages/torch"))

    def says(*words: str | Path) -> str:
        code, said = run(lobe, *words, cwd=tmp_path)
        assert code == 0, said
        return said

    assert says("--version").startswith("lobe ")
    assert task in says("list", "tasks")
    assert "resnet18" in says("results", "--out", out)
    says("report", "--out", out)
    assert (out / "report" / "index.html").is_file()
    says("export", out, "--all", "--to", tmp_path / "exported")
    says("submit", "--out", out, "--to", tmp_path / "sent.zip", "--contact", "someone@example.org", "--allow-phantom")
    assert "valid" in says("validate", tmp_path / "sent.zip", "--allow-phantom")
    code, said = run(
        lobe, "run", "--backbone", "torchvision:resnet18", "--task", task, "--data", tmp_path / "data", "--out", "new", cwd=tmp_path
    )
    assert code == 2
    assert "pip install 'lobe-bench[" in said
    assert "Traceback" not in said


@pytest.mark.alone  # its seconds are on the page, and are those of a newcomer's machine
def test_the_whole_demo_of_an_installed_wheel_has_three_rows_and_the_pretrained_ahead(wheel: Path, tmp_path: Path, record_property):
    lobe = installed(tmp_path / "whole", f"{wheel}[demo]")
    code, said = run(lobe, "demo", cwd=tmp_path)
    assert code == 0, said
    assert "Row 'ImageNet' is ahead of 'random'" in said
    out = tmp_path / "lobe-demo" / "out"
    assert (out / "report" / "index.html").is_file()
    final = [record for record in Store(out).all() if record.job.experiment.role is Role.FINAL]
    values = rows.values_by_row(final)
    in_per_cent = {task: {row: round(value * 100, 1) for row, value in found.items()} for task, found in values.items()}
    record_property("rows in per cent", in_per_cent)
    assert set(values) == {*registry.suite("demo").tasks, *registry.suite("demo-words").tasks}
    ranks = [line for line in said.splitlines() if ": rank " in line]
    record_property("ranks", "; ".join(line.strip() for line in ranks))
    assert len(ranks) == 2  # an untrained row is an anchor
    assert "EfficientNet-Lite0: rank 1" in ranks[0]
    assert all(" ± " in line for line in ranks)
    # YOLOv3 falls either way between seeds, and a U-Net's gain went from 7 to 26 points; the heads that train least are the surest.
    pairs = rows.pairs_with_random(final, rows.TEXT_ROW)
    linear = [task for task in values if registry.task(task).head == "linear"]
    assert len(linear) == 2
    assert [task for task in linear if pairs[task][1] <= pairs[task][0]] == []
