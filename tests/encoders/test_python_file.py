"""A backbone from the author's own file, and the template to start from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark import generators
from benchmark.cards import BackboneRef, Normalisation
from benchmark.encoders import conformance, python_file
from benchmark.encoders.build import build_backbone
from benchmark.encoders.sealed import SealedEncoder
from benchmark.errors import ConformanceError, UsageError
from benchmark.training.determinism import prepare_process

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


@pytest.mark.parametrize(
    "line",
    [
        "torch.set_grad_enabled(False)",
        "torch.set_default_dtype(torch.float64)",
        "torch.set_float32_matmul_precision('medium')",
        "torch.backends.cudnn.allow_tf32 = False",
        "torch.backends.cudnn.benchmark = True",
        "torch.use_deterministic_algorithms(False)",
        "torch.set_num_threads(3)",
    ],
)
def test_what_it_sets_for_the_whole_process_is_set_back(tmp_path, line):
    """Its head, and the next backbone, have the type and precision of the job."""

    def settings():
        return (
            *(torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_float32_matmul_precision(), torch.get_num_threads()),
            *(torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()),
        )

    prepare_process(1)
    before = settings()
    body = "class B(nn.Conv2d):\n    spec = SPEC\n    pyramid = pooled = lambda self, images: {1: self(images)}\n"
    body += "def build(): return B(3, 3, 1)\n"
    python_file.build(_file(tmp_path, f"import torch\n{line}\n{body}"))
    assert settings() == before


@pytest.mark.parametrize("draw", ["np.random.randn(3)", "[random.gauss(0, 1) for _ in range(3)]", "torch.randn(3)"])
def test_weights_are_drawn_from_the_runs_seed_by_every_generator(tmp_path, draw):
    body = (
        "import random\nimport numpy as np\nimport torch\n"
        "class B(nn.Conv2d):\n    spec = SPEC\n    pyramid = pooled = lambda self, images: {1: self(images)}\n"
        f"def build():\n    b = B(3, 3, 1)\n    b.bias.data = torch.as_tensor({draw}).float()\n    return b\n"
    )
    ref = BackboneRef(family="python_file", model=_file(tmp_path, body), digest=None)
    before = generators.fingerprint()
    first, again, other = (build_backbone(ref, None, init_seed=seed)[0].bias for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert generators.fingerprint() == before
