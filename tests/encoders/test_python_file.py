"""A backbone from the author's own file, and the template to start from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark.cards import BackboneRef, Normalisation
from benchmark.encoders import conformance, python_file
from benchmark.encoders.build import build_backbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.errors import ConformanceError, UsageError

TEMPLATE = Path(__file__).resolve().parents[2] / "backbones" / "template.py"
HEADER = "from torch import nn\nfrom benchmark.cards import BackboneSpec\nSPEC = BackboneSpec(name='x', strides={1: 3}, embed_dim=3)\n"


def _file(tmp_path, body, name="mine.py"):
    path = tmp_path / name
    path.write_text(HEADER + body)
    return f"{path}:build"


def test_template_keeps_its_contract_and_gives_the_same_weights_again():
    backbone = python_file.build(f"{TEMPLATE}:build")
    conformance.check(SealedEncoder(backbone, Normalisation(mean=(0.5,), std=(0.25,))), 64)
    again = python_file.build(f"{TEMPLATE}:build")
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in backbone.state_dict().items())


def test_reference_builds_it_without_a_weights_file():
    ref = BackboneRef(family="python_file", model=f"{TEMPLATE}:build", digest="0" * 64)
    backbone, account = build_backbone(ref, None, init_seed=None)
    assert backbone.spec.name == "my-backbone"
    assert account.counts["loaded"] == 0


def test_files_beside_it_can_be_imported_and_its_name_shadows_nothing(tmp_path):
    (tmp_path / "my_helper_of_this_test.py").write_text("WIDTH = 3\n")
    body = (
        "from my_helper_of_this_test import WIDTH\n"
        "class B(nn.Conv2d):\n    spec = SPEC\n    pyramid = pooled = lambda self, images: {1: self(images)}\n"
        "def build(): return B(3, WIDTH, 1)\n"
    )
    backbone = python_file.build(_file(tmp_path, body, name="torch.py"))
    assert backbone.weight.shape == (3, 3, 1, 1)
    assert torch.nn.Conv2d is not None


@pytest.mark.parametrize(
    ("body", "missing"),
    [
        ("def build(): return 3\n", "int"),
        ("def build(): return nn.Conv2d(3, 3, 1)\n", "pyramid"),
        ("class B(nn.Module):\n    def pyramid(self, x): ...\ndef build(): return B()\n", "pooled"),
        ("class B(nn.Module):\n    def pyramid(self, x): ...\n    def pooled(self, x): ...\ndef build(): return B()\n", "spec"),
    ],
)
def test_what_is_missing_is_named(tmp_path, body, missing):
    with pytest.raises(ConformanceError, match=missing):
        python_file.build(_file(tmp_path, body))


def test_missing_file_or_function_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no file"):
        python_file.build(f"{tmp_path / 'absent.py'}:build")
    with pytest.raises(UsageError, match="no function 'make'"):
        python_file.build(_file(tmp_path, "").replace(":build", ":make"))


def test_errors_of_the_authors_own_code_keep_their_kind(tmp_path):
    with pytest.raises(ZeroDivisionError):
        python_file.build(_file(tmp_path, "def build(): return 1 / 0\n"))
