"""A function stands for its file; what lives in memory alone is refused with the way out."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from benchmark.errors import UsageError
from benchmark.front.backbone_names import name_of


@pytest.fixture
def module(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text(
        "def build():\n    pass\n\ndef with_width(width):\n    pass\n\ndef outer():\n    def inner():\n        pass\n    return inner\n"
    )
    spec = importlib.util.spec_from_file_location("mine_of_a_test", file)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_names_files_and_functions_of_files_have_a_name(module, tmp_path: Path):
    assert name_of("torchvision:resnet18") == "torchvision:resnet18"
    assert name_of(tmp_path / "mine.py") == f"{tmp_path / 'mine.py'}:build"
    assert name_of(tmp_path / "card.yaml") == str(tmp_path / "card.yaml")
    assert name_of(module.build) == f"{(tmp_path / 'mine.py').resolve()}:build"


def test_what_nobody_could_build_again_is_refused(module):
    typed: dict = {}
    exec(compile("def build():\n    pass\n", "<cell 3>", "exec"), typed)  # as a notebook does
    for given in (typed["build"], module.outer(), lambda: None):
        with pytest.raises(UsageError, match=r"at the top level of no file.*%%writefile"):
            name_of(given)
    with pytest.raises(UsageError, match="needs width"):
        name_of(module.with_width)
    with pytest.raises(UsageError, match="A dict that lives in memory"):
        name_of({})
