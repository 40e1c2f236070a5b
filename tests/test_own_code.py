"""The code's digest is that of the modules, wherever the package lies and whatever lies among them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmark import own_code
from benchmark.execute.ship import LEFT_BEHIND

MODULES = {"__init__.py": "", "execute/nodes.py": "a = 1\n"}


def written(folder: Path, **more: str) -> Path:
    for name, text in (MODULES | more).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_a_checkout_its_wheel_and_what_travels_are_the_same_code(tmp_path: Path) -> None:
    checkout = written(tmp_path / "checkout")
    beside = {"content/backbones/template.py": "b = 2\n", "execute/._nodes.py": "", ".old/nodes.py": "a = 0\n", "py.typed": ""}
    wheel = written(tmp_path / "wheel", **beside)
    travels = shutil.copytree(wheel, tmp_path / "travels", ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    assert not (travels / "content").exists()
    assert {own_code.digest_of(package) for package in (checkout, wheel, travels)} == {own_code.digest_of(checkout)}


@pytest.mark.parametrize("more", [{"execute/nodes.py": "a = 2\n"}, {"execute/more.py": ""}])
def test_another_line_or_module_is_another_code(tmp_path: Path, more: dict[str, str]) -> None:
    assert own_code.digest_of(written(tmp_path / "one")) != own_code.digest_of(written(tmp_path / "other", **more))
