"""A weights file gives tensors and runs nothing."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import re
import sys
import tarfile
import zipfile
from collections import OrderedDict
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn
from torch.serialization import set_crc32_options

from benchmark.encoders import archive, shards, weight_sets, weights_file
from benchmark.encoders.inert_pickle import Inert, InertUnpickler
from benchmark.encoders.shards import digest_of
from benchmark.errors import CheckpointError

TENSORS = {"conv1.weight": torch.arange(6.0).view(2, 3), "bn1.num_batches_tracked": torch.tensor(3)}


def read_tensors(path, container=None):
    return weights_file.read_set(path, container).tensors


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


OTHER = {"conv1.weight": torch.ones(2, 3), "bn1.num_batches_tracked": torch.tensor(3)}


@pytest.mark.parametrize(
    "names",
    [("state_dict", "state_dict_ema"), ("model", "model_ema"), ("net", "ema"), ("student", "teacher"), ("online_net", "target_net")],
)
def test_several_sets_are_refused_by_name_and_chosen_by_container(tmp_path, names):
    first, second = names
    torch.save({first: OTHER, second: TENSORS, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.ones(2, 3)}}}}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError) as refused:
        read_tensors(tmp_path / "a.pt")
    assert first in str(refused.value)
    assert second in str(refused.value)
    assert f"--container {first}" in str(refused.value) or f"--container {second}" in str(refused.value)
    assert _same(read_tensors(tmp_path / "a.pt", second))
    assert torch.equal(read_tensors(tmp_path / "a.pt", first)["conv1.weight"], OTHER["conv1.weight"])


def test_averaged_set_is_seen_wherever_it_lies(tmp_path):
    prefixed = {f"module.{name}": tensor for name, tensor in OTHER.items()}
    for content in (
        {"state_dict": TENSORS, "callbacks": {"EMA": {"weights": OTHER}}},
        {"state_dict": TENSORS, "ema": {"decay": 0.9, "shadow_params": [OTHER["conv1.weight"]]}},
        {"model": TENSORS, "ema": {"module": prefixed}},
        {**TENSORS, "ema": OTHER},
    ):
        torch.save(content, tmp_path / "a.pt")
        with pytest.raises(CheckpointError, match="sets of weights of one network"):
            read_tensors(tmp_path / "a.pt")
    assert _same(read_tensors(tmp_path / "a.pt", "."))


def test_copies_of_the_same_values_and_parts_of_other_networks_are_no_choice(tmp_path):
    copies = {"state_dict": TENSORS, "best": {f"module.{name}": tensor.clone() for name, tensor in TENSORS.items()}, "net": TENSORS}
    torch.save(copies, tmp_path / "a.pt")
    assert _same(read_tensors(tmp_path / "a.pt"))
    torch.save({"model": TENSORS, "dino_loss": {"center": torch.ones(1, 9)}, "text": {"embed.weight": torch.ones(9, 4)}}, tmp_path / "b.pt")
    assert _same(read_tensors(tmp_path / "b.pt"))


def test_an_unknown_container_is_refused_with_the_names_there_are(tmp_path):
    torch.save({"student": TENSORS, "teacher": OTHER}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"'teachr'.*'student' \(2 tensors\), 'teacher'"):
        read_tensors(tmp_path / "a.pt", "teachr")


def test_flipped_byte_is_refused_or_changes_nothing(tmp_path):
    """torch alone reads other values out of such a file, without a word."""
    torch.save(TENSORS, tmp_path / "good.pt")
    good, flipped = (tmp_path / "good.pt").read_bytes(), tmp_path / "flipped.pt"
    refused = 0
    for place in range(0, len(good), 7):
        flipped.write_bytes(good[:place] + bytes([good[place] ^ (1 << place % 8)]) + good[place + 1 :])
        try:
            assert _same(read_tensors(flipped)), place
        except CheckpointError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize(("place", "bit"), [(38, 0x10), (32, 1), (30, 0x80)], ids=["a folder", "a comment", "an extra field"])
def test_damaged_directory_of_an_archive_is_refused(tmp_path, place, bit):
    """torch reads memory that nobody wrote for an entry called a folder; a longer comment swallows the entries behind it."""
    torch.save(TENSORS | {f"t{number}": torch.ones(9) for number in range(5)}, tmp_path / "a.pt")
    content = bytearray((tmp_path / "a.pt").read_bytes())
    entry = content.rindex(b"PK\x01\x02", 0, content.index(b"/data/0", content.index(b"PK\x01\x02")))
    content[entry + place] ^= bit
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged|cut short"):
        read_tensors(tmp_path / "a.pt")


def test_file_saved_without_checksums_is_read(tmp_path):
    set_crc32_options(False)
    try:
        torch.save(TENSORS, tmp_path / "a.pt")
    finally:
        set_crc32_options(True)
    assert _same(read_tensors(tmp_path / "a.pt"))


def test_archive_that_unpacks_beyond_its_size_is_refused_before_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a/data.pkl", b"\x80\x02}.")
        with packed.open("a/data/0", "w") as entry:
            for _ in range(80):
                entry.write(bytes(2**20))
    with pytest.raises(CheckpointError, match="unpack to"):
        read_tensors(tmp_path / "a.pt")


def test_archive_with_two_entries_of_one_name_is_refused(tmp_path):
    torch.save(TENSORS, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt", "a") as packed, pytest.warns(UserWarning, match="Duplicate"):
        packed.writestr("a/data/0", bytes(24))
    with pytest.raises(CheckpointError, match="two entries"):
        read_tensors(tmp_path / "a.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_dict_that_holds_itself_ends_in_a_sentence(tmp_path, zipped):
    content: dict = {"epoch": 1}
    content["state_dict"] = content["model"] = content
    content["list"] = [content]
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="no state dict"):
        read_tensors(tmp_path / "a.pt")


def test_more_tensors_than_any_network_has_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(weights_file, "MOST_TENSORS", 99)
    one = torch.ones(1)
    torch.save({f"t{number}": one for number in range(100)}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="100 tensors"):
        read_tensors(tmp_path / "a.pt")


def test_tensor_larger_than_what_the_file_holds_of_it_is_refused(tmp_path):
    torch.save({"conv1.weight": torch.ones(1).expand(2**40)}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"conv1\.weight.*larger than what the file holds"):
        read_tensors(tmp_path / "a.pt")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a.bin", "a"])
@pytest.mark.parametrize("kind", ["torch", "legacy", "safetensors", "npz", "npz compressed", "npy of a dict", "torch of arrays"])
def test_what_a_file_is_its_content_says_not_its_name(tmp_path, kind, name):
    path, arrays = tmp_path / name, {n: t.numpy() for n, t in TENSORS.items()}
    with path.open("wb") as file:
        if kind in ("torch", "legacy"):
            torch.save(TENSORS, file, _use_new_zipfile_serialization=kind == "torch")
        elif kind == "safetensors":
            file.write(save(TENSORS))
        elif kind == "npy of a dict":
            np.save(file, arrays, allow_pickle=True)
        elif kind == "torch of arrays":
            torch.save({"state_dict": arrays | {"conv1.weight": np.asfortranarray(arrays["conv1.weight"]).astype(">f4")}}, file)
        else:
            (np.savez if kind == "npz" else np.savez_compressed)(file, **arrays)
    assert _same(read_tensors(path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (gzip.compress(b"x", mtime=0), "gzip"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5"),
        (b"", "readable"),
    ],
)
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_what_is_no_weights_file_is_named(tmp_path, content, said, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=said):
        read_tensors(tmp_path / name)


def test_no_sentence_advises_to_run_what_is_in_a_file(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "tar.pt").write_bytes(buffer.getvalue())
    (tmp_path / "call.pt").write_bytes(pickle.dumps(_Attack(tmp_path / "trace")))
    np.save(tmp_path / "objects.npy", np.array([_Attack(tmp_path / "trace")] * 2, dtype=object), allow_pickle=True)
    for name in ("objects.npz", "tar.pt", "call.pt", "objects.npy"):
        with pytest.raises(CheckpointError) as refused:
            read_tensors(tmp_path / name)
        assert not re.search("weights_only|allow_pickle|trust", str(refused.value)), name
    assert not (tmp_path / "trace").exists()


def test_weights_in_several_files_are_read_through_their_index(tmp_path):
    names = sorted(TENSORS)
    for number, name in enumerate(names):
        save_file({name: TENSORS[name]}, tmp_path / f"model-{number}.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    where = {name: f"model-{number}.safetensors" for number, name in enumerate(names)}
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    assert _same(read_tensors(index))
    digest = digest_of(index, lambda path: hashlib.sha256(path.read_bytes()).hexdigest())
    save_file({names[1]: TENSORS[names[1]] + 1}, tmp_path / "model-1.safetensors")
    assert digest_of(index, lambda path: hashlib.sha256(path.read_bytes()).hexdigest()) != digest


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ({"weight_map": {"a": "model-0.safetensors", "b": "model-0.safetensors"}}, "does not hold it"),
        ({"weight_map": {"a": "model-9.safetensors"}}, "are absent"),
        ({"weight_map": {"a": "../model-0.safetensors"}}, "outside its folder"),
        ({"weight_map": {"a": "model.safetensors.index.json"}}, "another index"),
        ({"weight_map": {}}, "names no tensor"),
        ({"weight_map": ["a"]}, "no readable `weight_map`"),
        ([], "no readable `weight_map`"),
        (None, "no readable `weight_map`"),
    ],
)
def test_malformed_index_ends_in_a_sentence(tmp_path, index, said):
    save_file({"a": torch.ones(1)}, tmp_path / "model-0.safetensors")
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps(index) if index is not None else "{")
    with pytest.raises(CheckpointError, match=said):
        read_tensors(path)


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


# ------------------------------------------------------------------------------------------------------------------- bounds


def test_archive_of_more_entries_than_any_network_has_is_refused(tmp_path, monkeypatch):
    torch.save(TENSORS, tmp_path / "a.pt")
    assert _same(read_tensors(tmp_path / "a.pt"))
    monkeypatch.setattr(archive, "MOST_ENTRIES", 3)
    with pytest.raises(CheckpointError, match=r"a\.pt holds \d+ entries; no network has more than 3 tensors"):
        read_tensors(tmp_path / "a.pt")


def test_settings_larger_than_any_are_refused_before_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MOST_PICKLE_BYTES", 1000)
    torch.save({"state_dict": TENSORS}, tmp_path / "a.pt")
    assert _same(read_tensors(tmp_path / "a.pt"))
    torch.save({"state_dict": TENSORS, "log": "x" * 1000}, tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match=r"b\.pt holds 0 MiB beside its tensors\. Save the state_dict\(\) alone"):
        read_tensors(tmp_path / "b.pt")


def test_entries_of_a_large_archive_are_counted_by_its_longer_record(tmp_path, monkeypatch):
    """An archive of 65,535 entries or more says so in its last record, and their number in the one before."""
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    np.savez(tmp_path / "a.npz", **{name: tensor.numpy() for name, tensor in TENSORS.items()})
    content = bytearray((tmp_path / "a.npz").read_bytes())
    last, longer = content.rfind(b"PK\x05\x06"), content.rfind(b"PK\x06\x06")
    assert 0 < longer < last
    content[last + 8 : last + 12] = b"\xff" * 4
    (tmp_path / "a.npz").write_bytes(content)
    assert _same(read_tensors(tmp_path / "a.npz"))
    content[longer + 32 : longer + 40] = (3).to_bytes(8, "little")
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(CheckpointError, match="lists 2 entries and says it has 3"):
        read_tensors(tmp_path / "a.npz")


def test_more_mappings_than_any_checkpoint_has_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(weight_sets, "_MOST_MAPPINGS", 10)
    torch.save({"state_dict": TENSORS, "optimizer": {number: {"step": 1} for number in range(11)}}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="more than 10 mappings"):
        read_tensors(tmp_path / "a.pt")


@pytest.mark.parametrize(("depth", "found"), [(7, True), (8, True), (9, False)])
def test_sets_are_looked_for_to_a_depth_that_checkpoints_have(tmp_path, depth, found):
    content: dict = dict(TENSORS)
    for _ in range(depth):
        content = {"a": content}
    torch.save(content, tmp_path / "a.pt")
    container = ".".join(["a"] * depth)
    if found:
        assert _same(read_tensors(tmp_path / "a.pt", container))
    else:
        with pytest.raises(CheckpointError, match="holds no set of weights under"):
            read_tensors(tmp_path / "a.pt", container)


def test_header_larger_than_any_is_refused_before_it_is_read(tmp_path, monkeypatch):
    save_file(TENSORS, tmp_path / "a.safetensors")
    monkeypatch.setattr(weights_file, "_MOST_HEADER_BYTES", 8)
    with pytest.raises(CheckpointError, match=r"describes its tensors in 0 MiB: no network has so many"):
        read_tensors(tmp_path / "a.safetensors")


def test_index_larger_than_any_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_MOST_BYTES", 10)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-0.safetensors"}}))
    with pytest.raises(CheckpointError, match="larger than any index of weights"):
        read_tensors(index)


def test_tensor_in_two_files_of_an_index_is_refused(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "model-0.safetensors")
    save_file({"a": torch.zeros(1), "b": torch.ones(1)}, tmp_path / "model-1.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-0.safetensors", "b": "model-1.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"'a' is in model-1\.safetensors and in another file"):
        read_tensors(index)


# ------------------------------------------------------------------------------------------------------------ other content


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array(["text"]), r"array 'a' is of type <U4, which no tensor has"),
        pytest.param(
            np.zeros(2, np.longdouble),
            r"array 'a' is of type \w+, which no tensor has",
            marks=pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="long doubles are doubles here"),
        ),
    ],
)
def test_array_of_a_type_that_no_tensor_has_is_named(tmp_path, array, said):
    np.savez(tmp_path / "a.npz", a=array)
    with pytest.raises(CheckpointError, match=said):
        read_tensors(tmp_path / "a.npz")


def test_arrays_without_names_and_damaged_ones_are_refused_with_the_cure(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(3))
    with pytest.raises(CheckpointError, match=r"one array without a tensor's name: .* numpy\.savez"):
        read_tensors(tmp_path / "a.npy")
    (tmp_path / "b.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:20])
    with pytest.raises(CheckpointError, match=r"b\.npy is no readable PyTorch file"):
        read_tensors(tmp_path / "b.npy")


def test_archive_of_other_files_is_refused_with_the_first_of_them(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as written:
        written.writestr("readme.txt", "weights are inside weights.zip")
    with pytest.raises(CheckpointError, match=r"zip archive without weights of its own \(first: readme\.txt\): unpack it"):
        read_tensors(tmp_path / "a.zip")


def test_array_of_an_unknown_type_is_no_tensor(tmp_path):
    """Its name comes from the file, and NumPy may know it in another release."""
    np.save(tmp_path / "a.npy", {"w": np.ones(3), "v": np.zeros(2, "f4")}, allow_pickle=True)
    content = (tmp_path / "a.npy").read_bytes()
    assert b"f8" in content
    (tmp_path / "a.npy").write_bytes(content.replace(b"f8", b"q9"))
    assert list(read_tensors(tmp_path / "a.npy")) == ["v"]


@pytest.mark.parametrize(
    "does",
    [b")R)R", b")RK\x01K\x02s", b")R(K\x01K\x02u", b")RK\x01a", b")R(K\x01K\x02e", b")R(K\x01K\x02\x90"],
    ids=["calls it", "sets an item", "sets items", "appends", "extends", "adds"],
)
def test_what_a_pickle_does_to_an_object_of_an_unknown_class_goes_nowhere(does):
    found = InertUnpickler(io.BytesIO(b"ca_package_nobody_has\nThing\n" + does + b".")).load()
    assert isinstance(found, Inert)
    assert vars(found) == {}


def test_a_type_of_tensors_beside_unknown_objects_is_read(tmp_path, foreign):
    torch.save({"state_dict": TENSORS, "dtype": torch.float16, "extra": foreign()}, tmp_path / "a.pt")
    sys.modules.pop("a_package_nobody_has")
    assert _same(read_tensors(tmp_path / "a.pt"))


def test_copies_in_another_precision_are_another_set(tmp_path):
    """Rounding may have changed them: nobody but the author knows which was meant."""
    tensors = {f"layer{number}.weight": torch.full((2, 2), 1 / (3 + number)) for number in range(4)}
    torch.save({"state_dict": tensors, "state_dict_ema": {name: tensor.half() for name, tensor in tensors.items()}}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="state_dict_ema"):
        read_tensors(tmp_path / "a.pt")
    assert read_tensors(tmp_path / "a.pt", "state_dict_ema")["layer0.weight"].dtype == torch.float16


def test_no_advice_of_a_library_to_run_a_file_reaches_a_sentence(tmp_path, monkeypatch):
    def advise(*_args, **_kwargs):
        raise RuntimeError("Weights only load failed. In PyTorch 2.6 we changed the default of `weights_only`, set it to False")

    monkeypatch.setattr(weights_file.torch, "load", advise)
    (tmp_path / "a.pt").write_bytes(b"anything else")
    with pytest.raises(CheckpointError, match=r"no readable PyTorch file \(RuntimeError\)"):
        read_tensors(tmp_path / "a.pt")
