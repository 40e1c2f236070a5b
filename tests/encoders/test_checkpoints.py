"""Every tensor is accounted for, and a checkpoint that fits badly is refused."""

from __future__ import annotations

import re

import pytest
import torch
import torchvision
from torch import nn

from benchmark.encoders import torchvision as family
from benchmark.encoders.checkpoints import TensorAccount, layout_of, load_checkpoint
from benchmark.errors import CardError, CheckpointError

LOVT = "model_a.encoder.feature_extractor.backbone_layers."


@pytest.fixture(scope="module")
def resnet18():
    """Another ResNet-18 than the ones loaded into, classifier included, with its own BatchNorm statistics."""
    torch.manual_seed(1)
    network = torchvision.models.resnet18(weights=None)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
    return network.state_dict()


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return family.build("resnet18").network


def _save(tmp_path, tensors):
    torch.save(tensors, tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def test_plain_torchvision_file_is_loaded_whole_and_the_classifier_ignored(tmp_path, encoder, resnet18):
    account = load_checkpoint(encoder, _save(tmp_path, resnet18), "torchvision", 1.0)
    assert account.counts == {"loaded": 100, "ignored": 2, "missing": 0, "unexpected": 0, "wrong_shape": 0}
    assert account.share_loaded == 1
    assert all(torch.equal(tensor, resnet18[name]) for name, tensor in encoder.state_dict().items())


def test_densenet_file_as_torchvision_publishes_it_is_loaded_whole(tmp_path):
    """Its names have a point that today's modules lack (`denselayer1.norm.1.weight`); torchvision takes it out in its own download."""
    torch.manual_seed(1)
    source = torchvision.models.densenet121(weights=None).state_dict()
    published = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): tensor for name, tensor in source.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in published
    torch.manual_seed(0)
    encoder = family.build("densenet121").network
    account = load_checkpoint(encoder, _save(tmp_path, published), "torchvision", 1.0)
    assert (account.share_loaded, account.unexpected, len(account.ignored)) == (1, (), 2)
    assert all(torch.equal(tensor, source[name]) for name, tensor in encoder.state_dict().items())


def test_lightning_checkpoint_of_lovt_is_loaded_and_its_other_parts_ignored(tmp_path, encoder, resnet18):
    tensors = {LOVT + name: tensor for name, tensor in resnet18.items() if not name.startswith("fc.")}
    others = ("model_b.encoder.x", "ll_attention.norm.weight", "model_a.project_local.norm.weight", "chexpert_bin_scan.weight")
    tensors |= dict.fromkeys(
        (*others, "loss_module.ll_alignments_a.0.pos_weights", "model_a.encoder.global_aggregator.attention.w"), torch.ones(1)
    )
    account = load_checkpoint(encoder, _save(tmp_path, {"epoch": 1, "state_dict": tensors}), "lovt", 1.0)
    assert account.counts == {"loaded": 100, "ignored": 6, "missing": 0, "unexpected": 0, "wrong_shape": 0}
    assert torch.equal(encoder.conv1.weight, resnet18["conv1.weight"])


def test_prefix_can_be_given_in_the_layout(tmp_path, encoder, resnet18):
    tensors = {f"encoder_q.{name}": tensor for name, tensor in resnet18.items()} | {"queue": torch.ones(3)}
    account = load_checkpoint(encoder, _save(tmp_path, tensors), "prefix:encoder_q.", 1.0)
    assert account.counts == {"loaded": 100, "ignored": 2, "missing": 0, "unexpected": 1, "wrong_shape": 0}


def test_wrong_prefix_is_refused_with_the_right_one(tmp_path, encoder, resnet18):
    tensors = {f"encoder_q.{name}": tensor for name, tensor in resnet18.items()}
    with pytest.raises(CheckpointError, match=r"0 of 100.*(?s:.*)prefix:encoder_q\."):
        load_checkpoint(encoder, _save(tmp_path, tensors), "torchvision", 1.0)


def test_less_than_the_minimum_is_refused_and_changes_nothing(tmp_path, encoder, resnet18):
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    part = {name: tensor for name, tensor in resnet18.items() if not name.startswith("layer4.")}
    with pytest.raises(CheckpointError, match="75 of 100") as refused:
        load_checkpoint(encoder, _save(tmp_path, part), "torchvision", 0.9)
    assert "layer4.0.conv1.weight" in str(refused.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    assert load_checkpoint(encoder, _save(tmp_path, part), "torchvision", 0.7).counts["missing"] == 25


def test_larger_architecture_that_fills_every_tensor_is_refused(tmp_path, encoder):
    """A ResNet-34 holds a ResNet-18 by name and shape."""
    larger = torchvision.models.resnet34(weights=None).state_dict()
    with pytest.raises(CheckpointError, match=r"layer1\.2\.conv1\.weight"):
        load_checkpoint(encoder, _save(tmp_path, larger), "torchvision", 1.0)


def test_other_shapes_are_counted_as_such(tmp_path, encoder, resnet18):
    grey = dict(resnet18, **{"conv1.weight": resnet18["conv1.weight"][:, :1]})
    with pytest.raises(CheckpointError, match=r"wrong shape\s+1  conv1\.weight"):
        load_checkpoint(encoder, _save(tmp_path, grey), "torchvision", 1.0)
    assert load_checkpoint(encoder, _save(tmp_path, grey), "torchvision", 0.99).wrong_shape == ("conv1.weight",)


@pytest.mark.parametrize("statistic", ["running_mean", "running_var"])
def test_missing_batchnorm_statistics_are_refused_whatever_the_minimum(tmp_path, encoder, resnet18, statistic):
    without = {name: tensor for name, tensor in resnet18.items() if name != f"layer2.0.bn1.{statistic}"}
    with pytest.raises(CheckpointError, match=rf"{statistic}.*layer2\.0\.bn1"):
        load_checkpoint(encoder, _save(tmp_path, without), "torchvision", 0.1)


def test_missing_batch_counters_are_no_loss(tmp_path, encoder, resnet18):
    without = {name: tensor for name, tensor in resnet18.items() if not name.endswith("num_batches_tracked")}
    assert load_checkpoint(encoder, _save(tmp_path, without), "torchvision", 1.0).share_loaded == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_tensor_that_is_not_finite_is_refused(tmp_path, encoder, resnet18, value):
    broken = dict(resnet18, **{"layer3.0.conv1.weight": resnet18["layer3.0.conv1.weight"].clone()})
    broken["layer3.0.conv1.weight"][0, 0, 0, 0] = value
    with pytest.raises(CheckpointError, match=r"NaN or infinity.*layer3\.0\.conv1\.weight"):
        load_checkpoint(encoder, _save(tmp_path, broken), "torchvision", 1.0)


def test_loading_what_is_already_there_is_refused(tmp_path, encoder):
    with pytest.raises(CheckpointError, match="changed no tensor"):
        load_checkpoint(encoder, _save(tmp_path, encoder.state_dict()), "torchvision", 1.0)


def test_file_of_another_architecture_says_that_nothing_fits(tmp_path, encoder):
    with pytest.raises(CheckpointError, match="another architecture"):
        load_checkpoint(encoder, _save(tmp_path, {"blocks.0.attn.qkv.weight": torch.ones(3, 3)}), "torchvision", 0.0)


def test_unknown_layout_names_the_known():
    with pytest.raises(CardError, match="lovt"):
        layout_of("lovtt")


def test_account_of_nothing_has_share_zero():
    account = TensorAccount()
    assert account.share_loaded == 0
    assert set(account.counts.values()) == {0}
