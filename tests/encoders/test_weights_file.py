"""A weights file gives tensors and runs nothing."""

from __future__ import annotations

import os
import pickle
import sys
from collections import OrderedDict
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from benchmark.encoders.weights_file import read_tensors
from benchmark.errors import CheckpointError

TENSORS = {"conv1.weight": torch.arange(6.0).view(2, 3), "bn1.num_batches_tracked": torch.tensor(3)}


def _same(found):
    return found.keys() == TENSORS.keys() and all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


class _Attack:
    """Pickles to a call that leaves a file behind."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def _foreign(name="FancyConfig"):
    """An instance of a class that exists only while the file is written, as a Lightning checkpoint's configuration does elsewhere."""
    module = ModuleType("a_package_nobody_has")
    cls = type(name, (), {"__module__": module.__name__})
    setattr(module, name, cls)
    sys.modules[module.__name__] = module
    instance = cls()
    instance.values = {"lr": 1e-4, "self": [1, 2]}
    return instance


@pytest.fixture
def foreign():
    yield _foreign
    sys.modules.pop("a_package_nobody_has", None)


def test_safetensors_are_read(tmp_path):
    save_file(TENSORS, tmp_path / "a.safetensors")
    assert _same(read_tensors(tmp_path / "a.safetensors"))


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("zipped", [True, False])
def test_bare_and_wrapped_state_dicts_are_read_in_both_torch_formats(tmp_path, wrapper, zipped):
    content = {"epoch": 3, wrapper: OrderedDict(TENSORS)} if wrapper else dict(TENSORS)
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    assert _same(read_tensors(tmp_path / "a.pt"))


def test_nested_wrappers_are_descended(tmp_path):
    torch.save({"model": {"state_dict": TENSORS}, "step": torch.tensor(1)}, tmp_path / "a.pt")
    assert _same(read_tensors(tmp_path / "a.pt"))


def test_data_parallel_prefix_is_taken_off(tmp_path):
    torch.save({f"module.{name}": tensor for name, tensor in TENSORS.items()}, tmp_path / "a.pt")
    assert _same(read_tensors(tmp_path / "a.pt"))


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoint_with_objects_of_unknown_classes_is_read(tmp_path, foreign, zipped):
    content = {"state_dict": TENSORS, "hyper_parameters": {"config": foreign()}, "callbacks": {foreign: {"best": 0.5}}}
    content["callbacks"] = {type(content["hyper_parameters"]["config"]): {"best": 0.5}, "tags": {1, 2}}
    torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
    sys.modules.pop("a_package_nobody_has")
    assert _same(read_tensors(tmp_path / "a.ckpt"))
    assert "a_package_nobody_has" not in sys.modules


def test_parameters_and_half_precision_survive_the_restricted_reader(tmp_path, foreign):
    tensors = {"a.weight": nn.Parameter(torch.randn(2, 2)), "b.weight": torch.randn(3).half(), "c": torch.randn(4, 4).t()[1:]}
    torch.save({"state_dict": tensors, "extra": foreign()}, tmp_path / "a.pt")
    sys.modules.pop("a_package_nobody_has")
    found = read_tensors(tmp_path / "a.pt")
    assert all(torch.equal(found[name], tensors[name]) and found[name].dtype == tensors[name].dtype for name in tensors)


@pytest.mark.parametrize("zipped", [True, False])
def test_malicious_pickle_does_nothing(tmp_path, zipped):
    traces = [tmp_path / "in_extra", tmp_path / "in_state"]
    content = {"extra": _Attack(traces[0]), "state_dict": dict(TENSORS, evil=_Attack(traces[1]))}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    assert _same(read_tensors(tmp_path / "a.pt"))
    assert not any(trace.exists() for trace in traces)


@pytest.mark.parametrize("call", [b"cbuiltins\neval\n", b"cbuiltins\nexec\n", b"ctorch.storage\n_load_from_bytes\n", b"cos\nsystem\n"])
def test_bare_pickle_with_a_call_does_nothing(tmp_path, call):
    trace = tmp_path / "trace"
    code = f"__import__('os').mkdir({str(trace)!r})".encode()
    (tmp_path / "a.pt").write_bytes(b"\x80\x02" + call + b"(X" + len(code).to_bytes(4, "little") + code + b"tR.")
    with pytest.raises(CheckpointError):
        read_tensors(tmp_path / "a.pt")
    assert not trace.exists()


def test_pickle_cannot_change_what_it_is_given(tmp_path):
    """BUILD may set attributes: on a stub, a copy or an immutable class, never on torch's own functions."""
    attack = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x04\x00\x00\x00evilK\x01sb."
    (tmp_path / "a.pt").write_bytes(attack)
    with pytest.raises(CheckpointError):
        read_tensors(tmp_path / "a.pt")
    assert not hasattr(torch._utils._rebuild_tensor_v2, "evil")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_torchscript_is_refused(tmp_path):
    torch.jit.save(torch.jit.script(nn.Conv2d(1, 1, 1)), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_tensors(tmp_path / "a.pt")


def test_whole_pickled_model_is_refused_with_the_cure(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="state_dict"):
        read_tensors(tmp_path / "a.pt")


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_truncated_file_is_named(tmp_path, name):
    path = tmp_path / name
    if name.endswith("pt"):
        torch.save(TENSORS, path)
    else:
        save_file(TENSORS, path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match=name):
        read_tensors(path)


@pytest.mark.parametrize("content", [{"epoch": 1}, [1, 2], {"state_dict": {}}, 3])
def test_file_without_state_dict_says_what_it_found(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="no state dict"):
        read_tensors(tmp_path / "a.pt")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_missing_or_foreign_file_is_a_sentence(tmp_path):
    with pytest.raises(CheckpointError, match="no weights file"):
        read_tensors(tmp_path / "absent.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(CheckpointError, match=r"text\.pt"):
        read_tensors(tmp_path / "text.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(CheckpointError):
        read_tensors(tmp_path / "plain.pt")
