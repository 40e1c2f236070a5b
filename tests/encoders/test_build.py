"""From a reference to a backbone: seeds, files, digests and accounts."""

from __future__ import annotations

import hashlib

import pytest
import torch
from safetensors.torch import save_file

from benchmark.cards import BackboneRef, Normalisation
from benchmark.encoders.build import build_backbone
from benchmark.errors import CheckpointChanged, CheckpointError, UnknownName, UsageError

RANDOM = BackboneRef(family="torchvision", model="resnet18", digest=None)


def _tensors(backbone):
    return backbone.state_dict()


def _equal(one, other):
    return all(torch.equal(tensor, _tensors(other)[name]) for name, tensor in _tensors(one).items())


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    backbone, _ = build_backbone(RANDOM, None, init_seed=99)
    save_file(backbone.network.state_dict(), path)
    return path


def _ref(path, **changes):
    return RANDOM.model_copy(update={"digest": hashlib.sha256(path.read_bytes()).hexdigest(), **changes})


def test_random_backbone_follows_its_seed_and_leaves_the_global_generator():
    state = torch.get_rng_state()
    one, account = build_backbone(RANDOM, None, init_seed=1)
    again, _ = build_backbone(RANDOM, None, init_seed=1)
    other, _ = build_backbone(RANDOM, None, init_seed=2)
    assert _equal(one, again)
    assert not _equal(one, other)
    assert torch.equal(state, torch.get_rng_state())
    assert set(account.counts.values()) == {0}


def test_weights_of_the_file_are_what_the_backbone_has(weights):
    backbone, account = build_backbone(_ref(weights), weights, init_seed=None)
    expected, _ = build_backbone(RANDOM, None, init_seed=99)
    assert _equal(backbone, expected)
    assert account.counts["loaded"] == 100


def test_normalisation_of_the_reference_replaces_the_familys(weights):
    own = Normalisation(mean=(0.4,), std=(0.3,))
    backbone, _ = build_backbone(_ref(weights, normalisation=own), weights, init_seed=None)
    assert backbone.spec.normalisation == own


def test_pretraining_of_a_file_is_unknown_and_of_a_random_backbone_none(weights):
    assert build_backbone(_ref(weights), weights, init_seed=None)[0].spec.pretraining is None
    assert build_backbone(RANDOM, None, init_seed=1)[0].spec.pretraining == ()


def test_reference_with_weights_but_no_file_is_refused(weights):
    with pytest.raises(CheckpointError, match="no file"):
        build_backbone(_ref(weights), None, init_seed=1)


def test_file_with_another_digest_is_refused(weights):
    with pytest.raises(CheckpointChanged, match="replaced"):
        build_backbone(_ref(weights, digest="0" * 64), weights, init_seed=None)


def test_file_that_is_gone_is_named(weights, tmp_path):
    with pytest.raises(CheckpointChanged, match=r"There is no weights file .*gone\.safetensors"):
        build_backbone(_ref(weights), tmp_path / "gone.safetensors", init_seed=None)


def test_random_backbone_without_seed_is_refused():
    with pytest.raises(UsageError, match="seed"):
        build_backbone(RANDOM, None, init_seed=None)


def test_family_that_does_not_exist_is_an_unknown_name():
    with pytest.raises(UnknownName):
        build_backbone(RANDOM.model_copy(update={"family": "torchvison"}), None, init_seed=1)


def test_timm_weights_load_in_timms_naming(tmp_path):
    random = BackboneRef(family="timm", model="resnet10t", digest=None, layout="timm")
    source, _ = build_backbone(random, None, init_seed=5)
    save_file(source.network.state_dict(), tmp_path / "w.safetensors")
    backbone, account = build_backbone(
        _ref(tmp_path / "w.safetensors", family="timm", model="resnet10t", layout="timm"), tmp_path / "w.safetensors", init_seed=None
    )
    assert account.share_loaded == 1
    assert _equal(backbone, source)
